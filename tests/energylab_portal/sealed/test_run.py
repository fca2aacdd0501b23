"""What a sealed run refuses before it starts, and what the host sees of the model's files."""

from __future__ import annotations

import json
import struct
import time

import closed_builders as builders
import forgeries as forge
import pytest

from energylab.devices import cpu_facts
from energylab.errors import BundleError, MeterError, ParameterError
from energylab.measuring import Instruments
from energylab.meters.codecarbon import CodecarbonMeter
from energylab_portal.sealed import request as requests
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.inside import Service, as_text, mirror
from energylab_portal.sealed.weights import survey


@pytest.fixture
def model(tmp_path):
    """Return a small model's folder."""
    return builders.write_model(tmp_path / "Secret-Model-8B")


def _asked(tmp_path, model, **changes):
    return builders.make_request(tmp_path / "out", builders.owner(), model, **changes)


def test_bundle_is_never_overwritten(tmp_path, model) -> None:
    request = _asked(tmp_path, model)
    (tmp_path / "out/bundle.json").write_text("mine")
    with pytest.raises(BundleError, match="--output"):
        sealed.run(request, container=builders.StandIn(Service()))
    assert (tmp_path / "out/bundle.json").read_text() == "mine"


def test_meter_that_watches_this_process_is_refused(tmp_path, model) -> None:
    instruments = Instruments((cpu_facts(),), (CodecarbonMeter(),), (), "chosen")
    with pytest.raises(MeterError, match="not the container"):
        sealed.run(_asked(tmp_path, model), container=builders.StandIn(Service()), instruments=instruments)


def test_early_stop_and_hub_models_are_refused(tmp_path, model) -> None:
    with pytest.raises(ParameterError, match="precision_target"):
        sealed.run(_asked(tmp_path, model, precision_target=0.05), container=builders.StandIn(Service()))
    asked = _asked(tmp_path, model, star_probability=0.9, peers="results")
    with pytest.raises(ParameterError, match="star_probability"):
        sealed.run(asked, container=builders.StandIn(Service()))
    with pytest.raises(ParameterError, match="folder"):
        sealed.run(_asked(tmp_path, model, model_source="hub"), container=builders.StandIn(Service()))
    with pytest.raises(ParameterError, match="image built on the runner"):
        sealed.run(_asked(tmp_path, model, task="./tasks/own.yaml"), container=builders.StandIn(Service()))


def test_weights_are_counted_by_the_host_without_loading_them(tmp_path, model) -> None:
    weights, hashes = survey(model)
    assert (weights.files, weights.elements, weights.experts) == (1, {"F16": 500}, False)
    assert weights.bytes == (model / "model.safetensors").stat().st_size
    assert list(hashes) == ["model.safetensors"]
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_local_experts": 8}))
    assert survey(model)[0].experts


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 5) + b"{[}]x", struct.pack("<Q", 2) + b"[]"]
)
def test_broken_weights_are_refused(data, model) -> None:
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="safetensors"):
        survey(model)


def test_folder_without_weights_is_refused(tmp_path) -> None:
    with pytest.raises(BundleError, match="no weight file"):
        survey(tmp_path)


def test_request_names_what_is_wrong(tmp_path, model) -> None:
    plain = {
        "model": model, "task": "text_generation", "alias": "Closed model A", "key": tmp_path / "absent.key",
        "out": tmp_path / "out", "image": "runner", "gpus": 1, "device": "cpu", "data": None, "settings": [],
        "params": None, "memory_mb": 1000, "processes": 64, "results_mb": 8, "limit_s": 10, "private": [], "attest": "",
    }  # fmt: skip
    with pytest.raises(BundleError, match="energylab-portal sealed key"):
        requests.build(**plain)
    with pytest.raises(ParameterError, match="not a folder"):
        requests.build(**{**plain, "model": tmp_path / "nowhere"})
    with pytest.raises(ParameterError, match="did you mean 'samples'"):
        requests.build(**{**plain, "settings": ["sample=5"]})
    with pytest.raises(ParameterError, match="gpus=2"):
        requests.build(**{**plain, "gpus": 2})


def test_outputs_are_handed_over_as_text_of_bounded_length() -> None:
    assert as_text("a label") == "a label"
    assert as_text(0.25) == "0.25"
    assert as_text("x" * 50_000).startswith("sha256:")
    assert as_text(b"\0\1").startswith("sha256:")
    assert json.loads(as_text({"thinking": "so", "answer": "yes"})) == {"thinking": "so", "answer": "yes"}
    assert as_text(object()).startswith('"<object')


def test_prepared_data_is_linked_where_locks_can_be_written(tmp_path) -> None:
    prepared = tmp_path / "data/datasets/a/b"
    prepared.mkdir(parents=True)
    (prepared / "rows.arrow").write_text("rows")
    (prepared / "rows.lock").write_text("")
    mirror(tmp_path / "data/datasets", tmp_path / "tmp")
    assert (tmp_path / "tmp/a/b/rows.arrow").read_text() == "rows"
    assert not (tmp_path / "tmp/a/b/rows.lock").exists()
    mirror(tmp_path / "absent", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_more_than_any_run_has_is_refused_at_once(honest, judge) -> None:
    """Its owner could sign a run of a billion queries; counting them would take for ever."""
    data = honest.record.data.model_copy(update={"queries": 10**9})
    protocol = honest.record.protocol.model_copy(update={"runs": 10**6})
    began_s = time.monotonic()
    verdict = judge(builders.signed(forge.with_record(honest, data=data, protocol=protocol)))
    assert [check.name for check in verdict.failed] == ["size"]
    assert time.monotonic() - began_s < 60  # counting them would take hours


def test_simulated_energy_is_not_taken(honest, judge) -> None:
    meters = tuple(m.model_copy(update={"kind": "simulated", "name": "replay"}) for m in honest.record.meters)
    verdict = judge(builders.signed(forge.with_record(honest, energy_kind="simulated", meters=meters)))
    assert "kind" in [check.name for check in verdict.failed]


OPEN = {
    "warm_up": lambda run: forge.with_record(run, warm_up=None),
    "data.digest": lambda run: forge.with_record(run, data=run.record.data.model_copy(update={"digest": None})),
    "devices.0.name": lambda run: forge.with_record(
        run, devices=(run.record.devices[0].model_copy(update={"name": None}),)
    ),
    "windows.0": lambda run: forge.with_windows(run, lambda w: {"duration_s": None} if w.index == 0 else {}),
    "anything": lambda run: forge.with_record(run, missing=("anything",)),
}


@pytest.mark.parametrize("name", OPEN)
def test_what_only_an_imported_record_leaves_open_is_refused(name, honest, judge) -> None:
    verdict = judge(builders.signed(OPEN[name](honest)))
    assert [check.name for check in verdict.failed] == ["stated"]
    assert name in verdict.failed[0].words
