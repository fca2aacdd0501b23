"""What every column of the tidy table means: the data dictionary that goes with an exported study."""

from __future__ import annotations

from dataclasses import dataclass

from energylab.tables import COLUMNS


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name, unit, description : str
        The unit is empty where there is none.
    """

    name: str
    unit: str
    description: str


_MEANING: dict[str, tuple[str, str]] = {
    "task": ("", "What was asked of the model: the name of a task."),
    "task_version": ("", "Version of the task; empty where an imported file does not state it."),
    "model": ("", "Name of the model: a hub id, a path, or as somebody else's file names it."),
    "model_class": ("", "Size class in text generation and reasoning: A to 20, B to 66, C over 66 billion parameters."),
    "model_source": ("", "Where the weights came from: hub, path, random (real shape only), endpoint or function."),
    "data_source": ("", "Where the queries came from: hub, sample, synthetic or given."),
    "phase": ("", "Stage of the work: preprocess, prefill, generate, forward, call; decode is generate minus prefill; "
              "total is all of them in an imported figure."),
    "scored": ("", "Whether the phase's energy is part of the rated energy. Prefill and decode are inside generate."),
    "run": ("", "Number of the run in its session, from 0: all phases over all queries, once."),
    "queries": ("queries", "How many queries the energy is of."),
    "energy_j": ("J", "Energy of the phase in that run, over all its queries once; empty where it is unavailable, "
                 "never 0 in its place. Read it with energy_kind."),
    "bound_j": ("J", "Largest modelled error of energy_j: the counter's ticks and latency, or rounding; not its gain."),
    "duration_s": ("s", "How long the phase took in that run."),
    "idle_power_w": ("W", "Mean power of the metered devices at rest with the weights resident."),
    "input_tokens": ("tokens", "Tokens read in the phase; empty where none are counted."),
    "output_tokens": ("tokens", "Tokens made in the phase; empty where none are counted."),
    "energy_kind": ("", "How the energy is known: measured (a counter or sensor), estimated (a power model), simulated "
                    "or imported (somebody else's figure)."),
    "device": ("", "Name of the device the model ran on."),
    "board": ("", "Identity of the board or boards: UUIDs joined by +, or the device's name."),
    "gpus": ("", "Number of devices whose energy is summed."),
    "session": ("", "Id of the record: one process start on one machine."),
    "job_id": ("", "Id of what was asked: equal for repeats of one setting's repeat number."),
    "repeat": ("", "Number of the repeat that the study planned."),
    "dtype": ("", "Precision in which the weights were loaded."),
    "batch_size": ("queries", "Queries answered at a time."),
    "parameters": ("", "Number of parameters of the model."),
    "quality_metric": ("", "Name of the first quality metric."),
    "quality": ("", "Its value; empty where it would be meaningless, as with random weights."),
    "valid": ("", "Whether every query of the phase was measured and the record is valid."),
    "reasons": ("", "Why windows or the record are invalid, separated by commas."),
    "cohort": ("", "The facts that records must share to be compared, as field=value; equal text may be compared."),
    "created_utc": ("", "When the session was measured, ISO 8601; of an imported file without a time, when imported."),
    "path": ("", "File of the record, as it was read."),
}  # fmt: skip


def columns() -> tuple[Column, ...]:
    """Return every column of the tidy table, in the table's order."""
    return tuple(Column(name, *_MEANING[name]) for name in COLUMNS)
