"""The data dictionary: what every column of the tidy tables means, with its unit."""

from __future__ import annotations

from energylab.tables import COLUMNS, KINDS, WINDOW_COLUMNS

#: Meaning of the columns of `energylab.read`, one row a record, run and phase.
TIDY = {
    "task": "name of the task",
    "task_version": "version of the task's published settings",
    "model": "name of the model: hub id, folder or architecture",
    "model_class": "size class A, B or C, in tasks that have classes",
    "model_source": "where the weights came from: hub, path, random, endpoint or function",
    "data_source": "where the queries came from: hub, sample, synthetic or given",
    "phase": "stage of the work: preprocess, prefill, generate, decode (derived), forward or call",
    "scored": "whether the phase counts in the rated energy; prefill does not, it is part of generate",
    "run": "number of the run within its session, from 0",
    "queries": "queries of the phase in that run, each counted once",
    "energy_j": "energy of these queries in that phase, in joules; NaN where it is unavailable",
    "bound_j": "largest modelled error of energy_j, in joules; NaN for estimates, whose error is not a counter's",
    "duration_s": "time of these queries in that phase, in seconds",
    "idle_power_w": "power at rest with the weights resident, in watts; NaN where unknown",
    "input_tokens": "tokens the model read; NaN where the task has none",
    "output_tokens": "tokens the model wrote; NaN where the task has none",
    "energy_kind": "measured, estimated, simulated or imported",
    "device": "name of the device the model ran on",
    "board": "identity of the board or boards; a random effect, not part of the cohort",
    "gpus": "number of devices; their energy is summed",
    "session": "identity of the record",
    "job_id": "hash of what was measured: task, resolved parameters, protocol version and repeat",
    "repeat": "number of the session among those of the same setting, from 0",
    "dtype": "precision of the weights",
    "batch_size": "queries a batch",
    "parameters": "number of the model's parameters",
    "quality_metric": "first quality metric of the task",
    "quality": "its value; NaN where it would be meaningless, as with random weights",
    "valid": "whether every query of the phase was measured, in a valid record",
    "reasons": "why not, separated by commas",
    "cohort": "everything two records must share to be compared, as one line of text",
    "created_utc": "when the record was made, ISO 8601",
    "path": "file the row was read from",
}

#: Meaning of the columns of `energylab.store.read_windows`, one row a window.
WINDOWS = {
    **{
        name: TIDY[name]
        for name in ("board", "device", "task", "model", "run", "phase", "scored", "session", "energy_kind")
    },
    "block": "number of the planned block of queries within its run and phase",
    "attempt": "number of the try at this block, from 0; an invalid window is measured again",
    "index": "position of the window in its session",
    "queries": "number of queries in the window, each counted once",
    "query_ids": "their indices in the data",
    "replications": "times the queries were repeated to make the window long enough",
    "start_s": "start since the session's first reading, in seconds, monotonic",
    "duration_s": "time between the two readings, in seconds",
    "energy_j": "energy of the whole window, in joules (by replications: of its queries once); NaN if a meter failed",
    "bound_j": "largest modelled error of energy_j, in joules",
    "mean_power_w": "energy_j / duration_s, in watts",
    "temperature_c": "of the warmest device after the window, in degrees Celsius",
    "input_tokens": "tokens read in one replication",
    "output_tokens": "tokens written in one replication",
    "valid": "whether the window can be believed",
    "reasons": "why not, separated by commas; see `energylab.protocol.checks.REASONS`",
}


def rows() -> list[tuple[str, str, str]]:
    """Return the dictionary of the tidy table: column, type and meaning, in the table's order."""
    return [(name, KINDS.get(name, "str"), TIDY[name]) for name in COLUMNS]


def window_rows() -> list[tuple[str, str]]:
    """Return the dictionary of the table of windows: column and meaning, in the table's order."""
    return [(name, WINDOWS[name]) for name in WINDOW_COLUMNS]
