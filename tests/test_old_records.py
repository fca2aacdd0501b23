"""Records that earlier versions wrote are read, keep their digest, and become rows."""

import json
from pathlib import Path

import pytest

from energylab import store

FOLDER = Path(__file__).parent / "fixtures" / "records"
DIGESTS = json.loads((FOLDER / "digests.json").read_text())


@pytest.mark.parametrize("name", DIGESTS)
def test_an_old_record_is_read_and_keeps_its_digest(name):
    record = store.read_record(FOLDER / f"{name}.json")
    assert record.digest() == DIGESTS[name]
    assert record.protocol.name == "steady"
    assert record.stop is None


def test_old_records_become_rows():
    table = store.read(*(FOLDER / f"{name}.json" for name in DIGESTS))
    assert set(table["session"]) == {json.loads((FOLDER / f"{name}.json").read_text())["record_id"] for name in DIGESTS}
    assert (table.loc[table["valid"], "energy_j"] > 0).all()
