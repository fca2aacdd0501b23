"""Simulated cohorts for ``benchmarks/energy_to_rate.py``: queries, sessions, a stepping counter, what it all costs.

A world is one simulation of one cohort with the published energies. Within it the run CV is one (0.05 to 2 %,
log-uniform: it belongs to the machine); each model has its own query CV (0.3 to 1) and its own covariate, known of
every query, that explains 50 to 90 % of the variance between queries. Both parts of a query's energy are lognormal,
so that all energies are positive and residuals are as skewed as a large CV makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energylab.statistics.sessions import spread_bound

QUERIES = 1000
RUNS = 10  # of the published protocol
BLOCK = 5  # queries of the smallest block
BLOCKS = QUERIES // BLOCK

TICK_S = 0.1  # of the energy counter
WINDOW_S = 4.0  # shortest window: one tick at each edge is 5 % of it, the protocol's limit
LEAD_IN_S = 2.5 * TICK_S  # work before a dithered window, on average
IDLE_W, RESIDENT_W = 70.0, 115.0  # three idle levels a session, one of them without a context ...
IDLE_S, IDLE_AGAIN_S = 5.0, 3.0  # ... each watched this long; shorter in sessions after a model's first
STUDY_SESSIONS = 40  # of the earlier study from which the spread between sessions is known


@dataclass(frozen=True)
class World:
    """Truth and observables of `count` simulations of one cohort.

    Attributes
    ----------
    energy_wh : ndarray, shape (models,)
        True energies, Wh per 1,000 queries: the published ones.
    run_cv : ndarray, shape (count, 1)
        Relative spread between runs.
    blocks, covariate : ndarray, shape (count, models, BLOCKS)
        Energy per query of each block relative to the mean of all queries, and its covariate minus that of all.
    power_w : ndarray, shape (count, models)
        Under load.
    warm_up_s : ndarray, shape (count, models)
        Warm-up of a session.
    bound_cv : ndarray, shape (count, 1)
        95 % upper bound of the run CV from an earlier study of `STUDY_SESSIONS` sessions: all a rule knows of it.
    """

    energy_wh: np.ndarray
    run_cv: np.ndarray
    blocks: np.ndarray
    covariate: np.ndarray
    power_w: np.ndarray
    warm_up_s: np.ndarray
    bound_cv: np.ndarray

    @property
    def pass_s(self) -> np.ndarray:
        """Seconds that all queries take once, shape (count, models)."""
        return self.energy_wh * 3600 / self.power_w


def simulate(rng: np.random.Generator, energy_wh: np.ndarray, count: int) -> World:
    """Draw `count` worlds of one cohort."""
    shape = (count, energy_wh.size)
    run_cv = np.exp(rng.uniform(np.log(0.0005), np.log(0.02), (count, 1)))
    query_cv, explained = rng.uniform(0.3, 1.0, shape), rng.uniform(0.5, 0.9, shape)
    known, rest = query_cv * np.sqrt(explained), query_cv * np.sqrt(1 - explained)
    spread = known + rest  # the CV of both lognormals: then no energy is negative
    x, noise = (_lognormal(rng, spread) for _ in range(2))
    energy = 1 + (known / spread)[..., None] * (x - 1) + (rest / spread)[..., None] * (noise - 1)
    energy /= energy.mean(axis=-1, keepdims=True)
    x -= x.mean(axis=-1, keepdims=True)
    freedom = STUDY_SESSIONS - 1
    seen = run_cv * np.sqrt(rng.chisquare(freedom, run_cv.shape) / freedom)
    return World(
        energy_wh=energy_wh,
        run_cv=run_cv,
        blocks=_in_blocks(energy),
        covariate=_in_blocks(x),
        power_w=rng.uniform(150.0, 450.0, shape),
        warm_up_s=rng.uniform(10.0, 40.0, shape),
        bound_cv=spread_bound(seen, STUDY_SESSIONS),
    )


def _lognormal(rng: np.random.Generator, cv: np.ndarray) -> np.ndarray:
    """Lognormal numbers of mean 1, `QUERIES` for each coefficient of variation."""
    variance = np.log1p(cv**2).astype(np.float32)[..., None]
    drawn = rng.standard_normal((*cv.shape, QUERIES), dtype=np.float32)
    return np.exp(np.sqrt(variance) * drawn - variance / 2).astype(float)


def _in_blocks(values: np.ndarray) -> np.ndarray:
    """Means over consecutive queries: they are independent, so that any order is a random one."""
    return values.reshape(*values.shape[:-1], BLOCKS, BLOCK).mean(axis=-1)


def published_figures(rng: np.random.Generator, world: World) -> np.ndarray:
    """What the published protocol finds: the mean of ten runs of all queries, shape (count, models)."""
    return world.energy_wh * (1 + world.run_cv / np.sqrt(RUNS) * rng.standard_normal(world.power_w.shape))


def window_noise(rng: np.random.Generator, shape: tuple[int, ...], length_s: np.ndarray) -> np.ndarray:
    """Relative error of windows from the counter's steps: a dithered fraction of a tick at each edge."""
    edges = rng.random((2, *shape), dtype=np.float32)
    return (edges[0] - edges[1]) * TICK_S / length_s


def tick_cv(length_s: np.ndarray) -> np.ndarray:
    """Relative standard deviation of `window_noise`: the difference of two fractions of a tick."""
    return TICK_S / np.sqrt(6) / length_s


def session_j(world: World, idle_s: float = IDLE_S) -> np.ndarray:
    """Energy of a session beside its windows, warm-up and idle, in joules; shape (count, models)."""
    return world.warm_up_s * world.power_w + idle_s * (IDLE_W + 2 * RESIDENT_W)
