"""Whole records of text generation, built by hand with a stated energy: nothing is measured."""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC, datetime

import builders
import numpy as np

from energylab import release, store
from energylab.energy import J_PER_WH
from energylab.parameters import Parameters
from energylab.record import (
    DataFacts,
    DeviceFacts,
    HostFacts,
    IdleLevel,
    MeterFacts,
    MeterReadings,
    ModelFacts,
    ProtocolFacts,
    Quality,
    TaskFacts,
    WarmUp,
)

QUERIES = 20
DATA = {"hub": "EnergyStarAI/text_generation", "sample": "sample text_generation"}
#: Of each phase its share of the scored energy (prefill is inside generate), and its power in W.
PHASES = {"preprocess": (0.05, 90.0), "prefill": (0.4, 420.0), "generate": (0.95, 310.0)}


@functools.cache
def record_of(
    model="org/model",
    energy_wh=10.0,
    session=0,
    task="text_generation",
    model_class="A",
    runs=2,
    spread=0.01,
    kind="measured",
    source="hub",
    data="hub",
    parameters=1_000_000_000,
    quality=0.5,
    board="GPU-0",
    device="NVIDIA H100 80GB HBM3",
    broken=False,
):
    """Build a valid record whose rated energy is `energy_wh` per 1,000 queries: official unless told otherwise.

    Sessions lie `spread` apart around their mean; with `broken` the first block was measured twice. Records are frozen:
    the same one is returned for the same facts.
    """
    asked = Parameters(task=task, model=model, model_source=source, data_source=data, samples=QUERIES, runs=runs,
                       repeat=session)  # fmt: skip
    return builders.record(
        asked,
        record_id=f"{hashlib.sha256(f'{task} {model}'.encode()).hexdigest()[:8]}-{session}",
        created_utc=datetime(2026, 3, 1 + session, 12, tzinfo=UTC),
        energylab_version="0.1.0",
        energy_kind=kind,
        task=TaskFacts(name=task, version="1", settings={"batch_size": 1, "dtype": "float16"}),
        model=ModelFacts(name=model, source=source, revision="main", commit="0" * 40, architecture="LlamaForCausalLM",
                         parameters=parameters, model_class=model_class, dtype="float16"),
        data=DataFacts(name=DATA[data], source=data, digest="d" * 64, queries=QUERIES),
        protocol=ProtocolFacts(version="1", seed=0, runs=runs, settings={}),
        devices=(DeviceFacts(name=device, type="cuda", index=0, uuid=board, driver="570.1"),),
        meters=(MeterFacts(name="nvml", source="nvmlDeviceGetTotalEnergyConsumption", kind=kind, device=board,
                           scored=True),),
        host=HostFacts(processor="Example CPU", cores=16, memory_bytes=2**37, system="Linux 6.1", python="3.12.3",
                       packages={"torch": "2.11.0", "transformers": "5.17.0"}, git_commit="a" * 40, git_dirty=False),
        phases=tuple(PHASES),
        idle=(IdleLevel(level="weights_resident", power_w=70.0, duration_s=10.0, energy_j=700.0),),
        warm_up=WarmUp(duration_s=3.0, energy_j=900.0, queries=10, steady=True, reason="steady"),
        windows=_windows(energy_wh, runs, spread, session, broken),
        quality=(Quality(metric="accuracy", value=quality, queries=QUERIES),) if quality is not None else (),
    )  # fmt: skip


def _windows(energy_wh, runs, spread, session, broken):
    """Two blocks a run and phase; with `broken`, the first block of the session is measured twice."""
    windows, start_s = [], 0.0
    for run in range(runs):
        factor = 1 + spread * (session - 1) + spread * (run - 0.5) / 3
        for phase, (share, power_w) in PHASES.items():
            for block in range(2):
                energy_j = energy_wh * J_PER_WH * QUERIES / 1000 * share * factor / 2
                attempts = (False, True) if broken and not windows else (True,)
                for attempt, valid in enumerate(attempts):
                    value = energy_j if valid else None
                    windows.append(
                        builders.window(
                            run, value, len(windows), phase=phase, block=block, attempt=attempt, start_s=start_s,
                            queries=tuple(range(block * QUERIES // 2, (block + 1) * QUERIES // 2)),
                            duration_s=energy_j / power_w, bound_j=energy_j * 0.01 if valid else None,
                            meters=_nvml(value), input_tokens=3690, output_tokens=100 if phase == "generate" else None,
                            reasons=() if valid else ("thermal_slowdown",),
                        )
                    )  # fmt: skip
                    start_s += energy_j / power_w + 0.5
    return tuple(windows)


def _nvml(energy_j):
    return (MeterReadings(meter="nvml", device="GPU-0", energy_j=energy_j),)


def scored_record(joules, scores, session=0, per_block=4, metric="accuracy"):
    """A session of one run whose queries need `joules` each and score `scores`; blocks of `per_block` queries."""
    joules, scores = np.asarray(joules, float), tuple(map(float, scores))
    blocks = [range(first, min(first + per_block, len(joules))) for first in range(0, len(joules), per_block)]
    sums = [float(joules[block].sum()) for block in blocks]
    windows = tuple(
        builders.window(0, energy_j, n, block=n, queries=tuple(block), bound_j=0.0, meters=_nvml(energy_j))
        for n, (block, energy_j) in enumerate(zip(blocks, sums, strict=True))
    )
    record = record_of("org/a", 1.0, session)
    quality = Quality(metric=metric, value=float(np.mean(scores)), queries=len(scores), scores=scores)
    data = record.data.model_copy(update={"queries": len(joules)})
    changes = {"windows": windows, "quality": (quality,), "data": data, "phases": ("forward",)}
    return record.model_copy(update=changes)


def write_all(records, folder):
    """Write records into one folder, and return the folder."""
    for number, record in enumerate(records):
        store.write(record, folder / f"{number:04d}")
    return folder


def released(records, folder, **options):
    """Write records into a folder and make their release."""
    options = {"name": "r", "date": "2026-03-05", "draws": 0, **options}
    return release.make([write_all(records, folder)], **options)
