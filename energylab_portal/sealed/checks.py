"""Whether a run's figures can be: each check looks at one thing, and says in words what it found."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice, pairwise

from energylab import energy
from energylab.record import SCORED_PHASES, DeviceFacts, MeterFacts, Record, Window
from energylab_portal.sealed.statement import ClosedRun, Timeline
from energylab_portal.sealed.watch import most_samples

#: What each meter can be the source of: its kind of energy, and the type of device.
SOURCES = {"nvml": ("measured", "cuda"), "rapl": ("measured", "cpu"), "estimate": ("estimated", "cpu")}
#: Every hardware counter read here counts in whole microjoules (RAPL) or millijoules (NVML).
LEAST_QUANTUM_J = 0.999e-6
#: Slowest step of an energy counter, and the oldest reading of an integrated power sensor, in seconds.
SLOWEST_S, LATEST_S = 0.5, 2.0
#: Largest error bound of a window, relative to its energy.
LOOSEST = 0.1
#: How far a sensor's integral and the counter may differ over all windows together, and over one of them.
SENSOR_TOTAL, SENSOR_WINDOW = 0.05, 0.15
#: Shortest stretch, in seconds, over which a counter of processor time is exact: the kernel's own step, on two cores.
KERNEL_STEP_S = 0.02
#: Samples that a comparison needs; the slowest sampling, in seconds; and the share of samples that must be there.
ENOUGH, SLOWEST_SAMPLES_S, ENOUGH_SAMPLES = 8, 0.2501, 0.3
#: Time a window may take beside its repetitions, in seconds, and how much longer than the mean one of them may take.
BESIDE_S, SLOWEST = 0.05, 2.0
#: Largest spread of durations and energies of the runs, (largest - smallest) / mean: the same work, on one board. The
#: host prepares inputs beside whatever else it does.
SPREAD, SPREAD_HOST, SPREAD_ENERGY = 0.3, 1.0, 0.15
#: Two samplings of real time do not have the same steps to this, in seconds.
SAME_STEP_S = 1e-7
MOST_PAIRS = 20_000
#: Share of a core's power that the estimate's model counts at rest (`energylab.meters.estimate.EstimateMeter`).
STATIC_SHARE = 0.2


@dataclass(frozen=True)
class Check:
    """One check of a bundle.

    Attributes
    ----------
    name : str
        What was looked at, in one or two words.
    passed : bool or None
        None where the bundle holds nothing by which it could be decided; the words say why.
    words : str
        What was found, in one sentence.
    """

    name: str
    passed: bool | None
    words: str


@dataclass(frozen=True)
class Product:
    """A board as its maker describes it: bytes and 16-bit operations a second, most watts, compute capability."""

    bytes_per_s: float
    operations_per_s: float
    most_w: float
    capability: str


#: By a word of the product name.
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
    """Return the board of a product name; None for one that is not known here."""
    # whole words: "L4" is not in "L40", nor "A100" in "RTX A1000"; a fuller name before its beginning
    found = [word for word in PRODUCTS if re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", name or "")]
    return PRODUCTS[max(found, key=len)] if found else None


def judged(name: str, problems: Sequence[str], fine: str) -> Check:
    """Return a check that passed when there is no problem; the first three are named."""
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return Check(name, not problems, "; ".join(problems[:3]) + more if problems else fine)


def kind(run: ClosedRun, record: Record) -> Check:
    """Meter, kind and device belong together; a board is described as only a board can be."""
    problems = []
    types = {device.type for device in record.devices}
    for meter in run.meters:
        source, device = SOURCES.get(meter.name, (None, None))
        if meter.kind != source or types != {device} or not meter.scored or meter.kind != record.energy_kind:
            problems.append(f"meter {meter.name[:30]!r} cannot give {meter.kind} energy of {'/'.join(sorted(types))}")
        if meter.kind == "measured" and meter.quantum_j < LEAST_QUANTUM_J:
            problems.append(f"meter {meter.name[:30]!r} counts whole microjoules or more, not {meter.quantum_j:g} J")
        if not 0 < (meter.update_period_s or SLOWEST_S) <= SLOWEST_S or not 0 <= meter.latency_s <= LATEST_S:
            problems.append(
                f"meter {meter.name[:30]!r} steps every {meter.update_period_s} s, {meter.latency_s} s late"
            )
    boards = [device for device in record.devices if device.type == "cuda"]
    problems += [f"board {board.name}: {text}" for board in boards for text in _unlike(board)]
    if boards and sorted(meter.device for meter in run.meters) != sorted(str(board.uuid) for board in boards):
        problems.append("there is not one meter for every board")
    if len(boards) != (run.parameters["gpus"] if boards else 0) or len(record.devices) > max(len(boards), 1):
        problems.append(f"{len(record.devices)} devices are listed, {run.parameters['gpus']} were asked for")
    note = "; an estimate is never official" if record.energy_kind == "estimated" else ""
    return judged("kind", problems, f"{record.energy_kind} on {'/'.join(sorted(types))}{note}")


def _unlike(board: DeviceFacts) -> list[str]:
    """Return what a real board would tell and this one does not, and where it is unlike its product."""
    told = {
        "a name": board.name,
        "a UUID": board.uuid and board.uuid.startswith("GPU-"),
        "a power limit": board.power_limit_w,
        "its memory": board.memory_bytes,
        "a driver": board.driver,
        "a compute capability": board.settings.get("compute_capability"),
    }
    found = [f"it does not tell {name}" for name, value in told.items() if not value]
    like = product(board.name)
    if like is None or found:
        return found
    if board.power_limit_w > like.most_w:
        found.append(f"a limit of {board.power_limit_w:g} W; the product can be set to {like.most_w:g} W at most")
    if told["a compute capability"] != like.capability:
        found.append(f"another compute capability than the product's {like.capability}")
    return found


def coverage(record: Record, phases: Sequence[str]) -> Check:
    """Every run holds every phase, and every phase every query exactly once, in windows that count."""
    asked: dict[tuple[int, str], Counter] = defaultdict(Counter)
    for window in _valid(record):
        asked[window.run, window.phase].update(window.queries)
    expected = dict.fromkeys(range(record.data.queries), 1)
    planned = [(number, phase) for number in range(record.protocol.runs) for phase in record.phases]
    problems = [
        f"run {number}, {phase}: {len(asked[number, phase])} of {len(expected)} queries, or some twice"
        for number, phase in planned
        if asked[number, phase] != expected
    ]
    problems += [f"run {number}, {phase} is not part of the plan" for number, phase in sorted(asked.keys() - planned)]
    if not set(record.phases) & {"forward", "generate", "call"} or ("preprocess" in phases) > (
        "preprocess" in record.phases
    ):
        problems.append("a phase that is rated was left out")
    if any(window.replications < 1 for window in _valid(record)):
        problems.append("a window counts, and asked nothing")
    fine = f"{record.protocol.runs} runs of {record.data.queries} queries: every query once a phase and run"
    return judged("coverage", problems, fine)


def counter(run: ClosedRun) -> Check:
    """One counter over the whole session: it never goes back, and no stretch of it is used twice."""
    problems = []
    for number in range(len(run.meters)):
        edges = [
            (index, window.edges[number]) for index, window in enumerate(run.windows) if number < len(window.edges)
        ]
        spans = [(index, edge.start, edge.stop) for index, edge in edges if edge.start and edge.stop]
        problems += [
            f"window {index}: the counter or the time goes back"
            for index, start, stop in spans
            if stop.time_s <= start.time_s or stop.energy_j < start.energy_j
        ]
        problems += [
            f"window {index} begins before the one before it ended: a stretch is used twice"
            for (_, _, last), (index, first, _) in pairwise(spans)
            if first.time_s < last.time_s or first.energy_j < last.energy_j
        ]
    return judged("counter", problems, "one counter that only rises, and every stretch of it is used once")


def durations(run: ClosedRun, record: Record) -> Check:
    """Windows are as long as the protocol asks, and fit into the time the run took."""
    shortest_s, took_s = run.parameters["window_s"], (run.finished_utc - run.started_utc).total_seconds()
    problems = [
        f"window {window.index} lasts {window.duration_s:.4g} s, at least {shortest_s:g} s are asked for"
        for window in _valid(record)
        if window.duration_s < shortest_s - 1e-3
    ]
    span_s = max(window.start_s + window.duration_s for window in record.windows)
    if span_s > took_s + 1.0 or sum(window.duration_s for window in record.windows) > took_s + 1.0:
        problems.append(f"the windows reach over {span_s:.1f} s, the whole run took {took_s:.1f} s")
    if not run.started_utc <= run.created_utc <= run.finished_utc:
        problems.append("the record was made before the run began, or after it ended")
    loose = [window for window in _valid(record) if (window.bound_j or 0.0) > LOOSEST * window.energy_j]
    problems += [f"window {window.index} may be more than {LOOSEST:.0%} wrong" for window in loose]
    return judged("durations", problems, f"every window lasts {shortest_s:g} s or more; the run took {took_s:.0f} s")


def timeline(run: ClosedRun) -> Check:
    """Every scored meter has a timeline over the whole session, without holes in which something could hide."""
    told, expected = [(one.device, one.meter) for one in run.timelines], [(m.device, m.name) for m in run.meters]
    problems = [] if told == expected else ["there is not one timeline for every scored meter"]
    for line in run.timelines:
        lengths = {len(line.time_s), len(line.energy_j), len(line.power_w) or len(line.time_s)}
        if len(lengths) > 1 or len(line.time_s) < 3 or list(line.time_s) != sorted(line.time_s):
            problems.append(f"{line.device}: its columns are of different length, empty or out of order")
        else:
            problems += _holes(run, line)
    return judged("timeline", problems, "the timeline covers the session without a hole")


def _holes(run: ClosedRun, line: Timeline) -> list[str]:
    edges = [edge for window in run.windows for edge in window.edges if edge.start and edge.stop]
    begin_s = min((edge.start.time_s for edge in edges), default=0.0)
    end_s = max((edge.stop.time_s for edge in edges), default=0.0)
    if line.time_s[0] > begin_s or line.time_s[-1] < end_s:
        return [f"{line.device}: the timeline does not reach over all windows"]
    if line.period_s > SLOWEST_SAMPLES_S and len(line.time_s) < most_samples(len(run.timelines)) / 2 - 1:
        return [f"{line.device}: sampled every {line.period_s:g} s, at most {SLOWEST_SAMPLES_S:g} s are taken"]
    found = []
    for index, window in enumerate(run.windows):
        for edge in window.edges:
            if edge.start and edge.stop and window.reasons == ():
                count = len(_inside(line.time_s, edge.start.time_s, edge.stop.time_s))
                due = (edge.stop.time_s - edge.start.time_s) / line.period_s
                if due >= ENOUGH and count < ENOUGH_SAMPLES * due:
                    found.append(f"{line.device}: {count} samples in window {index}, {due:.0f} were to be taken")
    return found


def steps(run: ClosedRun, record: Record) -> Check:
    """Between any two points, edges included, the counter rises by no more than the device can draw."""
    problems = []
    for number, (meter, line) in enumerate(zip(run.meters, run.timelines, strict=True)):
        limit_w = power_limit_w(record, meter)
        slack_s = (meter.update_period_s or 0.0) + meter.latency_s + KERNEL_STEP_S
        for before, after in pairwise(_points(run, line, number)):
            seconds, energy_j = after[0] - before[0], after[1] - before[1]
            if energy_j < -2 * meter.quantum_j:
                problems.append(f"{meter.device}: at {after[0]:.3f} s the counter goes back")
            elif limit_w is not None and energy_j > limit_w * 1.05 * (seconds + slack_s) + 2 * meter.quantum_j:
                problems.append(f"{meter.device}: {energy_j:.4g} J within {seconds:.3g} s at {after[0]:.3f} s are more "
                                f"than its {limit_w:g} W allow")  # fmt: skip
        problems += [f"{meter.device}: {text}" for text in _unnatural(record, line, meter)]
    return judged("steps", problems, "between all points the counter rises as the device can draw")


def _points(run: ClosedRun, line: Timeline, number: int) -> list[tuple[float, float]]:
    edges = [window.edges[number] for window in run.windows if number < len(window.edges)]
    read = [(point.time_s, point.energy_j) for edge in edges for point in (edge.start, edge.stop) if point]
    return sorted([*zip(line.time_s, line.energy_j, strict=True), *read])


def _unnatural(record: Record, line: Timeline, meter: MeterFacts) -> list[str]:
    """Say where the counter is off its own grid, or a straight line: no counter of a working device is."""
    found = []
    if meter.quantum_j >= 1e-6:
        off = sum(abs(value / meter.quantum_j - round(value / meter.quantum_j)) > 0.01 for value in line.energy_j)
        found += [f"{off} of {len(line.energy_j)} values are no multiples of {meter.quantum_j:g} J"] if off else []
    for window in record.windows:
        inside = _inside(line.time_s, window.start_s, window.start_s + window.duration_s)
        powers = [
            (line.energy_j[b] - line.energy_j[a]) / (line.time_s[b] - line.time_s[a])
            for a, b in pairwise(inside)
            if line.time_s[b] - line.time_s[a] > 1e-3
        ]
        if len(powers) >= ENOUGH and max(powers) - min(powers) <= 1e-9 * max(powers):
            found.append(f"in window {window.index} the counter is a straight line")
    return found


def _inside(times: Sequence[float], start_s: float, stop_s: float) -> range:
    """Return the positions of the samples within a stretch."""
    return range(bisect_left(times, start_s), bisect_right(times, stop_s))


def sensor(run: ClosedRun, record: Record) -> Check:
    """The integral of a power sensor agrees with the energy of the counter, in every window and in all."""
    problems, looked = [], 0
    for number, (meter, line) in enumerate(zip(run.meters, run.timelines, strict=True)):
        if not line.power_w:
            problems += [f"{meter.device}: no power sensor, which every such board has"] * (meter.name == "nvml")
            continue
        sensed = [(t, p) for t, p in zip(line.time_s, line.power_w, strict=True) if p is not None]
        by_sensor = by_counter = slack_j = 0.0
        for window in _valid(record):
            part = window.meters[number]
            joules, count = _integral(sensed, window.start_s, window.start_s + window.duration_s)
            due = window.duration_s / line.period_s
            if count < 2:
                problems += [f"window {window.index}: no samples of the sensor"] * (due >= ENOUGH)
                continue
            if due >= ENOUGH and count < ENOUGH_SAMPLES * due:
                problems.append(f"window {window.index}: {count} samples of the sensor, {due:.0f} were to be taken")
            looked += 1
            by_sensor, by_counter = by_sensor + joules, by_counter + part.energy_j
            slack_j += (part.bound_j or 0.0) / 2  # errors at the edges: they rarely all lie on one side
            if count >= ENOUGH and abs(joules - part.energy_j) > SENSOR_WINDOW * part.energy_j + (part.bound_j or 0.0):
                problems.append(f"window {window.index}: {part.energy_j:.5g} J counted, {joules:.5g} J by the sensor")
        if by_counter > 0 and abs(by_sensor - by_counter) > SENSOR_TOTAL * by_counter + slack_j:
            problems.append(f"all windows: {by_counter:.5g} J by the counter, {by_sensor:.5g} J by the sensor")
    if not looked and not problems:
        return Check("sensor", None, "the meter has no power sensor beside its counter")
    return judged("sensor", problems, f"sensor and counter agree in {looked} windows")


def _integral(sensed: Sequence[tuple[float, float]], start_s: float, stop_s: float) -> tuple[float, int]:
    """Return the trapezoidal integral over a stretch, its ends at the nearest power, and the samples in it."""
    inside = sensed[bisect_left(sensed, (start_s, 0.0)) : bisect_right(sensed, (stop_s, float("inf")))]
    if len(inside) < 2:
        return 0.0, len(inside)
    total = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(inside))
    total += (inside[0][0] - start_s) * inside[0][1] + (stop_s - inside[-1][0]) * inside[-1][1]
    return total, len(inside)


def power(run: ClosedRun, record: Record) -> Check:
    """Mean power against the limit, and in phases on the device against the power at rest."""
    limits = [power_limit_w(record, meter) for meter in run.meters]
    limit_w = None if None in limits else sum(limits)
    idle_w = next((level.power_w for level in run.idle if level.level == "no_context"), None)
    if record.energy_kind == "estimated":
        idle_w = None if limit_w is None else limit_w * STATIC_SHARE
    if limit_w is None and idle_w is None:
        return Check("power", None, "the record tells neither a power limit nor the power at rest")
    if limit_w is not None and idle_w is not None and idle_w > limit_w:
        return Check("power", False, f"at rest it draws {idle_w:.4g} W, more than its limit of {limit_w:.4g} W")
    problems = []
    for window in _valid(record):
        slack_w, mean_w = (window.bound_j or 0.0) / window.duration_s, window.mean_power_w
        if mean_w <= 0:
            problems.append(f"window {window.index} has no power at all")
        elif limit_w is not None and mean_w - slack_w > limit_w * 1.05:
            problems.append(f"window {window.index}: {mean_w:.4g} W, above the limit of {limit_w:.4g} W")
        elif idle_w is not None and window.phase != "preprocess" and mean_w + slack_w < idle_w * 0.9:
            problems.append(f"window {window.index}: {mean_w:.4g} W, below the {idle_w:.4g} W at rest")
    return judged("power", problems, "every window's mean power lies between rest and limit")


def power_limit_w(record: Record, meter: MeterFacts) -> float | None:
    """Return the most that a meter's device can draw, in watts: a board's limit; of an estimate, every core busy."""
    if meter.kind != "estimated":
        return next((one.power_limit_w for one in record.devices if one.uuid == meter.device), None)
    cores, core_w = record.devices[0].settings.get("usable_cores"), record.parameters["cpu_core_w"]
    return core_w * cores if isinstance(cores, int | float) and 0 < cores < 10_000 else None


def pace(run: ClosedRun, record: Record) -> Check:
    """A window ends with the first repetition after its time is up: more of them would not have been begun.

    Boards alone are judged: a processor does what else the machine asks of it.
    """
    if record.devices[0].type != "cuda":
        return Check("pace", None, "a processor does what else the machine asks of it, so its pace is not judged")
    shortest_s, step_s = run.parameters["window_s"], max(meter.update_period_s or 0.0 for meter in run.meters)
    problems, taken = [], defaultdict(lambda: defaultdict(float))
    for window in _valid(record):
        one_s = window.duration_s / window.replications
        taken[window.phase][window.run] += one_s
        # edges that wait for a step of the counter have a small bound: they wait a step each, and as long for dither
        waits_s = 3 * step_s if any(part.bound_j < step_s * part.max_power_w for part in window.meters) else 0.0
        if window.replications > 1 and window.duration_s > shortest_s + SLOWEST * one_s + BESIDE_S + waits_s:
            problems.append(f"window {window.index}: {window.replications} repetitions of {one_s:.3g} s; it would have "
                            f"ended after {shortest_s:g} s")  # fmt: skip
    for phase, runs in taken.items():
        spread = _spread(list(runs.values()))
        if spread > (SPREAD_HOST if phase == "preprocess" else SPREAD):
            problems.append(f"{phase}: the durations of the runs spread by {spread:.0%} for the same queries")
    return judged("pace", problems, "windows end when their time is up, and the runs take equally long")


def repeats(run: ClosedRun, record: Record) -> Check:
    """The runs repeat as hardware repeats: never the same twice, never far apart."""
    problems = []
    for phase in record.phases:
        windows = [window for window in _valid(record) if window.phase == phase]
        prints = {window.index: _print(run, window) for window in windows}
        for a, b in islice(combinations(windows, 2), MOST_PAIRS):
            if _same(prints[a.index][0], prints[b.index][0]):
                problems.append(f"windows {a.index} and {b.index} were sampled at the same moments")
            elif _proportional(prints[a.index][1], prints[b.index][1]):
                problems.append(f"the power in window {b.index} is that of window {a.index}, scaled")
    energies: dict[int, float] = defaultdict(float)
    for total in energy.totals(record):
        if total.phase in SCORED_PHASES:
            energies[total.run] += total.energy_j or 0.0
    spread = _spread(list(energies.values()))
    if record.energy_kind == "measured" and spread > SPREAD_ENERGY:
        problems.append(f"the energies of the runs spread by {spread:.1%}, more than a board under one load does")
    return judged("repeats", problems, f"no window copies another; the runs spread by {spread:.1%} of their mean")


def _spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return (max(values) - min(values)) / mean if mean > 0 else 0.0


def _print(run: ClosedRun, window: Window) -> tuple[list[float], list[float]]:
    """Return the steps in time and in energy of the first meter's samples within a window."""
    line = run.timelines[0]
    inside = _inside(line.time_s, window.start_s, window.start_s + window.duration_s)[:200]
    pairs = list(pairwise(inside))
    return [line.time_s[b] - line.time_s[a] for a, b in pairs], [line.energy_j[b] - line.energy_j[a] for a, b in pairs]


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    count = min(len(a), len(b))
    return count >= ENOUGH and sum(abs(x - y) <= SAME_STEP_S for x, y in zip(a, b, strict=False)) >= 0.8 * count


def _proportional(a: Sequence[float], b: Sequence[float]) -> bool:
    """Tell whether b is a times one factor, to a millionth, in nearly every step."""
    count = min(len(a), len(b))
    total_a, total_b = sum(a[:count]), sum(b[:count])
    if count < ENOUGH or len({round(x, 9) for x in a}) < 3 or total_a <= 0 or total_b <= 0:
        return False
    factor = total_b / total_a
    close = sum(abs(y - factor * x) <= 1e-6 * factor * max(x, 1e-9) for x, y in zip(a, b, strict=False))
    return close >= 0.9 * count


def _valid(record: Record) -> list[Window]:
    return [window for window in record.windows if window.valid]
