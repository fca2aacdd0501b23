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
from safetensors.numpy import save_file

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


@pytest.fixture
def refused(tmp_path, model):
    """Return a function that asks for a run which is refused before its container is asked anything; the words."""

    def refused(instruments=None, request=None, **parameters):
        asked = builders.make_request(tmp_path / "out", builders.owner(), model, **parameters)
        asked = replace(asked, **(request or {}))
        with pytest.raises(EnergylabError) as error:
            sealed.run(asked, container=builders.StandIn(Service()), instruments=instruments)
        assert not (tmp_path / "out/private").exists()
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    ("parameters", "request_", "words"),
    [
        ({"precision_target": 0.05}, {}, "precision_target"),
        ({"star_probability": 0.9, "peers": "results"}, {}, "star_probability"),
        ({"max_relative_bound": 0.2}, {}, "max_relative_bound is at most 0.1"),
        ({"model_source": "hub"}, {}, "folder"),
        ({"task": "./tasks/own.yaml"}, {}, "own tasks"),
        ({"runs": 201}, {}, "at most 200"),
        ({}, {"alias": "best of secret model 8b"}, "the model's name"),
        ({}, {"alias": "the Tanager", "private_names": ("tanager",)}, "a private name"),
        ({}, {"alias": "<b>"}, "3 to 60 letters"),
    ],
)
def test_what_would_refuse_the_bundle_refuses_before_measuring(refused, parameters, request_, words):
    assert words in refused(request=request_, **parameters)


def test_a_bundle_is_never_overwritten(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/bundle.json").write_text("mine")
    assert "--output" in refused()
    assert (tmp_path / "out/bundle.json").read_text() == "mine"


def test_a_meter_that_watches_this_process_is_refused(refused):
    assert "not the container" in refused(Instruments((cpu_facts(),), (CodecarbonMeter(),), (), "chosen"))


def test_weights_are_counted_by_the_host_without_loading_them(model):
    weights, hashes = survey(model)
    assert (weights.files, weights.elements, weights.expert_elements) == (1, {"F16": 500}, 0)
    assert weights.bytes == (model / "model.safetensors").stat().st_size
    assert list(hashes) == ["model.safetensors"]
    assert weight_count(weights) == 500
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_local_experts": 8, "num_experts_per_tok": 1}))
    assert survey(model)[0].experts == 0  # a word in a configuration is no expert


def test_experts_and_packed_weights_are_told_from_the_headers(tmp_path):
    def surveyed(weights, **config):
        save_file(weights, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(config))
        return survey(tmp_path)[0]

    parts = {f"layers.0.experts.{number}.w": np.zeros((8, 10), np.float16) for number in range(2)}
    parts["head"] = np.zeros((4, 10), np.float16)
    found = surveyed(parts, num_local_experts=2, num_experts_per_tok=1)
    assert (found.expert_elements, found.experts, found.experts_used) == (160, 2, 1)
    found = surveyed(parts, a_name_of_its_own=2, num_experts_per_tok=1)
    assert (found.experts, found.experts_used) == (0, 0)  # all of them are taken to work
    packed = {"q": np.zeros((10, 10), np.int32), "s": np.zeros(10, np.float16)}
    with pytest.raises(BundleError, match="number of bits"):
        weight_count(surveyed(packed))
    assert weight_count(surveyed(packed, quantization_config={"bits": 4})) == 10 + 100 * 8
    assert weight_count(surveyed(packed, quantization_config={"load_in_8bit": True})) == 10 + 100 * 4


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 5) + b"{[}]x", struct.pack("<Q", 2) + b"[]"]
)
def test_broken_weights_are_refused(data, model):
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="safetensors"):
        survey(model)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "energylab-portal sealed key"),  # the key's file is not there
        ({"model": "nowhere"}, "not a folder"),
        ({"settings": ["sample=5"]}, "did you mean 'samples'"),
        ({"settings": ["samples"]}, "is not NAME=VALUE"),
        ({"settings": ["gpus=2"]}, "has its own option"),
        ({"settings": ["samples=["]}, "is not a number, text or true/false"),
        ({"gpus": 2}, "gpus=2"),
    ],
)
def test_a_request_says_what_is_wrong_with_it(tmp_path, model, wrong, words):
    asked = {
        "model": model.name, "task": "text_generation", "alias": "Closed model A", "key": tmp_path / "absent.key",
        "out": tmp_path / "out", "image": "runner", "gpus": 1, "device": "cpu", "data": None, "settings": [],
        "params": None, "memory_mb": 1000, "limit_s": 10, "private": [], "attested": "public,integrity,representative",
    }  # fmt: skip
    asked |= wrong
    with pytest.raises(EnergylabError, match=words):
        sealed.request(**{**asked, "model": tmp_path / asked["model"]})


def test_all_statements_are_attested():
    with pytest.raises(ParameterError, match="missing: integrity"):
        attest(["public", "representative"])
    with pytest.raises(EnergylabError, match="did you mean 'public'"):
        attest(["publik"])


def test_prepared_data_is_linked_where_locks_can_be_written(tmp_path):
    prepared = tmp_path / "data/datasets/a/b"
    prepared.mkdir(parents=True)
    for name in ("rows.arrow", "rows.lock"):
        (prepared / name).write_text("rows")
    mirror(tmp_path / "data/datasets", tmp_path / "tmp")
    assert (tmp_path / "tmp/a/b/rows.arrow").read_text() == "rows"
    assert not (tmp_path / "tmp/a/b/rows.lock").exists()
    mirror(tmp_path / "absent", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_meter_that_fails_once_is_sampled_on(tmp_path):
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
def test_a_day_of_eight_boards_fits_a_bundle(boards, honest):
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


@pytest.mark.parametrize("alias", ["", "ab", "x" * 61, "a/b/c", "<script>", "name\nname", "\u202eabc"])
def test_public_names_are_plain(alias):
    with pytest.raises(ParameterError, match="letters"):
        checked_alias(alias)


def test_only_containers_of_dead_runs_are_swept(monkeypatch):
    """Not that of a process that lives, of another user's, nor what is named otherwise or by no process's id."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, *others = (f"{container.PREFIX}-{pid}-0123abcd" for pid in (gone.pid, os.getpid(), 1, 10**20))
    listed, taken = [*others, dead, f"{dead}-more", f"{container.PREFIX}-base"], []
    monkeypatch.setattr(container, "call", lambda arguments: "\n".join(listed))
    monkeypatch.setattr(container, "_remove", taken.append)
    container.sweep()
    assert taken == [dead]
