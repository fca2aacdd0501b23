"""Forgeries: altered after signing; altered and signed again by the key's owner; and what no check can catch."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta

import closed_builders as builders
import forgeries as forge
import pytest
from forgeries import parameters, part, whole, windows

from energylab.record import canonical_json
from energylab_portal.sealed import bundle, keys, statement


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
    return part("timelines", energy_j=tuple(energy))(run)


def _copied(run):
    """Samples and readings of run 1 become those of run 0, moved in time, with noise on the energy."""
    noise, made, line = random.Random(2), list(run.windows), run.timelines[0]
    samples = list(zip(line.time_s, line.energy_j, line.power_w, strict=True))
    sources = {(window.phase, window.block): window.edges[0] for window in run.windows if window.run == 0}
    for index, window in enumerate(run.windows):
        if window.run != 1:
            continue
        old, new, factor = sources[window.phase, window.block], window.edges[0], noise.gauss(1, 0.005)
        offset_s, start_j = new.start.time_s - old.start.time_s, new.start.energy_j
        copies = [(t + offset_s, round(start_j + (e - old.start.energy_j) * factor, 3), p)
                  for t, e, p in zip(line.time_s, line.energy_j, line.power_w, strict=True)
                  if old.start.time_s <= t <= old.stop.time_s and t + offset_s < new.stop.time_s]  # fmt: skip
        samples = [one for one in samples if not new.start.time_s <= one[0] <= new.stop.time_s] + copies
        stop_j = round(start_j + (old.stop.energy_j - old.start.energy_j) * factor, 3)
        stop = new.stop.model_copy(update={"energy_j": min(stop_j, new.stop.energy_j)})
        made[index] = window.model_copy(update={"edges": (new.model_copy(update={"stop": stop}),)})
    columns = zip(("time_s", "energy_j", "power_w"), map(tuple, zip(*sorted(samples), strict=True)), strict=True)
    return whole(windows=tuple(made))(part("timelines", **dict(columns))(run))


def _reused(run):
    """The last window is the readings of the one before it, once more."""
    last, before = run.windows[-1], run.windows[-4]
    return whole(windows=(*run.windows[:-1], last.model_copy(update={"edges": before.edges})))(run)


def _but_few_powers(run):
    powers = tuple(power_w if i < 9 else None for i, power_w in enumerate(run.timelines[0].power_w))
    return part("timelines", power_w=powers)(run)


def _idle(power_w):
    return lambda run: whole(idle=tuple(one.model_copy(update={"power_w": power_w}) for one in run.idle))(run)


def _repeated(factor):
    """Windows are said to have repeated their queries more often than they did."""
    return lambda window: {"replications": window.replications * factor}


def _big(billions, **more):
    return lambda run: builders.big(run, billions * 10**9, **more)


def _chain(*forgeries):
    def forged(run):
        for one in forgeries:
            run = one(run)
        return run

    return forged


ALL_BUT_THE_SENSOR = forge.warped(lambda _: 0.7)
SEVENTY = {"F16": 70 * 10**9}
OTHER_DIGEST, OTHER_LAYERS = f"sha256:{'9' * 64}", (f"sha256:{'8' * 64}",)

SIGNED_AGAIN = {
    "readings of one run scaled": (windows(forge.scaled_edges(0.8), run=1), "steps"),
    "one run scaled in counter and timeline": (forge.run_warped(1, 0.8), "sensor"),
    "one run scaled, the sensor too": (forge.run_warped(1, 0.8, sensor=True), "repeats"),
    "all scaled, and not the sensor": (ALL_BUT_THE_SENSOR, "sensor"),
    "all scaled, the sensor left out": (_chain(ALL_BUT_THE_SENSOR, part("timelines", power_w=())), "sensor"),
    "all scaled, most of the sensor left out": (_chain(ALL_BUT_THE_SENSOR, _but_few_powers), "sensor"),
    "counter off its grid": (lambda run: part(
        "timelines", energy_j=tuple(e + 0.0004 for e in run.timelines[0].energy_j))(run), "steps"),
    "timeline smoothed": (_smoothed, "steps"),
    "a timeline of few samples": (part("timelines", period_s=1e5), "timeline"),
    "a timeline with a hole": (forge.samples(lambda i: not 100 < i < 160), "timeline"),
    "a timeline that ends early": (forge.samples(lambda i: i < 50), "timeline"),
    "no timeline": (whole(timelines=()), "timeline"),
    "a second timeline of the same board": (lambda run: whole(timelines=run.timelines * 2)(run), "timeline"),
    "columns of different length": (lambda run: part(
        "timelines", energy_j=run.timelines[0].energy_j[:-1])(run), "timeline"),
    "repeats copied with noise": (_copied, "repeats"),
    "window reused": (_reused, "counter"),
    "window left out": (lambda run: whole(windows=run.windows[1:])(run), "coverage"),
    "a rated phase left out of one run": (forge.without(run=1, phase="preprocess"), "coverage"),
    "a rated phase left out of all runs": (forge.without(phase="preprocess"), "coverage"),
    "a query left out": (windows(lambda w: {"queries": tuple(q for q in w.queries if q != 5)}), "coverage"),
    "queries asked twice": (windows(lambda w: {"queries": w.queries * 2}), "coverage"),
    "a window that asked nothing": (windows(_repeated(0)), "task"),
    "more runs stated than done": (parameters(runs=10), "coverage"),
    "more queries stated than asked": (parameters(samples=1000), "task"),
    "more queries stated than can be counted": (parameters(samples=10**19), "task"),
    "more runs stated than fit into memory": (parameters(runs=10**17), "task"),
    "preparing repeated a thousand times": (windows(_repeated(1000), phase="preprocess"), "pace"),
    "one run repeated twice as often": (windows(_repeated(2), run=1, phase="generate"), "pace"),
    "shorter windows than asked for": (parameters(window_s=20.0), "durations"),
    "a run of a minute in a second": (lambda run: whole(
        started_utc=run.finished_utc - timedelta(seconds=1))(run), "durations"),
    "a limit no such board can have": (part("devices", power_limit_w=1400.0), "kind"),
    "another generation's board": (part("devices", name="NVIDIA A100-SXM4-80GB"), "kind"),
    "a limit below what was drawn": (part("devices", power_limit_w=200.0), "power"),
    "a board that tells no driver": (part("devices", driver=None), "kind"),
    "one board listed twice": (lambda run: whole(devices=run.devices * 2)(run), "kind"),
    "a counter that steps once a day": (part("meters", update_period_s=1e5), "kind"),
    "a meter that is late by a day": (part("meters", latency_s=1e5), "kind"),
    "a counter of no grid": (part("meters", quantum_j=0.0), "kind"),
    "simulated energy": (part("meters", kind="simulated", name="replay"), "kind"),
    "power at rest raised": (_idle(600.0), "power"),
    "power at rest beyond the limit": (_idle(800.0), "power"),
    "everything a hundredth": (_chain(forge.warped(lambda _: 0.01, sensor=True), _idle(0.7)), "energy"),
    "70 B at the pace of 8 B": (_big(70), "time"),
    "70 B, said to be experts of which one works": (_big(70, experts=8, experts_used=1), "time"),
    "experts that hold more than the files": (_big(8, expert_elements=10**12, experts=64, experts_used=1), "schema"),
    "70 B in the files of 8 B": (part("weights", elements=SEVENTY), "task"),
    "70 B, said to be quantised, in the files of 8 B": (
        _chain(parameters(quantisation="int4"), part("weights", elements=SEVENTY)), "task"),
    "other data": (whole(data_digest="0" * 64), "data"),
    "another task's settings": (whole(task_version="other"), "task"),
    "another protocol": (whole(protocol_version="other"), "task"),
    "a parameter left out": (lambda run: whole(
        parameters={name: value for name, value in run.parameters.items() if name != "seed"})(run), "task"),
    "a task that is a path": (parameters(task="evil.yaml"), "task"),
    "another image": (part("image", digest=OTHER_DIGEST, layers=OTHER_LAYERS), "image"),
    "the image's digest, other layers": (part("image", layers=()), "image"),
    "another environment shared with it": (part("image", environment_digest="5" * 64), "image"),
    "a container with a network": (part("seal", network="bridge"), "schema"),
    "a container of root's": (part("seal", user="0:0"), "schema"),
    "limits that are none": (part("seal", pids_limit=2**40, memory_bytes=2**60), "schema"),
    "nothing committed to": (whole(commitments={}), "schema"),
    "one commitment for all": (lambda run: whole(
        commitments=dict.fromkeys(run.commitments, "0" * 64))(run), "schema"),
    "not attested": (part("attestations", representative=False), "schema"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNED_AGAIN)
def test_forgery_by_the_keys_owner_is_refused_by_the_check_that_sees_it(name, honest, judge):
    forged, refusing = SIGNED_AGAIN[name]
    verdict = judge(builders.signed(forged(honest)))
    names = [check.name for check in verdict.failed]
    assert not verdict.accepted
    assert refusing in names, f"{name}: refused by {names}"


#: Accepted, each with the reason why nothing in a bundle can tell. `sealed.md` lists the same.
NOT_CAUGHT = {
    "everything scaled alike by a plausible factor": forge.scaled_alike(0.9),
    "one repetition more in all windows of all runs": windows(lambda w: {"replications": 4}, phase="generate"),
    "a score": part("scores", value=0.1),
    "the driver's version": part("devices", driver="1.2.3"),
    "power at rest of one watt": _idle(1.0),
    "a slowdown that was not told": windows(lambda w: {"states": ()}),
    "queries in another order": windows(lambda w: {"queries": tuple(sorted(w.queries))}),
    "a smaller model's experts, renamed in its files": _big(
        60, expert_elements=56 * 10**9, experts=64, experts_used=2),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_CAUGHT)
def test_what_no_check_can_see_is_accepted_and_listed(name, honest, judge):
    verdict = judge(builders.signed(NOT_CAUGHT[name](honest)))
    assert verdict.accepted, verdict.failed


def test_honest_runs_are_accepted_as_what_they_are(honest, judge):
    board, processor = judge(builders.signed(honest)), judge(builders.signed(builders.processor_run()))
    assert board.accepted, board.failed
    assert processor.accepted, processor.failed
    assert [one.record.energy_kind for one in (board, processor)] == ["measured", "estimated"]
    assert board.record.model.model_class == "A"


def test_size_class_is_that_of_the_files_not_of_what_the_container_says(judge):
    """A container that says 70 B of a folder of 500 weights: the record says 500, in the smallest class."""
    record = judge(builders.signed(builders.processor_run())).record
    assert (record.model.parameters, record.model.model_class) == (500, "A")


def test_the_same_measurement_signed_again_keeps_its_id(honest, judge):
    again = whole(name="Another name")(parameters(repeat=1)(honest))
    assert judge(builders.signed(again)).record.record_id == judge(builders.signed(honest)).record.record_id


def test_a_processors_run_is_called_neither_a_boards_nor_measured(honest, judge):
    run, board = builders.processor_run(), honest.devices[0]
    lines = tuple(line.model_copy(update={"device": board.uuid, "meter": "nvml"}) for line in run.timelines)
    a_board = whole(devices=(board,), meters=honest.meters, timelines=lines)(run)
    for called, refusing in (
        (a_board, {"steps", "sensor"}),
        (part("meters", name="rapl", kind="measured")(run), {"kind"}),
    ):
        assert {check.name for check in judge(builders.signed(called)).failed} & refusing


# ---- altered after signing


def _with(data, **changes):
    """Change fields of an envelope, and write it the one way an envelope is written."""
    return canonical_json({**json.loads(data), **changes})


def _signature(data):
    return json.loads(data)["signatures"][0]


ALTERED = {
    "energy": windows(forge.scaled_edges(0.8)),
    "a window dropped": lambda run: whole(windows=run.windows[:-1])(run),
    "data": whole(data_digest="0" * 64),
    "image": part("image", digest=OTHER_DIGEST),
    "name": whole(name="Famous model"),
    "device": part("devices", name="NVIDIA H200"),
    "timeline": whole(timelines=()),
    "commitment": lambda run: whole(commitments={**run.commitments, "model": "0" * 64})(run),
    "date": lambda run: whole(finished_utc=run.finished_utc.replace(year=2030))(run),
    "weights": _big(1),
}


@pytest.mark.parametrize("name", ALTERED)
def test_statement_altered_after_signing_is_refused_by_its_signature(name, honest, judge):
    payload = base64.b64encode(statement.write(ALTERED[name](honest))).decode()
    verdict = judge(_with(builders.signed(honest), payload=payload))
    assert [check.name for check in verdict.failed] == ["signature"]
    assert verdict.record is None


def _same_bytes(text):
    """Return other base64 that decodes to the same 64 bytes: the last four bits before ``==`` are spare."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="


def _signed_as(data, **changes):
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
def test_altered_envelope_is_refused(name, honest, judge):
    verdict = judge(ENVELOPES[name](builders.signed(honest)))
    assert not verdict.accepted
    assert verdict.failed[0].name in ("file", "signature")


def test_anothers_signature_is_refused_and_an_unknown_key_waits_unread(honest, judge, tmp_path):
    other = keys.make(tmp_path / "other.pem")
    data, theirs = builders.signed(honest), builders.signed(honest, other)
    both = {**builders.enrolled(), other.key_id: other.public}
    assert not judge(_signed_as(data, sig=_signature(theirs)["sig"]), keys=both).accepted
    assert not judge(_signed_as(data, keyid=other.key_id), keys=both).accepted
    assert judge(theirs, keys=both).accepted  # they did sign it
    verdict = judge(theirs)
    assert (verdict.accepted, verdict.key_known, verdict.key_id, verdict.record) == (False, False, other.key_id, None)
    assert verdict.failed == ()  # nothing speaks against it: its key is unknown


def _signed_content(content):
    return bundle.sign(canonical_json(content), builders.owner())


@pytest.mark.parametrize("part", ["attestations", "seal"])
def test_what_is_not_stated_is_not_taken_as_stated(part, honest, judge):
    written = statement.write(honest)
    for name in json.loads(written)["predicate"][part]:
        content = json.loads(written)
        del content["predicate"][part][name]
        content["subject"] = statement._subject(content["predicate"])
        assert [check.name for check in judge(_signed_content(content)).failed] == ["schema"], name


def test_stated_digest_must_be_that_of_the_run(honest, judge):
    content = json.loads(statement.write(honest))
    content["subject"][0]["digest"]["sha256"] = "0" * 64
    assert [check.name for check in judge(_signed_content(content)).failed] == ["schema"]
