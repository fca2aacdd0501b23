"""The schema of a record: all facts of one session that are needed to judge and to repeat it.

Imports nothing of energylab, so that any program can read a record with this file alone. Never rename, remove or
redefine a field; give a new one a default, increase `SCHEMA_VERSION`, and keep the digests of older records.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: 2: facts missing in an imported file are None and listed in `Record.missing`.
#: 3: names of protocols, warnings of windows (`marks`), truncation, deviations, the stopping rule.
SCHEMA_VERSION = 3

EnergyKind = Literal["measured", "estimated", "simulated", "imported"]
ModelSource = Literal["hub", "path", "random", "endpoint", "function"]
DataSource = Literal["hub", "sample", "synthetic", "given"]

#: All measured phases, in order; ``decode`` is derived.
PHASES = ("preprocess", "forward", "prefill", "generate", "call")

#: Phases whose energy is rated; prefill is part of generate and is measured separately, to derive decode.
#: ``total`` is their sum, often the only figure of imported files.
SCORED_PHASES = ("preprocess", "forward", "generate", "call", "total")

NonNegative = Annotated[float, Field(ge=0)]


class _Frozen(BaseModel):
    """Base of all parts of a record: frozen, only finite numbers, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskFacts(_Frozen):
    """The task, its version, and all settings used."""

    name: str  # name of the task
    version: str | None  # version of its published settings; None: not stated by an imported file
    settings: dict[str, Any]  # the resolved settings, as used
    overridden: tuple[str, ...] = ()  # settings that differ from the published ones
    files: dict[str, str] = {}  # sha256 of the files of a task of another package; empty for those of energylab
    deviations: tuple[str, ...] = ()  # differences from the published runner, from the task's YAML


class ModelFacts(_Frozen):
    """The model, and how it was loaded."""

    name: str  # hub id, folder or architecture
    source: ModelSource | None  # source of the weights; None: not stated by an imported file
    revision: str | None = None  # as requested
    commit: str | None = None  # as resolved by the hub
    architecture: str | None = None  # class name, for example BertModel
    parameters: int | None = None  # number of parameters
    model_class: Literal["A", "B", "C"] | None = None  # size class, for tasks with classes
    dtype: str | None = None  # precision of the weights
    quantisation: str | None = None  # None: as the checkpoint
    attention: str | None = None  # implementation in use; the requested one is in the task's settings
    compiled: bool = False  # with torch.compile
    trust_remote_code: bool = False  # whether code of the model's repository was run
    weights_bytes: int | None = None  # memory of the weights, in bytes
    real_weights: bool = True  # False for source "random": quality is then meaningless
    settings: dict[str, Any] = {}  # other loading settings (device map, thinking switch …)


class DataFacts(_Frozen):
    """The queries."""

    name: str | None  # name, source and digest are None if an imported file does not state them
    source: DataSource | None  # source of the queries
    revision: str | None = None  # as requested
    commit: str | None = None  # as resolved by the hub
    digest: str | None  # sha256 over the rows used, in order
    queries: int  # queries of one run
    licence: str | None = None  # of the data
    covariates: dict[str, tuple[float, ...]] = {}  # known for every query in advance, e.g. {"input_tokens": (12, …)}
    truncated_queries: int | None = None  # queries whose input was cut to the model's limit; None: not stated
    truncated_tokens: int | None = None  # tokens cut, over all queries of one run


class DeviceFacts(_Frozen):
    """One device that the model ran on."""

    name: str | None  # "NVIDIA H100 80GB HBM3", or the processor's name; None: not stated by an imported file
    type: Literal["cuda", "cpu", "simulated", "other", "not stated"]  # type of device
    index: int | None = None  # torch's index
    uuid: str | None = None  # identity of the board
    memory_bytes: int | None = None  # its memory, in bytes
    power_limit_w: float | None = None  # current limit, in watts
    power_limit_default_w: float | None = None  # default limit, in watts
    clock_policy: str | None = None  # "default" or "locked 1410 MHz"
    ecc: bool | None = None  # whether memory errors are corrected
    driver: str | None = None  # version of the driver
    settings: dict[str, Any] = {}  # threads of a CPU, compute capability, …


class MeterFacts(_Frozen):
    """One meter of the session; `scored` meters give the record's energy."""

    name: str  # nvml, rapl, codecarbon, zeus, estimate, replay
    source: str  # the quantity read: "nvmlDeviceGetTotalEnergyConsumption", "CPU time x 7.5 W" …
    kind: EnergyKind  # kind of its source
    device: str  # uuid, "cpu", "package-0" …
    scored: bool  # whether it gives the record's energy
    update_period_s: float | None = None  # measured when opened; None for a counter without steps
    read_cost_s: float | None = None  # duration of one reading
    latency_s: float = 0.0  # largest delay between a change of power and the counter
    quantum_j: float = 0.0  # the counter's resolution
    gain_error: float | None = None  # relative gain error of the sensor, constant per board; not part of window bounds
    notes: tuple[str, ...] = ()  # remarks for the reader


class HostFacts(_Frozen):
    """The machine and its software; None if not stated by an imported file."""

    processor: str | None  # its name
    cores: int | None  # usable cores
    memory_bytes: int | None  # main memory, in bytes
    system: str | None  # operating system and kernel
    python: str | None  # version
    packages: dict[str, str]  # name to version
    container: bool | None = None  # whether it ran in a container
    git_commit: str | None = None  # commit of the project
    git_dirty: bool | None = None  # whether the project had uncommitted changes


class ProtocolFacts(_Frozen):
    """The protocol and all its settings, so that the session can be repeated."""

    name: str = "steady"  # steady, published-2025-02, published-2025-12; records before schema 3 are steady
    version: str  # version of the protocol
    seed: int | None  # for the order of queries and random delays; None: not stated by an imported file
    runs: int  # requested number
    settings: dict[str, Any]  # all settings of the protocol


class IdleLevel(_Frozen):
    """Mean power of the scored meters while idle.

    ``no_context``: before the process touched the device; ``weights_resident``: model loaded, idle;
    ``after_load``: right after the last window, clocks still high.
    """

    level: Literal["no_context", "weights_resident", "after_load"]  # time of the observation
    power_w: float | None  # None if the counter did not move: unknown, not zero
    duration_s: float  # duration of the observation, in seconds
    energy_j: float | None  # energy in this time
    reasons: tuple[str, ...] = ()  # why the power is unknown


class WarmUp(_Frozen):
    """The work done before the first window, until power and temperature were steady."""

    duration_s: float  # in seconds
    energy_j: float | None  # energy in this time; not part of the rated energy
    queries: int  # number of queries in this time
    steady: bool  # whether power and temperature were steady at its end
    reason: str  # why it ended


class MeterReadings(_Frozen):
    """Result of one meter for one window."""

    meter: str  # name of the meter
    device: str  # measured device
    energy_j: float | None  # None if the meter failed (never 0 instead)
    bound_j: float | None = None  # error bound of energy_j
    ticks: int | None = None  # number of counter steps, if the counter has steps
    max_power_w: float | None = None  # largest power observed at the edges


class DeviceState(_Frozen):
    """State of one device after or during a window, as far as it reports it."""

    device: str  # name of the device
    temperature_c: float | None = None  # after the window
    sm_clock_mhz: float | None = None  # after the window
    memory_clock_mhz: float | None = None  # after the window
    power_cap_fraction: float | None = None  # share of the window under the software power cap: normal at the limit
    thermal_fraction: float | None = None  # share of the window slowed by temperature
    power_brake_fraction: float | None = None  # share of the window slowed by an external power brake
    hardware_slowdown_fraction: float | None = None  # share of the window slowed by the hardware
    others_fraction: float | None = None  # share of a processor's busy time used by other processes
    cotenants: tuple[int, ...] = ()  # ids of other processes on the device


class QueryFailure(_Frozen):
    """A query that raised an error, with its message."""

    query: int  # its index in the data
    error: str  # name of the exception
    message: str  # its text


class Window(_Frozen):
    """A contiguous measurement of one phase over whole queries: the smallest unit with an energy.

    A window is planned as a `block` of queries of one run and phase; a block whose window is invalid is measured
    again as the next `attempt`. Short blocks are repeated `replications` times, so that the window is long enough;
    ``energy_j / replications`` is the energy of one repetition.
    """

    index: int  # position in the session
    run: int  # number of the run, from 0
    phase: str  # name of the phase
    block: int  # number of the planned block in its run and phase
    attempt: int  # attempt at this block, from 0
    queries: tuple[int, ...]  # indices into the data, each once
    replications: int  # repetitions of the queries to reach the minimal duration
    start_s: float | None  # since the session's first reading, monotonic; None: not stated by an imported file
    duration_s: float | None  # between the two readings
    meters: tuple[MeterReadings, ...]  # results of all meters
    energy_j: float | None  # sum of the scored meters over all devices; None if one of them failed
    bound_j: float | None  # error bound of energy_j; None for estimates
    input_tokens: int | None = None  # per repetition
    output_tokens: int | None = None  # per repetition
    states: tuple[DeviceState, ...] = ()  # state of every device
    failures: tuple[QueryFailure, ...] = ()  # failed queries
    valid: bool  # whether its energy may be used
    reasons: tuple[str, ...] = ()  # reasons for being invalid
    marks: tuple[str, ...] = ()  # warnings on a valid window, shown with every result: busy_host, not_finite …

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
    """Quality of the answers; `value` is None if it is meaningless (random weights)."""

    metric: str  # name of the metric
    value: float | None  # None if meaningless
    queries: int  # number of scored answers
    meaningless: str | None = None  # reason for a missing value
    scores: tuple[float, ...] | None = None  # of every query, in the order of the data; None: the metric has none
    details: dict[str, Any] = {}  # further results of the metric


class StopFacts(_Frozen):
    """A rule that may end a session early: its target, and its result."""

    rule: Literal["precision", "star"]  # precision: a relative half-width; star: one star among peers
    target: float  # relative half-width of the interval, or probability that the star is correct
    reached: bool  # whether the rule ended the session
    reason: str  # why the session ended
    energy_j_per_query: float | None  # energy of the record, as shown in tables and pages
    low_j: float | None  # lower end of the interval of the mean energy per query, valid at any stopping time
    high_j: float | None  # upper end
    level: float = 0.95  # confidence level of the interval
    units: int = 0  # number of independent units of the interval
    spent_j: float | None = None  # all energy used, with warm-up, idle time and invalid windows
    details: dict[str, Any] = {}  # facts of the rule: peers, possible stars, session component …


class Record(_Frozen):
    """The result of one session. `valid` is False if a scored phase has no total in some run."""

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION  # version of the schema
    record_id: str  # identity of the session
    job_id: str  # hash of the settings
    repeat: int = 0  # number among sessions of one setting, from 0
    attempt: int = 0  # attempt at this job, from 0
    created_utc: datetime  # ISO 8601
    energylab_version: str  # version of energylab that measured
    energy_kind: EnergyKind  # kind of the scored meters' energy
    task: TaskFacts  # the task and its settings
    model: ModelFacts  # the model, and how it was loaded
    data: DataFacts  # the queries
    protocol: ProtocolFacts  # the protocol and its settings
    devices: tuple[DeviceFacts, ...]  # devices that the model ran on
    meters: tuple[MeterFacts, ...]  # meters of the session
    host: HostFacts  # the machine and its software
    phases: tuple[str, ...]  # measured phases, in order
    idle: tuple[IdleLevel, ...]  # idle power, at three times
    warm_up: WarmUp | None  # before the first window; None: not stated by an imported file
    windows: tuple[Window, ...]  # all windows, including invalid ones
    stop: StopFacts | None = None  # rule that may end the session early; None: all runs were requested
    quality: tuple[Quality, ...] = ()  # quality of the answers
    parameters: dict[str, Any] = {}  # the parameters, to repeat the session
    extra: dict[str, Any] = {}  # further facts (thinking tokens, notes of an import)
    valid: bool  # whether every scored phase has a total in every run
    reasons: tuple[str, ...] = ()  # reasons for being invalid
    missing: tuple[str, ...] = ()  # paths of facts that an imported file does not state: "devices.name"

    @property
    def queries(self) -> int:
        """Number of distinct queries of one run."""
        return self.data.queries

    @property
    def board(self) -> str:
        """Identity of the board or boards; not part of the cohort."""
        return board_name(self.devices)

    @property
    def idle_with_model_w(self) -> float | None:
        """Idle power in watts with the model loaded; None if unknown."""
        return next((level.power_w for level in self.idle if level.level == "weights_resident"), None)

    @property
    def marks(self) -> tuple[str, ...]:
        """Warnings on a valid result: a busy host, outputs that are not finite, truncated input."""
        marks = {mark for window in self.windows if window.valid for mark in window.marks}
        return tuple(sorted(marks | ({"truncated"} if self.data.truncated_queries else set())))

    def __repr__(self) -> str:
        figure = f"{self._energy()}, {self.protocol.runs} x {self.queries} queries, {self.protocol.name}"
        state = "valid" if self.valid else f"invalid: {'; '.join(self.reasons)}"
        return f"<Record {self.task.name}, {self.model.name}: {figure}; {state}>"

    __str__ = __repr__

    def _energy(self) -> str:
        """Return the rated energy with its kind as text, if the module that computes it is available."""
        try:
            energy = importlib.import_module("energylab.energy")
        except ImportError:  # another program has only this file
            return self.energy_kind
        energy_j = energy.session_energy_j(self)
        if energy_j is None:
            return f"no energy ({self.energy_kind})"
        return f"{energy_j * energy.WH_PER_1000_QUERIES:.4g} Wh per 1,000 queries ({self.energy_kind})"

    def not_official(self) -> tuple[str, ...]:
        """Why this record is not official; empty if it is.

        Official means measured, hub weights, published data, queries and settings, all runs, and valid, with a
        published protocol or `steady`.
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
        """Whether every requested run has every query in every scored phase."""
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
    """Return the identity of the board or boards of devices."""
    return "+".join(device.uuid or device.name or "not stated" for device in devices)


def canonical_json(value: Any) -> bytes:
    """Encode `value` so that equal values give equal bytes (sorted keys, no spaces, UTF-8, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
