"""Forgeries, second table: altered and signed again by the key's owner. Each names the check that refuses it."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise

import closed_builders as builders
import forgeries as forge
import pytest


def _scale_windows(run):
    """One run's windows say less than their readings."""
    return forge.with_windows(run, lambda w: forge.window_energy(w, 0.8) if w.run == 1 else {})


def _scale_readings(run):
    """Windows and readings of one run are scaled; the timeline is left as it was."""
    scaled = _scale_windows(run)
    by_index = {w.index: w for w in run.record.windows}
    readings = tuple(
        one.model_copy(update={"stop": one.stop.model_copy(update={
            "energy_j": one.start.energy_j + (one.stop.energy_j - one.start.energy_j) * 0.8})})
        if by_index[one.window].run == 1 else one
        for one in scaled.readings
    )  # fmt: skip
    return scaled.model_copy(update={"readings": readings})


def _scale_counter(run, sensor: bool = False):
    """One run is scaled everywhere at once; the sensor beside the counter too, if asked."""
    start, stop = forge.span_of(run, 1)
    return forge.warped(run, lambda t: 0.8 if start <= t <= stop else 1.0, sensor)


def _smoothed(run):
    """The timeline's power becomes its moving average over five samples."""
    line = run.timelines[0]
    powers = [(b.energy_j - a.energy_j) / max(b.time_s - a.time_s, 1e-9) for a, b in pairwise(line.samples)]
    smooth = [sum(powers[max(0, i - 2) : i + 3]) / len(powers[max(0, i - 2) : i + 3]) for i in range(len(powers))]
    energy, samples = line.samples[0].energy_j, [line.samples[0]]
    for power, (before, after) in zip(smooth, pairwise(line.samples), strict=True):
        energy += power * (after.time_s - before.time_s)
        samples.append(after.model_copy(update={"energy_j": round(energy, 3)}))
    return run.model_copy(update={"timelines": (line.model_copy(update={"samples": tuple(samples)}),)})


def _copied_windows(run):
    """Run 1's windows are run 0's with a little noise; its readings are kept."""
    noise = random.Random(1)
    first = {(w.phase, w.block): w for w in run.record.windows if w.run == 0}
    return forge.with_windows(
        run,
        lambda w: (
            forge.window_energy(w, first[w.phase, w.block].energy_j * noise.gauss(1, 0.01) / w.energy_j)
            if w.run == 1
            else {}
        ),
    )


def _copied_stretch(run):
    """Windows, readings and timeline of run 1 become those of run 0, moved in time, with noise on the energy."""
    noise = random.Random(2)
    windows = list(run.record.windows)
    line = run.timelines[0]
    pairs = [(a, b) for a in windows for b in windows if (a.run, b.run) == (0, 1) and a.phase == b.phase]
    samples, readings = list(line.samples), {one.window: one for one in run.readings}
    for source, target in pairs:
        offset = target.start_s - source.start_s
        inside = [s for s in line.samples if source.start_s <= s.time_s <= source.start_s + source.duration_s]
        samples = [s for s in samples if not target.start_s <= s.time_s <= target.start_s + target.duration_s]
        begin = readings[target.index].start.energy_j
        factor = noise.gauss(1, 0.005)
        moved = [
            s.model_copy(update={"time_s": s.time_s + offset,
                                 "energy_j": round(begin + (s.energy_j - inside[0].energy_j) * factor, 3)})
            for s in inside
        ]  # fmt: skip
        samples += moved
        stop = readings[target.index].stop.model_copy(
            update={"time_s": moved[-1].time_s, "energy_j": moved[-1].energy_j}
        )
        readings[target.index] = readings[target.index].model_copy(update={"stop": stop})
        changes = forge.window_energy(target, (stop.energy_j - begin) / target.energy_j)
        windows[target.index] = target.model_copy(update={**changes, "duration_s": source.duration_s,
                                                          "queries": source.queries,
                                                          "replications": source.replications})  # fmt: skip
    samples.sort(key=lambda s: (s.time_s, s.energy_j))
    made = run.model_copy(update={"timelines": (line.model_copy(update={"samples": tuple(samples)}),),
                                  "readings": tuple(readings[i] for i in sorted(readings))})  # fmt: skip
    return forge.with_record(made, windows=tuple(windows))


def _without_a_query(run):
    return forge.with_windows(run, lambda w: {"queries": tuple(q for q in w.queries if q != 5)})


def _reused_window(run):
    """The last generate window of run 2 is the one of run 1, with its readings."""
    last, model = run.record.windows[-1], next(w for w in run.record.windows if w.run == 1 and w.phase == "generate")
    copy = model.model_copy(update={"index": last.index, "run": last.run, "queries": last.queries})
    readings = tuple(
        next(r for r in run.readings if r.window == model.index).model_copy(update={"window": last.index})
        if one.window == last.index else one
        for one in run.readings
    )  # fmt: skip
    made = run.model_copy(update={"readings": readings})
    return forge.with_record(made, windows=(*run.record.windows[:-1], copy))


def _quantised_by_size(run):
    weights = run.weights.model_copy(update={"bytes": 4_500_000_000, "elements": {"U8": 4_000_000_000}})
    return run.model_copy(update={"weights": weights})


def _quantised_by_time(run):
    """70 billion weights of 16 bits, answered in the time that 8 billion take."""
    model = run.record.model.model_copy(update={"parameters": 70 * 10**9, "weights_bytes": 140 * 10**9})
    weights = run.weights.model_copy(update={"bytes": 140 * 10**9, "elements": {"F16": 70 * 10**9}})
    return forge.with_record(run, model=model).model_copy(update={"weights": weights})


def _far_too_little(run):
    """Everything scaled alike to a hundredth, the power at rest too: less than moving the weights takes."""
    made = forge.warped(run, lambda t: 0.01, sensor=True)
    idle = tuple(level.model_copy(update={"power_w": level.power_w * 0.01}) for level in run.record.idle)
    return forge.with_record(made, idle=idle)


def _changed(run, part: str, **changes):
    return forge.with_record(run, **{part: getattr(run.record, part).model_copy(update=changes)})


def _too_hot(run):
    line = run.timelines[0]
    samples = tuple(s.model_copy(update={"temperature_c": 180.0}) for s in line.samples)
    return run.model_copy(update={"timelines": (line.model_copy(update={"samples": samples}),)})


def _other_network(run):
    return run.model_copy(update={"seal": run.seal.model_copy(update={"network": "bridge"})})


def _high_idle(run):
    """A high power at rest would make the work look like nothing."""
    return forge.with_record(run, idle=tuple(level.model_copy(update={"power_w": 600.0}) for level in run.record.idle))


def _loose(run):
    """The counter is scaled, the sensor is not, and a stated bound of every window is to cover the difference."""
    return forge.with_windows(forge.warped(run, lambda t: 0.7), lambda w: {"bound_j": 1e9})


def _without_sensor(run):
    """The counter is scaled, and all but the first eight samples of the sensor are left out."""
    made = forge.warped(run, lambda t: 0.7)
    line = made.timelines[0]
    samples = tuple(s if i < 9 else s.model_copy(update={"power_w": None}) for i, s in enumerate(line.samples))
    return made.model_copy(update={"timelines": (line.model_copy(update={"samples": samples}),)})


def _without_phase(run, phase: str = "preprocess"):
    """A rated phase is left out, and the other windows are numbered anew."""
    kept = [w for w in run.record.windows if w.phase != phase]
    numbers = {w.index: number for number, w in enumerate(kept)}
    readings = tuple(
        one.model_copy(update={"window": numbers[one.window]}) for one in run.readings if one.window in numbers
    )
    made = forge.with_record(
        run,
        windows=tuple(w.model_copy(update={"index": numbers[w.index]}) for w in kept),
        phases=tuple(name for name in run.record.phases if name != phase),
    )
    return made.model_copy(update={"readings": readings})


def _repeated(honest, factor: int, **of):
    """Windows are said to have repeated their queries more often than they did."""

    def more(w):
        hit = all(getattr(w, name) == value for name, value in of.items())
        return {"replications": w.replications * factor} if hit else {}

    return forge.with_windows(honest, more)


def _states(run, **changes):
    return forge.with_windows(run, lambda w: {"states": tuple(s.model_copy(update=changes) for s in w.states)})


def _idle(run, power_w: float):
    return forge.with_record(run, idle=tuple(
        level.model_copy(update={"power_w": power_w, "energy_j": power_w * level.duration_s})
        for level in run.record.idle))  # fmt: skip


def _board(run, **changes):
    return forge.with_record(run, devices=(run.record.devices[0].model_copy(update=changes),))


def _meter(run, **changes):
    return forge.with_record(run, meters=(run.record.meters[0].model_copy(update=changes),))


def _without_setting(run, name: str):
    return _changed(run, "task", settings={k: v for k, v in run.record.task.settings.items() if k != name})


def _protocol(run, **changes):
    return _changed(run, "protocol", settings={**run.record.protocol.settings, **changes})


def _part(run, part: str, **changes):
    return run.model_copy(update={part: getattr(run, part).model_copy(update=changes)})


def _line(run, **changes):
    return run.model_copy(update={"timelines": (run.timelines[0].model_copy(update=changes),)})


SIGNED_AGAIN = {
    "counter scaled, bounds stated that allow for it": (_loose, "bounds"),
    "bounds left out": (lambda run: forge.with_windows(run, lambda w: {"bound_j": None}), "bounds"),
    "a counter that steps once a day": (lambda run: _meter(run, update_period_s=1e5), "bounds"),
    "a meter that is late by a day": (lambda run: _meter(run, latency_s=1e5), "bounds"),
    "counter scaled, sensor left out": (_without_sensor, "sensor"),
    "a timeline of few samples": (lambda run: _line(run, period_s=1e5), "timeline"),
    "a second timeline of the same board": (
        lambda run: run.model_copy(update={"timelines": run.timelines * 2}), "timeline"),
    "the work of preparing inputs left out": (_without_phase, "task"),
    "preparing repeated a thousand times as often": (lambda run: _repeated(run, 1000, phase="preprocess"), "pace"),
    "one run repeated twice as often": (lambda r: _repeated(r, 2, run=1, phase="generate"), "pace"),
    "power at rest left out": (lambda run: forge.with_record(run, idle=()), "rest"),
    "power at rest of one watt": (lambda run: _idle(run, 1.0), "rest"),
    "no warm-up": (lambda run: _changed(run, "warm_up", duration_s=0.0, energy_j=0.0, queries=0), "rest"),
    "a limit no such board can have": (lambda run: _board(run, power_limit_w=1400.0), "kind"),
    "another generation's board": (lambda run: _board(run, name="NVIDIA A100-SXM4-80GB"), "kind"),
    "one board listed twice": (lambda run: forge.with_record(run, devices=run.record.devices * 2), "settings"),
    "slowed down by heat": (lambda run: _states(run, thermal_fraction=0.5), "conditions"),
    "shared with another process": (lambda run: _states(run, cotenants=(77,)), "conditions"),
    "states of the board left out": (lambda run: forge.with_windows(
        run, lambda w: {"states": ()} if w.index else {}), "conditions"),
    "batch size not stated": (lambda run: _without_setting(run, "batch_size"), "task"),
    "lengths of the queries left out": (lambda run: _changed(run, "data", covariates={}), "task"),
    "another size class": (lambda run: _changed(run, "model", model_class="C"), "task"),
    "a known task called a plug-in's": (
        lambda run: run.model_copy(update={"data_checked_by": "container"}), "data"),
    "the rows called the published ones": (lambda run: _changed(run, "data", name="published"), "data"),
    "number of parameters left out": (
        lambda run: _changed(run, "model", parameters=None, weights_bytes=None), "weights"),
    "precision of another name": (lambda run: _changed(run, "model", dtype="float11"), "weights"),
    "compiled, and not said so": (lambda run: _changed(run, "model", compiled=True), "settings"),
    "public weights claimed": (lambda run: _changed(run, "model", source="hub"), "identity"),
    "published data claimed": (lambda run: _changed(run, "data", source="hub"), "settings"),
    "tolerances of the protocol widened": (lambda run: _protocol(run, slowdown_tolerance=1.0), "settings"),
    "shorter windows than asked for": (lambda run: _protocol(run, window_s=0.001), "settings"),
    "parameters of another run": (lambda run: forge.with_record(
        run, parameters={**run.record.parameters, "samples": 1000, "runs": 10}), "settings"),
    "a name that is none": (lambda run: _changed(run, "model", name="<b>\u202e"), "identity"),
    "nothing committed to": (lambda run: run.model_copy(update={"commitments": {}}), "commitments"),
    "one commitment for all": (lambda run: run.model_copy(update={
        "commitments": dict.fromkeys(run.commitments, "0" * 64)}), "commitments"),
    "begun in another century": (
        lambda run: run.model_copy(update={"started_utc": run.started_utc - timedelta(days=9999)}), "dates"),
    "ended in the future": (lambda run: run.model_copy(update={
        "finished_utc": run.finished_utc + timedelta(days=99)}), "dates"),
    "the official image's digest, other layers": (lambda run: _part(run, "image", layers=()), "image"),
    "limits that are none": (lambda run: _part(run, "seal", pids_limit=2**40, memory_bytes=2**60), "seal"),
    "tries of a window numbered otherwise": (
        lambda run: forge.with_windows(run, lambda w: {"attempt": w.attempt + 1}), "order"),
    "more answers scored than queries": (lambda run: forge.with_record(run, quality=tuple(
        one.model_copy(update={"queries": 10**6}) for one in run.record.quality)), "coverage"),
    "one run's windows scaled": (_scale_windows, "readings"),
    "one run's windows and readings scaled": (_scale_readings, "timeline"),
    "one run scaled in counter and timeline": (_scale_counter, "sensor"),
    "one run scaled, the sensor too": (lambda run: _scale_counter(run, sensor=True), "repeats"),
    "timeline smoothed": (_smoothed, "timeline"),
    "repeats copied with noise": (_copied_windows, "readings"),
    "repeats copied with noise, readings and timeline too": (_copied_stretch, "copies"),
    "fewer queries than stated": (_without_a_query, "coverage"),
    "more queries stated than asked": (lambda run: _changed(run, "data", queries=1000), "coverage"),
    "window reused": (_reused_window, "counter"),
    "window left out": (lambda run: forge.with_record(run, windows=run.record.windows[1:]), "readings"),
    "quantised, declared float16: size": (_quantised_by_size, "weights"),
    "quantised, declared float16: time": (_quantised_by_time, "time"),
    "everything a hundredth: power": (_far_too_little, "energy"),
    "loaded in another precision than declared": (
        lambda run: _changed(run, "model", weights_bytes=8_000_000_000), "weights"),
    "tokens multiplied": (
        lambda run: forge.with_windows(run, lambda w: {"output_tokens": (w.output_tokens or 0) * 10}), "tokens"),
    "power at rest raised": (_high_idle, "power"),
    "a board at 180 degrees": (_too_hot, "device"),
    "other data": (lambda run: _changed(run, "data", digest="0" * 64), "data"),
    "another image": (
        lambda run: run.model_copy(update={"image": run.image.model_copy(update={
            "digest": f"sha256:{'9' * 64}", "layers": (f"sha256:{'8' * 64}",)})}), "image"),
    "a container with a network": (_other_network, "seal"),
    "another order of queries": (
        lambda run: forge.with_windows(run, lambda w: {"queries": tuple(sorted(w.queries))}), "order"),
    "a run of a minute in a second": (
        lambda run: run.model_copy(update={"started_utc": run.finished_utc}), "durations"),
    "settings changed without a word": (
        lambda run: _changed(run, "task", settings={**run.record.task.settings, "new_tokens": 1}), "task"),
    "not attested": (
        lambda run: run.model_copy(update={"attestations": run.attestations.model_copy(update={
            "representative": False})}), "attestations"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNED_AGAIN)
def test_forgery_by_the_keys_owner_is_refused_by_the_check_that_sees_it(name, honest, judge) -> None:
    forged, refusing = SIGNED_AGAIN[name]
    verdict = judge(builders.signed(forged(honest)))
    names = [check.name for check in verdict.failed]
    assert not verdict.accepted
    assert "signature" not in names
    assert refusing in names, f"{name}: refused by {names}"


def test_the_same_measurement_signed_again_under_other_ids_is_refused(honest, judge) -> None:
    """As a second session of the same setting it would narrow the interval between sessions."""
    ids = {"record_id": "0" * 32, "job_id": "1" * 16}
    verdict = judge(builders.signed(forge.with_record(honest, **ids), restated=False))
    assert [check.name for check in verdict.failed] == ["identity"]


@pytest.mark.parametrize("restated", [True, False])
def test_a_session_claimed_twice_is_known_by_its_readings(honest, judge, restated) -> None:
    """Run id, repeat and name may be stated anew: the record's id stays that of the readings."""
    record = honest.record
    again = forge.with_record(honest, repeat=1, parameters={**record.parameters, "repeat": 1})
    again = builders.signed(again.model_copy(update={"run_id": "1" * 64}), restated=restated)
    assert not judge(again, seen={record.record_id}).accepted


def test_honest_run_is_accepted(honest, judge) -> None:
    verdict = judge(builders.signed(honest))
    assert verdict.accepted, verdict.failed
    assert verdict.record.energy_kind == "measured"
    assert verdict.attestations == {"public": True, "integrity": True, "representative": True}


def test_processor_run_is_accepted_as_what_it_is(judge) -> None:
    verdict = judge(builders.signed(builders.processor_run()))
    assert verdict.accepted, verdict.failed
    assert verdict.record.energy_kind == "estimated"


def test_processor_run_called_a_board_is_refused(honest, judge) -> None:
    """Device, kind, meter and timeline are renamed; what a board would tell is not there."""
    run = builders.processor_run()
    board = honest.record.devices[0]
    meter = honest.record.meters[0]
    windows = tuple(
        w.model_copy(
            update={"meters": tuple(m.model_copy(update={"meter": "nvml", "device": board.uuid}) for m in w.meters)}
        )
        for w in run.record.windows
    )
    called = forge.with_record(run, energy_kind="measured", devices=(board,), meters=(meter,), windows=windows)
    called = called.model_copy(update={
        "readings": tuple(one.model_copy(update={"device": board.uuid}) for one in run.readings),
        "timelines": tuple(line.model_copy(update={"device": board.uuid, "meter": "nvml"}) for line in run.timelines),
    })  # fmt: skip
    verdict = judge(builders.signed(called))
    assert not verdict.accepted
    assert {"kind", "steps", "sensor"} <= {check.name for check in verdict.failed}


def test_estimate_called_measured_is_refused(judge) -> None:
    run = builders.processor_run()
    meters = tuple(m.model_copy(update={"name": "rapl", "kind": "measured"}) for m in run.record.meters)
    verdict = judge(builders.signed(forge.with_record(run, energy_kind="measured", meters=meters)))
    assert "kind" in [check.name for check in verdict.failed]


@pytest.mark.parametrize("factor", [0.95, 0.8])
def test_everything_scaled_alike_is_beyond_detection_and_the_methodology_says_so(factor, honest, judge) -> None:
    """Third table: who owns key and machine can scale all readings alike; that rests on the attestation alone."""
    verdict = judge(builders.signed(forge.scaled_alike(honest, factor)))
    assert verdict.accepted, verdict.failed


def test_more_repetitions_in_every_run_are_beyond_detection_and_the_methodology_says_so(honest, judge) -> None:
    """Four repetitions in place of three, in all runs: a window of that length might have held them."""
    more = forge.with_windows(honest, lambda w: {"replications": 4} if w.phase == "generate" else {})
    verdict = judge(builders.signed(more))
    assert verdict.accepted, verdict.failed
