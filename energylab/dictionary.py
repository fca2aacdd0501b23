"""The data dictionary: what every column of the tidy tables means, with its unit."""

from __future__ import annotations

from dataclasses import dataclass

from energylab.tables import COLUMNS, WINDOW_COLUMNS


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


#: Unit and meaning of the columns of `energylab.read`, one row a record, run and phase.
TIDY: dict[str, tuple[str, str]] = {
    "task": ("", "What was asked of the model: the name of a task."),
    "task_version": ("", "Version of the task's published settings; empty where an imported file does not state it."),
    "model": ("", "Name of the model: hub id, folder or architecture, or as somebody else's file names it."),
    "model_class": ("", "Size class in text generation and reasoning: A to 20, B to 66, C over 66 billion parameters."),
    "model_source": ("", "Where the weights came from: hub, path, random (real shape only), endpoint or function."),
    "data_source": ("", "Where the queries came from: hub, sample, synthetic or given."),
    "phase": ("", "Stage of the work: preprocess, prefill, generate, forward, call; decode is generate minus prefill; "
              "total is all of them, in an imported figure that has no phases."),
    "scored": ("", "Whether the phase's energy is part of the rated energy. Prefill and decode are inside generate."),
    "run": ("", "Number of the run in its session, from 0: all phases over all queries, once."),
    "queries": ("queries", "How many queries the energy is of, each counted once."),
    "energy_j": ("J", "Energy of the phase in that run, over all its queries once; empty where it is unavailable, "
                 "never 0 in its place. Read it with energy_kind."),
    "bound_j": ("J", "Largest modelled error of energy_j: the counter's ticks and latency, or rounding, not the "
                "sensor's gain; empty for estimates, whose error is not a counter's."),
    "duration_s": ("s", "How long these queries took in that phase and run."),
    "idle_power_w": ("W", "Mean power of the metered devices at rest with the weights resident; empty where unknown."),
    "input_tokens": ("tokens", "Tokens read in the phase; empty where none are counted."),
    "output_tokens": ("tokens", "Tokens made in the phase; empty where none are counted."),
    "energy_kind": ("", "How the energy is known: measured (a counter or sensor), estimated (a power model), simulated "
                    "or imported (somebody else's figure)."),
    "device": ("", "Name of the device the model ran on."),
    "board": ("", "Identity of the board or boards: UUIDs joined by +, or the device's name. A random effect, not part "
              "of the cohort."),
    "gpus": ("", "Number of devices whose energy is summed; empty where an imported file does not state it."),
    "session": ("", "Id of the record: one process start on one machine."),
    "job_id": ("", "Id of what was asked: a hash of task, resolved parameters, protocol version and repeat."),
    "repeat": ("", "Number of the session among those of one setting, from 0, as the study planned it."),
    "dtype": ("", "Precision in which the weights were loaded."),
    "batch_size": ("queries", "Queries answered at a time; empty where an imported file does not state it."),
    "parameters": ("", "Number of parameters of the model."),
    "quality_metric": ("", "Name of the task's first quality metric."),
    "quality": ("", "Its value; empty where it would be meaningless, as with random weights."),
    "valid": ("", "Whether every query of the phase was measured and the record is valid."),
    "reasons": ("", "Why windows or the record are invalid, separated by commas."),
    "cohort": ("", "The facts that records must share to be compared, as field=value; equal text may be compared."),
    "created_utc": ("", "When the session was measured, ISO 8601; of an imported file without a time, when imported."),
    "path": ("", "File the row was read from."),
}  # fmt: skip

#: Unit and meaning of the columns of `energylab.store.read_windows`, one row a window.
WINDOWS: dict[str, tuple[str, str]] = {
    **{
        name: TIDY[name]
        for name in ("board", "device", "task", "model", "run", "phase", "scored", "session", "energy_kind")
    },
    "block": ("", "Number of the planned block of queries within its run and phase."),
    "attempt": ("", "Number of the try at this block, from 0; an invalid window is measured again."),
    "index": ("", "Position of the window in its session."),
    "queries": ("queries", "Number of queries in the window, each counted once."),
    "query_ids": ("", "Their indices in the data."),
    "replications": ("", "Times the queries were repeated to make the window long enough."),
    "start_s": ("s", "Start since the session's first reading, monotonic."),
    "duration_s": ("s", "Time between the two readings."),
    "energy_j": ("J", "Energy of the whole window; divided by replications, of its queries once. Empty if a meter "
                 "failed."),
    "bound_j": ("J", "Largest modelled error of energy_j."),
    "mean_power_w": ("W", "energy_j / duration_s."),
    "temperature_c": ("°C", "Of the warmest device, after the window."),
    "input_tokens": ("tokens", "Tokens read in one replication."),
    "output_tokens": ("tokens", "Tokens written in one replication."),
    "valid": ("", "Whether the window can be believed."),
    "reasons": ("", "Why not, separated by commas; see `energylab.protocol.checks.REASONS`."),
}  # fmt: skip


def columns() -> tuple[Column, ...]:
    """Return every column of the tidy table, in the table's order."""
    return tuple(Column(name, *TIDY[name]) for name in COLUMNS)


def window_columns() -> tuple[Column, ...]:
    """Return every column of the table of windows, in the table's order."""
    return tuple(Column(name, *WINDOWS[name]) for name in WINDOW_COLUMNS)
