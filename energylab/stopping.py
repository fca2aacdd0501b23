"""Ending a session early: what the ``precision_target`` and the ``star_probability`` parameters do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

from energylab.among import Scale
from energylab.protocol.session import Session
from energylab.record import SCORED_PHASES, DataFacts, StopFacts, Window
from energylab.statistics.sequential import Decision, StopRule


class SessionStop:
    """Feeds every measured block to a stop rule, and says when it is satisfied.

    A block's energy is that of all scored phases on its queries, each once. Blocks are random parts of the
    queries, so the energy per query of those measured so far estimates that of all; every run asks the same blocks, so
    that once all were asked their choice is no error any more.

    Parameters
    ----------
    data : callable
        Returns the facts of the data; asked at the first block, when its covariates are known.
    """

    def __init__(self, data: Callable[[], DataFacts]) -> None:
        self._data = data
        self._rule: StopRule | None = None
        self._covariates: dict[str, tuple[float, ...]] = {}
        self.decision: Decision | None = None

    def make_rule(self, **of_the_data: Any) -> StopRule:
        """Return the rule; `of_the_data` are its settings that follow from the data."""
        raise NotImplementedError

    def facts(self, session: Session) -> StopFacts:
        """Return what the record keeps of the rule."""
        raise NotImplementedError

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
        self._rule = self.make_rule(covariate_means=means, population=data.queries, repeats=True)

    def _outcome(self, session: Session, level: float = 0.95, **details: Any) -> dict[str, Any]:
        """Return why it ended, the interval, and everything spent on it: warm-up, idle and invalid windows too."""
        interval = self.decision.interval if self.decision else None
        rest = [*session.idle, session.warm_up]
        spent = [part.energy_j for part in rest] + [window.energy_j for window in session.windows]
        return {
            "reached": session.stopped is not None,
            "reason": session.stopped or (self.decision.reason if self.decision else "no block was measured"),
            "energy_j_per_query": interval.mean if interval else None,
            "low_j": float(interval.low) if interval else None,
            "high_j": float(interval.high) if interval else None,
            "level": level,
            "units": self.decision.windows if self.decision else 0,
            "spent_j": sum(energy for energy in spent if energy is not None),
            "details": {
                "relative_bound": _relative_bound(session.windows),  # of the meter, beside the interval
                "unmetered_parts": sum(energy is None for energy in spent),
                **details,
            },
        }


class PrecisionStop(SessionStop):
    """Ends a session when the relative half-width of its 95 % interval, within this session, is small enough.

    Parameters
    ----------
    target : float
        Relative half-width.
    data : callable
        As `SessionStop`.
    """

    def __init__(self, target: float, data: Callable[[], DataFacts]) -> None:
        super().__init__(data)
        self._target = target

    def make_rule(self, **of_the_data: Any) -> StopRule:
        """Return a rule with the target."""
        return StopRule(self._target, **of_the_data)

    def facts(self, session: Session) -> StopFacts:
        """Return the target and what came of it."""
        return StopFacts(rule="precision", target=self._target, **self._outcome(session))


class StarStop(SessionStop):
    """Ends a session when one star is left to its model among its measured peers.

    Parameters
    ----------
    probability : float
        With which the decided star is right.
    scale : callable
        Returns the scale of the peers; asked at the first block, when the session's cohort is known.
    data : callable
        As `SessionStop`.
    """

    def __init__(self, probability: float, scale: Callable[[], Scale], data: Callable[[], DataFacts]) -> None:
        super().__init__(data)
        self._probability, self._make_scale = probability, scale
        self._scale: Scale | None = None

    def make_rule(self, **of_the_data: Any) -> StopRule:
        """Return a rule that asks for the star."""
        self._scale = self._make_scale()
        return StopRule(
            question=self._scale.question, level=self._scale.level, between_cv=self._scale.between_cv, **of_the_data
        )

    def facts(self, session: Session) -> StopFacts:
        """Return the stars that are left, and on what they rest; several when it ended undecided.

        None after fewer blocks than the rule may stop on: an interval of so few promises nothing yet.
        """
        scale, enough = self._scale, self.decision is not None and self.decision.windows >= self._rule.min_windows
        interval = self.decision.interval if enough else None
        found: dict[str, Any] = {"stars": None}
        if scale is not None:
            question = scale.question
            found |= {
                "stars": list(question.stars(interval)) if interval else None,
                "level": scale.level,
                "between_cv": scale.between_cv,
                "peers": scale.peers,
                "lowest_j": list(question.lowest),
                "highest_j": list(question.highest),
                "gain": question.gain,
                "notes": list(scale.notes),
            }
        return StopFacts(rule="star", target=self._probability, **self._outcome(session, **found))


def _relative_bound(windows: Iterable[Window]) -> float | None:
    """Error bound of the meter over all valid scored windows, relative to their energy; None where it is unknown.

    It is no part of the interval: what every run adds alike to a block cannot be seen by comparing runs.
    """
    scored = [window for window in windows if window.valid and window.phase in SCORED_PHASES]
    if not scored or any(window.bound_j is None for window in scored):
        return None
    return sum(window.bound_j for window in scored) / sum(window.energy_j for window in scored)
