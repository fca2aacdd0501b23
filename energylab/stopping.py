"""Ending a session when its figure is precise enough: what the ``precision_target`` parameter does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

from energylab.protocol.session import Session
from energylab.record import SCORED_PHASES, DataFacts, Window
from energylab.statistics.sequential import Decision, StopRule


class PrecisionStop:
    """Feeds every measured block to a stop rule, and says when the relative half-width is small enough.

    A block's energy is that of all scored phases on its queries, each once. Blocks are random parts of the
    queries, so the energy per query of those measured so far estimates that of all; every run asks the same blocks, so
    that once all were asked their choice is no error any more.

    Parameters
    ----------
    target : float
        Relative half-width of the 95 % interval, within this session.
    data : callable
        Returns the facts of the data; asked at the first block, when its covariates are known.
    """

    def __init__(self, target: float, data: Callable[[], DataFacts]) -> None:
        self._target = target
        self._data = data
        self._rule: StopRule | None = None
        self._covariates: dict[str, tuple[float, ...]] = {}
        self.decision: Decision | None = None

    def __call__(self, unit: Mapping[str, Window]) -> str | None:
        """Take in one block's windows, one a phase; return the reason to stop, or None."""
        if self._rule is None:
            self._start()
        scored = [window for phase, window in unit.items() if phase in SCORED_PHASES]
        queries = scored[0].queries
        means = {name: fmean(values[i] for i in queries) for name, values in self._covariates.items()}
        energy_j = sum(window.energy_j / window.replications for window in scored)
        self.decision = self._rule.update(energy_j, len(queries), means, block=frozenset(queries))
        return self.decision.reason if self.decision.stop else None

    def _start(self) -> None:
        data = self._data()
        self._covariates = {name: values for name, values in data.covariates.items() if len(set(values)) > 1}
        means = {name: fmean(values) for name, values in self._covariates.items()}
        self._rule = StopRule(self._target, covariate_means=means, population=data.queries, repeats=True)

    def facts(self, session: Session) -> dict[str, Any]:
        """Return what the record keeps: the target, the reason, the interval and everything spent on it."""
        interval = self.decision.interval if self.decision else None
        rest = [*session.idle, session.warm_up]
        spent = [part.energy_j for part in rest] + [window.energy_j for window in session.windows]
        return {
            "precision": {
                "target": self._target,
                "reason": session.stopped or (self.decision.reason if self.decision else "no block was measured"),
                "reached": session.stopped is not None,
                "energy_j_per_query": interval.mean if interval else None,
                "low_j": float(interval.low) if interval else None,
                "high_j": float(interval.high) if interval else None,
                "relative_bound": _relative_bound(session.windows),  # of the meter, beside the interval
                "blocks": self.decision.windows if self.decision else 0,
                "spent_j": sum(energy for energy in spent if energy is not None),
                "unmetered_parts": sum(energy is None for energy in spent),
            }
        }


def _relative_bound(windows: Iterable[Window]) -> float | None:
    """Error bound of the meter over all valid scored windows, relative to their energy; None where it is unknown.

    It is no part of the interval: what every run adds alike to a block cannot be seen by comparing runs.
    """
    scored = [window for window in windows if window.valid and window.phase in SCORED_PHASES]
    if not scored or any(window.bound_j is None for window in scored):
        return None
    return sum(window.bound_j for window in scored) / sum(window.energy_j for window in scored)
