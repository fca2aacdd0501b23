"""The settings to try on one model, as a study: a base, one knob turned at a time, and an optimised track."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from energylab.efficiency.words import BASE, OPTIMISED, SERVED
from energylab.errors import ParameterError
from energylab.paths import results_root
from energylab.record import Record
from energylab.studies import devices as device_names
from energylab.studies import plan as planning
from energylab.studies.plan import Job, Plan
from energylab.studies.run import local
from energylab.studies.run import run as run_jobs
from energylab.studies.state import StudyFolder

#: How each knob is named in a label; ``{}`` is its value.
KNOBS = {
    "batch_size": "batch {}",
    "dtype": "{}",
    "quantisation": "{}",
    "attention": "{} attention",
    "new_tokens": "{} new tokens",
    "cache": "{} cache",
    "compile": "compiled",
    "concurrency": "{} at once",
}

#: Knobs that make the optimised track: the same answers, but another cohort.
OPTIMISING = ("cache", "compile")


@dataclass(frozen=True)
class Setting:
    """One setting that was tried.

    Attributes
    ----------
    label : str
        What differs from the base, in words.
    knob : str
        The parameter that differs; the names joined by ``+`` where several do, ``base`` for none.
    track : str
        ``as loaded``, ``optimised`` or ``served``: figures of one track may be compared without reserve.
    values : dict
        The parameters that differ.
    """

    label: str
    knob: str
    track: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep.

    Attributes
    ----------
    records : tuple of (Setting, tuple of Record)
        The settings that were measured, the base first, each with its sessions.
    missing : tuple of (Setting, str)
        Those that were not, and why.
    """

    records: tuple[tuple[Setting, tuple[Record, ...]], ...]
    missing: tuple[tuple[Setting, str], ...]


def listed(text: str, kind: type = str) -> list[Any]:
    """Read a notebook's list: values separated by commas.

    Raises
    ------
    ParameterError
        If one is not of its kind.
    """
    try:
        return [kind(part.strip()) for part in str(text).split(",") if part.strip()]
    except ValueError as error:
        raise ParameterError(f"list {text!r}: {error}; write {kind.__name__} values separated by commas") from None


def settings(base: Mapping[str, Any], knobs: Mapping[str, Sequence[Any]], compiled: bool = False) -> list[Setting]:
    """Return the settings of a sweep: the base, every knob turned alone, and the optimised track.

    Parameters
    ----------
    base : mapping
        Parameters of the base; a knob's value that it has already is no new setting.
    knobs : mapping of str to sequence
        Parameter to the values to try.
    compiled : bool
        Whether the optimised track asks for ``torch.compile`` where a fixed cache does not bring it by itself: on a
        processor it costs a minute or more.
    """
    found = [Setting("base", "base", BASE, {})]
    for knob, values in knobs.items():
        found += [_setting({knob: value}) for value in values if value != base.get(knob)]
    faster = {"cache": "static"} | ({"compile": True} if compiled else {})
    found.append(_setting(faster))
    largest = max(knobs.get("batch_size", ()), default=0)
    if largest > (base.get("batch_size") or 1):
        found.append(_setting({**faster, "batch_size": largest}))
    return found


def served_settings(concurrencies: Sequence[int]) -> list[Setting]:
    """Return the settings of a served model: the load alone differs."""
    return [_setting({"concurrency": count}, SERVED) for count in concurrencies]


def _setting(values: dict[str, Any], track: str = "") -> Setting:
    label = ", ".join(KNOBS[name].format(value) for name, value in values.items())
    track = track or (OPTIMISED if any(name in values for name in OPTIMISING) else BASE)
    return Setting(label, "+".join(values), track, values)


def plan(name: str, base: Mapping[str, Any], tried: Sequence[Setting], repeats: int = 1) -> Plan:
    """Return the sweep as a study of the benchmark notebook, every job's parameters checked."""
    study = {"title": f"What saves energy: {name}", "repeats": repeats, "parameters": dict(base)}
    study["include"] = [one.values for one in tried]
    return planning.from_text(yaml.safe_dump(study, sort_keys=False), name)


def run(
    name: str,
    base: Mapping[str, Any],
    tried: Sequence[Setting],
    devices: str = "auto",
    repeats: int = 1,
    results: Path | None = None,
) -> Sweep:
    """Measure every setting that has no record yet, one after the other on one device, and read all records.

    Parameters
    ----------
    name : str
        Name of the study; its records are in ``results/NAME/``.
    base : mapping
        Parameters of the base.
    tried : sequence of Setting
        As `settings` returns them.
    devices : str
        As ``energylab study run --devices`` takes them; the first one is used.
    repeats : int
        Sessions of each setting.
    results : path, optional
        Folder of all studies; beside ``params/`` by default.

    Returns
    -------
    Sweep
    """
    planned = plan(name, base, tried, repeats)
    planning.check(planned)
    folder = StudyFolder(name, results or results_root())
    run_jobs(planned, folder, partial(local, devices=device_names.available(devices)[0]))
    states = folder.states(planned)
    records, missing = [], []
    for one in tried:
        found = [states[job] for job in _jobs(planned, {**base, **one.values})]
        measured = tuple(state.record for state in found if state.measured)
        if measured:
            records.append((one, measured))
        missing += [(one, state.reason or state.status) for state in found if not state.measured]
    return Sweep(tuple(records), tuple(missing))


def _jobs(planned: Plan, values: Mapping[str, Any]) -> list[Job]:
    return [job for job in planned.jobs if {**job.values, "repeat": 0} == {**values, "repeat": 0}]


@contextlib.contextmanager
def endpoint_of(model: str, source: str, dtype: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a model with ``transformers serve``, continuous batching on, for the length of a ``with`` block.

    Parameters
    ----------
    model, source : str
        As in `Parameters`; random weights are written to `folder` first.
    dtype : str
        Precision the server loads it in.
    folder : pathlib.Path
        Where random weights go.

    Yields
    ------
    (str, str)
        The endpoint, and the name the server knows the model by.
    """
    from energylab.serving.processes import transformers_serve
    from energylab.tasks.served import store_random

    served = str(store_random(model, folder, dtype=dtype)) if source == "random" else model
    with transformers_serve(served, "--continuous-batching", "--dtype", dtype) as endpoint:
        yield endpoint, served
