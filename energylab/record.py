"""The schema of a record: everything one session leaves, enough to judge it and to repeat it.

Imports nothing of energylab, so that any program can read a record with this file alone. Do not rename, remove or give
another meaning to a field: a new one has a default, moves `SCHEMA_VERSION`, and leaves digests of older records alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: 2: facts that another program's file does not state may be missing (None, listed in `Record.missing`).
#: 3: protocols have names; windows carry marks; truncation, deviations and the stopping rule are fields of their own.
SCHEMA_VERSION = 3

EnergyKind = Literal["measured", "estimated", "simulated", "imported"]
ModelSource = Literal["hub", "path", "random", "endpoint", "function"]
DataSource = Literal["hub", "sample", "synthetic", "given"]

#: Every phase that is measured, in the order of the work; ``decode`` is derived.
PHASES = ("preprocess", "forward", "prefill", "generate", "call")

#: Phases whose energy is rated, as published: prefill is part of generate and is measured apart, for decode.
#: ``total`` is all of them in one figure: what other people's files often hold.
SCORED_PHASES = ("preprocess", "forward", "generate", "call", "total")

NonNegative = Annotated[float, Field(ge=0)]


class _Frozen(BaseModel):
    """Base of every part of a record: frozen, finite numbers only, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskFacts(_Frozen):
    """What was asked: the task, its version, and every setting that took part."""

    name: str  # of the task
    version: str | None  # of its published settings; None: not stated by an imported file
    settings: dict[str, Any]  # the resolved settings, as used
    overridden: tuple[str, ...] = ()  # settings that differ from the published ones
    files: dict[str, str] = {}  # sha256 of the files of a task from elsewhere; empty for the tasks of this package
    deviations: tuple[str, ...] = ()  # what cannot be asked as the published runner asks it, from the task's YAML


class ModelFacts(_Frozen):
    """Which model answered, and in what shape it was loaded."""

    name: str  # hub id, folder or architecture
    source: ModelSource | None  # where the weights came from; None: not stated by an imported file
    revision: str | None = None  # as asked for
    commit: str | None = None  # as resolved by the hub
    architecture: str | None = None  # class name, for example BertModel
    parameters: int | None = None  # their number
    model_class: Literal["A", "B", "C"] | None = None  # size class, in tasks that have classes
    dtype: str | None = None  # precision of the weights
    quantisation: str | None = None  # None: as the checkpoint
    attention: str | None = None  # implementation in use; what was asked for is in the task's settings
    compiled: bool = False  # by torch.compile
    trust_remote_code: bool = False  # whether code that comes with the model was run
    weights_bytes: int | None = None  # memory the weights take, in bytes
    real_weights: bool = True  # False for source "random": quality is then meaningless
    settings: dict[str, Any] = {}  # loading settings beyond these (device map, thinking switch …)


class DataFacts(_Frozen):
    """Which queries were asked."""

    name: str | None  # these three are None where an imported file does not state them
    source: DataSource | None  # where the queries came from
    revision: str | None = None  # as asked for
    commit: str | None = None  # as resolved by the hub
    digest: str | None  # sha256 over the rows used, in order
    queries: int  # queries of one run
    licence: str | None = None  # of the data
    covariates: dict[str, tuple[float, ...]] = {}  # known for every query beforehand, e.g. {"input_tokens": (12, …)}
    truncated_queries: int | None = None  # queries whose input was cut to the model's limit; None: not stated
    truncated_tokens: int | None = None  # tokens that were cut, over all queries of one run


class DeviceFacts(_Frozen):
    """One device the model ran on."""

    name: str | None  # "NVIDIA H100 80GB HBM3", or the processor's name; None: not stated by an imported file
    type: Literal["cuda", "cpu", "simulated", "other", "not stated"]  # what kind of device it is
    index: int | None = None  # as torch counts
    uuid: str | None = None  # identity of the board
    memory_bytes: int | None = None  # its memory, in bytes
    power_limit_w: float | None = None  # in force, in watts
    power_limit_default_w: float | None = None  # as delivered, in watts
    clock_policy: str | None = None  # "default" or "locked 1410 MHz"
    ecc: bool | None = None  # whether memory errors are corrected
    driver: str | None = None  # its version
    settings: dict[str, Any] = {}  # threads of a CPU, compute capability, …


class MeterFacts(_Frozen):
    """One meter that watched the windows; `scored` meters give the record's energy."""

    name: str  # nvml, rapl, codecarbon, zeus, estimate, replay
    source: str  # what is actually read: "nvmlDeviceGetTotalEnergyConsumption", "CPU time x 7.5 W" …
    kind: EnergyKind  # of its actual source
    device: str  # uuid, "cpu", "package-0" …
    scored: bool  # whether it gives the record's energy
    update_period_s: float | None = None  # measured when opened; None for a counter without steps
    read_cost_s: float | None = None  # time one reading takes
    latency_s: float = 0.0  # how late a change of power can appear
    quantum_j: float = 0.0  # the counter's resolution
    gain_error: float | None = None  # relative sensor gain error, fixed per board; kept out of window bounds
    notes: tuple[str, ...] = ()  # what a reader must know


class HostFacts(_Frozen):
    """The machine around the device, and the software that ran; None where an imported file does not say."""

    processor: str | None  # its name
    cores: int | None  # usable ones
    memory_bytes: int | None  # main memory, in bytes
    system: str | None  # operating system and kernel
    python: str | None  # version
    packages: dict[str, str]  # name to version
    container: bool | None = None  # whether it ran in one
    git_commit: str | None = None  # of the project
    git_dirty: bool | None = None  # whether the project had uncommitted changes


class ProtocolFacts(_Frozen):
    """The protocol and all of its settings, so that the session can be repeated."""

    name: str = "steady"  # steady, published-2025-02, published-2025-12; records before schema 3 are steady
    version: str  # of the measuring protocol
    seed: int | None  # order of queries, dithered starts; None: not stated by an imported file
    runs: int  # asked for
    settings: dict[str, Any]  # every setting of the protocol


class IdleLevel(_Frozen):
    """Mean power of the scored meters while nothing runs.

    ``no_context``: before the process touched the device; ``weights_resident``: model loaded, at rest;
    ``after_load``: right after the last window, clocks still high.
    """

    level: Literal["no_context", "weights_resident", "after_load"]  # when it was observed
    power_w: float | None  # None where the meter saw no step: unknown, not zero
    duration_s: float  # how long, in seconds
    energy_j: float | None  # in that time
    reasons: tuple[str, ...] = ()  # why the power is unknown


class WarmUp(_Frozen):
    """The work done before the first window, until power and temperature were steady."""

    duration_s: float  # in seconds
    energy_j: float | None  # in that time; not part of the figure
    queries: int  # asked meanwhile
    steady: bool  # whether power and temperature had settled
    reason: str  # why it ended


class MeterReadings(_Frozen):
    """What one meter says of one window."""

    meter: str  # its name
    device: str  # what it watches
    energy_j: float | None  # None when the meter failed; never 0 in its place
    bound_j: float | None = None  # largest modelled error of energy_j
    ticks: int | None = None  # counter steps seen, where the counter steps
    max_power_w: float | None = None  # largest power seen around the edges


class DeviceState(_Frozen):
    """One device between or across windows, as far as it tells."""

    device: str  # which one
    temperature_c: float | None = None  # after the window
    sm_clock_mhz: float | None = None  # after the window
    memory_clock_mhz: float | None = None  # after the window
    power_cap_fraction: float | None = None  # share of the window under the software power cap: normal near the limit
    thermal_fraction: float | None = None  # share of the window slowed by temperature
    power_brake_fraction: float | None = None  # share of the window slowed by an external power brake
    hardware_slowdown_fraction: float | None = None  # share of the window slowed by the hardware itself
    others_fraction: float | None = None  # share of a processor's busy time that other processes had
    cotenants: tuple[int, ...] = ()  # process ids of others on the device


class QueryFailure(_Frozen):
    """A query that raised an error, with its message."""

    query: int  # its index in the data
    error: str  # name of the exception
    message: str  # its text


class Window(_Frozen):
    """A contiguous stretch of one phase over whole queries: the smallest thing with an energy.

    A window is planned as a `block` of queries of one run and phase; a block whose window is invalid is measured
    again as the next `attempt`. Short blocks are repeated `replications` times, so that the window is long enough;
    ``energy_j / replications`` is the energy of the block's queries once.
    """

    index: int  # position in the session
    run: int  # number of the run, from 0
    phase: str  # what was done
    block: int  # number of the planned block in its run and phase
    attempt: int  # number of the try at this block, from 0
    queries: tuple[int, ...]  # indices into the data, each once
    replications: int  # times the queries were repeated to make it long enough
    start_s: float | None  # since the session's first reading, monotonic; None: not stated by an imported file
    duration_s: float | None  # between the two readings
    meters: tuple[MeterReadings, ...]  # what every meter says of it
    energy_j: float | None  # sum of the scored meters over all devices; None when one of them failed
    bound_j: float | None  # largest modelled error of energy_j; None for estimates
    input_tokens: int | None = None  # of one replication
    output_tokens: int | None = None  # of one replication
    states: tuple[DeviceState, ...] = ()  # of every device, across the window
    failures: tuple[QueryFailure, ...] = ()  # queries that raised
    valid: bool  # whether it can be believed
    reasons: tuple[str, ...] = ()  # why not
    marks: tuple[str, ...] = ()  # valid, and shown wherever the figure is: busy_host, not_finite …

    @model_validator(mode="after")
    def _consistent(self):
        if self.valid and (self.energy_j is None or self.reasons):
            raise ValueError(f"window {self.index}: valid windows have an energy and no reasons")
        if not self.valid and not self.reasons:
            raise ValueError(f"window {self.index}: invalid without a reason")
        if self.replications < 1 and self.valid:
            raise ValueError(f"window {self.index}: replications must be at least 1")
        return self

    @property
    def mean_power_w(self) -> float | None:
        """Mean power of the scored meters over the window, in watts."""
        return self.energy_j / self.duration_s if self.energy_j is not None and (self.duration_s or 0) > 0 else None


class Quality(_Frozen):
    """How good the answers were; `value` is None when it would be meaningless (random weights)."""

    metric: str  # its name
    value: float | None  # None where meaningless
    queries: int  # answers that were scored
    meaningless: str | None = None  # why there is no value
    scores: tuple[float, ...] | None = None  # of every query, in the order of the data; None: the metric has none
    details: dict[str, Any] = {}  # what else the metric gives


class StopFacts(_Frozen):
    """What a rule that may end a session early was asked for, and the figure it certified."""

    rule: Literal["precision", "star"]  # a relative half-width, or one star among peers
    target: float  # relative half-width of the interval, or the probability that the star is right
    reached: bool  # whether the rule ended the session
    reason: str  # why the session ended
    energy_j_per_query: float | None  # certified figure: the record's energy, tables and pages carry this number
    low_j: float | None  # interval of the mean energy per query, valid whenever the session stopped
    high_j: float | None  # its upper end
    level: float = 0.95  # of the interval
    units: int = 0  # independent units that the interval rests on
    spent_j: float | None = None  # everything measured: warm-up, idle levels and invalid windows too
    details: dict[str, Any] = {}  # of the rule: peers, stars left, session component taken …


class Record(_Frozen):
    """What one session leaves. `valid` is False when a scored phase has no total in some run."""

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION  # of this file
    record_id: str  # identity of the session
    job_id: str  # hash of what was measured
    repeat: int = 0  # number among sessions of one setting, from 0
    attempt: int = 0  # number of the try of this job, from 0
    created_utc: datetime  # ISO 8601
    energylab_version: str  # that measured
    energy_kind: EnergyKind  # of the scored meters
    task: TaskFacts  # what was asked
    model: ModelFacts  # which model answered
    data: DataFacts  # which queries were asked
    protocol: ProtocolFacts  # how it was measured
    devices: tuple[DeviceFacts, ...]  # the model ran on
    meters: tuple[MeterFacts, ...]  # that watched the windows
    host: HostFacts  # the machine around the device
    phases: tuple[str, ...]  # measured ones, in order
    idle: tuple[IdleLevel, ...]  # power at rest, at three times
    warm_up: WarmUp | None  # before the first window; None: not stated by an imported file
    windows: tuple[Window, ...]  # all of them, invalid ones included
    stop: StopFacts | None = None  # the rule that might end the session early; None: all runs were asked for
    quality: tuple[Quality, ...] = ()  # how good the answers were
    parameters: dict[str, Any] = {}  # the notebook's parameters, to run it again
    extra: dict[str, Any] = {}  # what a later stage adds (thinking tokens, importer's notes)
    valid: bool  # whether every scored phase has a total in every run
    reasons: tuple[str, ...] = ()  # why not
    missing: tuple[str, ...] = ()  # facts that an imported file does not state, by their place: "devices.name"

    @property
    def queries(self) -> int:
        """Number of distinct queries of one run."""
        return self.data.queries

    @property
    def board(self) -> str:
        """Identity of the board or boards: a random effect, not part of the cohort."""
        return board_name(self.devices)

    @property
    def idle_with_model_w(self) -> float | None:
        """Power in watts with the model loaded and nothing running; None where it is unknown."""
        return next((level.power_w for level in self.idle if level.level == "weights_resident"), None)

    @property
    def marks(self) -> tuple[str, ...]:
        """What is shown beside a valid figure: a busy host, outputs that are not finite, truncated input."""
        marks = {mark for window in self.windows if window.valid for mark in window.marks}
        return tuple(sorted(marks | ({"truncated"} if self.data.truncated_queries else set())))

    def __repr__(self) -> str:
        figure = f"{self._energy()}, {self.protocol.runs} x {self.queries} queries, {self.protocol.name}"
        state = "valid" if self.valid else f"invalid: {'; '.join(self.reasons)}"
        return f"<Record {self.task.name}, {self.model.name}: {figure}; {state}>"

    __str__ = __repr__

    def _energy(self) -> str:
        """Return the rated energy with its kind in words; energies are added up by another module, where it is here."""
        try:
            energy = importlib.import_module("energylab.energy")
        except ImportError:  # this file alone, in another program
            return self.energy_kind
        energy_j = energy.session_energy_j(self)
        if energy_j is None:
            return f"no energy ({self.energy_kind})"
        return f"{energy_j * energy.WH_PER_1000_QUERIES:.4g} Wh per 1,000 queries ({self.energy_kind})"

    def not_official(self) -> tuple[str, ...]:
        """Why this record is not official; empty when it is.

        Official means measured, hub weights, published data, published work and settings, all runs, and valid; under
        either kind of protocol, which is named beside it.
        """
        model, data, task = self.model.source or "not stated", self.data, self.task
        cut = data.truncated_queries and self.protocol.name == "published-2025-12"
        early = self.valid and self.energy_kind != "imported" and not self._whole()
        why = {
            f"energy is {self.energy_kind}, not measured": self.energy_kind != "measured",
            f"model source is {model}, not hub": model != "hub",
            f"data source is {data.source or 'not stated'}, not the published data set": data.source != "hub",
            f"the task is not one of energylab's: {', '.join(task.files)}": task.files,
            f"settings differ from the published ones: {', '.join(task.overridden)}": task.overridden,
            **{f"deviation from the published work: {deviation}": True for deviation in task.deviations},
            f"{data.truncated_tokens} input tokens were cut, and its published runner cuts none": cut,
            f"the session ended before {self.protocol.runs} runs of {self.queries} queries were measured": early,
            "the record is invalid": not self.valid,
        }
        return tuple(words for words, holds in why.items() if holds)

    def _whole(self) -> bool:
        """Whether every run that was asked for holds every query, in every scored phase."""
        asked: Counter[tuple[int, str]] = Counter()
        for window in self.windows:
            if window.phase in SCORED_PHASES and window.attempt == 0:
                asked[window.run, window.phase] += len(window.queries)
        return len({run for run, _ in asked}) == self.protocol.runs and set(asked.values()) == {self.queries}

    def digest(self) -> str:
        """Return the sha256 of the record's canonical JSON.

        A field younger than the record's schema does not count, nor do ``missing`` and ``task.files`` where they are
        empty: digests of older records stay what they were.
        """
        content = self.model_dump(mode="json")
        if not self.missing:
            del content["missing"]
        if not self.task.files:
            del content["task"]["files"]
        if self.schema_version < 3:
            del content["stop"], content["task"]["deviations"], content["protocol"]["name"]
            del content["data"]["truncated_queries"], content["data"]["truncated_tokens"]
            for quality in content["quality"]:
                del quality["scores"]
            for window in content["windows"]:
                del window["marks"]
                for state in window["states"]:
                    del state["others_fraction"]
        return hashlib.sha256(canonical_json(content)).hexdigest()


def board_name(devices: tuple[DeviceFacts, ...]) -> str:
    """Return the identity of the board or boards that devices are."""
    return "+".join(device.uuid or device.name or "not stated" for device in devices)


def canonical_json(value: Any) -> bytes:
    """Encode `value` so that equal values give equal bytes (sorted keys, no spaces, UTF-8, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
