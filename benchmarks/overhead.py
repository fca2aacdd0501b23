"""What does the protocol cost? The same generate calls in a bare loop and inside windows, in turn, in one process.

    python benchmarks/overhead.py [--pairs 60] [--calls 6]

Prints the ratio of the time a call takes (protocol over bare), by medians and by means, with the spread of the pairs;
and the time a window adds between its two readings beyond the meter's own reading.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from energylab.protocol.bench import Bench, Block

from energylab import tasks
from energylab.clock import Clock
from energylab.meters.estimate import EstimateMeter
from energylab.parameters import Parameters
from energylab.protocol.settings import Settings
from energylab.protocol.window import measure_window
from energylab.protocol.workload import FunctionWorkload, TaskWorkload, Workload

MODEL = Parameters.check(
    {"task": "text_generation", "model": "EleutherAI/pythia-14m", "samples": 8, "dtype": "float32", "device": "cpu"}
)
#: A window is over as soon as its queries have run once: no repetition blurs the comparison.
SETTINGS = Settings(runs=1, window_s=1e-9, max_relative_bound=0.99)


def loaded() -> Workload:
    """Load a small text generation model with random weights."""
    task = tasks.load_task(MODEL)
    rows, _ = task.load_rows()
    task.load("cpu")
    return TaskWorkload(task, rows)


def bench(workload: Workload) -> Bench:
    """Return a bench with the meter that is cheapest to read."""
    meter = EstimateMeter()
    meter.open()
    clock = Clock()
    return Bench(workload, [meter], [], SETTINGS, clock, clock.now(), random.Random(0))


def bare(workload: Workload, phase: str, queries: tuple[int, ...]) -> float:
    """Return seconds a call in a plain loop over the same prepared inputs."""
    batches = [workload.prepare(phase, (query,)) for query in queries]
    call, outputs = workload.run(phase), []
    start = time.perf_counter()
    for batch in batches:
        outputs.append(call(batch.inputs))
    return (time.perf_counter() - start) / len(queries)


def measured(made: Bench, phase: str, queries: tuple[int, ...]) -> float:
    """Return seconds a call between the two readings of a window."""
    window, _ = measure_window(made, Block(0, phase, 0, queries), index=0, attempt=0)
    if not window.valid or window.replications != 1:
        raise SystemExit(f"the window is not what this benchmark asks for: {window.reasons}, x{window.replications}")
    return window.duration_s / len(queries)


def in_turn(first: Callable[[], float], second: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Call two timings in turn, each first in every other pair."""
    a, b = [], []
    for pair in range(pairs):
        for timing, into in ((first, a), (second, b))[:: 1 if pair % 2 else -1]:
            into.append(timing())
    return a, b


def quartiles(values: list[float]) -> str:
    """Return median and quartiles as text."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4f} [{low:.4f}, {high:.4f}]"


def calls(pairs: int, count: int) -> None:
    """Print the ratio for real generate calls."""
    workload = loaded()
    made = bench(workload)
    queries = tuple(range(count))
    bare(workload, "generate", queries), measured(made, "generate", queries)  # warm both paths
    inside, outside = in_turn(
        lambda: measured(made, "generate", queries), lambda: bare(workload, "generate", queries), pairs
    )
    print(f"{MODEL.model}, {count} generate calls a window, {pairs} pairs in turn")
    print(f"  bare loop        {statistics.median(outside) * 1e3:.2f} ms a call (median)")
    print(f"  inside a window  {statistics.median(inside) * 1e3:.2f} ms a call (median)")
    print(f"  ratio of medians {statistics.median(inside) / statistics.median(outside):.4f}   goal <= 1.01")
    print(f"  ratio of means   {statistics.fmean(inside) / statistics.fmean(outside):.4f}   goal <= 1.01")
    print(f"  ratio, pair by pair: {quartiles([i / o for i, o in zip(inside, outside, strict=True)])}")


def window_cost(pairs: int) -> None:
    """Print the time an empty window takes beyond two readings of its meter."""
    made = bench(FunctionWorkload(lambda _: None, [0]))
    meter = made.scored[0]

    def two_readings() -> float:
        start = meter.read()
        return meter.read().time_s - start.time_s

    empty, readings = in_turn(lambda: measured(made, "call", (0,)), two_readings, pairs * 10)
    cost = (statistics.median(empty) - statistics.median(readings)) * 1e6
    print(f"an empty window, {len(empty)} times in turn with two plain readings")
    print(f"  between its readings beyond the meter's own: {cost:.1f} µs (median)   goal <= 50 µs")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--calls", type=int, default=6)
    options = parser.parse_args()
    calls(options.pairs, options.calls)
    window_cost(options.pairs)


if __name__ == "__main__":
    main()
