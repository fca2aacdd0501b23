"""Physical checks of a run's figures: each checks one property, and reports its finding as text."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from energylab import energy
from energylab.record import SCORED_PHASES, DeviceFacts, MeterFacts, Record, Window
from energylab_portal.sealed.statement import ClosedRun, Point, Timeline, most_samples

#: Kind of energy and type of device of each meter.
SOURCES = {"nvml": ("measured", "cuda"), "rapl": ("measured", "cpu"), "estimate": ("estimated", "cpu")}
#: Finest unit of the hardware counters: microjoules (RAPL); NVML counts millijoules.
LEAST_QUANTUM_J = 0.999e-6
#: Longest update period of an energy counter, and largest delay of an integrated power sensor, in seconds.
SLOWEST_S, LATEST_S = 0.5, 2.0
#: Largest error bound of a window, relative to its energy.
LOOSEST = 0.1
#: Largest relative difference of a sensor's integral and the counter, over all windows and over one.
SENSOR_TOTAL, SENSOR_WINDOW = 0.05, 0.15
#: Shortest interval, in seconds, over which a counter of processor time is exact: the kernel's step, on two cores.
KERNEL_STEP_S = 0.02
#: Samples needed by a comparison; longest sampling period, in seconds; minimal share of the expected samples.
ENOUGH, SLOWEST_SAMPLES_S, ENOUGH_SAMPLES = 8, 0.2501, 0.3
#: Overhead allowed in a window besides its repetitions, in seconds, and the largest ratio of a repetition to the mean.
BESIDE_S, SLOWEST = 0.05, 2.0
#: Largest spread of durations and energies of the runs, (largest - smallest) / mean: the same work, on one board. The
#: host prepares inputs beside whatever else it does.
SPREAD, SPREAD_HOST, SPREAD_ENERGY = 0.3, 1.0, 0.15
#: Sampling times of two windows that agree to this, in seconds, are copies.
SAME_STEP_S = 1e-7
MOST_PAIRS = 20_000
#: Share of a core's power that the estimate's model counts when idle (`energylab.meters.estimate.EstimateMeter`).
STATIC_SHARE = 0.2


@dataclass(frozen=True)
class Check:
    """One check of a bundle."""

    name: str  # name of the check
    passed: bool | None  # None if the bundle has no data to decide it; `words` gives the reason
    words: str  # the finding, in one sentence


@dataclass(frozen=True)
class Product:
    """Data sheet of a board: bytes and 16-bit operations per second, largest power limit, compute capability."""

    bytes_per_s: float
    operations_per_s: float
    most_w: float
    capability: str


#: By a part of the product name.
PRODUCTS = {
    "B200": Product(8.0e12, 2.5e15, 1200, "10.0"),
    "GH200": Product(4.9e12, 9.9e14, 1000, "9.0"),
    "H200": Product(4.8e12, 9.9e14, 700, "9.0"),
    "H100": Product(3.95e12, 9.9e14, 700, "9.0"),
    "A100": Product(2.04e12, 3.12e14, 500, "8.0"),
    "L40S": Product(8.64e11, 3.62e14, 350, "8.9"),
    "L40": Product(8.64e11, 1.81e14, 300, "8.9"),
    "L4": Product(3.0e11, 1.21e14, 75, "8.9"),
    "A10": Product(6.0e11, 1.25e14, 150, "8.6"),
    "A10G": Product(6.0e11, 1.25e14, 300, "8.6"),
    "V100": Product(1.13e12, 1.25e14, 350, "7.0"),
    "T4": Product(3.2e11, 6.5e13, 75, "7.5"),
    "RTX 4090": Product(1.01e12, 3.3e14, 600, "8.9"),
}


def product(name: str | None) -> Product | None:
    """Return the data sheet for a product name; None if it is unknown."""
    # whole words: "L4" is not in "L40", nor "A100" in "RTX A1000"; longer names first
    found = [word for word in PRODUCTS if re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", name or "")]
    return PRODUCTS[max(found, key=len)] if found else None


def judged(name: str, problems: Sequence[str], fine: str) -> Check:
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return Check(name, not problems, "; ".join(problems[:3]) + more if problems else fine)


def kind(run: ClosedRun, record: Record) -> Check:
    """Meter, kind of energy and device match; the facts of a board are complete and plausible."""
    problems = []
    types = {device.type for device in record.devices}
    for meter in run.meters:
        source, device = SOURCES.get(meter.name, (None, None))
        if meter.kind != source or types != {device} or not meter.scored or meter.kind != record.energy_kind:
            problems.append(f"meter {meter.name[:30]!r} cannot give {meter.kind} energy of {'/'.join(sorted(types))}")
        if meter.kind == "measured" and meter.quantum_j < LEAST_QUANTUM_J:
            problems.append(f"meter {meter.name[:30]!r} counts in {meter.quantum_j:g} J, less than 1e-6 J")
        if not 0 < (meter.update_period_s or SLOWEST_S) <= SLOWEST_S or not 0 <= meter.latency_s <= LATEST_S:
            problems.append(
                f"meter {meter.name[:30]!r} updates every {meter.update_period_s} s with {meter.latency_s} s delay"
            )
    boards = [device for device in record.devices if device.type == "cuda"]
    problems += [f"board {board.name}: {text}" for board in boards for text in _unlike(board)]
    if boards and sorted(meter.device for meter in run.meters) != sorted(str(board.uuid) for board in boards):
        problems.append("the number of meters is not the number of boards")
    if len(boards) != (run.parameters["gpus"] if boards else 0) or len(record.devices) > max(len(boards), 1):
        problems.append(f"{len(record.devices)} devices are listed, but gpus={run.parameters['gpus']}")
    note = "; an estimate is never official" if record.energy_kind == "estimated" else ""
    return judged("kind", problems, f"{record.energy_kind} on {'/'.join(sorted(types))}{note}")


def _unlike(board: DeviceFacts) -> list[str]:
    """Return the facts that a board lacks, and its differences from the data sheet of its product."""
    capability = board.settings.get("compute_capability")
    told = {
        "a name": board.name, "a UUID": board.uuid and board.uuid.startswith("GPU-"), "a driver": board.driver,
        "a power limit": board.power_limit_w, "its memory": board.memory_bytes, "a compute capability": capability,
    }  # fmt: skip
    found = [f"{name} is missing" for name, value in told.items() if not value]
    like = product(board.name)
    if like is None or found:
        return found
    if board.power_limit_w > like.most_w:
        found.append(f"its limit of {board.power_limit_w:g} W is above the product's {like.most_w:g} W")
    if capability != like.capability:
        found.append(f"its compute capability is not the product's {like.capability}")
    return found


def coverage(record: Record, phases: Sequence[str]) -> Check:
    """Every run has every phase, and every phase every query exactly once, in valid windows."""
    asked: dict[tuple[int, str], Counter] = defaultdict(Counter)
    for window in _valid(record):
        asked[window.run, window.phase].update(window.queries)
    expected = dict.fromkeys(range(record.data.queries), 1)
    planned = [(number, phase) for number in range(record.protocol.runs) for phase in record.phases]
    problems = [
        f"run {number}, {phase}: {len(asked[number, phase])} of {len(expected)} queries, or repeated ones"
        for number, phase in planned
        if asked[number, phase] != expected
    ]
    problems += [f"run {number}, {phase} is not part of the plan" for number, phase in sorted(asked.keys() - planned)]
    if not set(record.phases) & {"forward", "generate", "call"} or ("preprocess" in phases) > (
        "preprocess" in record.phases
    ):
        problems.append("a rated phase is missing")
    if any(window.replications < 1 for window in _valid(record)):
        problems.append("a valid window has no queries")
    fine = f"{record.protocol.runs} runs of {record.data.queries} queries: every query once per phase and run"
    return judged("coverage", problems, fine)


def counter(run: ClosedRun) -> Check:
    """One counter over the whole session: it never decreases, and no interval of it is used twice."""
    problems = []
    for number in range(len(run.meters)):
        before = None
        for index, start, stop in _edges(run, number):
            if stop.time_s <= start.time_s or stop.energy_j < start.energy_j:
                problems.append(f"window {index}: the counter or the time decreases")
            if before is not None and (start.time_s < before.time_s or start.energy_j < before.energy_j):
                problems.append(f"window {index} begins before the previous one ended, so an interval is used twice")
            before = stop
    return judged("counter", problems, "one counter that never decreases, with every interval used once")


def _edges(run: ClosedRun, number: int) -> list[tuple[int, Point, Point]]:
    read = [(index, window.edges[number]) for index, window in enumerate(run.windows) if number < len(window.edges)]
    return [(index, edge.start, edge.stop) for index, edge in read if edge.start and edge.stop]


def durations(run: ClosedRun, record: Record) -> Check:
    """Windows have the minimal duration of the protocol, and fit into the run's duration."""
    shortest_s, took_s = run.parameters["window_s"], (run.finished_utc - run.started_utc).total_seconds()
    problems = [
        f"window {window.index} lasts {window.duration_s:.4g} s; the minimum is {shortest_s:g} s"
        for window in _valid(record)
        if window.duration_s < shortest_s - 1e-3
    ]
    span_s = max(window.start_s + window.duration_s for window in record.windows)
    if span_s > took_s + 1.0 or sum(window.duration_s for window in record.windows) > took_s + 1.0:
        problems.append(f"the windows span {span_s:.1f} s, but the run took {took_s:.1f} s")
    if not run.started_utc <= run.created_utc <= run.finished_utc:
        problems.append("the record's time is outside the run")
    loose = [window for window in _valid(record) if (window.bound_j or 0.0) > LOOSEST * window.energy_j]
    problems += [f"window {window.index} has an error bound above {LOOSEST:.0%}" for window in loose]
    return judged("durations", problems, f"every window lasts {shortest_s:g} s or more; the run took {took_s:.0f} s")


def timeline(run: ClosedRun) -> Check:
    """Every scored meter has a timeline over the whole session, without gaps."""
    told, expected = [(one.device, one.meter) for one in run.timelines], [(m.device, m.name) for m in run.meters]
    problems = [] if told == expected else ["the timelines are not those of the scored meters"]
    for number, line in enumerate(run.timelines):
        lengths = {len(line.time_s), len(line.energy_j), len(line.power_w) or len(line.time_s)}
        if len(lengths) > 1 or len(line.time_s) < 3 or list(line.time_s) != sorted(line.time_s):
            problems.append(f"{line.device}: its columns are empty, unsorted or of different length")
        elif number < len(run.meters):
            problems += [f"{line.device}: {text}" for text in _holes(run, number, line)]
    return judged("timeline", problems, "the timeline covers the session without gaps")


def _holes(run: ClosedRun, number: int, line: Timeline) -> list[str]:
    edges = _edges(run, number)
    if edges and (line.time_s[0] > edges[0][1].time_s or line.time_s[-1] < edges[-1][2].time_s):
        return ["the timeline does not cover all windows"]
    if line.period_s > SLOWEST_SAMPLES_S and len(line.time_s) < most_samples(len(run.timelines)) / 2 - 1:
        return [f"sampled every {line.period_s:g} s; at most {SLOWEST_SAMPLES_S:g} s are allowed"]
    found = []
    for index, start, stop in edges:
        count, due = len(_inside(line, start.time_s, stop.time_s)), (stop.time_s - start.time_s) / line.period_s
        if run.windows[index].reasons == () and due >= ENOUGH and count < ENOUGH_SAMPLES * due:
            found.append(f"{count} samples in window {index} instead of {due:.0f}")
    return found


def _inside(line: Timeline, start_s: float, stop_s: float) -> range:
    return range(bisect_left(line.time_s, start_s), bisect_right(line.time_s, stop_s))


def steps(run: ClosedRun, record: Record) -> Check:
    """Between any two points, edges included, the counter rises by at most the device's power limit."""
    problems = []
    for number, (meter, line) in enumerate(zip(run.meters, run.timelines, strict=True)):
        limit_w = power_limit_w(record, meter)
        slack_s = (meter.update_period_s or 0.0) + meter.latency_s + KERNEL_STEP_S
        read = [(point.time_s, point.energy_j) for _, *edge in _edges(run, number) for point in edge]
        points = np.array(sorted([*zip(line.time_s, line.energy_j, strict=True), *read]))
        seconds, energy_j = np.diff(points, axis=0).T
        most_j = np.inf if limit_w is None else limit_w * 1.05 * (seconds + slack_s) + 2 * meter.quantum_j
        for at in np.flatnonzero((energy_j > most_j) | (energy_j < -2 * meter.quantum_j)):
            problems.append(f"{meter.device}: at {points[at + 1, 0]:.3f} s {energy_j[at]:.4g} J within "
                            f"{seconds[at]:.3g} s: it decreases, or exceeds {limit_w or 0:g} W")  # fmt: skip
        problems += [f"{meter.device}: {text}" for text in _unnatural(record, line, meter)]
    return judged("steps", problems, "between all points the counter rises within the device's limit")


def _unnatural(record: Record, line: Timeline, meter: MeterFacts) -> list[str]:
    """Report values between the counter's steps, and straight lines, which no counter of a working device shows."""
    found = []
    if meter.quantum_j >= 1e-6:
        counts = np.array(line.energy_j) / meter.quantum_j
        off = int(np.sum(np.abs(counts - np.round(counts)) > 0.01))
        found += [f"{off} of {len(counts)} values are not multiples of {meter.quantum_j:g} J"] if off else []
    for window in record.windows:
        seconds, energy_j = _steps_in(line, window)
        powers = energy_j[seconds > 1e-3] / seconds[seconds > 1e-3]
        if len(powers) >= ENOUGH and np.ptp(powers) <= 1e-9 * powers.max():
            found.append(f"in window {window.index} the counter is a straight line")
    return found


def _steps_in(line: Timeline, window: Window) -> tuple[np.ndarray, np.ndarray]:
    inside = _inside(line, window.start_s, window.start_s + window.duration_s)
    return tuple(np.diff(column[inside.start : inside.stop]) for column in (line.time_s, line.energy_j))


def sensor(run: ClosedRun, record: Record) -> Check:
    """The integral of a power sensor agrees with the energy of the counter, in every window and in total."""
    problems, looked = [], 0
    for number, (meter, line) in enumerate(zip(run.meters, run.timelines, strict=True)):
        if not line.power_w:
            problems += [f"{meter.device}: no power sensor, although all such boards have one"] * (meter.name == "nvml")
            continue
        sensed = np.array([(t, p) for t, p in zip(line.time_s, line.power_w, strict=True) if p is not None])
        by_sensor = by_counter = slack_j = 0.0
        for window in _valid(record):
            part = window.meters[number]
            joules, count = _integral(sensed.reshape(-1, 2), window)
            due = window.duration_s / line.period_s
            if due >= ENOUGH and count < max(ENOUGH_SAMPLES * due, 2):
                problems.append(f"window {window.index}: {count} samples of the sensor instead of {due:.0f}")
            if count < 2:
                continue
            looked += 1
            by_sensor, by_counter = by_sensor + joules, by_counter + part.energy_j
            slack_j += (part.bound_j or 0.0) / 2  # errors at the edges rarely all have the same sign
            if count >= ENOUGH and abs(joules - part.energy_j) > SENSOR_WINDOW * part.energy_j + (part.bound_j or 0.0):
                problems.append(f"window {window.index}: {part.energy_j:.5g} J by counter, {joules:.5g} J by sensor")
        if by_counter > 0 and abs(by_sensor - by_counter) > SENSOR_TOTAL * by_counter + slack_j:
            problems.append(f"all windows: {by_counter:.5g} J by the counter, {by_sensor:.5g} J by the sensor")
    if not looked and not problems:
        return Check("sensor", None, "the meter has no power sensor besides its counter")
    return judged("sensor", problems, f"sensor and counter agree in {looked} windows")


def _integral(sensed: np.ndarray, window: Window) -> tuple[float, int]:
    """Return the integral of the power over a window, with the nearest powers at its ends, and its samples."""
    start_s, stop_s = window.start_s, window.start_s + window.duration_s
    first, last = np.searchsorted(sensed[:, 0], start_s), np.searchsorted(sensed[:, 0], stop_s, side="right")
    times, powers = sensed[first:last].T
    if len(times) < 2:
        return 0.0, len(times)
    return float(np.trapezoid([powers[0], *powers, powers[-1]], [start_s, *times, stop_s])), len(times)


def power(run: ClosedRun, record: Record) -> Check:
    """Mean power is below the limit and, in phases on the device, above the idle power."""
    limits = [power_limit_w(record, meter) for meter in run.meters]
    limit_w = None if None in limits else sum(limits)
    idle_w = next((level.power_w for level in run.idle if level.level == "no_context"), None)
    if record.energy_kind == "estimated":
        idle_w = None if limit_w is None else limit_w * STATIC_SHARE
    if limit_w is None and idle_w is None:
        return Check("power", None, "the record has neither a power limit nor an idle power")
    if limit_w is not None and idle_w is not None and idle_w > limit_w:
        return Check("power", False, f"the idle power of {idle_w:.4g} W is above the limit of {limit_w:.4g} W")
    problems = []
    for window in _valid(record):
        slack_w, mean_w = (window.bound_j or 0.0) / window.duration_s, window.mean_power_w
        if mean_w <= 0:
            problems.append(f"window {window.index} has no power")
        elif limit_w is not None and mean_w - slack_w > limit_w * 1.05:
            problems.append(f"window {window.index}: {mean_w:.4g} W, above the limit of {limit_w:.4g} W")
        elif idle_w is not None and window.phase != "preprocess" and mean_w + slack_w < idle_w * 0.9:
            problems.append(f"window {window.index}: {mean_w:.4g} W, below the idle power of {idle_w:.4g} W")
    return judged("power", problems, "every window's mean power is between idle power and limit")


def power_limit_w(record: Record, meter: MeterFacts) -> float | None:
    """Return the largest power of a meter's device, in watts: a board's limit; for an estimate, all cores busy."""
    if meter.kind != "estimated":
        return next((one.power_limit_w for one in record.devices if one.uuid == meter.device), None)
    cores, core_w = record.devices[0].settings.get("usable_cores"), record.parameters["cpu_core_w"]
    return core_w * cores if isinstance(cores, int | float) and 0 < cores < 10_000 else None


def pace(run: ClosedRun, record: Record) -> Check:
    """A window ends with the first repetition after its minimal duration; further ones would not have been started.

    Boards alone are judged: a processor does what else the machine asks of it.
    """
    if record.devices[0].type != "cuda":
        return Check("pace", None, "a processor also does other work of the machine, so its pace is not checked")
    shortest_s, step_s = run.parameters["window_s"], max(meter.update_period_s or 0.0 for meter in run.meters)
    problems, taken = [], defaultdict(Counter)
    for window in _valid(record):
        one_s = window.duration_s / window.replications
        taken[window.phase][window.run] += one_s
        # edges that wait for a step of the counter have a small bound: they wait a step each, and as long for dither
        waits_s = 3 * step_s if any(part.bound_j < step_s * part.max_power_w for part in window.meters) else 0.0
        if window.replications > 1 and window.duration_s > shortest_s + SLOWEST * one_s + BESIDE_S + waits_s:
            problems.append(f"window {window.index}: {window.replications} repetitions of {one_s:.3g} s; it would have "
                            f"ended after {shortest_s:g} s")  # fmt: skip
    for phase, runs in taken.items():
        spread = _spread(runs)
        if spread > (SPREAD_HOST if phase == "preprocess" else SPREAD):
            problems.append(f"{phase}: durations of the same queries differ by {spread:.0%} between runs")
    return judged("pace", problems, "windows end when their time is up, and runs have similar durations")


def repeats(run: ClosedRun, record: Record) -> Check:
    """Runs scatter as on real hardware: never identical, never far apart."""
    problems = []
    for phase in record.phases:
        prints = [(window.index, *(column[:200] for column in _steps_in(run.timelines[0], window)))
                  for window in _valid(record) if window.phase == phase]  # fmt: skip
        for (one, seconds, energy_j), (other, its_seconds, its_energy_j) in islice(combinations(prints, 2), MOST_PAIRS):
            if _same(seconds, its_seconds):
                problems.append(f"windows {one} and {other} were sampled at the same moments")
            elif _proportional(energy_j, its_energy_j):
                problems.append(f"the power in window {other} is a scaled copy of window {one}")
    energies: Counter = Counter()
    for total in energy.totals(record):
        if total.phase in SCORED_PHASES:
            energies[total.run] += total.energy_j or 0.0
    spread = _spread(energies)
    if record.energy_kind == "measured" and spread > SPREAD_ENERGY:
        problems.append(f"the energies of the runs differ by {spread:.1%}, more than on a real board")
    return judged("repeats", problems, f"no window copies another; runs differ by {spread:.1%} of their mean")


def _spread(by_run: Counter) -> float:
    values = list(by_run.values())
    mean = sum(values) / len(values)
    return (max(values) - min(values)) / mean if mean > 0 else 0.0


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    count = min(len(a), len(b))
    return count >= ENOUGH and np.mean(np.abs(a[:count] - b[:count]) <= SAME_STEP_S) >= 0.8


def _proportional(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether b is a times one factor, to a relative 1e-6, in nearly every step."""
    count = min(len(a), len(b))
    a, b = a[:count], b[:count]
    if count < ENOUGH or len(set(a.round(9))) < 3 or a.sum() <= 0 or b.sum() <= 0:
        return False
    factor = b.sum() / a.sum()
    return np.mean(np.abs(b - factor * a) <= 1e-6 * factor * np.maximum(a, 1e-9)) >= 0.9


def _valid(record: Record) -> list[Window]:
    return [window for window in record.windows if window.valid]
