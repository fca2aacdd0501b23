"""What every foreign format shares: facts that are stated or asked for, units that are proved, and no guesses."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from energylab.energy import J_PER_WH, WH_PER_1000_QUERIES
from energylab.errors import FormatError, unknown_name
from energylab.record import SCORED_PHASES, DeviceFacts, HostFacts

NO_HOST = HostFacts(processor=None, cores=None, memory_bytes=None, system=None, python=None, packages={})
COMPONENTS = ("gpu", "cpu", "ram", "total")

#: More than any run has; a larger number is damage.
MOST_QUERIES, MOST_DEVICES = 10_000_000, 100_000
_MOST = 1e30  # of any figure

#: Name of the total of what is rated, beside the file's own phases.
RATED = "rated"

#: How far two figures that should be equal may be apart.
CLOSE = 1e-6

#: Names of the hub's tasks, by the names they have here.
HUB_TASKS = {
    "text-generation": "text_generation",
    "text2text-generation": "summarization",
    "summarization": "summarization",
    "question-answering": "question_answering",
    "text-classification": "text_classification",
    "sentence-similarity": "sentence_similarity",
    "image-classification": "image_classification",
    "object-detection": "object_detection",
    "automatic-speech-recognition": "speech_recognition",
    "text-to-image": "image_generation",
    "image-to-text": "image_captioning",
}

_TASK = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}")


# --- what the user states, and what a file holds ---------------------------------------------------------------------


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
        Column of a table that names the model.
    cohort : str, optional
        A name that sets these records apart from others of the same format.
    leave_out_invalid : bool
        Leave runs with an invalid measure out of the record, which lists them; by default they make it invalid.
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
    """One energy of one phase in one run, as the file has it; zero and negative values are kept, and invalid."""

    energy_j: float | None  # None where the file has no value
    duration_s: float | None = None
    bound_j: float | None = None  # the largest error that is known, such as rounding
    others: Mapping[str, float] = field(default_factory=dict)  # joules of other components, not rated
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasons: tuple[str, ...] = ()  # why it is invalid, beside its value

    def checked(self) -> Measure:
        """Return the measure with the reasons that its value gives: a zero is a meter that failed."""
        found = "no_value" if self.energy_j is None else "zero_reading" if self.energy_j == 0 else ""
        found = "negative_energy" if self.energy_j is not None and self.energy_j < 0 else found
        return replace(self, reasons=tuple(dict.fromkeys(filter(None, (*self.reasons, found)))))

    @property
    def valid(self) -> bool:
        """Whether the measure counts."""
        return not self.checked().reasons


@dataclass(frozen=True)
class Session:
    """One session as a file states it; every fact may be missing but model, task and number of queries."""

    model: str
    task: str
    queries: int  # of one run
    runs: tuple[Mapping[str, Measure], ...]  # phases of each, by the names of `energylab.record`
    unit: Unit
    meter: tuple[str, str]  # its name, and where its energy stands in the file
    component: str = "gpu"  # whose energy is rated
    row: str = ""  # where in the file the session stands; empty for all of it
    run_id: str = ""  # the other program's own name for what was measured
    part: str = ""  # of the work, where the file tells parts apart; a cohort of its own
    as_named: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)  # the file's phases: joules by run
    devices: tuple[DeviceFacts, ...] = (DeviceFacts(name=None, type="not stated"),)
    devices_counted: bool = False  # whether the file says how many there were
    facts: Mapping[str, Any] = field(default_factory=dict)  # fields of `energylab.record.ModelFacts`
    data: Mapping[str, Any] = field(default_factory=dict)  # fields of `energylab.record.DataFacts`
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the task
    protocol: Mapping[str, Any] = field(default_factory=dict)  # settings of the measurement
    host: HostFacts = NO_HOST
    seed: int | None = None
    created_utc: dt.datetime | None = None
    notes: tuple[str, ...] = ()  # what a reader of the record should know
    extra: Mapping[str, Any] = field(default_factory=dict)  # other facts, kept as they are


# --- parts of files: small pydantic models ---------------------------------------------------------------------------


class Part(BaseModel):
    """A part of a foreign file: the fields that are read; others are kept and not looked at."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)


def _number(value: Any) -> float | None:
    """Return a finite number; None for an empty cell, a dash or null."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) < _MOST:
        raise ValueError("is not a finite number")
    return found


def _whole(value: Any) -> int | None:
    found = _number(value)
    if found is not None and found != int(found):
        raise ValueError("is not a whole number")
    return None if found is None else int(found)


def _devices(value: Any) -> int | None:
    """Return a number of devices; zero says that none was seen."""
    found = _whole(value)
    if found is not None and not 0 <= found <= MOST_DEVICES:
        raise ValueError(f"must be a whole number from 0 to {MOST_DEVICES:,}")
    return found or None


def _time(value: Any) -> dt.datetime | None:
    """Return a stated time, taken as UTC where it names no zone; None where it is no time."""
    try:
        found = dt.datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


Number = Annotated[float | None, BeforeValidator(_number)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
DeviceCount = Annotated[int | None, BeforeValidator(_devices)]
Time = Annotated[dt.datetime | None, BeforeValidator(_time)]
#: A text, or nothing where another kind of value stands.
Text = Annotated[str | None, BeforeValidator(lambda value: (value.strip() or None) if isinstance(value, str) else None)]
#: A mapping, or an empty one where another kind of value stands.
Loose = Annotated[dict[str, Any], BeforeValidator(lambda value: value if isinstance(value, dict) else {})]

P = TypeVar("P", bound=Part)


def parse(kind: type[P], content: Any, where: str) -> P:
    """Return a part of a file by its model."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name, text = ".".join(map(str, first["loc"])) or "it", first["msg"].removeprefix("Value error, ")
        raise FormatError(f"{where}: {name}={first['input']!r} {text[0].lower()}{text[1:]}; correct the file") from None


# --- facts that must be had ------------------------------------------------------------------------------------------


def model_name(asked: Asked, stated: Any, where: str) -> str:
    """Return the model's name: the user's, or the file's."""
    name = asked.model or stated
    if not isinstance(name, str) or not name.strip():
        raise FormatError(f"{where} does not name the model; name it with --model")
    return name


def task_name(asked: Asked, stated: Any, where: str) -> str:
    """Return the task's name as it is spelled here: the user's, or the file's."""
    name = asked.task or stated
    if not isinstance(name, str) or not name.strip():
        raise FormatError(f"{where} does not name the task; name it with --task, for example --task text_generation")
    known = HUB_TASKS.get(name, name.strip().lower().replace("-", "_").replace(" ", "_"))
    if not _TASK.fullmatch(known):
        raise FormatError(f"{where}: task {name!r} is not a name of letters, digits, _ and .; name it with --task")
    return known


def query_count(asked: Asked, stated: int | None, where: str) -> int:
    """Return how many queries an energy is of: the file's number, or the user's where it has none."""
    count = stated if stated is not None else asked.queries
    if count is None:
        raise FormatError(f"{where} does not say how many queries its energy is of; state it with --queries")
    if not 1 <= count <= MOST_QUERIES:
        raise FormatError(f"{where}: queries={count!r}: must be a whole number from 1 to {MOST_QUERIES:,}")
    if asked.queries is not None and asked.queries != count:
        raise FormatError(f"{where}: --queries {asked.queries} contradicts the file, which says {count}; leave it out")
    return count


def rated_component(asked: Asked, energies: Mapping[str, Iterable[float | None]], where: str) -> str:
    """Return whose energy is rated; by default the GPU's, and a file that has none is refused."""
    name = asked.component or "gpu"
    if name not in COMPONENTS:
        raise FormatError(f"component {name!r} is not known; allowed: {', '.join(COMPONENTS)}")
    found = [other for other in COMPONENTS if any(energies.get(other, ()))]
    if asked.component is not None or name in found:
        return name
    raise FormatError(
        f"{where}: the {name} energy is zero or missing everywhere: there was no {name} meter, or it failed; "
        + (f"to take another one, say --component {' or '.join(found)}; " if found else "")
        + "to import it as invalid, say --component gpu"
    )


def model_class(text: str | None, where: str) -> str | None:
    """Return a size class; empty and ``NA`` mean that the task has none."""
    text = (text or "").strip().upper()
    if text in ("", "NA", "N/A"):
        return None
    if text not in ("A", "B", "C"):
        raise FormatError(f"{where}: class {text!r} is not known; allowed: A, B, C, or nothing")
    return text


# --- units -----------------------------------------------------------------------------------------------------------

#: Joules in one of each unit.
JOULES = {
    "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6,
    "mWh": J_PER_WH / 1000, "cWh": J_PER_WH / 100, "Wh": J_PER_WH, "kWh": 1000 * J_PER_WH, "MWh": 1e6 * J_PER_WH,
}  # fmt: skip

_SPELLINGS = {"joule": "J", "joules": "J", "watt-hour": "Wh", "watt-hours": "Wh", "watthours": "Wh"}

#: What one device can draw on average while it works, in watts: from a small module to the largest accelerators.
DEVICE_POWER_W = (4.0, 2000.0)

#: Units in common use, which a check of power sets against each other; kJ and Wh are too near for it to tell.
_COMMON = ("mJ", "J", "kJ", "Wh", "kWh", "MWh")


@dataclass(frozen=True)
class Unit:
    """A unit, one of `JOULES`, and what shows that it is the right one, in words."""

    name: str
    how: str

    def joules(self, value: float | None) -> float | None:
        """Return `value` of this unit in joules."""
        return None if value is None else value * JOULES[self.name]


def unit_named(text: str) -> str:
    """Return the unit that a text means; capitals matter only where they tell units apart (``mJ``, ``MJ``)."""
    text = text.strip()
    if text in JOULES:
        return text
    matching = [unit for unit in JOULES if unit.lower() == text.lower()] or [_SPELLINGS.get(text.lower())]
    if len(matching) == 1 and matching[0]:
        return matching[0]
    raise unknown_name("unit", text, JOULES)


def settle(proved: Unit | None, asked: str | None, where: str, reason: str = "") -> Unit:
    """Return the unit to convert by: the proved one, or the one that the user stated where nothing proves any."""
    stated = unit_named(asked) if asked is not None else None
    if proved is not None and stated in (None, proved.name):
        return proved
    if proved is not None:
        raise FormatError(
            f"{where}: --unit {stated} contradicts the file, which shows {proved.name} ({proved.how}); "
            "leave --unit out, or correct the file"
        )
    if stated is None:
        raise FormatError(
            f"{where}: {reason or 'nothing in the file says the unit of its energies'}; "
            f"state it with --unit, one of {', '.join(JOULES)}"
        )
    return Unit(stated, "stated by the user with --unit; nothing in the file proves it")


def by_power(values: Iterable[tuple[float | None, float | None]], devices: int, what: str) -> Unit | None:
    """Return the only unit in which energies over seconds are a possible power; None if several are."""
    ratios = [energy / seconds / devices for energy, seconds in values if (energy or 0) > 0 and (seconds or 0) > 0]
    low_w, high_w = DEVICE_POWER_W
    fitting = [unit for unit in _COMMON if ratios and all(low_w <= ratio * JOULES[unit] <= high_w for ratio in ratios)]
    if len(fitting) != 1:
        return None
    powers = sorted(ratio * JOULES[fitting[0]] for ratio in ratios)
    span = f"{powers[0]:.3g} W" if len(powers) == 1 else f"{powers[0]:.3g} to {powers[-1]:.3g} W"
    how = f"of {', '.join(_COMMON)} only {fitting[0]} makes {what} over time a possible power ({span})"
    return Unit(fitting[0], how)


# --- totals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Total:
    """One phase of a file, or all that is rated, over its runs."""

    phase: str
    measures: int
    invalid: int
    with_wh: float | None
    without_wh: float | None

    @property
    def shift(self) -> float | None:
        """By what share the invalid measures move the total: -0.1 is 10 % too low."""
        if not self.invalid or not self.without_wh or self.with_wh is None:
            return None
        return self.with_wh / self.without_wh - 1


def totals(session: Session) -> tuple[Total, ...]:
    """Return one total a phase by the file's own names, then that of what is rated."""
    named = []
    for phase, values in session.as_named.items():
        present = [value for value in values if value is not None]
        good = [value for value in present if value > 0]
        mean, sound = _wh(session, present), _wh(session, good)
        named.append(Total(phase, len(present), len(present) - len(good), mean, sound))
    scored = [[measure for phase, measure in run.items() if phase in SCORED_PHASES] for run in session.runs]
    sums = [sum(m.energy_j for m in run) for run in scored if None not in [m.energy_j for m in run]]
    whole = [all(measure.valid for measure in run.values()) for run in session.runs]
    good = [sum(m.energy_j for m in run) for run, valid in zip(scored, whole, strict=True) if valid]
    rated = Total(RATED, len(scored), len(scored) - len(good), _wh(session, sums), _wh(session, good))
    return (*named, rated)


def _wh(session: Session, values_j: list[float]) -> float | None:
    return fmean(values_j) / session.queries * WH_PER_1000_QUERIES if values_j else None
