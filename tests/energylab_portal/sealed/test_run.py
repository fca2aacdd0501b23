"""What a sealed run refuses before it starts, and what the host sees of the model's files."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
from dataclasses import replace

import closed_builders as builders
import numpy as np
import pytest

from energylab.devices import cpu_facts
from energylab.errors import BundleError, EnergylabError, MeterError, ParameterError
from energylab.meters import Instruments
from energylab.meters.base import DeviceCounters, Reading
from energylab.meters.codecarbon import CodecarbonMeter
from energylab_portal.sealed import bundle, container
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.derive import checked_alias, weight_count
from energylab_portal.sealed.inside import Service, mirror
from energylab_portal.sealed.statement import attest
from energylab_portal.sealed.watch import WatchedMeter, most_samples
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
    with pytest.raises(ParameterError, match="own tasks"):
        sealed.run(_asked(tmp_path, model, task="./tasks/own.yaml"), container=builders.StandIn(Service()))


def test_weights_are_counted_by_the_host_without_loading_them(tmp_path, model) -> None:
    weights, hashes = survey(model)
    assert (weights.files, weights.elements, weights.expert_elements) == (1, {"F16": 500}, 0)
    assert weights.bytes == (model / "model.safetensors").stat().st_size
    assert list(hashes) == ["model.safetensors"]
    assert weight_count(weights) == 500
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_local_experts": 8, "num_experts_per_tok": 1}))
    assert survey(model)[0].experts == 0  # a word in a configuration is no expert


def test_experts_and_packed_weights_are_told_from_the_headers(tmp_path) -> None:
    from safetensors.numpy import save_file

    parts = {
        "layers.0.experts.0.w": np.zeros((8, 10), np.float16),
        "layers.0.experts.1.w": np.zeros((8, 10), np.float16),
    }
    save_file({**parts, "head": np.zeros((4, 10), np.float16)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_local_experts": 2, "num_experts_per_tok": 1}))
    weights, _ = survey(tmp_path)
    assert (weights.expert_elements, weights.experts, weights.experts_used) == (160, 2, 1)
    (tmp_path / "config.json").write_text(json.dumps({"a_name_of_its_own": 2, "num_experts_per_tok": 1}))
    assert (survey(tmp_path)[0].experts, survey(tmp_path)[0].experts_used) == (0, 0)  # all of them are taken to work
    save_file({"q": np.zeros((10, 10), np.int32), "s": np.zeros(10, np.float16)}, tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match="how many bits"):
        weight_count(survey(tmp_path)[0])
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"bits": 4}}))
    assert weight_count(survey(tmp_path)[0]) == 10 + 100 * 8


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 5) + b"{[}]x", struct.pack("<Q", 2) + b"[]"]
)
def test_broken_weights_are_refused(data, model) -> None:
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="safetensors"):
        survey(model)


def test_request_names_what_is_wrong(tmp_path, model) -> None:
    plain = {
        "model": model, "task": "text_generation", "alias": "Closed model A", "key": tmp_path / "absent.key",
        "out": tmp_path / "out", "image": "runner", "gpus": 1, "device": "cpu", "data": None, "settings": [],
        "params": None, "memory_mb": 1000, "processes": 64, "limit_s": 10, "private": [],
        "attested": "public,integrity,representative",
    }  # fmt: skip
    with pytest.raises(BundleError, match="energylab-portal sealed key"):
        sealed.request(**plain)
    with pytest.raises(ParameterError, match="not a folder"):
        sealed.request(**{**plain, "model": tmp_path / "nowhere"})
    with pytest.raises(ParameterError, match="did you mean 'samples'"):
        sealed.request(**{**plain, "settings": ["sample=5"]})
    with pytest.raises(ParameterError, match="gpus=2"):
        sealed.request(**{**plain, "gpus": 2})


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


def _fails_before_measuring(tmp_path, model, match, **changes):
    asked = replace(_asked(tmp_path, model), **changes)
    with pytest.raises(EnergylabError, match=match):
        sealed.run(asked, container=builders.StandIn(Service()))  # which would fail at its first question
    assert not (tmp_path / "out/private").exists()


def test_what_would_refuse_the_bundle_refuses_before_measuring(tmp_path, model) -> None:
    with pytest.raises(ParameterError, match="missing: integrity"):
        attest(["public", "representative"])
    _fails_before_measuring(tmp_path, model, "the model's name", alias="best of secret model 8b")
    _fails_before_measuring(tmp_path, model, "a private name", private_names=("tanager",), alias="the Tanager")
    _fails_before_measuring(tmp_path, model, "3 to 60 letters", alias="<b>")


def test_a_meter_that_fails_once_is_sampled_on(tmp_path) -> None:
    """One reading that fails is a hole of one sample, not the end of the timeline."""
    asked, parts = builders.simulated(tmp_path, runs=1)
    inner, calls = parts["instruments"].rated_meters[0], itertools.count()
    counters = inner.counters

    def sometimes():
        if next(calls) == 40:
            raise MeterError("busy")
        return counters()

    inner.counters = sometimes
    assert len(builders.read(sealed.run(asked, **parts)).timelines[0].time_s) > 100


@pytest.mark.parametrize("boards", [1, 8])
def test_a_day_of_eight_boards_fits_a_bundle(boards, honest) -> None:
    """Sampling thins itself out: the size of a bundle is bounded however long the run is."""
    _, _, instruments = builders.simulated_h100()
    meter = WatchedMeter(instruments.rated_meters[0], 0.25, most=most_samples(boards))
    clock = itertools.count()
    meter.inner.counters = lambda: DeviceCounters(power_w=412.345)
    meter.inner.read = lambda: Reading(time_s=(now := next(clock)) / 4 + 0.123456, energy_j=now * 100.123)
    for _ in range(most_samples(boards) * 3):
        meter.sample()
    line = meter.timeline(0.0)
    data = builders.signed(honest.model_copy(update={"timelines": (line,) * boards}))
    assert len(line.time_s) <= most_samples(boards)
    assert len(data) < bundle.MAX_BYTES


ALIASES = ["", "ab", "x" * 61, "a/b/c", "<script>", "name\nname", "\u202eabc"]


@pytest.mark.parametrize("alias", ALIASES)
def test_public_names_are_plain(alias) -> None:
    with pytest.raises(ParameterError, match="letters"):
        checked_alias(alias)


def test_only_containers_of_dead_runs_are_swept(monkeypatch) -> None:
    """Not that of a process that lives, of another user's, nor what is named otherwise or by no process's id."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, *others = (f"{container.PREFIX}-{pid}-0123abcd" for pid in (gone.pid, os.getpid(), 1, 10**20))
    listed = [*others, dead, f"{dead}-more", f"{container.PREFIX}-base"]
    monkeypatch.setattr(container, "call", lambda arguments: "\n".join(listed))
    taken = []
    monkeypatch.setattr(container, "_take_away", taken.append)
    container.sweep()
    assert taken == [dead]
