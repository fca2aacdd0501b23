"""Rows on variance components."""

from __future__ import annotations

from functools import cache

import numpy as np

from coverage_rows import row
from energylab.statistics import queries
from energylab.statistics.mean_squares import MeanSquare, difference_interval
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows


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
