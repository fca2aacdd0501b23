"""How often intervals hold what they promise: coverage by simulation, and the honest figure where they do not.

Run ``python benchmarks/coverage.py`` (a few minutes on one core), or with ``--count 1000`` for a quick look and
``--only total`` for the rows whose name contains a word. Every row has its own seed, fixed beforehand. A row that
promises coverage must have its Wilson interval inside 93.5-96.5 % (expanded ones may cover more; anytime-valid ones
must be at or above 95 %); otherwise the command ends with status 1. The other rows show what happens when a
condition does not hold, and cannot fail.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from energylab.statistics import queries, survey
from energylab.statistics.anytime import anytime_path
from energylab.statistics.components import MeanSquare, difference_interval
from energylab.statistics.correlation import within_session_interval
from energylab.statistics.intervals import combined_half_width, expanded, mean_interval
from energylab.statistics.sequential import StopRule
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows

#: What a row can promise: limits of its Wilson interval.
PROMISES = {"95 %": (0.935, 0.965), "95 % or more": (0.935, 1.0), "at least 95 %": (0.95, 1.0)}


@dataclass(frozen=True)
class Row:
    """One line of the table: what is simulated, and what is promised of it."""

    method: str
    condition: str
    promise: str  # a key of PROMISES, or "" for a condition the method does not claim
    covered: Callable[[np.random.Generator, int], np.ndarray]

    @property
    def name(self) -> str:
        return f"{self.method}: {self.condition}"

    def run(self, count: int) -> Result:
        """Simulate `count` times with the row's own seed."""
        rng = np.random.default_rng([20250200, zlib.crc32(self.name.encode())])
        held = np.asarray(self.covered(rng, count), bool)
        interval = stats.binomtest(int(held.sum()), held.size).proportion_ci(0.95, "wilson")
        return Result(self, held.size, float(held.mean()), interval.low, interval.high)


@dataclass(frozen=True)
class Result:
    """Coverage of a row, with its Wilson interval."""

    row: Row
    count: int
    coverage: float
    low: float
    high: float

    @property
    def kept(self) -> bool | None:
        """Whether the promise was kept; None where there was none.

        Fewer than 10,000 simulations cannot show that it was: then it is broken only if a 99.9 % Wilson interval
        lies outside the limits as a whole.
        """
        if not self.row.promise:
            return None
        low, high = PROMISES[self.row.promise]
        if self.count >= 10_000:
            return bool(low <= self.low and self.high <= high)
        surely = stats.binomtest(round(self.coverage * self.count), self.count).proportion_ci(0.999, "wilson")
        return bool(surely.high >= low and surely.low <= high)


ROWS: list[Row] = []


def row(method: str, condition: str, promise: str = ""):
    """Register a simulation: a function of a generator and a count that returns who was covered."""

    def register(function):
        ROWS.append(Row(method, condition, promise, function))
        return function

    return register


def lognormal(rng, cv: float, size) -> np.ndarray:
    """Lognormal numbers of mean 1 and the given coefficient of variation."""
    variance = np.log1p(cv**2)
    return np.exp(np.sqrt(variance) * rng.standard_normal(size) - variance / 2)


# --- the mean over sessions -----------------------------------------------------------------------------------


def mean_covers(values: np.ndarray, truth: float = 1.0) -> np.ndarray:
    return np.array([(i := mean_interval(v)).low <= truth <= i.high for v in values])


@row("mean over sessions", "3 independent sessions, CV 1 %", "95 %")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 3)))


@row("mean over sessions", "10 independent sessions, CV 1 %", "95 %")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 10)))


@row("mean over sessions", "5 sessions, lognormal of CV 20 %", "95 %")
def _(rng, count):
    return mean_covers(lognormal(rng, 0.2, (count, 5)))


@row("mean over sessions", "5 sessions, lognormal of CV 1")
def _(rng, count):
    return mean_covers(lognormal(rng, 1.0, (count, 5)))


@row("mean over sessions", "ONE session, its 10 runs taken for sessions (session CV 1 %, run CV 0.4 %)")
def _(rng, count):
    return mean_covers(1 + 0.01 * rng.standard_normal((count, 1)) + 0.004 * rng.standard_normal((count, 10)))


@row("mean over sessions", "ONE drifting session, its 10 runs taken for sessions (warming up by 3 %)")
def _(rng, count):
    drift = -0.03 * np.exp(-np.arange(10) / 3)
    return mean_covers(1 + drift + 0.004 * rng.standard_normal((count, 10)))


# --- one session: correlated windows --------------------------------------------------------------------------


def autoregressive(rng, count: int, n: int, correlation: float) -> np.ndarray:
    noise = rng.standard_normal((count, n))
    for i in range(1, n):
        noise[:, i] = correlation * noise[:, i - 1] + np.sqrt(1 - correlation**2) * noise[:, i]
    return noise


def within_covers(values: np.ndarray) -> np.ndarray:
    return np.array([(i := within_session_interval(v)).low <= 1 <= i.high for v in values])


@row("one session's mean, effective sample size", "200 windows, independent", "95 %")
def _(rng, count):
    return within_covers(1 + 0.01 * rng.standard_normal((count, 200)))


@row("one session's mean, effective sample size", "200 windows, neighbours correlated by 0.5")
def _(rng, count):
    return within_covers(1 + 0.01 * autoregressive(rng, count, 200, 0.5))


@row("one session's mean, effective sample size", "60 windows, neighbours correlated by 0.7")
def _(rng, count):
    return within_covers(1 + 0.01 * autoregressive(rng, count, 60, 0.7))


@row("one session's mean, windows taken for independent", "200 windows, neighbours correlated by 0.5")
def _(rng, count):
    return mean_covers(1 + 0.01 * autoregressive(rng, count, 200, 0.5))


# --- the total from fewer queries -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Population:
    """Queries dealt to windows at random; each simulation draws a new population and measures some windows."""

    windows: int = 50
    per_window: int = 20
    measured: int = 15
    query_cv: float = 0.5
    explained: float = 0.8
    lognormal_residual: bool = False
    grows: bool = False  # the residual grows with the covariate
    noise: float = 0.0  # of a window

    def covers(self, rng, count: int, regression: bool, method: str = "auto", share: float = 1.0) -> list[bool]:
        held: list[bool] = []
        while len(held) < count:  # in blocks, so that memory stays small
            x, energy, window = self._draw(rng, min(count - len(held), 500))
            measured = x[:, : self.measured].mean(axis=2)
            intervals = (
                survey.estimate_total(
                    window[i],
                    np.full(self.measured, self.per_window),
                    population=energy[i].size,
                    covariates={"x": measured[i]} if regression else None,
                    covariate_means={"x": x[i].mean()} if regression else None,
                    sampling_share=share,
                    method=method,
                    seed=len(held) + i,
                )
                for i in range(len(x))
            )
            held += [i.low <= truth <= i.high for i, truth in zip(intervals, energy.sum(axis=(1, 2)), strict=True)]
        return held

    def _draw(self, rng, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariate and energy of all queries, and the energy of the windows measured.

        Queries are independent, so the first windows are as random as any others.
        """
        shape = (count, self.windows, self.per_window)
        x = lognormal(rng, 0.6, shape)
        residual = lognormal(rng, 1.0, shape) - 1 if self.lognormal_residual else rng.standard_normal(shape)
        residual = residual * (x if self.grows else 1.0)
        slope = self.query_cv * np.sqrt(self.explained) / 0.6
        energy = 1 + slope * (x - 1) + self.query_cv * np.sqrt(1 - self.explained) * residual
        noise = 1 + self.noise * rng.standard_normal((count, self.measured))
        return x, energy, energy[:, : self.measured].sum(axis=2) * noise


@row("total, mean per query with FPC", "15 of 50 windows of 20 queries, lengths lognormal, CV 0.5", "95 %")
def _(rng, count):
    return Population().covers(rng, count, regression=False, method="t")


@row("total, mean per query with FPC", "40 of 50 windows of 20 queries, lengths lognormal, CV 0.5", "95 %")
def _(rng, count):
    return Population(measured=40).covers(rng, count, regression=False, method="t")


@row("total, mean per query with FPC", "40 of 50 windows, window noise 5 %, its share known", "95 %")
def _(rng, count):
    sampling = 0.5**2 / 20
    share = sampling / (sampling + 0.05**2)
    return Population(measured=40, noise=0.05).covers(rng, count, regression=False, method="t", share=share)


@row("total, mean per query with FPC", "40 of 50 windows, window noise 5 %, taken for sampling")
def _(rng, count):
    return Population(measured=40, noise=0.05).covers(rng, count, regression=False, method="t")


@row("total by regression", "15 of 50 windows of 20 queries, Gaussian residuals", "95 %")
def _(rng, count):
    return Population().covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, Gaussian residuals", "95 %")
def _(rng, count):
    return Population(measured=30).covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, residuals grow with the length", "95 %")
def _(rng, count):
    return Population(measured=30, grows=True).covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, lognormal residuals of CV 1, t")
def _(rng, count):
    return Population(measured=30, lognormal_residual=True).covers(rng, count, regression=True, method="t")


@row("total by regression", "15 windows of 1 query, lognormal residuals of CV 1, t")
def _(rng, count):
    skewed = Population(windows=500, per_window=1, measured=15, lognormal_residual=True)
    return skewed.covers(rng, count, regression=True, method="t")


@row("total by regression", "15 windows of 1 query, lognormal residuals of CV 1, auto")
def _(rng, count):
    skewed = Population(windows=500, per_window=1, measured=15, lognormal_residual=True)
    return skewed.covers(rng, count, regression=True)


@row("total by regression", "15 of 50 windows of 20 queries, lognormal residuals of CV 1, auto", "95 %")
def _(rng, count):
    return Population(lognormal_residual=True).covers(rng, count, regression=True)


@row("total, mean per query with FPC", "10 of 50 windows of 20 queries, lengths lognormal, CV 0.5, auto", "95 %")
def _(rng, count):
    return Population(measured=10).covers(rng, count, regression=False)


# --- variance components --------------------------------------------------------------------------------------


def nested_squares(rng, count, boards, sessions, runs, cv_board, cv_session, cv_run):
    """Mean squares of balanced nested designs, straight from the arrays."""
    board = cv_board * rng.standard_normal((count, boards, 1, 1))
    session = cv_session * rng.standard_normal((count, boards, sessions, 1))
    y = board + session + cv_run * rng.standard_normal((count, boards, sessions, runs))
    means = y.mean(axis=3)
    of_board = runs * sessions * means.mean(axis=2).var(axis=1, ddof=1) if boards > 1 else np.nan
    of_session = runs * means.var(axis=2, ddof=1).mean(axis=1)
    of_run = y.var(axis=3, ddof=1).mean(axis=(1, 2))
    return (
        MeanSquare(of_board, boards - 1),
        MeanSquare(of_session, boards * (sessions - 1)),
        MeanSquare(of_run, boards * sessions * (runs - 1)),
    )


def between(interval, truth: float) -> np.ndarray:
    return (interval[0] <= truth) & (truth <= interval[1])


@row("variance component, run", "3 boards x 4 sessions x 3 runs, Gaussian", "95 %")
def _(rng, count):
    *_, run = nested_squares(rng, count, 3, 4, 3, 0.02, 0.006, 0.004)
    return between(difference_interval(run, MeanSquare(0.0, 1)), 0.004**2)


@row("variance component, session", "3 boards x 4 sessions x 3 runs, Gaussian", "95 %")
def _(rng, count):
    _, session, run = nested_squares(rng, count, 3, 4, 3, 0.02, 0.006, 0.004)
    return between(difference_interval(session, run), 3 * 0.006**2)


@row("variance component, session", "1 board x 5 sessions x 3 runs, session CV = run CV", "95 %")
def _(rng, count):
    _, session, run = nested_squares(rng, count, 1, 5, 3, 0.0, 0.004, 0.004)
    return between(difference_interval(session, run), 3 * 0.004**2)


@row("variance component, board", "3 boards x 4 sessions x 3 runs, Gaussian", "95 %")
def _(rng, count):
    board, session, _ = nested_squares(rng, count, 3, 4, 3, 0.02, 0.006, 0.004)
    return between(difference_interval(board, session), 12 * 0.02**2)


@row("variance component, session", "3 boards x 4 sessions x 3 runs, sessions Student t of 3 df")
def _(rng, count):
    session = 0.006 / np.sqrt(3) * rng.standard_t(3, (count, 3, 4, 1))
    y = session + 0.004 * rng.standard_normal((count, 3, 4, 3))
    of_session = MeanSquare(3 * y.mean(axis=3).var(axis=2, ddof=1).mean(axis=1), 9)
    of_run = MeanSquare(y.var(axis=3, ddof=1).mean(axis=(1, 2)), 24)
    return between(difference_interval(of_session, of_run), 3 * 0.006**2)


@cache
def spectrum() -> queries.Spectrum:
    """The design of 8 runs of 20 windows over 100 queries, dealt anew every run."""
    study = simulate(7, boards=1, sessions=2, runs=4, windows=20, queries_per_window=5, warm_up=0.0)
    return queries.within_run_spectrum(measured_windows(study.windows))


@cache
def query_splits(count: int) -> list[queries.QuerySplit]:
    """Splits of simulated contrasts: window CV 2 %, query CV 30 %."""
    rng, values = np.random.default_rng([20250200, count]), spectrum().values
    spread = np.sqrt(0.02**2 + values * 0.3**2)
    return [queries.reml_split(spread * rng.standard_normal(values.size), values) for _ in range(count)]


@row("variance component, window", "8 runs of 20 windows over 100 queries, window CV 2 %, query CV 30 %", "95 %")
def _(rng, count):
    return [s.window_interval[0] <= 0.02**2 <= s.window_interval[1] for s in query_splits(count)]


@row("variance component, query", "8 runs of 20 windows over 100 queries, window CV 2 %, query CV 30 %", "95 %")
def _(rng, count):
    return [s.query_interval[0] <= 0.3**2 <= s.query_interval[1] for s in query_splits(count)]


# --- expanded: boards of unknown gain -------------------------------------------------------------------------


def expanded_covers(rng, count, sessions: int, cv: float, gain: np.ndarray) -> np.ndarray:
    """Sessions on one board each; the truth is 1 on a board without gain error."""
    y = (1 + gain[:, None]) * (1 + cv * rng.standard_normal((count, sessions)))
    half = stats.t.ppf(0.975, sessions - 1) * y.std(axis=1, ddof=1) / np.sqrt(sessions)
    wide = combined_half_width(half, sessions - 1, 0.05 * y.mean(axis=1), 0.95)
    one = expanded(mean_interval(y[0]))
    if not np.isclose(one.half_width, wide[0]):
        raise RuntimeError("the vectorised half-width is not the one of expanded()")
    return np.abs(y.mean(axis=1) - 1) <= wide


@row("expanded", "3 sessions of CV 0.2 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.002, rng.uniform(-0.05, 0.05, count))


@row("expanded", "3 sessions of CV 2 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.02, rng.uniform(-0.05, 0.05, count))


@row("expanded", "5 sessions of CV 5 %, gain within ±5 %", "95 % or more")
def _(rng, count):
    return expanded_covers(rng, count, 5, 0.05, rng.uniform(-0.05, 0.05, count))


@row("expanded", "3 sessions of CV 0.2 %, gain Gaussian with standard deviation 5 %")
def _(rng, count):
    return expanded_covers(rng, count, 3, 0.002, 0.05 * rng.standard_normal(count))


@row("mean over sessions", "3 sessions of CV 0.2 % on a board of gain within ±5 %, not expanded")
def _(rng, count):
    y = (1 + rng.uniform(-0.05, 0.05, (count, 1))) * (1 + 0.002 * rng.standard_normal((count, 3)))
    return mean_covers(y)


# --- anytime-valid: looked at after every window --------------------------------------------------------------

LOOKS = 200


@row("anytime-valid", f"looked at after each of {LOOKS} Gaussian windows", "at least 95 %")
def _(rng, count):
    return anytime_path(1 + 0.1 * rng.standard_normal((count, LOOKS))).covers(np.ones(count))


@row("anytime-valid", f"{LOOKS} windows, regression on a covariate", "at least 95 %")
def _(rng, count):
    x = rng.standard_normal((count, LOOKS))
    return anytime_path(1 + 0.3 * x + 0.1 * rng.standard_normal(x.shape), x).covers(np.ones(count))


@row("anytime-valid", "all 50 windows of a finite set of queries, with FPC", "at least 95 %")
def _(rng, count):
    y = 1 + 0.1 * rng.standard_normal((count, 50))
    return anytime_path(y, population_windows=50, sampling_share=1.0).covers(y.mean(axis=1))


@row("anytime-valid", "3 passes over 500 queries dealt anew to 50 windows, FPC for the queries' share", "at least 95 %")
def _(rng, count):
    query = 1 + 0.3 * rng.standard_normal((count, 500))
    passes = [rng.permuted(query, axis=1).reshape(count, 50, 10).mean(axis=2) for _ in range(3)]
    noise = 0.04 * rng.standard_normal((count, 150))
    share = 0.3**2 / 10 / (0.3**2 / 10 + 0.04**2)
    path = anytime_path(np.concatenate(passes, axis=1) + noise, population_windows=50, sampling_share=share)
    return path.covers(query.mean(axis=1))


def clusters(rng, count: int, cv: float) -> np.ndarray:
    """Means of 20 lognormal queries a window."""
    return np.stack([lognormal(rng, cv, (count, 20)).mean(axis=1) for _ in range(LOOKS)], axis=1)


@row("anytime-valid", f"{LOOKS} windows of 20 queries, lognormal of CV 0.5", "at least 95 %")
def _(rng, count):
    return from_look(anytime_path(clusters(rng, count, 0.5)), 5)


@row("anytime-valid", f"{LOOKS} windows of 20 queries, lognormal of CV 1")
def _(rng, count):
    return from_look(anytime_path(clusters(rng, count, 1.0)), 5)


def from_look(path, least: int) -> np.ndarray:
    """Coverage at every look from window number `least` on: `StopRule` does not stop before."""
    return ~np.any(np.abs(path.mean - 1)[:, least - 1 :] > path.half_width[:, least - 1 :], axis=1)


@row("anytime-valid", "stopped by a StopRule at ±5 %, windows of 20 queries of CV 0.3", "at least 95 %")
def _(rng, count):
    return [stopped_covers(1 + 0.3 / np.sqrt(20) * rng.standard_normal(LOOKS)) for _ in range(count)]


def stopped_covers(energy_per_query_j: np.ndarray) -> bool:
    rule = StopRule(0.05, max_windows=LOOKS)
    for energy_j in energy_per_query_j:
        decision = rule.update(20 * energy_j, 20)
        if decision.stop:
            return decision.interval.low <= 1 <= decision.interval.high
    raise RuntimeError("the rule did not stop at its cap")


@row("anytime-valid", f"{LOOKS} windows of 1 query, lognormal of CV 1")
def _(rng, count):
    return from_look(anytime_path(lognormal(rng, 1.0, (count, LOOKS))), 5)


@row("anytime-valid", f"{LOOKS} windows, neighbours correlated by 0.5")
def _(rng, count):
    return anytime_path(1 + 0.1 * autoregressive(rng, count, LOOKS, 0.5)).covers(np.ones(count))


@row("anytime-valid", f"{LOOKS} windows, warm-up decays from 5 % within 20 windows, noise 2 %")
def _(rng, count):
    warm_up = 0.05 * np.exp(-np.arange(LOOKS) / 20)
    return anytime_path(1 + warm_up + 0.02 * rng.standard_normal((count, LOOKS))).covers(np.ones(count))


@row("fixed-sample t, looked at after every window from the 5th", f"{LOOKS} Gaussian windows")
def _(rng, count):
    y = 1 + 0.1 * rng.standard_normal((count, LOOKS))
    n = np.arange(1, LOOKS + 1)
    mean = np.cumsum(y, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt((np.cumsum(y**2, axis=1) - n * mean**2) / (n - 1))
        held = np.abs(mean - 1) <= stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)
    return held[:, 4:].all(axis=1)


# --------------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="simulations a row (default 10000)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args(arguments)
    print(f"95 % intervals, {options.count} simulations a row; coverage with its 95 % Wilson interval\n")
    print(f"{'coverage':>8}  {'Wilson interval':<15}  {'promise':<13}  method: condition")
    began, broken = time.perf_counter(), []
    for entry in ROWS:
        if options.only not in entry.name:
            continue
        result = entry.run(options.count)
        verdict = {True: "kept", False: "BROKEN", None: "none made"}[result.kept]
        broken += [entry.name] if result.kept is False else []
        wilson = f"{100 * result.low:.2f}-{100 * result.high:.2f} %"
        print(f"{100 * result.coverage:6.2f} %  {wilson:<15}  {verdict:<13}  {entry.name}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; broken promises: {len(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
