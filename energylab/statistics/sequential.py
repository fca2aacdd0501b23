"""When to stop measuring: a rule that is fed window by window and stays honest however often it is asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from energylab.errors import StatisticsError
from energylab.statistics.anytime import best_ratio, finite_variance, multiplier
from energylab.statistics.intervals import Interval, check_level
from energylab.statistics.repeats import Repeats

#: Share of the windows' error for blocks that are measured again, where the rule knows them.
AGAIN = 0.2

#: A question asked of the interval after every window: the reason to stop, or None to go on.
Question = Callable[[Interval], str | None]


@dataclass(frozen=True)
class Decision:
    """What a rule says after a window.

    Attributes
    ----------
    stop : bool
        Whether the measurement may end.
    interval : Interval or None
        Of the energy per query, in joules; None while there are too few windows for one.
    reason : str
        Why, in words.
    windows : int
        Valid windows that the interval rests on (without the burn-in).
    queries : int
        Queries in those windows.
    spent_j : float
        Everything metered so far, in joules: burn-in, invalid windows and what `StopRule.spend` was told.
    unmetered_windows : int
        Invalid windows whose energy nobody knows: not in `spent_j`.
    """

    stop: bool
    interval: Interval | None
    reason: str
    windows: int
    queries: int
    spent_j: float
    unmetered_windows: int


class StopRule:
    """Ends a measurement when the energy per query is known well enough.

    One unit fed to the rule is the energy of all scored phases over one block of queries, in measured
    order. Its interval holds at all looks at once (see `anytime.multiplier`), under these conditions:
    queries were put into blocks at random beforehand; blocks are measured in a steady state (no drift, no
    correlation from one to the next beyond the burn-in); their residuals are near Gaussian, which sums over
    several queries make them. Other conditions: ``benchmarks/coverage.py``.

    Within one session the interval is of that session's mean. With `between_cv` it is of the mean over sessions:
    half of the error goes to the windows, half to the session's own deviation, Gaussian with that known coefficient
    of variation, and the two half-widths are added (a union bound).

    Parameters
    ----------
    target : float, optional
        Stop when the relative half-width is at or below this.
    question : callable, optional
        Stop when ``question(interval)`` gives a reason, for example `decided.StarQuestion`. Asked before
        `target`.
    level : float, default 0.95
        Coverage at all looks at once.
    burn_in : int, default 0
        Valid windows left out of the interval at the start, whatever they show: for a protocol without a
        warm-up of its own. Fixed beforehand, so that it cannot favour any figure.
    min_windows : int, default 5
        Valid windows after the burn-in before the rule may stop: below it a skewed residual is not yet seen.
    max_windows : int, optional
        The cap: stop there, sure or not. None: never.
    covariate_means : mapping of str to float, optional
        Means over *all* queries of what is known of each beforehand (input tokens, pixels): the energy is
        regressed on the windows' means of them.
    population : int, optional
        Number of distinct queries there are: from then on queries repeat, dealt out anew.
    sampling_share : float, default 0.0
        Share of the windows' residual variance due to the choice of queries, as an earlier variance study found
        it: the finite-population correction is for that share alone.
    tuned_windows : int, default 20
        Windows at which the interval is as short as it can be; valid for any.
    between_cv : float, default 0.0
        Coefficient of variation between sessions, known from earlier ones. 0: of this session alone.
    repeats : bool, default False
        Whether all queries, `population` of them, were dealt to blocks that are asked pass after pass; `update` is
        told the block. Once all were asked, `repeats.Repeats` knows their mean without sampling error; it has `AGAIN`
        of the error, and the narrower interval is given.

    Raises
    ------
    StatisticsError
        If a setting does not make sense, or there is nothing to stop for.

    References
    ----------
    Wang, Ramdas (2025) and Lindon et al. (2022), as in `anytime.multiplier`; Alexopoulos, Goldsman (2004), To
    batch or not to batch?, ACM TOMACS 14, 76-114 (batch means and burn-in).
    """

    def __init__(
        self,
        target: float | None = None,
        *,
        question: Question | None = None,
        level: float = 0.95,
        burn_in: int = 0,
        min_windows: int = 5,
        max_windows: int | None = None,
        covariate_means: Mapping[str, float] | None = None,
        population: int | None = None,
        sampling_share: float = 0.0,
        tuned_windows: int = 20,
        between_cv: float = 0.0,
        repeats: bool = False,
    ) -> None:
        check_level(level)
        finite_variance(1.0, 1.0, population, sampling_share)
        _check_settings(target, question, burn_in, min_windows, max_windows, between_cv)
        if repeats and not population:
            raise StatisticsError("repeats=True needs the population: how many queries the blocks hold together")
        self.target, self.question, self.level = target, question, level
        self.burn_in, self.min_windows, self.max_windows = burn_in, min_windows, max_windows
        self.covariate_means = {} if covariate_means is None else dict(covariate_means)
        self.population, self.sampling_share = population, sampling_share
        self.tuned_windows, self.between_cv = tuned_windows, between_cv
        self._repeats, self._between_alpha = Repeats(population) if repeats else None, (1 - level) / 2
        alpha = (1 - level) / (2 if between_cv else 1)
        self._again_alpha = AGAIN * alpha if repeats else 0.0
        self._alpha = alpha - self._again_alpha
        tuned_df = max(tuned_windows - 1 - len(self.covariate_means), 1)
        self._tuned_ratio = best_ratio(tuned_df, self._alpha)
        self._seen = 0
        self._spent_j = 0.0
        self._unmetered = 0
        self._energy_j: list[float] = []
        self._queries: list[int] = []
        self._covariates: list[list[float]] = []

    def spend(self, energy_j: float) -> None:
        """Count energy that gives no window: warm-up, idle, model loading.

        Raises
        ------
        StatisticsError
            If it is negative or not finite.
        """
        if energy_j is None or not (np.isfinite(energy_j) and energy_j >= 0):
            raise StatisticsError(f"energy_j={energy_j!r} cannot have been spent; pass finite joules >= 0")
        self._spent_j += float(energy_j)

    def update(
        self,
        energy_j: float | None,
        queries: int,
        covariates: Mapping[str, float] | None = None,
        valid: bool = True,
        block: Hashable = None,
    ) -> Decision:
        """Take in the next window and decide.

        Parameters
        ----------
        energy_j : float or None
            Energy of the window's queries, each once, in joules. Of a window with replications: their mean.
            None only for an invalid window whose meter failed: it is counted in `Decision.unmetered_windows`.
        queries : int
            Distinct queries in the window.
        covariates : mapping of str to float, optional
            Means over the window's queries, for the names of `covariate_means`.
        valid : bool, default True
            An invalid window is spent energy and nothing else.
        block : hashable, optional
            Which queries the window held; needed with `repeats`, and the same in every pass.

        Returns
        -------
        Decision
            For the windows so far.

        Raises
        ------
        StatisticsError
            If a value is not usable or the covariates are not those announced.
        """
        if energy_j is None and not valid:
            self._unmetered += 1
            return self.decide()
        self.spend(energy_j)
        if valid:
            self._take(float(energy_j), queries, dict(covariates or {}), block)
        return self.decide()

    def decide(self) -> Decision:
        """Return the decision for the windows taken in so far."""
        interval = self.interval()
        reason, stop = self._reason(interval)
        windows, queries = len(self._energy_j), sum(self._queries)
        return Decision(stop, interval, reason, windows, queries, self._spent_j, self._unmetered)

    def interval(self) -> Interval | None:
        """Return the anytime-valid interval of the energy per query in joules; None while there is none."""
        fit, again = self._fit(), self._repeats.interval(self._again_alpha) if self._repeats else None
        mean, half = (fit[0], self._half_width(*fit[1:])) if fit else (0.0, np.inf)
        if again is not None and again[1] < half:
            mean, half = again
        if not np.isfinite(half):
            return None
        if self.between_cv:
            half += float(stats.norm.ppf(1 - self._between_alpha / 2)) * self.between_cv * abs(mean)
        kind = "repeatability" if self.between_cv else "within-session"
        n = len(self._energy_j)
        return Interval(mean, mean - half, mean + half, self.level, n, "anytime-valid t", kind)

    def _half_width(self, variance: float, error: float, df: int) -> float:
        """Half-width from the windows alone; `variance` is that of the estimate over the squared `error`."""
        effective = float(finite_variance(variance, sum(self._queries), self.population, self.sampling_share))
        if effective <= 0:  # all queries measured, and nothing but their choice made a difference
            return 0.0
        tau2 = (self._tuned_ratio - 1) / (self.tuned_windows * self._queries[0])
        factor = float(multiplier(df, 1 + tau2 / effective, self._alpha))
        return factor * error * np.sqrt(effective) if np.isfinite(factor) else factor

    def _take(self, energy_j: float, queries: int, covariates: dict[str, float], block: Hashable) -> None:
        if queries < 1:
            raise StatisticsError(f"queries={queries!r}: a window holds at least one query")
        if covariates.keys() != self.covariate_means.keys():
            announced = sorted(self.covariate_means)
            raise StatisticsError(f"covariates {sorted(covariates)} given, but covariate_means announced {announced}")
        row = [covariates[name] - mean for name, mean in self.covariate_means.items()]
        if not np.all(np.isfinite(row)):
            raise StatisticsError(f"covariates {covariates} are not all finite")
        if self._repeats and block is None:
            raise StatisticsError("repeats=True: say which block of queries the window held")
        self._seen += 1
        if self._seen > self.burn_in:
            if self._repeats:
                self._repeats.take(block, energy_j, int(queries))
            self._energy_j.append(energy_j)
            self._queries.append(int(queries))
            self._covariates.append(row)

    def _fit(self) -> tuple[float, float, float, int] | None:
        """Weighted least squares: energy per query at the means of all queries; None if not yet estimable."""
        weights = np.asarray(self._queries, float)
        if weights.size < 2:
            return None
        root = np.sqrt(weights)
        covariates = np.reshape(self._covariates, (weights.size, -1))
        design = np.column_stack([np.ones(weights.size), covariates]) * root[:, None]
        response = np.asarray(self._energy_j) / root  # energy per query, times the root of its weight
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        kept = sizes > 1e-10 * sizes[0]
        left, right = left[:, kept], right[kept] / sizes[kept, None]
        df = weights.size - int(kept.sum())
        of_mean = left @ right[:, 0]  # the weights that make the estimated mean from the responses
        estimable = abs(of_mean @ design[:, 0] - 1) + np.abs(of_mean @ design[:, 1:]).sum() < 1e-9
        if df < 1 or not estimable:
            return None
        residuals = response - left @ (left.T @ response)
        error = float(np.sqrt(residuals @ residuals / df))
        return float(of_mean @ response), float(of_mean @ of_mean), error, df

    def _reason(self, interval: Interval | None) -> tuple[str, bool]:
        windows = len(self._energy_j)
        capped = self.max_windows is not None and windows >= self.max_windows
        if interval is None or windows < self.min_windows:
            return (f"cap of {self.max_windows} windows", True) if capped else ("too few windows", False)
        answer = self.question(interval) if self.question else None
        if answer:
            return answer, True
        width = interval.relative_half_width
        if self.target is not None and width <= self.target:
            return f"relative half-width {width:.3%} is within the target of {self.target:.3%}", True
        wide = f"relative half-width {width:.3%}"
        return (f"cap of {self.max_windows} windows: {wide}", True) if capped else (wide, False)


def _check_settings(target, question, burn_in, min_windows, max_windows, between_cv) -> None:
    if target is None and question is None and max_windows is None:
        raise StatisticsError("nothing to stop for: give a target, a question or max_windows")
    if target is not None and not 0 < target < 1:
        raise StatisticsError(f"target={target!r} is a relative half-width; allowed: 0 < target < 1")
    if burn_in < 0 or min_windows < 2:
        raise StatisticsError(f"burn_in={burn_in!r} must be >= 0 and min_windows={min_windows!r} >= 2")
    if max_windows is not None and max_windows < min_windows:
        raise StatisticsError(f"max_windows={max_windows!r} is below min_windows={min_windows!r}")
    if not 0 <= between_cv < 1:
        raise StatisticsError(f"between_cv={between_cv!r} is not a relative spread; allowed: 0 <= cv < 1")
