"""Warm-up: work until power and temperature are steady, and what it teaches of pace and power."""

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

#: Where a device tells no limit, so many times the power seen in the warm-up is believed.
BELIEVED = 2.0

STEADY = "power and temperature steady"


class Sample(NamedTuple):
    """A look at the rated meters: their sum and the hottest device; None where one cannot be read."""

    time_s: float
    energy_j: float | None
    temperature_c: float | None


def sample(session: Session) -> Sample:
    """Look at the rated meters; the windows meet the same errors, and record them."""
    try:
        energy_j = sum(meter.read().energy_j for meter in session.rated_meters)
        temperatures = [meter.counters().temperature_c for meter in session.rated_meters]
    except MeterError:
        return Sample(session.clock.now(), None, None)
    return Sample(session.clock.now(), energy_j, None if None in temperatures else max(temperatures))


def warm_up(session: Session) -> WarmUp:
    """Work through the phases until power and temperature are steady, and learn each phase's pace.

    Power is steady when the last third of the time spent differs from the third before by less than
    ``steady_power``, or by less than their noise; temperature when it changes by less than
    ``steady_temperature_c_per_s`` over the last third. Otherwise the reason says what came first.
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
        except Exception as error:  # noqa: BLE001 - the windows meet the same query, and record what it says
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
    """Describe a warm-up that ends now."""
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
    """Ask one batch; return the seconds it took."""
    batch = session.workload.prepare(phase, queries)
    if phase != "preprocess":  # rows lie in memory anyway
        session.size_b[phase] = max(session.size_b.get(phase, 0.0), size_of(batch.inputs) / len(queries))
    started_s = session.clock.now()
    session.workload.run(phase)(batch.inputs)
    session.workload.synchronize()
    return session.clock.now() - started_s


def _learn(session: Session, samples: Sequence[Sample], asked: Counter, seconds: Counter) -> None:
    """Keep the pace of each phase, the working power, and what power is believed where no limit is told.

    A phase that took a share of the time drew at most the mean power over that share.
    """
    session.pace_s.update({phase: seconds[phase] / count for phase, count in asked.items()})
    if len(samples) < 2:
        return
    session.work_w = _power_w(samples[-4:])
    largest_w = max(map(_power_w, itertools.pairwise(samples)))
    if largest_w > 0:
        believe(
            session, {phase: largest_w * seconds.total() / spent_s for phase, spent_s in seconds.items() if spent_s}
        )


def believe(session: Session, power_w: dict[str, float]) -> None:
    """Believe twice the power that was seen in each phase, where the device tells no limit."""
    if session.estimated:
        return
    session.believed_w.update({phase: BELIEVED * watts for phase, watts in power_w.items()})
    for meter in session.rated_meters:
        meter.believed_w = max(session.believed_w.values())


def _steady(samples: Sequence[Sample], session: Session) -> bool:
    """Whether the last third of the warm-up has the power of the third before it, and the temperature rests.

    Thirds grow with the time spent, so that an exponential approach is seen whatever its time constant: when two
    neighbouring thirds agree, what is still to come is far smaller than their difference. A fixed look-back would
    call any slow approach steady. Nothing is called steady before the counter can resolve it.
    """
    settings, third = session.settings, (len(samples) - 1) // 3
    if third < 3:
        return False
    before, last = samples[-2 * third - 1 : -third], samples[-third - 1 :]
    power_w, last_s = _power_w(last), last[-1].time_s - last[0].time_s
    # a span read between two steps at each end is off by two standard deviations of 0.82 steps
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
