"""From parameters to a record: load, measure by the protocol, score, describe.

The module is not called `measure` because that would hide the function `energylab.measure`.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

import energylab
from energylab import devices as machine_devices
from energylab import meters as machine_meters
from energylab import tasks
from energylab.clock import Clock
from energylab.devices import check_torch_agrees, host_facts, torch_name
from energylab.errors import MeasurementError, ParameterError, SealError
from energylab.meters import Instruments, Meter
from energylab.parameters import FOLDERS, PROTOCOLS, Parameters
from energylab.paths import results_root
from energylab.protocol.session import Session, run_session
from energylab.protocol.settings import Settings
from energylab.protocol.workload import FunctionWorkload, TaskWorkload, Workload
from energylab.record import DataFacts, DeviceFacts, ModelFacts, ProtocolFacts, Quality, Record, TaskFacts, board_name
from energylab.tasks import data
from energylab.tasks.models import quiet_imports

if TYPE_CHECKING:
    import pandas as pd

    from energylab.statistics.stopping import StopRule


def measure(
    task: str | None = None,
    model: str | None = None,
    *,
    fn: Callable[[Any], Any] | None = None,
    queries: Sequence[Any] | None = None,
    parameters: Parameters | None = None,
    output_folder: str | Path | None = None,
    meters: Sequence[Meter] | None = None,
    clock: Clock | None = None,
    **more: Any,
) -> Record:
    """Measure a model on a task, or any function on given queries.

    Parameters
    ----------
    task, model : str, optional
        As in `Parameters`.
    fn : callable, optional
        Measure ``fn(query)`` instead of a model; needs `queries`.
    queries : sequence, optional
        Arguments of `fn`, one per call.
    parameters : Parameters, optional
        All parameters at once; exclusive with `task`, `model` and `more`.
    output_folder : path, optional
        Write ``record.json`` there. Nothing is written by default.
    meters : sequence of Meter, optional
        Meters whose energy is rated, instead of those chosen by the parameters.
    clock : Clock, optional
        The meters' clock.
    **more
        Any other parameter by name.

    Returns
    -------
    Record
        Check ``record.valid``: a session that could not measure every query has no total, but reasons.

    Raises
    ------
    ParameterError
        If a parameter is unknown or not allowed.
    EnergylabError
        If data, model or meter are not available.

    Examples
    --------
    >>> record = energylab.measure(task="sentence_similarity", model="sentence-transformers/all-MiniLM-L6-v2")
    >>> record = energylab.measure(fn=my_function, queries=my_inputs)
    """
    given = {name: value for name, value in {"task": task, "model": model, **more}.items() if value is not None}
    if parameters is not None and given:
        raise ParameterError(f"parameters and {', '.join(given)} exclude each other; give either of them")
    if (fn is None) != (queries is None):
        raise ParameterError("fn and queries must be given together: fn is called with each of queries")
    if task is not None and model is None and fn is None and task != Parameters().task:
        raise ParameterError(
            f"task={task!r} needs a model; name one, for example from params/architectures/ (random weights)"
        )
    parameters = parameters or Parameters.check({**given, **more})
    if fn is not None:
        if task is not None or model is not None:
            raise ParameterError("fn and task or model exclude each other; leave task and model out, or leave fn out")
        parameters = FunctionSubject.parameters_of(fn, parameters)
    if output_folder is not None:
        from energylab import store

        store.check_folder(output_folder)  # fail before hours of measuring
    subject = TaskSubject(parameters) if fn is None else FunctionSubject(parameters, fn, queries)
    record, _ = measure_subject(subject, parameters, choose_instruments(parameters, meters), clock)
    if output_folder is not None:
        store.write(record, output_folder)
    return record


def check(namespace: Mapping[str, Any]) -> Parameters:
    """Check a notebook's parameters (its ``globals()``), task, model and devices before anything is loaded.

    Raises
    ------
    EnergylabError
        Names what is wrong, what is allowed and the nearest match.
    """
    from energylab import store

    parameters = Parameters.from_notebook(namespace)
    if parameters.record is not None:
        store.read_record(parameters.record)
        return parameters
    task = tasks.load_task(parameters)
    found = machine_devices.devices_of(parameters)
    machine_meters.choose(parameters, found)
    task.check(torch_name(found[0]), found)
    if parameters.peers is not None:
        from energylab.statistics import stopping

        stopping.read_peers(parameters.peers)
    store.check_folder(output_folder(parameters))
    return parameters


def run(parameters: Parameters) -> Record:
    """Measure and write the record, as the benchmark notebook does; or read the record that is named."""
    if parameters.record is not None:
        from energylab import store

        return store.read_record(parameters.record)
    with quiet_imports():
        return measure(parameters=parameters, output_folder=output_folder(parameters))


def output_folder(parameters: Parameters) -> Path:
    """Return the folder to which the benchmark notebook writes its record: named, or one per job."""
    return Path(parameters.output_folder or results_root(parameters.params) / "notebook" / parameters.job_id)


def choose_instruments(parameters: Parameters, given: Sequence[Meter] | None = None) -> Instruments:
    """Find devices and meters by the parameters, or use the given meters."""
    if given is None:
        return machine_meters.choose(parameters, machine_devices.devices_of(parameters))
    if all(getattr(meter, "kind", None) == "simulated" for meter in given):
        boards = [{"uuid": getattr(meter, "device", None), "power_limit_w": meter.power_limit_w} for meter in given]
        devices = tuple(DeviceFacts(name="simulated board", type="simulated", **board) for board in boards)
    else:
        devices = machine_devices.devices_of(parameters)
    return Instruments(devices, tuple(given), (), "given by the caller")


class Subject:
    """The measured object: a model on a task, or a function, in this process or in a sealed container."""

    model: ModelFacts  # this and the next two are complete after `load`
    data: DataFacts
    phases: tuple[str, ...]

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load data and model, and return the workload."""
        raise NotImplementedError

    def task_facts(self) -> TaskFacts:
        """Return the task and its settings as used; after `load`."""
        raise NotImplementedError

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        """Score the answers, by number of the query."""
        return ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return facts about the answers for the record's ``extra``."""
        return {}


def measure_subject(
    subject: Subject, parameters: Parameters, instruments: Instruments, clock: Clock | None = None
) -> tuple[Record, Session]:
    """Measure a subject; return the record, and the session with the readings behind it."""
    rule = _stop_rule(subject, parameters, instruments)
    session = run_session(
        lambda: subject.load(instruments.devices),
        instruments.rated_meters,
        Settings.of(parameters),
        extra_meters=instruments.extra_meters,
        clock=clock,
        stop=rule,
        resident=parameters.model_source == "endpoint",
    )
    quality, extra = _score_answers(subject, session)
    record = Record(
        record_id=uuid.uuid4().hex,
        **parameters.model_dump(include={"repeat", "attempt"}),
        job_id=parameters.job_id,
        created_utc=datetime.now(UTC),
        energylab_version=energylab.__version__,
        **_cohort_facts(subject, parameters, instruments),
        **{name: getattr(session, name) for name in ("meters", "idle", "warm_up", "windows", "valid", "reasons")},
        phases=subject.phases,
        stop=rule.facts(session) if rule else None,
        quality=quality,
        parameters=parameters.model_dump(exclude=set(FOLDERS)),
        extra={"meter_choice": instruments.why, **extra},
    )
    return record, session


def _cohort_facts(subject: Subject, parameters: Parameters, instruments: Instruments) -> dict[str, Any]:
    """Return the facts that decide which records are comparable (the cohort); after the model is loaded."""
    protocol = ProtocolFacts(
        name=parameters.protocol,
        version=PROTOCOLS[parameters.protocol],
        seed=parameters.seed,
        runs=parameters.runs,
        settings=Settings.of(parameters).as_dict(),
    )
    return {
        "energy_kind": instruments.rated_meters[0].kind,
        "task": subject.task_facts(),
        "model": subject.model,
        "data": subject.data,
        "protocol": protocol,
        "devices": instruments.devices,
        "host": host_facts(),
    }


def _stop_rule(subject: Subject, parameters: Parameters, instruments: Instruments) -> StopRule | None:
    """Return the rule that may end the session early; None for all runs."""
    target, probability, peers = parameters.precision_target, parameters.star_probability, parameters.peers
    if target is None and probability is None:
        return None
    from energylab.statistics import stopping
    from energylab.table import cohort_key

    def queries() -> int:
        return subject.data.queries

    if peers is None:
        return stopping.StopRule(target, queries)
    table = stopping.read_peers(peers)

    def comparable(model: str | None) -> pd.DataFrame:
        key = cohort_key(SimpleNamespace(**_cohort_facts(subject, parameters, instruments), missing=()))
        return stopping.comparable_rows(table, key, subject.model.model_class, without=model)

    if target is not None:
        return stopping.StopRule(target, queries, shared=lambda: stopping.shared_of(comparable(None)))
    board = board_name(instruments.devices)
    scale = partial(stopping.scale_of, board=board, probability=probability)
    return stopping.StopRule(probability, queries, scale=lambda: scale(comparable(subject.model.name)))


def _score_answers(subject: Subject, session: Session) -> tuple[tuple[Quality, ...], dict[str, Any]]:
    """Score the answers. An error here is recorded and does not invalidate the energy."""
    why = session.unread
    if why is None:
        try:
            quality, extra = subject.score(session.answers), subject.extra(session.answers)
            to_json([extra, *(one.details for one in quality)])  # check that the record can be written
        except SealError:  # a violation of the sealed run's rules ends the session
            raise
        except Exception as error:  # noqa: BLE001 - the energy is valid whatever scoring raises
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    if why is not None:
        warnings.warn(f"the energy is measured, but the quality is unknown: {why}", stacklevel=2)
        answered = len(session.answers)
        return (Quality(metric="quality", value=None, queries=answered, meaningless=why),), {"unscored": why}
    if any("not_finite" in window.marks for window in session.windows):  # no answer was computed
        nothing = {"value": None, "meaningless": "outputs of the model are not finite numbers (NaN or infinity)"}
        quality = tuple(one.model_copy(update=nothing) for one in quality)
    return quality, extra


class TaskSubject(Subject):
    """A model on a task."""

    def __init__(self, parameters: Parameters) -> None:
        self.task = tasks.load_task(parameters)  # checks names before anything is loaded
        self.files = tasks.foreign_files(parameters.task, type(self.task), parameters.params)
        self.rows, self.data = self.task.load_rows()
        self.phases = tuple(self.task.phases)
        self.served = parameters.model_source == "endpoint"

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        self.workload = self._workload(devices)
        self.phases = self.workload.phases  # in some tasks they depend on the kind of model
        return self.workload

    def _workload(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load the model onto the devices; under a published protocol, the workload loads it later."""
        protocol = self.task.parameters.protocol
        if protocol != "steady":
            from energylab.protocol.published import PublishedWorkload

            self.task.open(torch_name(devices[0]))
            single_phase = protocol == "published-2025-12"
            return PublishedWorkload(self.task, self.rows, lambda: self._load_model(devices), single_phase)
        self._load_model(devices)
        if self.served:
            from energylab.protocol.served import ServedWorkload

            return ServedWorkload(self.task, self.rows, self.task.parameters.max_relative_bound)
        self.task.warm_up_longest(self.rows)
        return TaskWorkload(self.task, self.rows)

    def _load_model(self, devices: Sequence[DeviceFacts]) -> None:
        self.model, facts = self.task.load(torch_name(devices[0])), {"covariates": self.task.covariates(self.rows)}
        cut = facts["covariates"].get("truncated_tokens")
        if cut is not None:
            facts |= {"truncated_queries": sum(n > 0 for n in cut), "truncated_tokens": round(sum(cut))}
        self.data = self.data.model_copy(update=facts)
        if not self.served:
            check_torch_agrees(devices)

    def task_facts(self) -> TaskFacts:
        return TaskFacts(
            name=self.task.settings.name,
            version=self.task.settings.version,
            settings={**self.task.resolved_settings(), "runs": self.task.parameters.runs},
            overridden=self.task.overridden(),
            files=self.files,
            deviations=self.task.deviations(),
        )

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        answered = sorted(answers)
        return self.task.score([answers[i] for i in answered], [self.rows[i] for i in answered]) if answered else ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        serving = {"serving": self.workload.figures()} if self.served else {}
        return {**self.task.extra([answers[i] for i in sorted(answers)]), **serving}


class FunctionSubject(Subject):
    """Any function on given queries: one phase, no quality."""

    phases = FunctionWorkload.phases

    @staticmethod
    def parameters_of(fn: Callable[[Any], Any], parameters: Parameters) -> Parameters:
        """Name the job after the function, so that each function is a separate job."""
        if not callable(fn):
            raise ParameterError(f"fn={fn!r} is not callable; give a function of one query")
        if parameters.protocol != "steady":
            raise ParameterError(f"protocol={parameters.protocol!r} cannot measure a function; use protocol='steady'")
        name = getattr(fn, "__qualname__", type(fn).__name__)
        return parameters.model_copy(update={"task": "function", "model": name})

    def __init__(self, parameters: Parameters, fn: Callable[[Any], Any], queries: Sequence[Any]) -> None:
        self._fn, self._queries = fn, list(queries)
        if not self._queries:
            raise MeasurementError("queries is empty; give at least one query for fn")
        self.model = ModelFacts(name=parameters.model, source="function", dtype=parameters.dtype)
        digest = data.digest({"query": query} for query in self._queries)
        self.data = DataFacts(name="given", source="given", digest=digest, queries=len(self._queries))

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        check_torch_agrees(devices)
        return FunctionWorkload(self._fn, self._queries, [one.index for one in devices if one.type == "cuda"])

    def task_facts(self) -> TaskFacts:
        return TaskFacts(name="function", version="1", settings={"samples": len(self._queries), "batch_size": 1})
