"""Checks by themselves: what is refused by chance alone, and what an honest run may look like."""

from __future__ import annotations

import random

import closed_builders as builders
import forgeries as forge
import pytest

from energylab_portal.sealed.checks import repeats
from energylab_portal.sealed.checks.floors import PRODUCTS, product


def _lasting(honest, seconds):
    windows = honest.record.windows
    return [windows[0].model_copy(update={"index": i, "duration_s": s}) for i, s in enumerate(seconds)]


def test_two_windows_of_one_length_are_a_copy_among_few_and_chance_among_many(honest) -> None:
    from itertools import combinations

    rng = random.Random(3)
    few = _lasting(honest, [4.0 + rng.random() * 0.01 for _ in range(5)])
    few.append(few[0].model_copy(update={"index": 9}))
    assert len(repeats._equally_long(list(combinations(few, 2)))) == 1
    many = _lasting(honest, [4.0 + rng.random() * 1e-4 for _ in range(200)])
    many.append(many[0].model_copy(update={"index": 999}))
    assert repeats._equally_long(list(combinations(many, 2))) == []


def test_quiet_machine_is_not_called_a_copy() -> None:
    """Steps of a sampler that wakes within ten microseconds: 20,000 pairs of windows, none alike."""
    rng = random.Random(4)
    windows = [[0.25 + rng.gauss(6e-5, 5e-6) for _ in range(12)] for _ in range(200)]
    assert not any(repeats._same(a, b, repeats.SAME_STEP_S) for i, a in enumerate(windows) for b in windows[:i])
    moved = [step + 1e-12 for step in windows[0]]
    assert repeats._same(windows[0], moved, repeats.SAME_STEP_S)


def test_mixture_of_experts_may_be_fast(honest, judge) -> None:
    """70 billion weights of which few work on a token: the pace of 8 billion betrays nothing."""
    model = honest.record.model.model_copy(
        update={"parameters": 70 * 10**9, "weights_bytes": 140 * 10**9, "model_class": "C"}
    )
    weights = honest.weights.model_copy(
        update={"bytes": 140 * 10**9, "elements": {"BF16": 70 * 10**9}, "experts": True}
    )
    run = forge.with_record(honest, model=model).model_copy(update={"weights": weights})
    assert judge(builders.signed(run)).accepted


def test_declared_quantisation_is_accepted(honest, judge) -> None:
    model = honest.record.model.model_copy(update={"quantisation": "bitsandbytes-4bit", "weights_bytes": 4_600_000_000})
    weights = honest.weights.model_copy(update={"bytes": 4_700_000_000, "elements": {"U8": 3_900_000_000}})
    run = forge.with_record(honest, model=model).model_copy(update={"weights": weights})
    assert judge(builders.signed(run)).accepted


def test_unknown_device_leaves_speed_undecided(honest, judge) -> None:
    device = honest.record.devices[0].model_copy(update={"name": "NVIDIA Something 9000"})
    verdict = judge(builders.signed(forge.with_record(honest, devices=(device,))))
    checks = {check.name: check for check in verdict.checks}
    assert checks["time"].passed is None
    assert verdict.accepted


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA L40S", "L40S"), ("NVIDIA L40", "L40"), ("NVIDIA L4", "L4"), ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA A10", "A10"), ("NVIDIA A10G", "A10G"), ("Tesla T4", "T4"),
        ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA GeForce RTX 4090 D", "RTX 4090"),
        ("NVIDIA RTX A1000", None), ("NVIDIA T400", None), ("NVIDIA A16", None), (None, None),
    ],
)  # fmt: skip
def test_a_board_is_known_by_a_whole_word_of_its_name(name, known) -> None:
    """An L40 reads three times as fast as an L4, whose name its own begins with; a workstation's A1000 is no A100."""
    assert product(name) is (None if known is None else PRODUCTS[known])


@pytest.mark.parametrize("seed", [1, 2])
def test_other_honest_runs_are_accepted(seed, judge, tmp_path) -> None:
    """Another seed of noise and jitter, shorter windows: nothing honest is refused."""
    model = builders.write_model(tmp_path / "Secret-Model-8B")
    _, board, instruments = builders.simulated_h100(seed)
    request = builders.make_request(tmp_path / "out", builders.owner(), model, runs=2, window_s=2.0, seed=seed)
    left = builders.sealed.run(
        request, container=builders.StandIn(builders.SimulatedService(board)), instruments=instruments,
        watch=builders.stepped,
    )  # fmt: skip
    failed = {check.name for check in judge(left.bundle).failed}
    # no test writes 16 GB of weights, and a simulated clock runs ahead of the real one
    assert failed <= {"weights", "durations"}


def test_scattered_runs_are_refused_where_measured_and_not_judged_where_estimated(honest) -> None:
    """One run takes three times the energy: no board under one load does, a busy machine's estimate does."""
    scattered = forge.with_windows(honest, lambda w: forge.window_energy(w, 3.0) if w.run == 1 else {})
    measured = repeats.scatter(scattered)
    assert measured.passed is False
    assert "more than the 15%" in measured.words
    estimated = repeats.scatter(forge.with_record(scattered, energy_kind="estimated"))
    assert estimated.passed is None
    assert "estimate" in estimated.words
    assert repeats.scatter(honest).passed is True
