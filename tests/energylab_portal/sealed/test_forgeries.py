"""Forgeries: altered after signing; altered and signed again by the key's owner; and what no check can catch."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta

import closed_builders as builders
import forgeries as forge
import pytest

from energylab.record import canonical_json
from energylab_portal.sealed import bundle, keys, statement


def _line(run, /, **changes):
    return forge.part(run, "timelines", **changes)


def _run_scaled(run, sensor: bool = False):
    """One run is scaled everywhere at once; the sensor beside the counter too, if asked."""
    start, stop = forge.span_of(run, 1)
    return forge.warped(run, lambda t: 0.8 if start <= t <= stop else 1.0, sensor)


def _smoothed(run):
    """The timeline's energy becomes a straight line within every window."""
    line = run.timelines[0]
    energy = list(line.energy_j)
    for window in run.windows:
        edge = window.edges[0]
        inside = [i for i, t in enumerate(line.time_s) if edge.start.time_s <= t <= edge.stop.time_s]
        slope = (energy[inside[-1]] - energy[inside[0]]) / (line.time_s[inside[-1]] - line.time_s[inside[0]])
        for i in inside[1:-1]:
            energy[i] = energy[inside[0]] + slope * (line.time_s[i] - line.time_s[inside[0]])
    return _line(run, energy_j=tuple(energy))


def _copied(run):
    """Samples and readings of run 1 become those of run 0, moved in time, with noise on the energy."""
    noise, windows, line = random.Random(2), list(run.windows), run.timelines[0]
    samples = list(zip(line.time_s, line.energy_j, line.power_w, strict=True))
    for index, target in enumerate(windows):
        source = next((w for w in windows if (w.run, w.phase, w.block) == (0, target.phase, target.block)), None)
        if target.run != 1 or source is None:
            continue
        old, new = source.edges[0], target.edges[0]
        offset, factor = new.start.time_s - old.start.time_s, noise.gauss(1, 0.005)
        inside = [s for s in zip(line.time_s, line.energy_j, line.power_w, strict=True)
                  if old.start.time_s <= s[0] <= old.stop.time_s]  # fmt: skip
        samples = [s for s in samples if not new.start.time_s <= s[0] <= new.stop.time_s]
        samples += [(t + offset, round(new.start.energy_j + (e - old.start.energy_j) * factor, 3), p)
                    for t, e, p in inside if t + offset < new.stop.time_s]  # fmt: skip
        stop_j = round(new.start.energy_j + (old.stop.energy_j - old.start.energy_j) * factor, 3)
        windows[index] = target.model_copy(
            update={
                "edges": (
                    new.model_copy(
                        update={"stop": new.stop.model_copy(update={"energy_j": min(stop_j, new.stop.energy_j)})}
                    ),
                )
            }
        )
    samples.sort()
    columns = dict(zip(("time_s", "energy_j", "power_w"), map(tuple, zip(*samples, strict=True)), strict=True))
    return _line(run, **columns).model_copy(update={"windows": tuple(windows)})


def _reused(run):
    """The last window is the readings of the one before it, once more."""
    last, before = run.windows[-1], run.windows[-4]
    return run.model_copy(update={"windows": (*run.windows[:-1], last.model_copy(update={"edges": before.edges}))})


def _repeated(run, factor: int, /, **of):
    """Windows are said to have repeated their queries more often than they did."""
    hit = lambda w: all(getattr(w, name) == value for name, value in of.items())  # noqa: E731
    return forge.with_windows(run, lambda w: {"replications": w.replications * factor} if hit(w) else {})


def _board(run, /, **changes):
    return forge.part(run, "devices", **changes)


def _meter(run, /, **changes):
    return forge.part(run, "meters", **changes)


def _idle(run, power_w: float):
    return run.model_copy(update={"idle": tuple(one.model_copy(update={"power_w": power_w}) for one in run.idle)})


def _without(run, /, **of):
    kept = [w for w in run.windows if not all(getattr(w, name) == value for name, value in of.items())]
    return run.model_copy(update={"windows": tuple(kept)})


def _a_hundredth(run):
    made = forge.warped(run, lambda t: 0.01, sensor=True)
    return _idle(made, 0.7)


SIGNED_AGAIN = {
    "readings of one run scaled": (
        lambda run: forge.with_windows(run, lambda w: forge.scaled_edges(w, 0.8) if w.run == 1 else {}), "steps"),
    "one run scaled in counter and timeline": (_run_scaled, "sensor"),
    "one run scaled, the sensor too": (lambda run: _run_scaled(run, sensor=True), "repeats"),
    "all scaled, and not the sensor": (lambda run: forge.warped(run, lambda t: 0.7), "sensor"),
    "all scaled, the sensor left out": (
        lambda run: _line(forge.warped(run, lambda t: 0.7), power_w=()), "sensor"),
    "all scaled, most of the sensor left out": (lambda run: _line(
        forge.warped(run, lambda t: 0.7),
        power_w=tuple(p if i < 9 else None for i, p in enumerate(run.timelines[0].power_w))), "sensor"),
    "counter off its grid": (lambda run: _line(
        run, energy_j=tuple(e + 0.0004 for e in run.timelines[0].energy_j)), "steps"),
    "timeline smoothed": (_smoothed, "steps"),
    "a timeline of few samples": (lambda run: _line(run, period_s=1e5), "timeline"),
    "a timeline with a hole": (lambda run: _line(run, **{
        name: tuple(v for i, v in enumerate(getattr(run.timelines[0], name)) if not 100 < i < 160)
        for name in ("time_s", "energy_j", "power_w")}), "timeline"),
    "a timeline that ends early": (lambda run: _line(run, **{
        name: getattr(run.timelines[0], name)[:50] for name in ("time_s", "energy_j", "power_w")}), "timeline"),
    "no timeline": (lambda run: run.model_copy(update={"timelines": ()}), "timeline"),
    "a second timeline of the same board": (
        lambda run: run.model_copy(update={"timelines": run.timelines * 2}), "timeline"),
    "columns of different length": (lambda run: _line(run, energy_j=run.timelines[0].energy_j[:-1]), "timeline"),
    "repeats copied with noise": (_copied, "repeats"),
    "window reused": (_reused, "counter"),
    "window left out": (lambda run: run.model_copy(update={"windows": run.windows[1:]}), "coverage"),
    "a rated phase left out of one run": (lambda run: _without(run, run=1, phase="preprocess"), "coverage"),
    "a rated phase left out of all runs": (lambda run: _without(run, phase="preprocess"), "coverage"),
    "a query left out": (lambda run: forge.with_windows(
        run, lambda w: {"queries": tuple(q for q in w.queries if q != 5)}), "coverage"),
    "queries asked twice": (lambda run: forge.with_windows(run, lambda w: {"queries": w.queries * 2}), "coverage"),
    "a window that asked nothing": (lambda run: forge.with_windows(run, lambda w: {"replications": 0}), "task"),
    "more runs stated than done": (lambda run: forge.parameters(run, runs=10), "coverage"),
    "more queries stated than asked": (lambda run: forge.parameters(run, samples=1000), "task"),
    "more queries stated than can be counted": (lambda run: forge.parameters(run, samples=10**19), "task"),
    "more runs stated than fit into memory": (lambda run: forge.parameters(run, runs=10**17), "task"),
    "preparing repeated a thousand times": (lambda run: _repeated(run, 1000, phase="preprocess"), "pace"),
    "one run repeated twice as often": (lambda run: _repeated(run, 2, run=1, phase="generate"), "pace"),
    "shorter windows than asked for": (lambda run: forge.parameters(run, window_s=20.0), "durations"),
    "a run of a minute in a second": (
        lambda run: run.model_copy(update={"started_utc": run.finished_utc - timedelta(seconds=1)}), "durations"),
    "a limit no such board can have": (lambda run: _board(run, power_limit_w=1400.0), "kind"),
    "another generation's board": (lambda run: _board(run, name="NVIDIA A100-SXM4-80GB"), "kind"),
    "a limit below what was drawn": (lambda run: _board(run, power_limit_w=200.0), "power"),
    "one board listed twice": (lambda run: run.model_copy(update={"devices": run.devices * 2}), "kind"),
    "a counter that steps once a day": (lambda run: _meter(run, update_period_s=1e5), "kind"),
    "a meter that is late by a day": (lambda run: _meter(run, latency_s=1e5), "kind"),
    "a counter of no grid": (lambda run: _meter(run, quantum_j=0.0), "kind"),
    "simulated energy": (lambda run: _meter(run, kind="simulated", name="replay"), "kind"),
    "power at rest raised": (lambda run: _idle(run, 600.0), "power"),
    "everything a hundredth": (_a_hundredth, "energy"),
    "70 B at the pace of 8 B": (lambda run: builders.big(run, 70 * 10**9), "time"),
    "70 B, said to be experts of which one works": (
        lambda run: builders.big(run, 70 * 10**9, experts=8, experts_used=1), "time"),
    "experts that hold more than the files": (lambda run: builders.big(
        run, expert_elements=10**12, experts=64, experts_used=1), "schema"),
    "70 B in the files of 8 B": (lambda run: forge.part(run, "weights", elements={"F16": 70 * 10**9}), "task"),
    "70 B, said to be quantised, in the files of 8 B": (lambda run: forge.part(
        forge.parameters(run, quantisation="int4"), "weights", elements={"F16": 70 * 10**9}), "task"),
    "other data": (lambda run: run.model_copy(update={"data_digest": "0" * 64}), "data"),
    "another task's settings": (lambda run: run.model_copy(update={"task_version": "other"}), "task"),
    "another protocol": (lambda run: run.model_copy(update={"protocol_version": "other"}), "task"),
    "a parameter left out": (lambda run: run.model_copy(update={"parameters": {
        name: value for name, value in run.parameters.items() if name != "seed"}}), "task"),
    "a task that is a path": (lambda run: forge.parameters(run, task="evil.yaml"), "task"),
    "another image": (lambda run: forge.part(
        run, "image", digest=f"sha256:{'9' * 64}", layers=(f"sha256:{'8' * 64}",)), "image"),
    "the image's digest, other layers": (lambda run: forge.part(run, "image", layers=()), "image"),
    "another environment shared with it": (lambda run: forge.part(run, "image", environment_digest="5" * 64), "image"),
    "a container with a network": (lambda run: forge.part(run, "seal", network="bridge"), "schema"),
    "a container of root's": (lambda run: forge.part(run, "seal", user="0:0"), "schema"),
    "limits that are none": (lambda run: forge.part(run, "seal", pids_limit=2**40, memory_bytes=2**60), "schema"),
    "nothing committed to": (lambda run: run.model_copy(update={"commitments": {}}), "schema"),
    "one commitment for all": (lambda run: run.model_copy(
        update={"commitments": dict.fromkeys(run.commitments, "0" * 64)}), "schema"),
    "not attested": (lambda run: forge.part(run, "attestations", representative=False), "schema"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNED_AGAIN)
def test_forgery_by_the_keys_owner_is_refused_by_the_check_that_sees_it(name, honest, judge) -> None:
    forged, refusing = SIGNED_AGAIN[name]
    verdict = judge(builders.signed(forged(honest)))
    names = [check.name for check in verdict.failed]
    assert not verdict.accepted
    assert refusing in names, f"{name}: refused by {names}"


#: Accepted, each with the reason why nothing in a bundle can tell. `sealed.md` lists the same.
NOT_CAUGHT = {
    "everything scaled alike by a plausible factor": lambda run: forge.scaled_alike(run, 0.9),
    "one repetition more in all windows of all runs": lambda run: forge.with_windows(
        run, lambda w: {"replications": 4} if w.phase == "generate" else {}),
    "a score": lambda run: forge.part(run, "scores", value=0.1),
    "the driver's version": lambda run: _board(run, driver="1.2.3"),
    "power at rest of one watt": lambda run: _idle(run, 1.0),
    "a slowdown that was not told": lambda run: forge.with_windows(run, lambda w: {"states": ()}),
    "queries in another order": lambda run: forge.with_windows(run, lambda w: {"queries": tuple(sorted(w.queries))}),
    "a smaller model's experts, renamed in its files": lambda run: builders.big(
        run, 60 * 10**9, expert_elements=56 * 10**9, experts=64, experts_used=2),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_CAUGHT)
def test_what_no_check_can_see_is_accepted_and_listed(name, honest, judge) -> None:
    verdict = judge(builders.signed(NOT_CAUGHT[name](honest)))
    assert verdict.accepted, verdict.failed


def test_honest_runs_are_accepted_as_what_they_are(honest, judge) -> None:
    board, processor = judge(builders.signed(honest)), judge(builders.signed(builders.processor_run()))
    assert board.accepted, board.failed
    assert processor.accepted, processor.failed
    assert [one.record.energy_kind for one in (board, processor)] == ["measured", "estimated"]
    assert board.record.model.model_class == "A"


def test_size_class_is_that_of_the_files_not_of_what_the_container_says(judge) -> None:
    """A container that says 70 B of a folder of 500 weights: the record says 500, in the smallest class."""
    record = judge(builders.signed(builders.processor_run())).record
    assert (record.model.parameters, record.model.model_class) == (500, "A")


def test_the_same_measurement_signed_again_keeps_its_id(honest, judge) -> None:
    again = forge.parameters(honest, repeat=1).model_copy(update={"name": "Another name"})
    assert judge(builders.signed(again)).record.record_id == judge(builders.signed(honest)).record.record_id


def test_processor_run_called_a_board_is_refused(honest, judge) -> None:
    run, board = builders.processor_run(), honest.devices[0]
    called = run.model_copy(update={
        "devices": (board,), "meters": honest.meters,
        "timelines": tuple(line.model_copy(update={"device": board.uuid, "meter": "nvml"}) for line in run.timelines),
    })  # fmt: skip
    failed = {check.name for check in judge(builders.signed(called)).failed}
    assert failed & {"steps", "sensor"}


def test_estimate_called_measured_is_refused(judge) -> None:
    called = _meter(builders.processor_run(), name="rapl", kind="measured")
    assert "kind" in [check.name for check in judge(builders.signed(called)).failed]


# ---- altered after signing


def _replaced(data: bytes, run) -> bytes:
    """Put another statement under the old signature, written the one way an envelope is."""
    return _with(data, payload=base64.b64encode(statement.write(run)).decode())


def _with(data: bytes, **changes) -> bytes:
    return canonical_json({**json.loads(data), **changes})


def _signature(data: bytes) -> dict:
    return json.loads(data)["signatures"][0]


ALTERED = {
    "energy": lambda run: forge.with_windows(run, lambda w: forge.scaled_edges(w, 0.8)),
    "a window dropped": lambda run: run.model_copy(update={"windows": run.windows[:-1]}),
    "data": lambda run: run.model_copy(update={"data_digest": "0" * 64}),
    "image": lambda run: forge.part(run, "image", digest=f"sha256:{'9' * 64}"),
    "name": lambda run: run.model_copy(update={"name": "Famous model"}),
    "device": lambda run: _board(run, name="NVIDIA H200"),
    "timeline": lambda run: run.model_copy(update={"timelines": ()}),
    "commitment": lambda run: run.model_copy(update={"commitments": {**run.commitments, "model": "0" * 64}}),
    "date": lambda run: run.model_copy(update={"finished_utc": run.finished_utc.replace(year=2030)}),
    "weights": lambda run: builders.big(run, 10**9),
}


@pytest.mark.parametrize("name", ALTERED)
def test_statement_altered_after_signing_is_refused_by_its_signature(name, honest, judge) -> None:
    verdict = judge(_replaced(builders.signed(honest), ALTERED[name](honest)))
    assert [check.name for check in verdict.failed] == ["signature"]
    assert verdict.record is None


def _same_bytes(text: str) -> str:
    """Return other base64 that decodes to the same 64 bytes: the last four bits before ``==`` are spare."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="


def _signed_as(data: bytes, **changes) -> bytes:
    return _with(data, signatures=[{**_signature(data), **changes}])


ENVELOPES = {
    "truncated file": lambda data: data[:-20],
    "empty file": lambda data: b"",
    "truncated payload": lambda data: _with(data, payload=json.loads(data)["payload"][:-400]),
    "truncated signature": lambda data: _signed_as(data, sig=base64.b64encode(b"\1" * 40).decode()),
    "no signature": lambda data: _with(data, signatures=[]),
    "two signatures": lambda data: _with(data, signatures=[_signature(data)] * 2),
    "another payload type": lambda data: _with(data, payloadType="application/json"),
    "a field more": lambda data: _with(data, note="harmless"),
    "key id in capitals": lambda data: _signed_as(data, keyid=_signature(data)["keyid"].upper()),
    "a space more": lambda data: data.replace(b",", b", ", 1),
    "a newline at the end": lambda data: data + b"\n",
    "base64 with spare bits set": lambda data: _signed_as(data, sig=_same_bytes(_signature(data)["sig"])),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "a ZIP archive": lambda data: b"PK\x03\x04" + data,
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_altered_envelope_is_refused(name, honest, judge) -> None:
    verdict = judge(ENVELOPES[name](builders.signed(honest)))
    assert not verdict.accepted
    assert verdict.failed[0].name in ("file", "signature")


def test_another_owners_signature_is_refused(honest, judge, tmp_path) -> None:
    other = keys.make(tmp_path / "other.pem")
    data, theirs = builders.signed(honest), builders.signed(honest, other)
    both = {**builders.enrolled(), other.key_id: other.public}
    assert not judge(_signed_as(data, sig=_signature(theirs)["sig"]), keys=both).accepted
    assert not judge(_signed_as(data, keyid=other.key_id), keys=both).accepted
    assert judge(theirs, keys=both).key_id == other.key_id  # they did sign it


def test_bundle_by_an_unknown_key_waits_and_is_not_read(honest, judge, tmp_path) -> None:
    other = keys.make(tmp_path / "other.pem")
    verdict = judge(builders.signed(honest, other))
    assert (verdict.accepted, verdict.key_known, verdict.key_id, verdict.record) == (False, False, other.key_id, None)
    assert verdict.failed == ()  # nothing speaks against it: its key is unknown


@pytest.mark.parametrize("part", ["attestations", "seal"])
def test_what_is_not_stated_is_not_taken_as_stated(part, honest, judge) -> None:
    whole = json.loads(statement.write(honest))
    for name in whole["predicate"][part]:
        content = json.loads(statement.write(honest))
        del content["predicate"][part][name]
        content["subject"] = statement._subject(content["predicate"])
        verdict = judge(bundle.sign(canonical_json(content), builders.owner()))
        assert [check.name for check in verdict.failed] == ["schema"], name


def test_stated_digest_must_be_that_of_the_run(honest, judge) -> None:
    content = json.loads(statement.write(honest))
    content["subject"][0]["digest"]["sha256"] = "0" * 64
    verdict = judge(bundle.sign(canonical_json(content), builders.owner()))
    assert [check.name for check in verdict.failed] == ["schema"]
