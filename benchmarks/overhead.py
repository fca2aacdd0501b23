"""What does the protocol cost? The same calls in a bare loop and inside windows, in pairs of random order.

    python benchmarks/overhead.py [--pairs 200] [--calls 4]

Times are processor time of this process on one thread, which other processes hardly touch; the protocol's own threads
are in it. The ratio of each pair (inside a window over bare) gives a mean ratio with its 95 % interval (Student, of
logarithms). Two loads: a call of fixed cost, in which nothing but the protocol differs, and real generate calls. An
empty window shows the time between its two readings beyond the meter's own.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import math
import os
import random
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

from scipy import stats

from energylab import tasks
from energylab.clock import Clock
from energylab.meters.estimate import EstimateMeter
from energylab.parameters import Parameters
from energylab.protocol.settings import Settings
from energylab.protocol.window import Block, Session, measure_window
from energylab.protocol.workload import FunctionWorkload, TaskWorkload, Workload

MODEL = Parameters.check(
    {"task": "text_generation", "model": "EleutherAI/pythia-14m", "samples": 8, "dtype": "float32", "device": "cpu"}
)
#: A window is over as soon as its queries have run once: no repetition blurs the comparison.
SETTINGS = Settings.of(Parameters(runs=1, window_s=1e-9, max_relative_bound=0.99))

GOAL, GOAL_HIGH, GOAL_US = 1.01, 1.02, 50.0


class ProcessorClock(Clock):
    """Counts this process's processor time as its time: windows then tell what they cost, not how long they waited."""

    def now(self) -> float:
        """Return the processor time of this process, in seconds."""
        return time.process_time()


def generating() -> Workload:
    """Load a small text generation model with random weights."""
    task = tasks.load_task(MODEL)
    rows, _ = task.load_rows()
    task.load("cpu")
    return TaskWorkload(task, rows)


def fixed() -> Workload:
    """Return a call of about 2 ms that always costs the same: key derivation allocates nothing.

    A loop over Python integers does not: its cost depends on what the allocator has left, by up to 8 % in one process.
    """
    return FunctionWorkload(lambda _: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 8000), range(1000))


def session(workload: Workload, clock: Clock) -> Session:
    """Return a session with the meter that is cheapest to read."""
    meter = EstimateMeter(clock=clock)
    meter.open()
    return Session([meter], [], SETTINGS, clock, workload, clock.now())


def bare(made: Session, phase: str, queries: tuple[int, ...]) -> float:
    """Return seconds of a plain loop over the same prepared inputs."""
    batches = [made.workload.prepare(phase, (query,)) for query in queries]
    call = made.workload.run(phase)
    gc.collect()  # as before every window: afterwards the first calls find cold caches, in both
    start = made.clock.now()
    for batch in batches:
        call(batch.inputs)
    return made.clock.now() - start


def measured(made: Session, phase: str, queries: tuple[int, ...]) -> float:
    """Return seconds between the two readings of a window."""
    window, _ = measure_window(made, Block(0, phase, 0, queries))
    if window.reasons == ("process_stopped",):  # a crowded machine: this pair is timed again
        return measured(made, phase, queries)
    if not window.valid or window.replications != 1:
        raise SystemExit(f"the window is not what this benchmark asks for: {window.reasons}, x{window.replications}")
    return window.duration_s


def pairs(first: Callable[[], float], second: Callable[[], float], count: int) -> tuple[list[float], list[float]]:
    """Call two timings `count` times each, in pairs of random order."""
    rng, found = random.Random(1), ([], [])
    for _ in range(count):
        for which in rng.sample((0, 1), 2):
            found[which].append((first, second)[which]())
    return found


def ratio(name: str, workload: Workload, phase: str, calls: int, count: int) -> None:
    """Print the mean ratio of the time in a window to that in a bare loop, with its interval."""
    made = session(workload, ProcessorClock())
    queries = tuple(range(calls))
    with made.clock.watching():
        bare(made, phase, queries), measured(made, phase, queries)  # warm both paths
        inside, outside = pairs(lambda: measured(made, phase, queries), lambda: bare(made, phase, queries), count)
    logs = [math.log(a / b) for a, b in zip(inside, outside, strict=True)]
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle, low, high = (math.exp(statistics.fmean(logs) + sign * half) for sign in (0, -1, 1))
    verdict = "met" if middle <= GOAL and high < GOAL_HIGH else "missed"
    print(f"{name}: {calls} calls a window, {count} pairs in random order")
    print(f"  bare {statistics.median(outside) / calls * 1e3:.3f} ms of processor time a call (median)")
    print(f"  ratio {middle:.4f} [{low:.4f}, {high:.4f}]   goal <= {GOAL}, interval below {GOAL_HIGH}: {verdict}")


def window_cost(count: int) -> None:
    """Print what an empty window takes between its readings, beyond two plain readings of its meter."""
    for clock, kind in ((Clock(), "time"), (ProcessorClock(), "processor time")):
        made = session(FunctionWorkload(lambda _: None, [0]), clock)
        meter = made.rated_meters[0]

        def two_readings(meter=meter) -> float:
            start = meter.read()
            return meter.read().time_s - start.time_s

        empty, readings = pairs(lambda made=made: measured(made, "call", (0,)), two_readings, count)
        cost = (statistics.median(empty) - statistics.median(readings)) * 1e6
        print(
            f"an empty window, {count} pairs: {cost:.1f} µs of {kind} beyond the meter's own   goal <= {GOAL_US:g} µs"
        )


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--calls", type=int, default=4)
    options = parser.parse_args()
    ratio("a call of fixed cost", fixed(), "call", 20 * options.calls, options.pairs)
    ratio(f"{MODEL.model}, generate", generating(), "generate", options.calls, options.pairs)
    window_cost(options.pairs * 2)


if __name__ == "__main__":
    main()
