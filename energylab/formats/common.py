"""Common parts of all imported formats: stated facts, and units that the file proves or the user states."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from energylab.energy import J_PER_WH
from energylab.errors import FormatError, problem_text, unknown_name
from energylab.record import DeviceFacts, HostFacts

NO_HOST = HostFacts(processor=None, cores=None, memory_bytes=None, system=None, python=None, packages={})
NO_DEVICES = (DeviceFacts(name=None, type="not stated"),)
COMPONENTS = ("gpu", "cpu", "ram", "total")

#: Maximal number of queries; a larger one means a damaged file.
MOST_QUERIES, MOST_DEVICES = 10_000_000, 100_000
_MOST = 1e30  # of any figure

#: Largest relative difference of two equal figures.
CLOSE = 1e-6

#: A sum of prefill and decode below this share of them is zero with rounding errors.
_ROUNDING = 1e-9

#: Joules in one of each unit.
JOULES = {
    "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6,
    "mWh": J_PER_WH / 1000, "cWh": J_PER_WH / 100, "Wh": J_PER_WH, "kWh": 1000 * J_PER_WH, "MWh": 1e6 * J_PER_WH,
}  # fmt: skip

#: Names of the hub's tasks, by energylab's names.
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
    """Facts stated by the user, which are missing or replaced in a file."""

    unit: str | None = None  # of energies whose unit nothing in the file proves
    task: str | None = None
    model: str | None = None
    model_class: str | None = None
    queries: int | None = None  # that the energy is of, where the file does not say
    component: str | None = None  # whose energy is rated: gpu (default; a file without any is refused), cpu, ram, total
    model_column: str | None = None  # column of a table that names the model
    leave_out_invalid: bool = False  # leave runs with an invalid measure out of the record, which lists them

    def stated(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, for the record."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}


@dataclass(frozen=True)
class Unit:
    """A unit, one of `JOULES`, and its proof as text."""

    name: str
    how: str


@dataclass(frozen=True)
class Measure:
    """One phase of one run in the file's unit; zero and negative energies are kept."""

    energies: Mapping[str, float | None]  # by component; None where the file has no value
    duration_s: float | None = None
    bound: float | None = None  # the largest error that is known, such as rounding
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasons: tuple[str, ...] = ()  # why it is invalid, beside its value

    @classmethod
    def of_boards(cls, values: Iterable[float | None], duration_s: float | None) -> Measure:
        """Return the sum over boards, or the invalid reading of one, which a sum would hide."""
        values = list(values)
        total = sum(values) if values and None not in values else None
        return cls({"gpu": total}, duration_s, reasons=tuple(dict.fromkeys(r for v in values if (r := failure(v)))))

    def then(self, decode: Measure, component: str) -> Measure:
        """Return generate, the sum of prefill (this measure) and decode; a failed generate has the sum zero."""
        energies = {part: _sum(self.energies[part], decode.energies[part]) for part in self.energies}
        whole, rest = energies.get(component), decode.energies.get(component)
        negative = whole is not None and rest < 0 < whole
        seconds, bound = _sum(self.duration_s, decode.duration_s), _sum(self.bound, decode.bound)
        return Measure(energies, seconds, bound, reasons=("negative_decode",) if negative else ())

    def checked(self, component: str, scale: float) -> Measure:
        """Return the measure in joules, with the reason if it is invalid."""
        energies = {name: None if value is None else value * scale for name, value in self.energies.items()}
        found = failure(energies.setdefault(component, None))
        reasons = tuple(dict.fromkeys([*self.reasons, *([found] if found else [])]))
        return replace(self, energies=energies, reasons=reasons, bound=self.bound and self.bound * scale)


def _sum(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 0.0 if abs(one + other) <= _ROUNDING * max(abs(one), abs(other)) else one + other


def failure(energy: float | None) -> str:
    """Return why an energy is invalid (missing, zero or negative means a failed meter); empty if it is valid."""
    if energy is None:
        return "no_value"
    return "zero_reading" if energy == 0 else "negative_energy" if energy < 0 else ""


@dataclass(frozen=True)
class Session:
    """One session of a file. Missing model, task and queries are added from the user's options."""

    runs: tuple[Mapping[str, Measure], ...]  # phases of each, by the names of `energylab.record`
    meter: tuple[str, str]  # its name, and where its energy stands in the file
    unit: Unit | None  # that the file proves
    component: str = "gpu"  # whose energy is rated
    model: str | None = None
    task: str | None = None
    queries: int | None = None  # of one run
    row: str = ""  # where in the file the session stands; empty for all of it
    run_id: str = ""  # the other program's own name for what was measured
    part: str = ""  # of the work, where the file tells parts apart; a cohort of its own
    devices: tuple[DeviceFacts, ...] = NO_DEVICES
    devices_counted: bool = False  # whether the file says how many there were
    facts: Mapping[str, Any] = field(default_factory=dict)  # fields of `energylab.record.ModelFacts`
    data: str | None = None  # name of the data set
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the task
    protocol: Mapping[str, Any] = field(default_factory=dict)  # settings of the measurement
    host: HostFacts = NO_HOST
    seed: int | None = None
    created_utc: dt.datetime | None = None
    notes: tuple[str, ...] = ()  # what a reader of the record should know
    extra: Mapping[str, Any] = field(default_factory=dict)  # other facts, kept as they are


# --- parts of files: small pydantic models ---------------------------------------------------------------------------


def _number(value: Any) -> Any:
    """Return a number, None for a blank cell; booleans and implausibly large numbers are refused."""
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, bool) or (isinstance(value, (int, float)) and not abs(value) < _MOST):
        raise ValueError("is not a number")
    return value


def _time(value: Any) -> dt.datetime | None:
    """Return a time, by default in UTC; None for other formats, such as those of spreadsheets."""
    try:
        time = dt.datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


Number = Annotated[float | None, BeforeValidator(_number), AfterValidator(_number)]
Whole = Annotated[int | None, BeforeValidator(_number)]
DeviceCount = Annotated[int | None, BeforeValidator(_number), Field(ge=0, le=MOST_DEVICES)]
Time = Annotated[dt.datetime | None, BeforeValidator(_time)]


class Part(BaseModel):
    """A part of an imported file: the fields that are read, None if missing; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {n: v for n, v in content.items() if v is not None and not (isinstance(v, str) and not v.strip())}


P = TypeVar("P", bound=Part)


def parse(kind: type[P], content: Any, where: str) -> P:
    """Return a part of a file, validated by its model."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "it"
        raise FormatError(f"{where}: {name}={first['input']!r} {problem_text(first)}; correct the file") from None


# --- facts that must be had: the file's, or else the user's ----------------------------------------------------------


def settled(sessions: list[Session], asked: Asked, source: str) -> list[Session]:
    """Return a file's sessions in joules, with rated component, model, task and queries."""
    component = _component(sessions, asked, source)
    return [_settled(session, component, asked, source) for session in sessions]


def _settled(session: Session, component: str, asked: Asked, source: str) -> Session:
    where = f"{source}, {session.row}" if session.row else source
    model, unit = asked.model or session.model, _unit(session.unit, asked.unit, source)
    if not (model or "").strip():
        raise FormatError(f"{where} does not name the model; state it with --model")
    return replace(
        session,
        model=model,
        task=_task(session, asked, where),
        queries=_queries(session, asked, where),
        unit=unit,
        component=component,
        runs=tuple(
            {phase: each.checked(component, JOULES[unit.name]) for phase, each in run.items()} for run in session.runs
        ),
    )


def _task(session: Session, asked: Asked, where: str) -> str:
    name = asked.task or session.task
    if not (name or "").strip():
        raise FormatError(f"{where} does not name the task; state it with --task, for example --task text_generation")
    known = HUB_TASKS.get(name, name.strip().lower().replace("-", "_").replace(" ", "_"))
    if not _TASK.fullmatch(known):
        raise FormatError(f"{where}: task {name!r} is not valid (letters, digits, _ and .); state it with --task")
    return known


def _queries(session: Session, asked: Asked, where: str) -> int:
    count = session.queries if session.queries is not None else asked.queries
    if count is None:
        raise FormatError(f"{where} does not state the number of queries of its energy; state it with --queries")
    if not 1 <= count <= MOST_QUERIES:
        raise FormatError(f"{where}: queries={count!r}: must be an integer from 1 to {MOST_QUERIES:,}")
    if asked.queries not in (None, count):
        raise FormatError(f"{where}: --queries {asked.queries} contradicts the file, which says {count}; leave it out")
    return count


def _component(sessions: list[Session], asked: Asked, where: str) -> str:
    """Return the rated component, by default the GPU; raise FormatError if the file has no energy of it."""
    name = asked.component or "gpu"
    if name not in COMPONENTS:
        raise FormatError(f"component {name!r} is not known; allowed: {', '.join(COMPONENTS)}")
    measures = [measure for session in sessions for run in session.runs for measure in run.values()]
    found = [other for other in COMPONENTS if any(measure.energies.get(other) for measure in measures)]
    if asked.component or name in found:
        return name
    raise FormatError(
        f"{where}: all {name} energies are zero or missing: there was no {name} meter, or it failed; "
        + (f"to use another component, state --component {' or '.join(found)}; " if found else "")
        + "to import it as invalid, say --component gpu"
    )


def unit_named(name: str) -> str:
    """Return the unit of a text; case is only significant where units differ by it (``mJ``, ``MJ``)."""
    name = name.strip()
    matching = [name] if name in JOULES else [unit for unit in JOULES if unit.lower() == name.lower()]
    if len(matching) == 1:
        return matching[0]
    raise unknown_name("unit", name, JOULES)


def _unit(proved: Unit | None, asked: str | None, where: str) -> Unit:
    """Return the proved unit or, without proof, the one stated by the user."""
    stated = unit_named(asked) if asked is not None else None
    if proved is not None and stated not in (None, proved.name):
        raise FormatError(
            f"{where}: --unit {stated} contradicts the file, which shows {proved.name} ({proved.how}); "
            "leave --unit out, or correct the file"
        )
    if proved is None and stated is None:
        raise FormatError(
            f"{where}: nothing in the file proves the unit of its energies; state it with --unit, one of "
            f"{', '.join(JOULES)}"
        )
    return proved or Unit(stated, "stated by the user with --unit; nothing in the file proves it")
