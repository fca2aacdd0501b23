"""Speed and memory of the ratings: star probabilities of a group, stars of a million models.

    python benchmarks/statistics.py

Every case runs in a process of its own, so that its peak of memory is its own. Times are the best of five: elapsed,
and of the processor, which says the same on an idle machine and does not count other work on a busy one. Goals are
held to the processor's time; all cases use one thread. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "statistics":
    # A script of this folder asked for the standard library's module of the same name: hand that over.
    import importlib.util
    import sysconfig

    _path = Path(sysconfig.get_path("stdlib")) / "statistics.py"
    _spec = importlib.util.spec_from_file_location("statistics", _path)
    sys.modules["statistics"] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)

REPEATS = 5
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
GOAL_PROBABILITIES_S = 0.5
GOAL_MILLION_S = 2.0
GOAL_PEAK_MIB = 1024


def _table(models: int):
    import numpy as np
    import pandas as pd

    energy_j = np.random.default_rng(0).lognormal(8, 1.5, models)
    names = [f"owner/model-{number}" for number in range(models)]
    return pd.DataFrame({"task": "summarization", "model": names, "energy_j": energy_j, "queries": 1000})


def probabilities(models: int, draws: int, scheme: str) -> dict:
    """Time the star probabilities of one group; called in a process of its own."""
    import numpy as np

    from energylab.energy import Group
    from energylab.ratings.chances import Uncertainty, chances
    from energylab.ratings.schemes import get_scheme

    energies = np.sort(_table(models)["energy_j"].to_numpy())
    uncertainty, group, rule = Uncertainty.stated(models, 0.01), Group("summarization"), get_scheme(scheme)
    return _timed(lambda: chances(energies, uncertainty, rule, group, draws, np.random.default_rng(0)))


def rate(models: int, noise: float | None, draws: int) -> dict:
    """Time `energylab.rate` from table to table; called in a process of its own."""
    import energylab

    df = _table(models)
    energylab.rate(df.iloc[:10], noise=noise, draws=10)  # imports are not part of it
    return _timed(lambda: energylab.rate(df, noise=noise, draws=draws))


def _timed(call) -> dict:
    elapsed, cpu = [], []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        call()
        elapsed.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    return {"elapsed_s": min(elapsed), "cpu_s": min(cpu), "peak_mib": peak_kib / 1024}


def _apart(function: str, **arguments) -> dict:
    """Run one case in a fresh process."""
    command = [sys.executable, __file__, "--case", json.dumps({"function": function, "arguments": arguments})]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD).stdout)


def _row(what: str, found: dict, goal_s: float | None = None) -> bool:
    met = found["peak_mib"] <= GOAL_PEAK_MIB and (goal_s is None or found["cpu_s"] <= goal_s)
    goal = f"goal {goal_s:g} s, {GOAL_PEAK_MIB} MiB" if goal_s else f"goal {GOAL_PEAK_MIB} MiB"
    print(
        f"{what:<58} {found['cpu_s']:8.3f} {found['elapsed_s']:10.3f} {found['peak_mib']:8.0f}   {goal}: "
        f"{'met' if met else 'MISSED'}"
    )
    return met


def _slope(what: str, sizes: list[int], found: list[dict]) -> bool:
    """Print how time grows: the exponent between the first and the last size."""
    import math

    times = [each["cpu_s"] for each in found]
    exponent = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
    met = exponent <= 1.15
    print(f"{what:<58} exponent {exponent:.2f} from {sizes[0]} to {sizes[-1]}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run all cases and print the table."""
    print(f"{'case':<58} {'cpu s':>8} {'elapsed s':>10} {'peak MiB':>8}")
    met = []
    for scheme in ("equal_width", "log_width", "quantiles"):
        found = _apart("probabilities", models=206, draws=10_000, scheme=scheme)
        met.append(_row(f"star probabilities, 206 models, 10,000 draws, {scheme}", found, GOAL_PROBABILITIES_S))
    found = _apart("rate", models=206, noise=0.01, draws=10_000)
    met.append(_row("energylab.rate, 206 models, 10,000 draws", found, GOAL_PROBABILITIES_S))
    met.append(
        _row("energylab.rate, 1,000,000 models", _apart("rate", models=1_000_000, noise=None, draws=0), GOAL_MILLION_S)
    )
    met.append(
        _row(
            "star probabilities, 1,000,000 models, 5 draws",
            _apart("probabilities", models=1_000_000, draws=5, scheme="equal_width"),
        )
    )
    for scheme in ("equal_width", "quantiles"):
        draws, models = [5_000, 20_000, 80_000], [200, 1_600, 12_800]
        by_draws = [_apart("probabilities", models=100, draws=count, scheme=scheme) for count in draws]
        met.append(_slope(f"time by draws, 100 models, {scheme}", draws, by_draws))
        by_models = [_apart("probabilities", models=count, draws=1_000, scheme=scheme) for count in models]
        met.append(_slope(f"time by models, 1,000 draws, {scheme}", models, by_models))
    return 0 if all(met) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        case = json.loads(sys.argv[2])
        print(json.dumps({"probabilities": probabilities, "rate": rate}[case["function"]](**case["arguments"])))
    else:
        sys.exit(main())
