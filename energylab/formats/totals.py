"""What a file's energies add up to: with the measures that are invalid, and without the runs that hold one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from energylab.energy import WH_PER_1000_QUERIES
from energylab.formats.session import Measure, Session
from energylab.record import SCORED_PHASES

RATED = "rated"


@dataclass(frozen=True)
class Total:
    """One phase of a file, or all that is rated, over its runs.

    Attributes
    ----------
    phase : str
        As the file names it, or `RATED`.
    measures, invalid : int
        How many runs have a value, and how many of these are not valid.
    with_wh, without_wh : float or None
        Mean over all runs that have a value, and over those without an invalid measure, in Wh per 1,000 queries.
        None where there is none.
    """

    phase: str
    measures: int
    invalid: int
    with_wh: float | None
    without_wh: float | None

    @property
    def shift(self) -> float | None:
        """By what share the invalid measures move the total: -0.1 is 10 % too low."""
        if not self.invalid or not self.without_wh or self.with_wh is None:
            return None
        return self.with_wh / self.without_wh - 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for the record."""
        return dict(vars(self))


def totals(session: Session) -> tuple[Total, ...]:
    """Return one total a phase by the file's own names, then that of what is rated."""
    found = [_named(session, phase, values) for phase, values in session.as_named.items()]
    return (*found, _rated(session))


def _named(session: Session, phase: str, values: tuple[float | None, ...]) -> Total:
    present = [value for value in values if value is not None]
    good = [value for value in present if value > 0]
    return Total(phase, len(present), len(present) - len(good), _mean(session, present), _mean(session, good))


def _rated(session: Session) -> Total:
    runs = [_scored(run) for run in session.runs]
    sums = [sum(measure.energy_j for measure in run) for run in runs if None not in [m.energy_j for m in run]]
    whole = [run for run in session.runs if all(measure.valid for measure in run.values())]
    good = [sum(measure.energy_j for measure in _scored(run)) for run in whole]
    return Total(RATED, len(runs), len(runs) - len(good), _mean(session, sums), _mean(session, good))


def _scored(run: dict[str, Measure]) -> list[Measure]:
    return [measure for phase, measure in run.items() if phase in SCORED_PHASES]


def _mean(session: Session, values_j: list[float]) -> float | None:
    return fmean(values_j) / session.queries * WH_PER_1000_QUERIES if values_j else None
