"""The stopping rule of a session: ends it at a relative precision, or when one star is left among measured peers.

Its unit is a block of queries, measured once in a run. Given the deviation that all blocks of a session share, blocks
are independent, and their interval is valid after every block. Once whole runs were measured, the selection of queries
causes no error any more, so the interval from runs may be narrower. The shared deviation (of the session and its runs)
cannot be seen in one session: its spread comes from repeated sessions, or is stated, and is added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from energylab import store
from energylab.energy import WH_PER_1000_QUERIES, ModelEnergies, energy_j_per_query, model_energies, phase_totals
from energylab.errors import CohortError, StatisticsError
from energylab.record import SCORED_PHASES, StopFacts, Window
from energylab.statistics.uncertainty import GAIN_ERROR, combined_half_width, gain_variance, t_quantile
from energylab.table import difference

if TYPE_CHECKING:
    import pandas as pd

#: Relative spread between sessions that is assumed without repeated sessions.
SHARED_CV = 0.01

#: Fewest blocks before the rule may end a session, so that skewed blocks are noticed. It decides only where each block
#: is a whole run: the interval of runs exists from the fourth on, that of blocks from the sixth.
LEAST_BLOCKS = 5

#: Numbers of blocks and runs at which their interval is shortest; it is valid at any number.
TUNED_BLOCKS, TUNED_RUNS = 20, 5

#: Fewest peers for a scale of stars.
LEAST_PEERS = 2

BANDS = 5

#: Coverage of the interval for `precision_target`.
PRECISION_LEVEL = 0.95


def block_intervals(
    energy_j: ArrayLike, queries: ArrayLike, alpha: float, tuned: int = TUNED_BLOCKS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the energy per query after every block, with half-widths of a confidence sequence.

    With probability 1 - alpha the intervals after all blocks contain the mean. For Gaussian blocks of unknown spread,
    the likelihood ratio of a mixture of other means against the mean m is a martingale under m, and depends on the data
    only by the t statistic; by Ville's inequality it ever exceeds 1/alpha with a probability of at most alpha. Solved
    for t, this gives ``k² = df · (A - 1)/(1 - A/ratio)`` with ``A = (ratio/alpha²)^(1/(df + 1))``.

    Parameters
    ----------
    energy_j : array_like of shape (..., n)
        Energy of each block, in measured order.
    queries : array_like of shape (n,)
        Queries of each block.
    alpha : float
        Probability that the interval ever fails.
    tuned : int
        Number of blocks at which the interval is shortest.

    Returns
    -------
    mean, half_width : ndarray of shape (..., n)
        In joules per query; the half-width is infinite while there is no interval.

    References
    ----------
    Lai (1976), On confidence sequences, Annals of Statistics 4, 265-280; Wang, Ramdas (2025), Anytime-valid t-tests and
    confidence sequences for Gaussian means with unknown variance, Sequential Analysis 44, 56-110.
    """
    energy, weight = np.asarray(energy_j, float), np.asarray(queries, float)
    total, count = np.cumsum(weight), np.arange(1, weight.size + 1)
    first = energy[..., :1] / weight[0]  # subtracted for numerical precision
    each = energy / weight - first
    mean = np.cumsum(each * weight, axis=-1) / total
    squares = np.maximum(np.cumsum(weight * each**2, axis=-1) - total * mean**2, 0.0)
    df = count - 1.0
    ratio = 1 + (_best_ratio(tuned - 1.0, alpha) - 1) * count / tuned
    k = _multiplier(df, ratio, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = k * np.sqrt(squares / df / total)
    return mean + first, np.where(np.isfinite(k), half, np.inf)


def _multiplier(df: np.ndarray, ratio: np.ndarray, alpha: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        power = np.where(df > 0, np.exp(np.log(ratio / alpha**2) / (df + 1)), np.inf)
        square = df * (power - 1) / (1 - power / ratio)
        return np.where((df > 0) & (power < ratio), np.sqrt(np.abs(square)), np.inf)


@lru_cache(maxsize=64)
def _best_ratio(df: float, alpha: float) -> float:
    """Return the width of the mixture that makes the interval shortest at `df` degrees of freedom."""
    found = optimize.minimize_scalar(
        lambda log_excess: np.log(_multiplier(np.array(df), 1 + np.exp(log_excess), alpha)),
        bounds=(np.log(4 / alpha ** (2 / df)), np.log(1e4 / alpha ** (4 / df))),
        method="bounded",
    )
    return 1 + float(np.exp(found.x))


@dataclass(frozen=True)
class Shared:
    """Relative spread of the deviation that all blocks of a session share (of the session and its runs)."""

    cv: float = SHARED_CV
    df: float = np.inf  # degrees of freedom; infinite if the spread is stated
    note: str = f"a spread of {SHARED_CV:.0%} between sessions is assumed: none was repeated"  # the source


def shared_spread(energies: ModelEnergies) -> Shared:
    """Estimate the spread between sessions and between runs from measured sessions.

    The first comes from sessions of one model on one board, pooled over models, and is `SHARED_CV` without repeats; the
    second from the runs within each session.
    """
    complete = energies.sessions.dropna(subset="energy_wh")
    on_board = complete.groupby(["row", "board"])["energy_wh"]
    repeats = int((on_board.size() - 1).sum())
    squares = float(((complete["energy_wh"] / on_board.transform("mean") - 1) ** 2).sum())
    of_session = (squares / repeats, repeats) if repeats else (SHARED_CV**2, np.inf)
    runs = complete[complete["runs"] > 1]
    run_df = int((runs["runs"] - 1).sum())
    within = float((runs["run_se"] ** 2 * runs["runs"] * (runs["runs"] - 1)).sum()) / max(run_df, 1)
    variance = of_session[0] + within
    doubt = of_session[0] ** 2 / of_session[1] + within**2 / max(run_df, 1)  # Welch and Satterthwaite
    cv, df = float(np.sqrt(variance)), variance**2 / doubt if doubt else np.inf
    if not repeats:
        runs_too = "" if not run_df else f", and one of {np.sqrt(within):.2%} between runs was measured"
        return Shared(cv, df, Shared.note + runs_too)
    of = f"{repeats} repeats" if repeats > 1 else "one repeat"
    return Shared(cv, df, f"a spread of {cv:.2%} between sessions and runs, estimated from {of}")


@dataclass(frozen=True)
class Scale:
    """The scale of stars that a session's peers set."""

    lowest: tuple[float, float]  # interval of the peers' lowest energy, in joules per query
    highest: tuple[float, float]  # interval of the peers' highest energy, in joules per query
    gain: float  # largest relative gain error of the sensors; 0 if all ran on one board
    peers: int  # number of peers with an energy
    shared: Shared  # estimated from the peers' repeats
    notes: tuple[str, ...] = ()  # remarks for readers

    def stars(self, low: float, high: float) -> tuple[int, ...]:
        """Return every number of stars that an energy between `low` and `high` joules per query may earn, ascending.

        The bands have equal width between the extremes of peers *and* model.
        """
        most = BANDS - _edges_below(max(low, 0.0) * (1 - self.gain), self.lowest[1], self.highest[1])
        fewest = BANDS - _edges_below(high * (1 + self.gain), self.lowest[0], self.highest[0])
        return tuple(range(fewest, most + 1))


def _edges_below(energy: float, lowest: float, highest: float) -> int:
    """Count the band edges below an energy, on the scale of this energy and the extremes of the others."""
    least, most = min(energy, lowest), max(energy, highest)
    place = 1.0 if energy >= highest and energy > lowest else (energy - least) / (most - least) if most > least else 0.0
    return int(np.clip(np.ceil(place * BANDS * (1 - 1e-9)) - 1, 0, BANDS - 1))


def read_peers(root: str | os.PathLike) -> pd.DataFrame:
    """Return the tidy table of measured peers; a CohortError for a folder without records."""
    table = store.read(root)
    if table.empty or "cohort" not in table:
        raise CohortError(f"peers={os.fspath(root)!r} holds no records; name the folder of a study that was measured")
    return table


def comparable_rows(
    table: pd.DataFrame, cohort: str, model_class: str | None, without: str | None = None
) -> pd.DataFrame:
    """Return the rows of a cohort and class, except those of one model; if there are none, name what differs."""
    classes = table["model_class"].astype("string").fillna("")
    rows = table[(table["cohort"] == cohort) & (classes == (model_class or "")) & (table["model"] != without)]
    if rows.empty:
        others = [key for key in table["cohort"].dropna().unique() if key != cohort]
        what = min((_difference(cohort, key) for key in others), key=len, default="model class, or no other model")
        raise CohortError(f"peers hold no model that may be compared with this one (difference: {what}); name others")
    return rows


def _difference(key: str, other: str) -> str:
    return f"{difference(key, [other])} here, {difference(other, [key])} there"


def scale_of(rows: pd.DataFrame, board: str, probability: float, gain: float = GAIN_ERROR) -> Scale:
    """Make the scale of a session's peers.

    The star is right with `probability` if the intervals of the session and of all peers contain the true energies.
    Half of the allowed error is divided among the peers (Bonferroni), any of which may be an extreme. Their intervals
    use variances between sessions shrunk to a common value, as for star probabilities; without repeats, the stated
    spread and that of the runs. Records on other boards add the gain error of their sensors.

    Raises
    ------
    StatisticsError
        If there are too few peers.
    """
    one_board = set(rows["board"].dropna()) <= {board}
    gain = 0.0 if one_board else gain
    shared = shared_of(rows)
    found = model_energies(rows, noise=shared.cv).models
    rated = found.dropna(subset="energy_wh")
    if len(rated) < LEAST_PEERS:
        raise StatisticsError(
            f"{len(rated)} peers have an energy; a scale needs at least {LEAST_PEERS} peers: measure more"
        )
    level = 1 - (1 - probability) / 2 / len(rated)
    of_boards = np.sqrt(gain_variance(gain) / rated["boards"])
    df = rated["session_df"].replace(np.inf, shared.df)
    half, _ = combined_half_width(rated["session_se"], df, of_boards, level)
    energy_j = rated["energy_wh"].to_numpy() / WH_PER_1000_QUERIES
    low, high = np.maximum(energy_j * (1 - half), 0.0), energy_j * (1 + half)
    lost = sorted(found.loc[found["energy_wh"].isna(), "model"])
    notes = [f"not on the scale, since without an energy: {', '.join(lost)}"] if lost else []
    notes += [] if one_board else [f"several boards: sensor gain errors of ±{gain:.0%} are included"]
    ends = (float(low.min()), float(high.min())), (float(low.max()), float(high.max()))
    return Scale(*ends, gain, len(rated), shared, tuple(notes))


def shared_of(rows: pd.DataFrame) -> Shared:
    """Estimate the shared spread of a session from the repeated sessions of its cohort."""
    return shared_spread(model_energies(rows))


#: Parts of the allowed error of the session's own interval: its blocks, its whole runs, and the shared deviation.
_BLOCKS, _RUNS, _SHARED = 0.4, 0.1, 0.5


@dataclass(frozen=True)
class OwnInterval:
    """Interval of the mean energy over sessions, from the blocks of one session.

    Called with energy and queries of each block in measured order (as `block_intervals`) and the queries of a whole
    run, it returns mean and half-width in joules per query after every block. All of these together fail with a
    probability of at most `error`.
    """

    error: float
    shared: Shared

    def __call__(self, energy_j: ArrayLike, queries: ArrayLike, population: int) -> tuple[np.ndarray, np.ndarray]:
        mean, half = block_intervals(energy_j, queries, _BLOCKS * self.error)
        ends = np.flatnonzero(np.cumsum(queries) % population == 0)
        if len(ends):
            runs_j = np.diff(np.cumsum(energy_j, axis=-1)[..., ends], axis=-1, prepend=0.0)
            _, of_runs = block_intervals(runs_j, np.full(len(ends), population), _RUNS * self.error, TUNED_RUNS)
            half[..., ends] = np.minimum(half[..., ends], of_runs)
        return mean, half + self.least * np.abs(mean)

    @property
    def least(self) -> float:
        """Relative half-width that remains for any number of blocks."""
        return float(t_quantile(1 - _SHARED * self.error, self.shared.df)) * self.shared.cv


class StopRule:
    """Ends a session when its figure is precise enough; called after every block with its windows by phase.

    `target` is the relative half-width of the 95 % interval or, with `scale`, the probability that the star is right;
    the session then ends when one star is left. The other arguments are called at the first block, when data and cohort
    of the session are known: the queries of a whole run, the shared spread, and the scale of the peers.
    """

    def __init__(
        self,
        target: float,
        population: Callable[[], int],
        shared: Callable[[], Shared] = Shared,
        scale: Callable[[], Scale] | None = None,
    ) -> None:
        self.target = target
        self._population = population
        self._shared, self._make_scale = shared, scale
        self._scale: Scale | None = None
        self._interval: OwnInterval | None = None
        self._energy_j: list[float] = []
        self._queries: list[int] = []

    @property
    def level(self) -> float:
        """Coverage of the session's own interval."""
        return PRECISION_LEVEL if self._make_scale is None else (1 + self.target) / 2

    def __call__(self, unit: Mapping[str, Window]) -> str | None:
        """Add one block; return the reason to stop, or None."""
        if self._interval is None:
            self._scale = self._make_scale() if self._make_scale else None
            self._interval = OwnInterval(1 - self.level, self._scale.shared if self._scale else self._shared())
        scored = [window for phase, window in unit.items() if phase in SCORED_PHASES]
        self._energy_j.append(sum(window.energy_j / window.replications for window in scored))
        self._queries.append(len(scored[0].queries))
        return self._reason()

    def ends(self) -> tuple[float, float] | None:
        """Return the ends of the current interval in joules per query; None while there are too few blocks."""
        if len(self._queries) < LEAST_BLOCKS:
            return None
        paths = self._interval(self._energy_j, self._queries, self._population())
        mean, half = (float(path[-1]) for path in paths)
        return (mean - half, mean + half) if np.isfinite(half) else None

    def _reason(self) -> str | None:
        ends = self.ends()
        if ends is None:
            return None
        if self._scale:
            stars = self._scale.stars(*ends)
            return f"star decided: {stars[0]}" if len(stars) == 1 else None
        width = _relative(ends)
        within = width <= self.target
        return f"relative half-width {width:.3%} is within the target of {self.target:.3%}" if within else None

    def facts(self, session: Any) -> StopFacts:
        """Return the rule and its result for the record; the energy is that of `energylab.energy`."""
        ends = self.ends()
        parts = [*session.idle, session.warm_up, *session.windows]
        return StopFacts(
            rule="star" if self._make_scale else "precision",
            target=self.target,
            reached=session.stopped is not None,
            reason=session.stopped or self._unreached(ends),
            energy_j_per_query=energy_j_per_query(
                total for total in phase_totals(session.windows) if total.phase in SCORED_PHASES
            ),
            low_j=ends[0] if ends else None,
            high_j=ends[1] if ends else None,
            level=self.level,
            units=len(self._queries),
            spent_j=sum(part.energy_j for part in parts if part.energy_j is not None),
            details=self._details(ends) | {"unmetered_parts": sum(part.energy_j is None for part in parts)},
        )

    def _unreached(self, ends: tuple[float, float] | None) -> str:
        if ends is None:
            return f"fewer than {LEAST_BLOCKS} blocks were measured"
        if self._scale:
            return "several stars are left"
        least = self._interval.least
        beyond = f"; a single session cannot get below {least:.1%}: measure more" if least >= self.target else ""
        return f"relative half-width {_relative(ends):.3%}{beyond}"

    def _details(self, ends: tuple[float, float] | None) -> dict[str, Any]:
        if self._interval is None:
            return {"shared_cv": None, "notes": []}
        scale, shared = self._scale, self._interval.shared
        if scale is None:
            return {"shared_cv": shared.cv, "notes": [shared.note]}
        return {
            "shared_cv": shared.cv,
            "stars": list(scale.stars(*ends)) if ends else None,
            "peers": scale.peers,
            "lowest_j": list(scale.lowest),
            "highest_j": list(scale.highest),
            "gain": scale.gain,
            "notes": [*scale.notes, shared.note],
        }


def _relative(ends: tuple[float, float]) -> float:
    """Return the half-width of an interval relative to its middle."""
    return (ends[1] - ends[0]) / (ends[1] + ends[0])
