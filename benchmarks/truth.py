"""Is the protocol right? Thousands of simulated sessions on boards whose true energy is known.

    python benchmarks/truth.py [--sessions 40000] [--workers 2]

Each row simulates whole sessions (idle, warm-up, windows, checks) on a board with its own clock, a counter that
steps every 100 ms in millijoules, and power noise. It prints the bias of the energy per query, the share of windows
whose true error lies within their stated bound, and how often the 95 % interval over independent sessions covers
the truth, beside what a naive interval over the runs of one session would have covered.

The estimand is the mean over (board, session) of the steady-state energy per query.
"""

from __future__ import annotations

import argparse
import bisect
import gc
import math
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from energylab.clock import ManualClock
from energylab.energy import phase_totals
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.parameters import Parameters
from energylab.protocol.session import Session, run_session
from energylab.protocol.settings import Settings
from energylab.protocol.workload import FunctionWorkload

SEED = 20250201
SESSIONS_A_GROUP = 5  # sessions behind one interval
QUERY_S = 0.5837  # no multiple of the counter's step
POWER_W = 400.0
IDLE_W = 70.0
LIMIT_W = 700.0
_SETTINGS = Settings.of(Parameters(runs=2, window_s=10.0, idle_s=1.0, warm_up_min_s=4.0, warm_up_max_s=60.0))


@dataclass(frozen=True)
class Row:
    """One kind of board and load."""

    name: str  # what it shows
    session_cv: float = 0.01  # spread of the sessions' steady power, relative
    query_cv: float = 0.01  # noise of the power of each query, relative
    warming: float = 0.0  # share by which the power starts too low; it settles with a time constant of 8 s
    drift: float = 0.0  # spread over sessions of the relative change of power in 100 s: runs of one session share it
    pattern: tuple[tuple[float, float], ...] = ((QUERY_S, 1.0),)  # pieces of one query: seconds, relative power
    sampled_s: float | None = None  # part of each 100 ms that the sensor sees; None: all
    settings: Settings = _SETTINGS

    @property
    def truth_j(self) -> float:
        """Steady-state energy of one query, mean over sessions, in joules."""
        return POWER_W * sum(seconds * relative for seconds, relative in self.pattern)


_STEPS = ((0.0637, 1.6), (0.22, 1.2), (0.3, 0.7))
_RESONANT = ((0.05, 1.5), (0.05, 0.5))  # 100 ms, as long as the sensor's period
_ON_TICKS = replace(_SETTINGS, edges="tick")
# a bound that no window fails: measuring the low windows again would favour the high ones
_DITHERED = replace(_SETTINGS, edges="dithered", max_relative_bound=0.5)
_TEN_RUNS = replace(_SETTINGS, runs=10, window_s=4.0)

ROWS = (
    Row("steady load, dithered edges"),
    Row("warming board (10 %, time constant 8 s)", warming=0.10),
    Row("steps inside every query", pattern=_STEPS),
    Row("edges on ticks", settings=_ON_TICKS),
    Row("ten runs, sessions drift by 2 % in 100 s", drift=0.02, settings=_TEN_RUNS),
)
_RESONANCE = Row("", pattern=_RESONANT, sampled_s=0.025, session_cv=0.0, settings=_DITHERED)
ALIASED = (
    replace(_RESONANCE, name="dithered"),
    replace(_RESONANCE, name="not dithered", settings=replace(_DITHERED, dither=False)),
)


class Asked:
    """When every query began, and what it used."""

    def __init__(self) -> None:
        self.start_s: list[float] = []
        self.energy_j: list[float] = []

    def between_j(self, start_s: float, stop_s: float) -> float:
        """Return the energy of the queries that began in [start_s, stop_s), in joules."""
        return sum(self.energy_j[bisect.bisect_left(self.start_s, start_s) : bisect.bisect_left(self.start_s, stop_s)])


def simulate(row: Row, seed: int) -> tuple[Session, Asked]:
    """Run one session of the real protocol on a simulated board."""
    rng = random.Random(f"{SEED}/{row.name}/{seed}")
    clock = ManualClock()
    board = SimulatedBoard(clock, IDLE_W)
    sampled = row.sampled_s
    phase_s = 0.0 if sampled and not row.settings.dither else rng.random() * 0.1
    meter = ReplayMeter(board, clock, sampled_s=sampled, phase_s=phase_s, power_limit_w=LIMIT_W)
    session_power = POWER_W * (1 + rng.gauss(0, row.session_cv))
    drift = rng.gauss(0, row.drift)
    asked = Asked()

    def query(_: int) -> None:
        asked.start_s.append(clock.now())
        elapsed = clock.now() - asked.start_s[0]
        settled = 1 - row.warming * math.exp(-elapsed / 8) + drift * elapsed / 100
        power = session_power * settled * (1 + rng.gauss(0, row.query_cv))
        for seconds, relative in row.pattern:
            board.work(seconds, power * relative)
        asked.energy_j.append(power * sum(seconds * relative for seconds, relative in row.pattern))

    settings = replace(row.settings, seed=seed)
    return run_session(lambda: FunctionWorkload(query, range(10)), [meter], settings, clock=clock), asked


def judge(row: Row, seed: int) -> tuple[list[float], int, int, float]:
    """Return energy per query of each run, windows, windows outside their bound, and the worst error/bound."""
    session, asked = simulate(row, seed)
    outside, worst = 0, 0.0
    for window in session.windows:
        start = session.origin_s + window.start_s
        true_j = asked.between_j(start - 1e-6, start + window.duration_s - 1e-6)  # of its queries, and of nothing else
        used = abs(window.energy_j - true_j) / window.bound_j
        outside += used > 1
        worst = max(worst, used)
    runs = [total.energy_j / total.queries for total in phase_totals(session.windows) if total.valid]
    return runs, len(session.windows), outside, worst


def share(successes: int, trials: int) -> str:
    """Write a share with its 95 % Wilson score interval."""
    found = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return f"{successes / trials:.2%} [Wilson {found.low:.2%}, {found.high:.2%}]"


def covered(values: np.ndarray, truth: float) -> np.ndarray:
    """Return for each row of `values` whether its 95 % Student interval covers the truth."""
    count = values.shape[1]
    half = stats.t.ppf(0.975, count - 1) * values.std(axis=1, ddof=1) / math.sqrt(count)
    return np.abs(values.mean(axis=1) - truth) <= half


def study(row: Row, sessions: int, pool: ProcessPoolExecutor) -> dict[str, float]:
    """Simulate one row and sum it up."""
    results = list(pool.map(judge, [row] * sessions, range(sessions), chunksize=max(1, sessions // 40)))
    per_run = np.array([runs for runs, *_ in results if len(runs) == row.settings.runs])
    means = per_run.mean(axis=1)
    groups = len(means) // SESSIONS_A_GROUP
    between = covered(means[: groups * SESSIONS_A_GROUP].reshape(groups, -1), row.truth_j)
    return {
        "sessions": len(means),
        "bias": means.mean() / row.truth_j - 1,
        "sd": means.std(ddof=1) / row.truth_j,
        "windows": sum(windows for _, windows, _, _ in results),
        "outside": sum(outside for _, _, outside, _ in results),
        "worst": max(worst for *_, worst in results),
        "covered": int(between.sum()),
        "groups": groups,
        "naive": int(covered(per_run, row.truth_j).sum()),
    }


def report(row: Row, found: dict[str, float]) -> str:
    """Say what one row found, in words."""
    return (
        f"{row.name}\n"
        f"  sessions {found['sessions']}; bias {found['bias']:+.3%}; spread of sessions {found['sd']:.2%}\n"
        f"  windows {found['windows']}; outside their bound {found['outside']}; "
        f"largest error/bound {found['worst']:.3f}\n"
        f"  95 % interval over {SESSIONS_A_GROUP} sessions covers {share(found['covered'], found['groups'])}\n"
        f"  naive interval over the {row.settings.runs} runs of one session covers "
        f"{share(found['naive'], found['sessions'])}"
    )


def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.sessions < 2 * SESSIONS_A_GROUP:
        parser.error(f"--sessions {options.sessions}: at least {2 * SESSIONS_A_GROUP}, two intervals a row")
    print(f"simulated boards, {options.sessions} sessions a row, seed {SEED}\n")
    with ProcessPoolExecutor(
        options.workers, initializer=gc.freeze
    ) as pool:  # garbage is collected before every window
        for row in ROWS:
            print(report(row, study(row, options.sessions, pool)), flush=True)
        print("\nA sensor that sees 25 ms of every 100 ms, and a load that repeats every 100 ms:")
        for row in ALIASED:
            found = study(row, max(options.sessions // 10, 100), pool)
            print(f"  {row.name}: bias {found['bias']:+.2%}, spread of sessions {found['sd']:.2%}", flush=True)


if __name__ == "__main__":
    main()
