"""Wh per right answer: the energy of a query by the share of answers that are right, with one joint interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from energylab.energy import model_energies
from energylab.errors import DataError
from energylab.record import SCORED_PHASES, Quality, Record
from energylab.statistics.uncertainty import GAIN_ERROR, combined_half_width
from energylab.table import record_rows, tidy_frame

#: Metrics whose score of a query is 1 for a right answer, 0 for a wrong one; of others, a point of quality is shared.
COUNTED = ("accuracy", "exact_match", "exact")


@dataclass(frozen=True)
class PerRight:
    """Wh per 1,000 right answers, or per 1,000 points of quality, with its joint 95 % interval.

    The interval holds energy (sessions, sensor gain) and quality (queries); `share` is right answers, or points, a
    query; `note` says what the interval takes for granted.
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
        """What is counted, in words."""
        return "right answers" if self.metric in COUNTED else f"points of {self.metric}"


def per_right_answer(records: Sequence[Record], level: float = 0.95, gain: float = GAIN_ERROR) -> PerRight | None:
    """Return the energy of 1,000 right answers of one model, from its sessions.

    The ratio of two means over the same queries: its variance over queries is that of ``e - R s`` (energy less ratio
    times score), so that queries which cost much and are answered well or badly count as they covary. Energies are
    known block by block, so blocks are its units; the spread between sessions and the sensor's gain are added.

    None where no session has scores of single queries, or no answer is right.

    References
    ----------
    Cochran (1977), Sampling techniques, 3rd edition, section 6.3 (variance of a ratio).
    """
    scored = [(record, quality) for record in records if record.valid and (quality := _scored(record))]
    if not scored:
        return None
    if len({(record.model.name, record.task.name) for record, _ in scored}) > 1:
        raise DataError("sessions of several models or tasks were given; give those of one")
    row = model_energies(tidy_frame([row for record, _ in scored for row in record_rows(record)])).models.iloc[0]
    share = float(np.mean([np.mean(quality.scores) for _, quality in scored]))
    if not share > 0 or not np.isfinite(row["energy_wh"]):
        return None
    over_queries, df, note = _query_variance(scored, share)
    known = np.sqrt(gain**2 / 3 / max(int(row["boards"]), 1))
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
    """Return the first metric that scored every query of the data."""
    whole = (one for one in record.quality if one.scores and len(one.scores) == record.queries)
    return next((one for one in whole if one.value is not None), None)


def _query_variance(scored: Sequence[tuple[Record, Quality]], share: float) -> tuple[float, float, str]:
    """Return the relative variance of the ratio over queries, its degrees of freedom, and what it takes for granted."""
    record, quality = scored[0]
    scores = np.asarray(quality.scores, float)
    energies, counts, right = _blocks(record, scores)
    if len(counts) < 5:  # too few blocks to see how energy and score covary
        variance = float(scores.var(ddof=1)) / len(scores) / share**2 if len(scores) > 1 else 0.0
        return variance, max(len(scores) - 1, 1), "every query is taken to need the same energy"
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
