"""Records that earlier versions wrote are read, keep their digest and their job's id, and become rows."""

import json
from pathlib import Path

import pytest

from energylab import store
from energylab.parameters import Parameters

FOLDER = Path(__file__).parent / "fixtures" / "records"
DIGESTS = json.loads((FOLDER / "digests.json").read_text())


@pytest.mark.parametrize("name", DIGESTS)
def test_an_old_record_is_read_and_keeps_its_digest(name):
    record = store.read_record(FOLDER / f"{name}.json")
    assert record.digest() == DIGESTS[name]
    assert record.protocol.name == "steady"
    assert record.stop is None


@pytest.mark.parametrize("name", [name for name in DIGESTS if "imported" not in name])
def test_parameters_of_an_old_record_give_its_jobs_id(name):
    """By this id a study finds what it has measured. Where it fails, every study would be measured again.

    A new parameter belongs in `parameters.ADDED`, whose members count only when they are not at their default; a member
    of it never changes its default. A default of another parameter may change: old records name their own value.
    """
    record = store.read_record(FOLDER / f"{name}.json")
    assert Parameters.check(record.parameters).job_id == record.job_id


def test_old_records_become_rows():
    table = store.read(*(FOLDER / f"{name}.json" for name in DIGESTS))
    assert set(table["session"]) == {json.loads((FOLDER / f"{name}.json").read_text())["record_id"] for name in DIGESTS}
    assert (table.loc[table["valid"], "energy_j"] > 0).all()
