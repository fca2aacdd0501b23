"""Wh per right answer: energy per query divided by the share of right answers, with a joint interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from energylab.energy import model_energies
from energylab.errors import DataError
from energylab.record import SCORED_PHASES, Quality, Record
from energylab.statistics.uncertainty import GAIN_ERROR, combined_half_width, gain_variance
from energylab.table import record_rows, tidy_frame

#: Metrics with a score of 1 for a right answer and 0 for a wrong one; for others, energy is per point of quality.
COUNTED = ("accuracy", "exact_match", "exact")


@dataclass(frozen=True)
class PerRight:
    """Wh per 1,000 right answers, or per 1,000 points of quality, with its joint 95 % interval.

    The interval includes energy (sessions, sensor gain) and quality (queries); `share` is the number of right answers,
    or points, per query; `note` states the assumptions of the interval.
    """

    metric: str
    wh: float
    low: float
    high: float
    share: float
    energy_kind: str
    note: str = ""

    @property
    def unit(self) -> str:
        """The counted unit in words."""
        return "right answers" if self.metric in COUNTED else f"points of {self.metric}"


def per_right_answer(records: Sequence[Record], level: float = 0.95, gain: float = GAIN_ERROR) -> PerRight | None:
    """Return the energy of 1,000 right answers of one model, from its sessions.

    It is a ratio R of two means over the same queries. Its variance over queries is that of ``e - R s`` (energy minus R
    times score), which includes the covariance of energy and score. Energies are known per block, so blocks are the
    units; the spread between sessions and the sensor's gain error are added.

    None if no session has scores of single queries, or no answer is right.

    References
    ----------
    Cochran (1977), Sampling techniques, 3rd edition, section 6.3 (variance of a ratio).
    """
    scored = [record for record in records if record.valid and _scored(record)]
    if not scored:
        return None
    if len({(record.model.name, record.task.name) for record in scored}) > 1:
        raise DataError("the sessions have several models or tasks; give those of one model and task")
    found = model_energies(tidy_frame([row for record in scored for row in record_rows(record)]))
    return of_energy(found.models.iloc[0], scored, level, gain)


def of_energy(
    row: pd.Series, records: Sequence[Record], level: float = 0.95, gain: float = GAIN_ERROR
) -> PerRight | None:
    """Return the energy of 1,000 right answers from the sessions' row of `energy.ModelEnergies`."""
    scored = [(record, _scored(record)) for record in records]
    share = float(np.mean([np.mean(quality.scores) for _, quality in scored]))
    if not share > 0 or not np.isfinite(row["energy_wh"]):
        return None
    over_queries, df, note = _query_variance(scored, share)
    known = np.sqrt(gain_variance(gain) / max(int(row["boards"]), 1))
    session_se = float(row["session_se"]) if np.isfinite(row["session_se"]) else 0.0
    session_df = float(row["session_df"]) if session_se else np.inf
    se = np.sqrt(session_se**2 + over_queries)
    with np.errstate(divide="ignore"):
        joint_df = se**4 / (session_se**4 / session_df + over_queries**2 / df) if se else np.inf
    half = float(combined_half_width(se, joint_df, known, level)[0])
    wh = float(row["energy_wh"]) / share
    if not session_se:
        note = "; ".join(filter(None, (note, "one session: the spread between sessions is not in the interval")))
    record, quality = scored[0]
    return PerRight(quality.metric, wh, max(wh * (1 - half), 0.0), wh * (1 + half), share, record.energy_kind, note)


def _scored(record: Record) -> Quality | None:
    """Return the first metric with scores of all queries of the data."""
    whole = (one for one in record.quality if one.scores and len(one.scores) == record.queries)
    return next((one for one in whole if one.value is not None), None)


def _query_variance(scored: Sequence[tuple[Record, Quality]], share: float) -> tuple[float, float, str]:
    """Return the relative variance of the ratio over queries, its degrees of freedom, and its assumption."""
    record, quality = scored[0]
    scores = np.asarray(quality.scores, float)
    energies, counts, right = _blocks(record, scores)
    if len(counts) < 5:  # too few blocks for the covariance of energy and score
        variance = float(scores.var(ddof=1)) / len(scores) / share**2 if len(scores) > 1 else 0.0
        return variance, max(len(scores) - 1, 1), "all queries are assumed to need the same energy"
    mean_j = energies.sum() / counts.sum()
    residual, blocks = energies / mean_j - right / share, len(counts)  # relative energy less relative score
    return float(blocks / (blocks - 1) * (residual**2).sum() / counts.sum() ** 2), blocks - 1, ""


def _blocks(record: Record, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energy, queries and summed scores of the first run's blocks, of the phase that needs most energy."""
    valid = [w for w in record.windows if w.valid and w.phase in SCORED_PHASES and w.run == 0]
    by_phase: dict[str, float] = {}
    for window in valid:
        by_phase[window.phase] = by_phase.get(window.phase, 0.0) + window.energy_j / window.replications
    main = max(by_phase, key=by_phase.get)
    last = {window.block: window for window in valid if window.phase == main}
    rows = [(w.energy_j / w.replications, len(w.queries), scores[list(w.queries)].sum()) for w in last.values()]
    return tuple(np.array(column, float) for column in zip(*rows, strict=True))
