"""How often intervals hold what they promise: coverage by simulation, and the honest figure where they do not.

    python benchmarks/coverage.py                 # 10,000 a row, a few minutes on one core
    python benchmarks/coverage.py --count 1000    # a quick look

Every row has its own seed, fixed beforehand. Intervals of means must cover 95 % within 1.5 points (expanded ones may
cover more); a stopping rule must be right in at least 95 % of the sessions, at every look at once and at the stop. Two
boards of 20 sessions whose gains are uniform, and rows in brackets, show what happens where a condition does not hold,
and promise nothing. Exits 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from calibration import like_published

from energylab.energy import model_energies
from energylab.ratings.schemes import EqualWidth, count_stars
from energylab.statistics.stopping import LEAST_BLOCKS, OwnInterval, Scale, Shared, scale_of

RUNS, BLOCKS, PART = 10, 20, 500

#: Sessions that are asked for their star on one scale of peers.
ASKED = 5

#: Peers, sessions of each, spread between sessions, how much that differs between models (sd of its logarithm).
PEERS = ((7, 2, 0.006, 0.0), (7, 2, 0.006, 0.5), (7, 2, 0.02, 0.5), (3, 2, 0.006, 0.5), (15, 3, 0.006, 0.5))

#: Spreads of the stopping rows, relative: session, run, window, query and drift over the whole session.
EFFECTS = {
    "window 0.8 %": {"window": 0.008},
    "run 0.4 %, window 0.8 %": {"run": 0.004, "window": 0.008},
    "run 0.4 %, window 0.2 %": {"run": 0.004, "window": 0.002},
    "session 0.9 %, run 0.4 %, window 0.8 %": {"session": 0.009, "run": 0.004, "window": 0.008},
    "session 0.9 %, run 0.4 %, queries 30 %": {"session": 0.009, "run": 0.004, "window": 0.008, "query": 0.3},
    "session 0.9 %, run 0.4 %, queries 80 %": {"session": 0.009, "run": 0.004, "window": 0.008, "query": 0.8},
    "drift 0.5 %, session 0.6 %, run 0.4 %": {"session": 0.006, "run": 0.004, "window": 0.008, "drift": 0.005},
    "(drift 3 %, session 0.6 %, run 0.4 %)": {"session": 0.006, "run": 0.004, "window": 0.008, "drift": 0.03},
    "(session 2 %, twice what is stated)": {"session": 0.02, "run": 0.004, "window": 0.008},
}


def table(energy_wh: np.ndarray) -> pd.DataFrame:
    """Return the sessions of `energy_wh`, shaped (models, boards, sessions), as a tidy table."""
    models, boards, sessions = energy_wh.shape
    model, board, session = (axis.ravel() for axis in np.indices(energy_wh.shape))
    columns = {
        "model": model.astype(str),
        "board": model * boards + board,
        "session": (model * boards + board) * sessions + session,
    }
    return pd.DataFrame({"task": "t", "energy_j": energy_wh.ravel() * 3.6, "queries": 1, **columns})


def means(count: int) -> Iterator[tuple[str, float, bool | None]]:
    """Yield rows of intervals over sessions and boards: sessions of CV 2 %, boards normal or uniform of CV 2.9 %."""
    for boards, sessions in ((1, 2), (1, 5), (2, 5), (2, 20), (4, 3), (8, 1)):
        for shape in ("normal", "uniform ±5 %"):
            rng = np.random.default_rng([20260101, boards, sessions, len(shape)])
            deviation = rng.standard_normal((count, boards, 1)) * 0.05 / np.sqrt(3)
            if shape != "normal":
                deviation = rng.uniform(-0.05, 0.05, (count, boards, 1))
            noise = 1 + 0.02 * rng.standard_normal((count, boards, sessions))
            name = f"{boards} boards x {sessions} sessions, gains {shape}"
            within = model_energies(table(noise if boards == 1 else (1 + deviation) * noise)).models
            held = ((within["repeatability_low"] <= 1) & (within["repeatability_high"] >= 1)).mean()
            promised = shape == "normal" or (boards, sessions) != (2, 20)
            yield f"repeatability: {name}", held, abs(held - 0.95) < 0.015 if promised else None
            wide = model_energies(table((1 + deviation) * noise)).models
            held = ((wide["expanded_low"] <= 1) & (wide["expanded_high"] >= 1)).mean()
            yield f"expanded: {name}", held, held > 0.935 if shape != "normal" else None


def blocks(rng: np.random.Generator, proportional: bool, **effects: float) -> np.ndarray:
    """Return the energy of every block of some sessions, in measured order, of a true 1 J a query."""
    of = {name: effects.get(name, 0.0) for name in ("session", "run", "window", "query", "drift")}
    query = np.exp(of["query"] * rng.standard_normal((PART, BLOCKS)))
    query /= query.mean(axis=1, keepdims=True)
    order = rng.permuted(np.broadcast_to(np.arange(BLOCKS), (PART, RUNS, BLOCKS)), axis=-1)
    work = np.take_along_axis(query[:, None, :], order, axis=-1)
    trend = of["drift"] * np.linspace(-0.5, 0.5, RUNS * BLOCKS).reshape(RUNS, BLOCKS)
    shared = of["session"] * rng.standard_normal((PART, 1, 1)) + of["run"] * rng.standard_normal((PART, RUNS, 1))
    noise = of["window"] * rng.standard_normal((PART, RUNS, BLOCKS))
    return (work * (1 + shared + trend) + noise * (work if proportional else 1.0)).reshape(PART, -1)


def stops(count: int) -> Iterator[tuple[str, float, bool | None]]:
    """Yield rows of the stopping rule: right at every look at once, and at the stop; noise of both kinds."""
    for number, (name, effects) in enumerate(EFFECTS.items()):
        for proportional in (False, True):
            rng = np.random.default_rng([20260102, number, proportional])
            always, stopped = [], []
            for _ in range(count // PART):
                energy = blocks(rng, proportional, **effects)
                mean, half = OwnInterval(0.05, Shared(0.01))(energy, np.ones(RUNS * BLOCKS), BLOCKS)
                held = np.abs(mean - 1) <= half
                always.append(held.all(axis=1))
                narrow = half[:, LEAST_BLOCKS - 1 :] / mean[:, LEAST_BLOCKS - 1 :] <= 0.04
                at = np.argmax(narrow, axis=1) + LEAST_BLOCKS - 1
                stopped.append(held[np.arange(PART), at][narrow.any(axis=1)])
            kind = "proportional" if proportional else "additive"
            for look, values in (("every look", always), ("at a stop at ±4 %", stopped)):
                share = float(np.concatenate(values).mean())
                yield f"stopping, {look}: {name}, {kind}", share, None if name.startswith("(") else share >= 0.95


def stars(count: int) -> Iterator[tuple[str, float, bool | None]]:
    """Yield rows of the star rule among measured peers: decided, right where decided, and both intervals held."""
    for number, (peers, sessions, cv, uneven) in enumerate(PEERS):
        rng, found = np.random.default_rng([20260103, number]), []
        for _ in range(count // PART):
            worlds = (PART // ASKED, peers + ASKED)
            truth = np.array([rng.choice(like_published(rng), worlds[1]) for _ in range(worlds[0])])
            own = cv * np.exp(uneven * rng.standard_normal(worlds) - uneven**2)  # mean square stays cv²
            effects = {"session": own[:, peers:].reshape(-1, 1, 1), "run": 0.004, "window": 0.008, "query": 0.2}
            energy = blocks(rng, True, **effects).reshape(*worlds[:1], ASKED, -1) * truth[:, peers:, None]
            for world, spread, asked in zip(truth, own, energy, strict=True):
                scale = scale_of(_runs(rng, world[:peers], spread[:peers], sessions), "X", 0.95)
                found += _decided(scale, world, peers, asked)
        decided, right, held = np.array(found).T
        name = f"star: {peers} peers x {sessions} sessions of {cv:.1%}" + ", uneven" * (uneven > 0)
        yield f"{name}: decided", decided.mean(), None
        share = right[decided].mean()
        yield f"{name}: right at the stop", share, share >= 0.95
        yield f"{name}: scale, and interval at every look", held.mean(), held.mean() >= 0.95


def _runs(rng: np.random.Generator, truth: np.ndarray, cv: np.ndarray, sessions: int) -> pd.DataFrame:
    """Return the runs of measured peers on one board."""
    of_session = cv[:, None, None] * rng.standard_normal((truth.size, sessions, 1))
    energy = truth[:, None, None] * (1 + of_session + 0.004 * rng.standard_normal((truth.size, sessions, RUNS)))
    rows = table(energy / 3.6)
    return rows.assign(run=rows["session"], session=rows["board"], board="X")


def _decided(scale: Scale, truth: np.ndarray, peers: int, energy: np.ndarray) -> Iterator[tuple[bool, bool, bool]]:
    """Yield of every session whether its star was decided, whether it is right, and whether all intervals held."""
    mean, half = OwnInterval(0.025, scale.shared)(energy, np.ones(RUNS * BLOCKS), BLOCKS)
    ends = (scale.lowest, truth[:peers].min()), (scale.highest, truth[:peers].max())
    holds = all(low <= end <= high for (low, high), end in ends)
    for own, middle, width in zip(truth[peers:], mean, half, strict=True):
        world = np.append(truth[:peers], own)
        looks = (scale.stars(m - h, m + h) for m, h in zip(middle, width, strict=True) if np.isfinite(h))
        star = next((left[0] for at, left in enumerate(looks, 2) if at >= LEAST_BLOCKS and len(left) == 1), None)
        right = star == count_stars(world, EqualWidth()(world, None))[-1]
        yield star is not None, bool(right), holds and bool((np.abs(middle - own) <= width).all())


def main(rows: tuple[Callable, ...] = (means, stops, stars)) -> int:
    """Print the table; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="simulations a row (default 10000)")
    options = parser.parse_args()
    broken = 0
    for row in rows:
        for name, share, kept in row(options.count):
            broken += kept is False
            print(
                f"{100 * share:6.2f} %  {({True: 'kept', False: 'BROKEN', None: 'none'})[kept]:<7} {name}", flush=True
            )
    print(f"broken promises: {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
