"""Builders shared by tests and benchmarks: valid records, and a study whose notebook is fast and can misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import yaml

from energylab import store
from energylab.parameters import PROTOCOLS, Parameters
from energylab.record import (
    DataFacts,
    DeviceFacts,
    HostFacts,
    MeterFacts,
    MeterReadings,
    ModelFacts,
    ProtocolFacts,
    Record,
    TaskFacts,
    WarmUp,
    Window,
)

#: The measuring cell of a notebook.
MEASURE = """\
import energylab
from energylab import measuring
measuring.run(energylab.Parameters.from_notebook(dict(globals())))
"""


def window(run: int = 0, energy_j: float | None = 2.0, index: int = 0, **changes: Any) -> Window:
    """Build one window of 16 queries in phase ``forward``; without an energy it is invalid."""
    valid = energy_j is not None
    facts = {
        "index": index,
        "run": run,
        "phase": "forward",
        "block": 0,
        "attempt": 0,
        "queries": tuple(range(16)),
        "replications": 1,
        "start_s": float(index),
        "duration_s": 0.5,
        "meters": (MeterReadings(meter="replay", device="board-0", energy_j=energy_j),),
        "energy_j": energy_j,
        "bound_j": 0.01 if valid else None,
        "valid": valid,
        "reasons": () if valid else ("no_tick",),
    }
    return Window(**{**facts, **changes})


def record(parameters: Parameters | None = None, energy_j: float | None = 2.0, **changes: Any) -> Record:
    """Build a whole record for `parameters`: each run one window of `energy_j` joules (None: invalid)."""
    p = parameters or Parameters()
    valid = energy_j is not None
    facts = {
        "record_id": f"{p.job_id}-{p.attempt}",
        "job_id": p.job_id,
        "repeat": p.repeat,
        "attempt": p.attempt,
        "created_utc": datetime.now(UTC),
        "energylab_version": "0",
        "energy_kind": "simulated",
        "task": TaskFacts(name=p.task, version="1", settings={"batch_size": p.batch_size or 1}),
        "model": ModelFacts(name=p.model, source=p.model_source, parameters=1000, dtype=p.dtype or "float32"),
        "data": DataFacts(name="sample", source="sample", digest="0" * 64, queries=16),
        "protocol": ProtocolFacts(
            name=p.protocol, version=PROTOCOLS[p.protocol], seed=p.seed, runs=p.runs, settings={}
        ),
        "devices": (DeviceFacts(name="board", type="simulated", uuid="board-0"),),
        "meters": (MeterFacts(name="replay", source="trace", kind="simulated", device="board-0", scored=True),),
        "host": HostFacts(processor="x", cores=1, memory_bytes=1, system="Linux", python="3", packages={}),
        "phases": ("forward",),
        "idle": (),
        "warm_up": WarmUp(duration_s=0.1, energy_j=1.0, queries=1, steady=True, reason="steady"),
        "windows": tuple(window(run, energy_j, index=run) for run in range(p.runs)),
        "parameters": p.model_dump(mode="json"),
        "valid": valid,
        "reasons": () if valid else ("run 0: forward has no total: no_tick",),
    }
    return Record(**{**facts, **changes})


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook: the parameters cell of notebook 01, then `cells`."""
    notebook = nbformat.read(Path(__file__).parents[1] / "notebooks" / "01-benchmark.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def write_study(folder: Path, name: str = "fake", cells: tuple[str, ...] = (), **content: Any) -> Path:
    """Write ``NAME.yaml`` beside a fast fake benchmark notebook, and return the study's path.

    The notebook calls `fake_session` for its measuring cell and draws nothing; further `cells` come after it.
    """
    notebook = write_notebook(
        folder / f"{name}.ipynb",
        "import builders\nbuilders.fake_session(dict(globals()))",
        *(cells or ("print('shown')",)),
    )
    content = {"notebook": str(notebook), **content}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def fake_session(namespace: dict[str, Any]) -> None:
    """Stand in for a measurement: note that it began, misbehave as the model's name says, write a record, note it.

    A model named ``raise…`` fails in the cell, ``die…`` kills its kernel, ``hang…`` never ends, ``wait…`` ends when the
    file ``open`` stands beside the ledger, ``child…`` leaves a
    process behind, ``invalid…`` writes an invalid record. ``…-once`` does so in its first attempt only. The ledger
    beside the results has one line when a measurement begins and one when its record is written.
    """
    p = Parameters.from_notebook(namespace)
    if p.record is not None:
        note(p, "render")
        return
    note(p, "begin")
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    word = p.model.split("-")[0] if not ("-once" in p.model and p.attempt > 0) else ""
    if word == "raise":
        raise ValueError("as asked")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        time.sleep(3600)
    while word == "wait" and not Path(os.environ["FAKE_LEDGER"]).with_name("open").exists():
        time.sleep(0.05)
    if word == "child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    store.write(record(p, None if word == "invalid" else 2.0), p.output_folder)
    note(p, "record")


def wait_for(condition) -> None:
    """Return once `condition` holds, however slow the machine is; a hang is ended by the test's own limit."""
    while not condition():
        time.sleep(0.05)


def note(p: Parameters, what: str) -> None:
    """Append one line to ``FAKE_LEDGER``: what happened, to which job, where and when."""
    ledger = os.environ.get("FAKE_LEDGER")
    if ledger is None:
        return
    line = {
        "what": what,
        "job": p.job_id,
        "attempt": p.attempt,
        "pid": os.getpid(),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "time_s": time.monotonic(),
    }
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
