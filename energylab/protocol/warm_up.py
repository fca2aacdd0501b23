"""Warm-up: run queries until power and temperature are steady, and measure their duration and power."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from statistics import stdev
from typing import NamedTuple

from energylab.errors import MeterError
from energylab.protocol.window import Session
from energylab.protocol.workload import size_of
from energylab.record import WarmUp

#: If a device states no power limit, the limit is assumed to be this many times the largest power of the warm-up.
ASSUMED_LIMIT_FACTOR = 2.0

STEADY = "power and temperature steady"


class Sample(NamedTuple):
    """Sum of the rated meters and the highest temperature; None where one cannot be read."""

    time_s: float
    energy_j: float | None
    temperature_c: float | None


def sample(session: Session) -> Sample:
    """Read the rated meters; errors are dropped here because the windows meet and record them."""
    try:
        energy_j = sum(meter.read().energy_j for meter in session.rated_meters)
        temperatures = [meter.counters().temperature_c for meter in session.rated_meters]
    except MeterError:
        return Sample(session.clock.now(), None, None)
    return Sample(session.clock.now(), energy_j, None if None in temperatures else max(temperatures))


def warm_up(session: Session) -> WarmUp:
    """Run all phases until power and temperature are steady, and measure the duration of a query in each phase.

    Power is steady when the mean power of the last third of the warm-up differs from that of the middle third by less
    than ``steady_power`` or their noise; temperature when it changes by less than ``steady_temperature_c_per_s`` over
    the last third. `WarmUp.reason` says why the warm-up ended.
    """
    settings, clock, workload = session.settings, session.clock, session.workload
    slice_s = max(settings.warm_up_min_s / 12, 3 * session.step_s, 0.02)
    samples, asked, seconds = [sample(session)], Counter(), Counter()
    reason, failure, failed = f"not steady within {settings.warm_up_max_s:g} s", None, 0
    rounds = itertools.cycle(workload.cut(range(workload.queries)))  # all phases on one batch, then on the next
    for queries, phase in ((queries, phase) for queries in rounds for phase in workload.phases):
        try:
            seconds[phase] += _ask(session, phase, queries)
            asked[phase] += len(queries)
            failed = 0
        except Exception as error:  # noqa: BLE001 - the windows run the same query, and record its error
            failure = failure or f"query {queries[0]} failed: {type(error).__name__}: {error}"[:300]
            failed += 1
        if not failed and clock.now() - samples[-1].time_s >= slice_s:
            samples.append(sample(session))
        spent_s, whole = clock.now() - samples[0].time_s, failed or len(asked) == len(workload.phases)
        if (whole and spent_s >= settings.warm_up_max_s) or failed > workload.queries * len(workload.phases):
            break
        if whole and not failed and spent_s >= settings.warm_up_min_s and _steady(_known(samples), session):
            reason = STEADY
            break
    _learn(session, _known(samples), asked, seconds)
    return spent(session, samples[0], asked.total(), failure or reason)


def _known(samples: Sequence[Sample]) -> list[Sample]:
    return [one for one in samples if one.energy_j is not None]


def spent(session: Session, begun: Sample, queries: int, reason: str) -> WarmUp:
    """Return the record of a warm-up that ends now."""
    ended = sample(session)
    known = len(_known([begun, ended])) == 2 and ended.energy_j >= begun.energy_j
    return WarmUp(
        duration_s=ended.time_s - begun.time_s,
        energy_j=ended.energy_j - begun.energy_j if known else None,
        queries=queries,
        steady=reason == STEADY,
        reason=reason,
    )


def _ask(session: Session, phase: str, queries: tuple[int, ...]) -> float:
    """Run one batch; return its duration in seconds."""
    batch = session.workload.prepare(phase, queries)
    if phase != "preprocess":  # rows lie in memory anyway
        sizes = session.bytes_per_query
        sizes[phase] = max(sizes.get(phase, 0.0), size_of(batch.inputs) / len(queries))
    started_s = session.clock.now()
    session.workload.run(phase)(batch.inputs)
    session.workload.synchronize()
    return session.clock.now() - started_s


def _learn(session: Session, samples: Sequence[Sample], asked: Counter, seconds: Counter) -> None:
    """Store each phase's seconds per query, the working power, and an assumed power limit for each phase.

    A phase that took a share of the time can have drawn at most the mean power divided by that share.
    """
    session.seconds_per_query.update({phase: seconds[phase] / count for phase, count in asked.items()})
    if len(samples) < 2:
        return
    session.work_w = _power_w(samples[-4:])
    largest_w = max(map(_power_w, itertools.pairwise(samples)))
    if largest_w > 0:
        assume_limits(
            session, {phase: largest_w * seconds.total() / spent_s for phase, spent_s in seconds.items() if spent_s}
        )


def assume_limits(session: Session, power_w: dict[str, float]) -> None:
    """Assume twice the power seen in each phase as its limit; used if the device states none."""
    if session.estimated:
        return
    session.assumed_limit_w.update({phase: ASSUMED_LIMIT_FACTOR * watts for phase, watts in power_w.items()})
    for meter in session.rated_meters:
        meter.assumed_limit_w = max(session.assumed_limit_w.values())


def _steady(samples: Sequence[Sample], session: Session) -> bool:
    """Whether the last and the middle third of the warm-up have equal power, and the temperature is steady.

    Thirds grow with the warm-up, so that an exponential approach is detected whatever its time constant: when two
    neighbouring thirds agree, the remaining change is far smaller than their difference. With a fixed look-back any
    slow approach would look steady. Nothing is steady before the counter can resolve the difference.
    """
    settings, third = session.settings, (len(samples) - 1) // 3
    if third < 3:
        return False
    before, last = samples[-2 * third - 1 : -third], samples[-third - 1 :]
    power_w, last_s = _power_w(last), last[-1].time_s - last[0].time_s
    # twice the standard deviation of a duration whose two ends lie anywhere between two steps is 0.82 steps
    if power_w <= 0 or 0.82 * session.step_s / last_s > settings.steady_power:
        return False
    noise = 0.0 if session.step_s else math.hypot(_standard_error(before), _standard_error(last))
    if abs(power_w - _power_w(before)) > max(settings.steady_power * power_w, 2 * noise):
        return False
    if any(one.temperature_c is None for one in last):
        return True
    return abs(last[-1].temperature_c - last[0].temperature_c) / last_s < settings.steady_temperature_c_per_s


def _power_w(samples: Sequence[Sample]) -> float:
    return (samples[-1].energy_j - samples[0].energy_j) / (samples[-1].time_s - samples[0].time_s)


def _standard_error(samples: Sequence[Sample]) -> float:
    powers = list(map(_power_w, itertools.pairwise(samples)))
    return stdev(powers) / math.sqrt(len(powers))
