"""What a sealed session leaves: the whole record, which says where it ran. False claims are refused."""

from __future__ import annotations

import closed_builders as builders
import pytest

from energylab.errors import MeasurementError
from energylab.parameters import Parameters
from energylab_portal.protocol import Sealing
from energylab_portal.sealed_executor import Orders, sealed, variables
from energylab_portal.sealed_job import measure_whole

COMMIT = "c" * 40
HONEST = {"parameters": 500, "weights_bytes": 1000}


@pytest.fixture
def measure(tmp_path):
    """Return a function that measures a model on a simulated H100, with what its code says of it."""

    def measure(**said):
        model = builders.write_model(tmp_path / "model")
        _, board, instruments = builders.simulated_h100()
        asked = {**builders.PARAMETERS, "model": "someone/own", "model_source": "hub", "revision": COMMIT}
        parameters = Parameters.check({**asked, "runs": 2, "trust_remote_code": True})
        orders = Orders(sealing=Sealing(), model=str(model), data=str(tmp_path / "data"))
        container = builders.StandIn(builders.SimulatedService(board, **{**HONEST, **said}))
        record = measure_whole(parameters, orders, container=container, instruments=instruments, watch=builders.stepped)
        assert container.removed
        return record, parameters

    return measure


def test_the_record_is_whole_and_says_where_it_ran(measure):
    record, parameters = measure()
    assert record.valid
    assert (record.model.name, record.model.source, record.model.commit) == ("someone/own", "hub", COMMIT)
    assert record.model.trust_remote_code
    assert record.model.architecture == "SecretForCausalLM"  # nothing is withheld
    assert record.host.container
    assert record.job_id == parameters.job_id
    assert record.parameters["trust_remote_code"]
    sealed = record.extra["sealed"]
    assert (sealed["image"], sealed["seal"]["network"]) == (builders.IMAGE.digest, "none")
    assert list(sealed["weight_files"]) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"parameters": 8_000_000_000, "weights_bytes": 16_000_000_000}, "bits a parameter are stored"),
        ({"weights_bytes": 100}, "bits a parameter were loaded"),
    ],
)
def test_what_its_code_cannot_have_done_is_refused(said, words, measure):
    with pytest.raises(MeasurementError, match=words):
        measure(**said)


def test_where_it_came_from_is_the_hosts_word(measure):
    record, _ = measure(name="another/model", source="path", commit="d" * 40, trust_remote_code=False)
    assert (record.model.name, record.model.source, record.model.commit) == ("someone/own", "hub", COMMIT)
    assert record.model.trust_remote_code


def test_a_job_has_a_hub_cache_of_its_own_without_a_token(tmp_path):
    told = variables(Orders(sealing=Sealing(), model="/m", data=str(tmp_path)))
    assert told["HF_HOME"] == str(tmp_path)
    assert not told["HF_TOKEN_PATH"].startswith(str(tmp_path))


def test_what_dead_workers_left_is_swept_before_anything_starts(tmp_path):
    from collections import deque

    from energylab.studies.run import Book, Summary
    from energylab.studies.state import StudyFolder

    swept = []
    book = Book(StudyFolder("study", tmp_path), deque(), [], {}, Summary(), lambda *event: None)
    sealed(book, "cpu", Orders(sealing=Sealing(), model="/m", data=str(tmp_path)), sweep=lambda: swept.append(True))
    assert swept == [True]
