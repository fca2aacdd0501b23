"""What a real NVIDIA board's meter is like, and how far its figures agree with themselves and with published ones.

    python benchmarks/gpu_check.py [--minutes 9.5] [--only PART ...] [--output FOLDER]

Needs nothing from outside: architectures have their real size and random weights, data is the sample. Parts:

- meter: how often the energy counter and the power sensor step, idle and at work, and what a read costs;
- power: energy by counter against integrated power, steady and pulsed. Both come from one sensor, so this checks
  consistency, not truth; goal: within 1 %;
- session 0, 1, 2: one architecture, five runs: three idle levels, spread between runs and between sessions;
- isolation: the same session again in a process that is warm: what a process of its own costs;
- protocols: steady and the published one on the same architectures, beside the published energy;
- sweep: batch sizes and torch.compile of one architecture.

Every finding is appended to ``FOLDER/gpu-check-BOARD.jsonl`` and printed as soon as it is known: a stop loses nothing.
A figure that could not be had is a finding with its reason. Without an NVIDIA board it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import energylab
from energylab.clock import Clock
from energylab.devices import host_facts, resolve_devices
from energylab.energy import WH_PER_1000_QUERIES, session_energy_j
from energylab.errors import EnergylabError
from energylab.meters.base import Reading, wait_for_tick
from energylab.meters.base import steps as steps_of
from energylab.meters.nvml import NvmlMeter
from energylab.meters.sampler import PowerIntegrator
from energylab.parameters import Parameters, of_protocol
from energylab.record import Record
from energylab.show import run_energies

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "reference"

#: Share of the time of each part, every one a process of its own; what one leaves unused is the next one's.
PARTS = {
    "meter": 30, "power": 40, "session 0": 40, "session 1": 40, "session 2": 40, "isolation": 55, "protocols": 220,
    "sweep": 85,
}  # fmt: skip

#: A window of 1 s reads a counter that steps every 100 ms to 20 %, and its mean far closer: ten minutes are few.
QUICK = {
    "device": "cuda", "model_source": "random", "data_source": "sample", "samples": 8, "runs": 2, "window_s": 1.0,
    "idle_s": 1.0, "warm_up_min_s": 1.0, "warm_up_max_s": 4.0, "max_relative_bound": 0.25,
}  # fmt: skip

ARCHITECTURES = (
    ("image_classification", "microsoft/resnet-18"),
    ("sentence_similarity", "avsolatorio/GIST-all-MiniLM-L6-v2"),
    ("question_answering", "google-t5/t5-small"),
    ("summarization", "google-t5/t5-small"),
    ("text_classification", "google-t5/t5-small"),
    ("text_generation", "distilbert/distilgpt2"),
    ("text_generation", "HuggingFaceTB/SmolLM-135M"),
    ("text_generation", "meta-llama/Meta-Llama-3-8B"),
    ("speech_recognition", "openai/whisper-tiny"),
)
ONE = {"task": "text_generation", "model": "HuggingFaceTB/SmolLM-135M"}
SWEEP = ({}, {"batch_size": 8}, {"batch_size": 32}, {"cache": "static"}, {"cache": "static", "compile": True})


def meters() -> Sequence[NvmlMeter] | None:
    """Return the meters of every session; None: those that energylab chooses."""
    return None


def session(values: dict[str, Any]) -> dict[str, Any]:
    """Measure one session, and return its figures, or why there are none."""
    start_s = time.monotonic()
    try:
        asked = Parameters.check(of_protocol(QUICK | values))
        record = energylab.measure(parameters=asked, meters=meters())
    except Exception as error:  # noqa: BLE001 - of a library too: the sessions after it are measured all the same
        return {"reason": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    return {"wall_s": time.monotonic() - start_s, **figures(record)}


def figures(record: Record) -> dict[str, Any]:
    """Return what a session found; an energy that is not known has its reason beside it."""
    energy_j, runs = session_energy_j(record), run_energies(record)
    known = record.valid and energy_j is not None
    return {
        "wh_per_1000_queries": energy_j * WH_PER_1000_QUERIES if known else None,
        "reason": None if known else "; ".join(record.reasons) or "no total",
        "run_cv": statistics.stdev(runs) / statistics.mean(runs) if len(runs) > 1 else None,
        "idle_w": {one.level: ", ".join(one.reasons) if one.power_w is None else one.power_w for one in record.idle},
        "invalid_windows": sum(not window.valid for window in record.windows),
        "marks": list(record.marks),
        "energy_kind": record.energy_kind,
        "protocol": f"{record.protocol.name} {record.protocol.version}",
    }


def published_wh(task: str, model: str) -> float | str:
    """Return the published energy of a model in Wh per 1,000 queries."""
    from energylab import published

    table = published.load()
    found = table[(table["task"] == task) & (table["hub_id"] == model)]
    return float(found["energy_j"].iloc[0]) / 3600 if len(found) else "not published"


def jobs(part: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the sessions of a part, each with the name of its finding."""
    if part == "protocols":
        names = ("steady", "published-2025-02")
        asked = [({"task": task, "model": model}, name) for task, model in ARCHITECTURES for name in names]
        return [(f"{one['task']}, {one['model']}, {name}", {**one, "protocol": name}) for one, name in asked]
    if part == "sweep":
        return [(", ".join(f"{k}={v}" for k, v in values.items()) or "base", {**ONE, **values}) for values in SWEEP]
    names = ("in a new process", "in a warm process") if part == "isolation" else ("in a new process",)
    return [(name, {**ONE, "runs": 5}) for name in names]


def work(part: str, add: Callable[..., None]) -> None:
    """Do a part in this process."""
    if part in ("meter", "power"):
        (device,) = resolve_devices(QUICK["device"], 1)
        with (meters() or [NvmlMeter(device.uuid)])[0] as meter:
            for name, found in (of_meter if part == "meter" else of_power)(meter):
                add(part, name, found)
        return
    for name, values in jobs(part):
        found = session(values)
        if part == "protocols":
            found["published_wh"] = published_wh(values["task"], values["model"])
        add(part, name, found)


def of_meter(meter: NvmlMeter, cap_s: float = 3.0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield how often counter and power sensor step, idle and at work, and what a read of each costs, in seconds."""
    looks = {
        "counter": meter.read,
        "instant power": lambda: Reading(meter.known_power_w(), meter.clock.now()),
    }
    yield "source", {"source": meter.source, "update_period_s": meter.update_period_s, "notes": list(meter.notes)}
    for name, look in looks.items():
        costs = []
        for _ in range(200):
            start_s = time.perf_counter()
            look()
            costs.append(time.perf_counter() - start_s)
        yield f"a read of the {name}", spread(costs)
        yield f"steps of the {name}, idle", steps(look, meter.clock, cap_s)
    load = threading.Thread(target=busy, args=(2 * cap_s + 2.0, 1.0, 0.0))
    load.start()
    meter.clock.sleep(2.0)  # the first products load libraries
    for name, look in looks.items():
        yield f"steps of the {name}, at work", steps(look, meter.clock, cap_s)
    load.join()


def steps(look: Callable[[], Reading], clock: Clock, cap_s: float) -> dict[str, Any]:
    """Return the times between the steps of a value, watched for `cap_s` seconds every millisecond."""
    edges = [seen.time_s for seen in steps_of(look, clock, cap_s, poll_s=0.001)]
    return spread([later - earlier for earlier, later in pairwise(edges)])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return least, median and largest of some values, and how many there are."""
    if not values:
        return {"reason": "no step was seen"}
    return {
        "least_s": min(values),
        "median_s": statistics.median(values),
        "largest_s": max(values),
        "count": len(values),
    }


def of_power(meter: NvmlMeter, seconds: float = 15.0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield energy by counter against integrated power, over a steady and a pulsed load."""
    for name, on_s, off_s in (("steady", 1.0, 0.0), ("pulsed", 0.37, 0.23)):
        busy(1.0, on_s, off_s)
        yield name, counter_against_power(meter, lambda on_s=on_s, off_s=off_s: busy(seconds, on_s, off_s))


def counter_against_power(meter: NvmlMeter, load: Callable[[], None], period_s: float = 0.02) -> dict[str, Any]:
    """Run `load` between two steps of the counter, with the power sensor integrated beside it."""
    integrator = PowerIntegrator(meter.known_power_w, meter.clock, period_s)
    integrator.start()
    try:
        start, start_j = wait_for_tick(meter, timeout_s=2.0), integrator.read().energy_j
        load()
        stop, stop_j = wait_for_tick(meter, timeout_s=2.0), integrator.read().energy_j
    finally:
        integrator.stop()
    counter_j, power_j = stop.energy_j - start.energy_j, stop_j - start_j
    found = {"counter_j": counter_j, "integrated_j": power_j, "difference": counter_j / power_j - 1}
    return found | {"duration_s": stop.time_s - start.time_s, "longest_gap_s": integrator.worst_gap_s}


def busy(seconds: float, on_s: float, off_s: float, size: int = 8192) -> None:
    """Multiply matrices for `on_s` of every ``on_s + off_s`` seconds."""
    import torch

    left = torch.randn(size, size, device=QUICK["device"], dtype=torch.bfloat16)
    wait = torch.cuda.synchronize if left.is_cuda else lambda: None
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pulse_s = min(time.monotonic() + on_s, until_s)
        while time.monotonic() < pulse_s:
            torch.mm(left, left)
            wait()
        time.sleep(off_s)


def start(part: str, file: Path, left_s: float) -> str | None:
    """Do a part in a process of its own; return why it ended badly."""
    command = [sys.executable, __file__, "--part", part, "--file", str(file)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=max(left_s, 1.0), check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {left_s:.0f} s, its share of the time"
    return f"ended with {done.returncode}: {done.stderr.strip()[-500:]}" if done.returncode else None


def adder(file: Path) -> Callable[..., None]:
    """Return what keeps a finding: one line of JSON on the disk, and printed."""

    def add(part: str, name: str, found: dict[str, Any]) -> None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"part": part, "name": name, **found}) + "\n")
        known = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in found.items()}
        print(f"{part}: {name}: {', '.join(f'{k} {v}' for k, v in known.items() if v not in (None, []))}", flush=True)

    return add


def check(parts: Sequence[str], file: Path, seconds: float) -> bool:
    """Do parts one after the other within `seconds`; return whether every one came to its end."""
    add, begin_s, due, ended = adder(file), time.monotonic(), 0.0, True
    for part in parts:
        part_s, due = time.monotonic(), due + PARTS[part] * seconds / sum(PARTS[part] for part in parts)
        reason = start(part, file, begin_s + due - part_s)
        add(part, "whole process", {"process_s": time.monotonic() - part_s, "reason": reason})
        ended &= reason is None
    between_sessions([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()], add)
    return ended


def between_sessions(found: Sequence[dict[str, Any]], add: Callable[..., None]) -> None:
    """Add the spread between sessions, and what a process of its own costs, from what the parts found."""
    values = [
        one["wh_per_1000_queries"] for one in found if "session " in one["part"] and one.get("wh_per_1000_queries")
    ]
    if len(values) > 1:
        add("summary", "between sessions", {"session_cv": statistics.stdev(values) / statistics.mean(values)})
    else:
        add("summary", "between sessions", {"reason": f"{len(values)} sessions have an energy"})
    named = {(one["part"], one["name"]): one for one in found}
    process, warm = named.get(("session 0", "whole process")), named.get(("isolation", "in a warm process"))
    if values and process and warm and warm.get("wh_per_1000_queries"):
        costs = {"seconds": process["process_s"] - warm["wall_s"]}
        costs["energy_ratio"] = statistics.mean(values) / warm["wh_per_1000_queries"]
        add("summary", "a process of its own against a warm one", costs)
    else:
        add("summary", "a process of its own against a warm one", {"reason": "no session of each has an energy"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 0 when there is nothing to check or every part came to its end, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.5, help="most minutes in all")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to do")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the findings go")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what `start` starts
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.part:
        work(asked.part, adder(asked.file))
        return 0
    try:
        (device,) = resolve_devices(QUICK["device"], 1)
    except EnergylabError as error:
        print(f"no NVIDIA board to check: {error}")
        return 0
    asked.output.mkdir(parents=True, exist_ok=True)
    file = asked.output / f"gpu-check-{re.sub('[^a-z0-9]+', '-', device.name.lower()).strip('-')}.jsonl"
    file.write_text("", encoding="utf-8")
    facts = {"device": device.model_dump(mode="json", exclude={"uuid"}), "host": host_facts().model_dump(mode="json")}
    adder(file)("board", device.name, {"time_utc": datetime.now(UTC).isoformat(timespec="seconds"), **facts})
    return 0 if check(asked.only, file, 60 * asked.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
