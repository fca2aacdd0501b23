"""Rows, records and limits of made-up sweeps, whose answers can be worked out by hand."""

from __future__ import annotations

from typing import Any

import builders

from energylab.efficiency.limits import Cost, Limits
from energylab.efficiency.work import Shape
from energylab.record import IdleLevel, ModelFacts, Record, TaskFacts

#: 100 weights a token passes, 20 of the output layer; 8 numbers kept a token, 16 operations a pair of tokens.
SHAPE = Shape(body=100, head=20, parameters=150, kv_values=8, attention_flop=16)

LIMITS = Limits(
    device="board",
    energy_kind="simulated",
    rest_w=2.0,
    flop={"float32": Cost(per_s=1e3, j=3e-4, above_rest_j=1e-4)},
    byte=Cost(per_s=1e3, j=5e-4, above_rest_j=2e-4),
)


def record(energies_j=(4.0, 4.0), seconds=0.5, batch_size=1, **changes: Any) -> Record:
    """Return a record of two queries of 3 tokens in and 4 out: each run takes `seconds` and one of `energies_j`."""
    windows = tuple(
        builders.window(
            run=run, energy_j=energy_j, index=run, phase="generate", queries=(0, 1), duration_s=seconds, input_tokens=6,
            output_tokens=8,
        )
        for run, energy_j in enumerate(energies_j)
    )  # fmt: skip
    facts = {
        "task": TaskFacts(name="text_generation", version="1", settings={"batch_size": batch_size}),
        "model": ModelFacts(name="m", source="random", dtype="float32", parameters=150, weights_bytes=600),
        "phases": ("generate",),
        "windows": windows,
        "idle": (IdleLevel(level="weights_resident", power_w=2.0, duration_s=1.0, energy_j=2.0),),
    }
    made = builders.record(**{**facts, **changes})
    return made.model_copy(update={"data": made.data.model_copy(update={"queries": 2})})


def row(setting: str, energy_j: float, latency_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Return one row of a sweep's table."""
    facts = {
        "setting": setting, "knob": setting.split()[0], "track": "as loaded", "sessions": 3, "new_tokens": 10.0,
        "energy_j": energy_j, "half_width_j": 0.01 * energy_j, "token_j": energy_j / 10, "latency_s": latency_s,
        "tokens_per_s": 10 / latency_s, "quality": float("nan"), "quality_metric": None, "least_j": 0.1 * energy_j,
        "times_least": 10.0, "static_j": 0.6 * energy_j, "memory_j": 0.2 * energy_j, "arithmetic_j": 0.1 * energy_j,
        "rest_j": 0.1 * energy_j, "energy_kind": "measured", "cohort": "c",
    }  # fmt: skip
    return {**facts, **changes}
