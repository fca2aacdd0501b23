"""The checks of a bundle whose signature, digests and schema hold: each looks at one thing, and says what it found."""

from __future__ import annotations

from energylab_portal.sealed.checks import (
    bounds,
    device,
    floors,
    identity,
    kind,
    pace,
    parts,
    plan,
    power,
    readings,
    repeats,
    rest,
    settings,
    timeline,
)
from energylab_portal.sealed.official import Official
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

__all__ = ["all_checks", "of_the_work"]


def all_checks(run: ClosedRun, official: Official) -> list[Check]:
    """Make every check, in the order a reader would ask.

    Parameters
    ----------
    run : ClosedRun
        As its schema says; nothing in it is believed yet.
    official : Official
        What the operator knows.
    """
    first = [plan.size(run), plan.stated(run)]
    if not all(check.passed for check in first):  # the others may then take for ever, or lack what they compare
        return first
    return [
        *first,
        identity.identity(run),
        identity.commitments(run),
        identity.when(run),
        parts.attestations(run),
        parts.image(run, official),
        parts.seal(run),
        parts.data(run, official),
        parts.task(run, official),
        settings.settings(run),
        kind.kind(run),
        plan.coverage(run),
        plan.order(run),
        plan.tokens(run),
        readings.windows(run),
        readings.counter(run),
        readings.durations(run),
        bounds.bounds(run),
        pace.pace(run),
        timeline.complete(run),
        timeline.steps(run),
        timeline.sensor(run),
        rest.rest(run),
        power.between(run),
        device.plausible(run),
        device.conditions(run),
        floors.stored(run),
        floors.time(run),
        floors.energy(run),
        repeats.copied(run),
        repeats.scatter(run),
    ]


def of_the_work(run: ClosedRun) -> list[Check]:
    """Make the checks of what the container alone says: sizes, tokens, and whether the work can have been done.

    For a run on one's own machine, whose meter, image and seal need no check.
    """
    first = [plan.size(run), plan.stated(run)]
    if not all(check.passed for check in first):
        return first
    return [*first, plan.tokens(run), floors.stored(run), floors.time(run), floors.energy(run)]
