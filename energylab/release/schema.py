"""The schema of a release: a dated rating of cohorts, one per task and size class. All pages are made from it."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from energylab.record import EnergyKind, NonNegative

RELEASE_SCHEMA_VERSION = 2

#: Fields of models that exist since version 2.
_SINCE_2 = {"df", "rank", "rank_low", "rank_high", "p_next", "marks", "per_right", "standby", "spent"}

#: Version of the method from records to ratings and pages; described in the report's method section.
METHODOLOGY_VERSION = "2"

#: Not included in any figure; shown on every page.
NEVER_INCLUDED = "CPU and host (unless shown apart), cooling, fans and the building’s overhead (PUE)"

Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Star = Annotated[int, Field(ge=1, le=5)]


class _Frozen(BaseModel):
    """Base of every part of a release: frozen, finite numbers only, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Frozen):
    """A 95 % interval, in Wh per 1,000 queries."""

    low_wh: NonNegative
    high_wh: NonNegative

    @model_validator(mode="after")
    def _ordered(self):
        if self.low_wh > self.high_wh:
            raise ValueError(f"interval from {self.low_wh:g} to {self.high_wh:g} Wh: low must not exceed high")
        return self


class PhaseFigure(_Frozen):
    """One phase of a model over all of its sessions."""

    phase: str
    scored: bool
    energy_wh: NonNegative | None  # per 1,000 queries; None: unavailable in at least one run
    bound_wh: NonNegative | None  # largest modelled error of energy_wh
    mean_power_w: NonNegative | None
    windows: int
    invalid_windows: int
    reasons: tuple[str, ...] = ()  # why windows were invalid


class WindowPoint(_Frozen):
    """One window as drawn on pages: start, duration, mean power and validity."""

    run: int
    phase: str
    start_s: float | None  # this and the duration are None if an imported file does not state them
    duration_s: NonNegative | None
    mean_power_w: NonNegative | None
    valid: bool
    reasons: tuple[str, ...] = ()


class SessionFacts(_Frozen):
    """One session of a figure, with the facts to find, check and repeat it."""

    record_id: str
    digest: str  # sha256 of the record's canonical JSON
    job_id: str
    repeat: int
    created_utc: dt.datetime
    energy_wh: NonNegative | None  # mean of this session, per 1,000 queries; None if invalid
    queries: int
    runs: int
    valid: bool
    reasons: tuple[str, ...] = ()
    machine: int  # index into `Release.machines`
    parameters: dict[str, Any]  # of the benchmark notebook, to measure it again
    windows: tuple[WindowPoint, ...]


class QualityFigure(_Frozen):
    """Quality of the answers; `value` is None if it is meaningless."""

    metric: str
    value: float | None
    meaningless: str | None = None


class WithoutPeer(_Frozen):
    """The number of stars a model would have without one peer in the cohort."""

    peer: str
    role: Literal["lightest", "heaviest"]
    stars: Star | None


class PerRightFigure(_Frozen):
    """Energy per 1,000 right answers, or per 1,000 points of quality, with its joint 95 % interval."""

    metric: str
    unit: str  # "right answers", or "points of METRIC"
    energy_wh: Positive
    low_wh: NonNegative
    high_wh: NonNegative
    stars: Star | None = None  # by this figure, among the models of the cohort; separate from the stars by energy
    note: str = ""


class StandbyFigure(_Frozen):
    """The model on standby: power with its weights loaded, and Wh per 1,000 queries at 1, 10 and 100 % load."""

    power_w: NonNegative
    wh_at_load: tuple[Positive, Positive, Positive]


class SpentFigure(_Frozen):
    """Energy and time that measuring the model took, and the energy of one session of ten full runs."""

    wh: NonNegative
    minutes: NonNegative
    unmetered: int  # parts without an energy, which are not in the sum
    published_wh: Positive | None


class RatedModel(_Frozen):
    """One model in its cohort: energy with intervals, stars with probabilities, and the evidence."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    commit: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    dtype: str | None = None
    quantisation: str | None = None
    energy_wh: Positive  # per 1,000 queries, scored phases
    repeatability: Interval | None  # spread between sessions and boards
    expanded: Interval | None  # with the sensor's gain error; shown on pages and labels
    stars: Star | None
    probabilities: tuple[Probability, Probability, Probability, Probability, Probability] | None  # of 1 … 5 stars
    expected_stars: float | None
    rank: Annotated[int, Field(ge=1)] | None = None  # 1: lowest energy; this and the next five are None in schema 1
    rank_low: Annotated[int, Field(ge=1)] | None = None  # simultaneous 95 % confidence range of the ranks of a cohort
    rank_high: Annotated[int, Field(ge=1)] | None = None
    p_next: Probability | None = None  # probability that it truly uses less than the next model of the cohort
    df: Positive | None = None  # degrees of freedom of the repeatability interval; None: not repeated
    marks: tuple[str, ...] | None = None  # warnings shown with the figure: busy host, truncated input …
    per_right: PerRightFigure | None = None  # None: no reference, or no record
    standby: StandbyFigure | None = None  # None: no record has idle power
    spent: SpentFigure | None = None  # None: no record
    note: str = ""
    without: tuple[WithoutPeer, ...] = ()
    output_tokens: Positive | None = None  # per 1,000 queries
    quality: tuple[QualityFigure, ...] = ()
    phases: tuple[PhaseFigure, ...] = ()
    sessions: tuple[SessionFacts, ...] = ()

    @property
    def star_probability(self) -> float | None:
        """Probability of the number of stars given."""
        return None if self.stars is None or self.probabilities is None else self.probabilities[self.stars - 1]

    @property
    def validity_notes(self) -> tuple[str, ...]:
        """Reasons of invalid windows and sessions, each once."""
        notes = [note for phase in self.phases for note in phase.reasons]
        notes += [note for session in self.sessions for note in session.reasons]
        return tuple(dict.fromkeys(notes))


class RatedCohort(_Frozen):
    """The models of one cohort, task and size class, by ascending energy."""

    task: str
    task_version: str | None
    model_class: Literal["A", "B", "C"] | None
    cohort: str  # the cohort's key, as text
    energy_kind: EnergyKind | Literal["not stated"]
    device: str | None
    not_official: tuple[str, ...]  # empty only when every record is official
    assumption: str = ""  # assumed by intervals and probabilities without repeats: "noise of 1 %"
    edges_wh: tuple[Positive, Positive, Positive, Positive] | None  # between 5|4, 4|3, 3|2 and 2|1 stars
    edges_reason: str = ""  # why there are none
    models: tuple[RatedModel, ...]

    @model_validator(mode="after")
    def _sorted_and_unique(self):
        names = [model.model for model in self.models]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"cohort of {self.task}: needs at least one model, each listed once")
        energies = [model.energy_wh for model in self.models]
        if energies != sorted(energies):
            raise ValueError(f"cohort of {self.task}: models must be ordered by energy")
        return self

    @property
    def key(self) -> str:
        """Task and model class in one word: ``text_generation-A``."""
        return self.task if self.model_class is None else f"{self.task}-{self.model_class}"

    @property
    def official(self) -> bool:
        """Whether every record of the cohort is official."""
        return not self.not_official


class Machine(_Frozen):
    """One machine of the sessions, with its software."""

    devices: tuple[str, ...]
    boards: tuple[str, ...]
    driver: str | None
    meters: tuple[str, ...]
    processor: str | None  # this and the next four are None if an imported file does not state them
    cores: int | None
    memory_bytes: int | None
    system: str | None
    python: str | None
    packages: dict[str, str]
    git_commit: str | None
    energylab_version: str
    protocol_version: str


class LeftOut(_Frozen):
    """A model or session that was read but not rated, with the reason."""

    task: str
    model: str
    record_id: str | None
    why: str


class Move(_Frozen):
    """The change of one model between two releases."""

    task: str
    model_class: Literal["A", "B", "C"] | None
    model: str
    what: Literal["joined", "left", "changed star", "same star"]
    stars_before: Star | None
    stars_now: Star | None
    energy_before_wh: float | None
    energy_now_wh: float | None
    why: str


class PreviousRelease(_Frozen):
    """The previous release and the changes since; models with the same star and energy are not listed."""

    name: str
    date: dt.date
    digest: str
    moves: tuple[Move, ...]


class Release(_Frozen):
    """A dated rating of a set of cohorts.

    Equal records, names and options give equal bytes: a release does not depend on the time, folder or machine of its
    making.
    """

    schema_version: Literal[1, 2] = RELEASE_SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    date: dt.date
    methodology_version: str = METHODOLOGY_VERSION
    scheme: str
    scheme_version: str
    options: dict[str, Any]  # of the rating: gain, draws, seed
    address: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = (
        None  # where the leaderboard will be served; the labels' QR codes point there
    )
    sources: tuple[str, ...] = ()  # where imported figures come from
    cohorts: tuple[RatedCohort, ...]
    machines: tuple[Machine, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    previous: PreviousRelease | None = None

    @model_validator(mode="after")
    def _one_cohort_a_task_and_class(self):
        keys = [cohort.key for cohort in self.cohorts]
        if not keys or len(set(keys)) != len(keys):
            raise ValueError(f"a release needs at least one cohort, and one per task and size class; got {keys}")
        return self

    def rated(self) -> Iterator[tuple[RatedCohort, RatedModel]]:
        """Yield every model with its cohort, in the release's order."""
        for cohort in self.cohorts:
            for model in cohort.models:
                yield cohort, model

    def to_bytes(self) -> bytes:
        """Encode the release as in its file: one field per line, in the schema's order, UTF-8."""
        later = {"cohorts": {"__all__": {"models": {"__all__": _SINCE_2}}}} if self.schema_version == 1 else None
        return (self.model_dump_json(indent=1, exclude=later) + "\n").encode()

    def digest(self) -> str:
        """Return the sha256 of the release's file, as ``sha256sum NAME.json`` prints it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def significant(value: float, digits: int = 12) -> float:
    """Round to significant digits.

    Twelve digits are finer than the rating's tolerance at an edge (1e-9), and drop the last bits of a sum, which may
    differ between machines.
    """
    return value if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
