"""What a reader finds in somebody else's file, before it becomes a record: facts that are stated, and no others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from energylab.formats.units import Unit
from energylab.record import DeviceFacts, HostFacts

NO_HOST = HostFacts(processor=None, cores=None, memory_bytes=None, system=None, python=None, packages={})


@dataclass(frozen=True)
class Asked:
    """What the user states because a file does not.

    Attributes
    ----------
    unit : str, optional
        Of energies whose unit nothing in the file proves.
    task, model, model_class : str, optional
        In place of what the file says, or where it says nothing.
    queries : int, optional
        How many queries the energy is of, where the file does not say.
    component : str, optional
        Whose energy is rated, where the file tells several apart: ``gpu``, ``cpu``, ``ram`` or ``total``. By default
        the GPU's, and a file without any is refused; one that is named is taken, and its zeros are invalid.
    model_column : str, optional
        Column of a CSV that names the model.
    cohort : str, optional
        A name that sets these records apart from others of the same format.
    leave_out_invalid : bool
        Leave runs with an invalid measure out of the record, said in it; by default they make it invalid.
    """

    unit: str | None = None
    task: str | None = None
    model: str | None = None
    model_class: str | None = None
    queries: int | None = None
    component: str | None = None
    model_column: str | None = None
    cohort: str | None = None
    leave_out_invalid: bool = False

    def stated(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the record."""
        default = Asked()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}


@dataclass(frozen=True)
class Measure:
    """One energy of one phase in one run, as the file has it.

    Attributes
    ----------
    energy_j : float or None
        None where the file has no value. Zero and negative values are kept, and invalid.
    duration_s, bound_j : float, optional
        Seconds; the largest error that is known, such as rounding.
    others : mapping of str to float
        Energies of other components in joules, not rated.
    input_tokens, output_tokens : int, optional
    reasons : tuple of str
        Why it is invalid, beside its value.
    """

    energy_j: float | None
    duration_s: float | None = None
    bound_j: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasons: tuple[str, ...] = ()

    def checked(self) -> Measure:
        """Return the measure with the reasons that its value gives: a zero is a meter that failed."""
        if self.energy_j is None:
            found = ("no_value",)
        elif self.energy_j == 0:
            found = ("zero_reading",)
        elif self.energy_j < 0:
            found = ("negative_energy",)
        else:
            found = ()
        return replace(self, reasons=tuple(dict.fromkeys((*self.reasons, *found))))

    @property
    def valid(self) -> bool:
        """Whether the measure counts."""
        return not self.checked().reasons


@dataclass(frozen=True)
class Session:
    """One session as a file states it; every fact may be missing but model, task and number of queries.

    Attributes
    ----------
    model, task : str
    queries : int
        Of one run.
    runs : tuple of mapping of str to Measure
        Phases of each run, by the names of `energylab.record`.
    unit : Unit
        Of the file's energies, and what shows it.
    meter : (str, str)
        Name of the meter, and where its energy stands in the file.
    component : str
        Whose energy is rated.
    row : str
        Where in the file the session stands; empty for all of it.
    as_named : mapping of str to tuple of float or None, optional
        The rated component by the file's own phase names, in joules: one value a run.
    devices : tuple of DeviceFacts
        One entry without a name where only the number, or nothing, is stated.
    devices_counted : bool
        Whether the file says how many devices there were.
    facts : mapping
        Fields of `energylab.record.ModelFacts`.
    data : mapping
        Fields of `energylab.record.DataFacts`.
    settings : mapping
        Settings of the task that the file states.
    protocol : mapping
        Settings of the measurement that the file states.
    host : HostFacts
    task_version : str, optional
    seed : int, optional
    created_utc : datetime, optional
    notes : tuple of str
        What a reader of the record should know.
    extra : mapping
        Other facts that are kept as they are.
    """

    model: str
    task: str
    queries: int
    runs: tuple[Mapping[str, Measure], ...]
    unit: Unit
    meter: tuple[str, str]
    component: str = "gpu"
    row: str = ""
    as_named: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    devices: tuple[DeviceFacts, ...] = (DeviceFacts(name=None, type="not stated"),)
    devices_counted: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    host: HostFacts = NO_HOST
    task_version: str | None = None
    seed: int | None = None
    created_utc: dt.datetime | None = None
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
