"""From parameters to a record: load, measure by the protocol, score, describe.

Not called `measure`, which would hide the function `energylab.measure`.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

import energylab
from energylab import devices as machine_devices
from energylab import meters as machine_meters
from energylab import store, tasks
from energylab.clock import Clock
from energylab.devices import check_torch_agrees, host_facts, torch_name
from energylab.errors import MeasurementError, ParameterError, SealError
from energylab.meters import Instruments, Meter
from energylab.parameters import FOLDERS, PROTOCOLS, Parameters
from energylab.paths import results_root
from energylab.protocol import Settings
from energylab.protocol.session import Session, run_session
from energylab.protocol.workload import FunctionWorkload, TaskWorkload, Workload
from energylab.record import DataFacts, DeviceFacts, ModelFacts, ProtocolFacts, Quality, Record, TaskFacts, board_name
from energylab.tasks import data
from energylab.tasks.models import quiet_imports

if TYPE_CHECKING:
    import pandas as pd

    from energylab.protocol.served import ServedWorkload
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
    """Measure a model on a task, or any function on queries of one's own.

    Parameters
    ----------
    task, model : str, optional
        As in `Parameters`.
    fn : callable, optional
        Measure ``fn(query)`` instead of a model; needs `queries`.
    queries : sequence, optional
        What `fn` is called with.
    parameters : Parameters, optional
        All parameters at once; exclusive with `task`, `model` and `more`.
    output_folder : path, optional
        Write ``record.json`` there. Nothing is written by default.
    meters : sequence of Meter, optional
        Meters to score by, in place of those the parameters choose.
    clock : Clock, optional
        The meters' clock.
    **more
        Any other parameter by name.

    Returns
    -------
    Record
        Check ``record.valid``: a session that could not measure every query has no total, and says why.

    Raises
    ------
    ParameterError
        If a parameter is unknown or not allowed.
    EnergylabError
        If data, model or meter cannot be had.

    Examples
    --------
    >>> record = energylab.measure(task="sentence_similarity", model="sentence-transformers/all-MiniLM-L6-v2")
    >>> record = energylab.measure(fn=my_function, queries=my_inputs)
    """
    named = {name: value for name, value in {"task": task, "model": model}.items() if value is not None}
    if parameters is not None and (named or more):
        raise ParameterError(f"give either parameters or single values, not both: {', '.join([*named, *more])}")
    if fn is not None and named:
        raise ParameterError("fn measures a function: leave task and model out, or leave fn out")
    if (fn is None) != (queries is None):
        raise ParameterError("fn and queries come together: fn is called with each of queries")
    if fn is not None and not callable(fn):
        raise ParameterError(f"fn={fn!r} cannot be called; give a function of one query")
    if task is not None and model is None and task != Parameters().task:
        raise ParameterError(
            f"task={task!r} without a model; name one, for example a row of params/architectures/ (random weights)"
        )
    parameters = parameters or Parameters.check({**named, **more})
    if fn is not None:  # what a function is asked is no task's, and another function is another job
        parameters = parameters.model_copy(update={"task": FunctionSubject.task, "model": FunctionSubject.name_of(fn)})
    if output_folder is not None:
        store.check_folder(output_folder)  # or hours of measuring would end in an error
    subject = TaskSubject(parameters) if fn is None else FunctionSubject(parameters, fn, queries)
    record, _ = measure_subject(subject, parameters, choose_instruments(parameters, meters), clock)
    if output_folder is not None:
        store.write(record, output_folder)
    return record


def check(namespace: Mapping[str, Any]) -> Parameters:
    """Check a notebook's parameters, task, model and devices before anything is loaded.

    Parameters
    ----------
    namespace : mapping
        The notebook's ``globals()``.

    Returns
    -------
    Parameters

    Raises
    ------
    EnergylabError
        Names what is wrong, what is allowed and the nearest match.
    """
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
    """Do what the benchmark notebook does: measure and write the record, or show the one that is named.

    Returns
    -------
    Record
        Just written to `output_folder`; or read from ``parameters.record``, nothing measured.
    """
    if parameters.record is not None:
        return store.read_record(parameters.record)
    with quiet_imports():
        return measure(parameters=parameters, output_folder=output_folder(parameters))


def output_folder(parameters: Parameters) -> Path:
    """Return the folder the benchmark notebook writes its record to: a folder a job, unless one is named."""
    return Path(parameters.output_folder or results_root(parameters.params) / "notebook" / parameters.job_id)


def choose_instruments(parameters: Parameters, given: Sequence[Meter] | None = None) -> Instruments:
    """Find the devices and choose the meters that the parameters name, or describe the meters that are given."""
    if given is not None:
        return Instruments(_devices_of(given, parameters), tuple(given), (), "given by the caller")
    return machine_meters.choose(parameters, machine_devices.devices_of(parameters))


def _devices_of(meters: Sequence[Meter], parameters: Parameters) -> tuple[DeviceFacts, ...]:
    """Describe the devices that a caller's meters watch: those of the parameters, unless all are simulated."""
    if not all(meter.kind == "simulated" for meter in meters):
        return machine_devices.devices_of(parameters)
    return tuple(
        DeviceFacts(name="simulated board", type="simulated", uuid=meter.device, power_limit_w=meter.power_limit_w)
        for meter in meters
    )


def measure_subject(
    subject: Any, parameters: Parameters, instruments: Instruments, clock: Clock | None = None
) -> tuple[Record, Session]:
    """Measure a subject: what is loaded, asked and scored, here or elsewhere.

    Parameters
    ----------
    subject : object
        ``load(devices)`` returns the workload; afterwards ``model``, ``data``, ``phases``, ``task_facts()``,
        ``score(answers)`` and ``extra(answers)`` say what the record holds of it.
    parameters : Parameters
    instruments : Instruments
    clock : Clock, optional
        The meters' clock.

    Returns
    -------
    (Record, Session)
        The record, and the session with the readings behind it.
    """
    settings = Settings.of(parameters)
    rule = _stop_rule(subject, parameters, instruments)
    session = run_session(
        lambda: subject.load(instruments.devices),
        instruments.scored,
        settings,
        extra=instruments.extra,
        clock=clock,
        stop=rule,
        resident=parameters.model_source == "endpoint",
    )
    quality, extra = _of_answers(subject, session)
    record = Record(
        record_id=uuid.uuid4().hex,
        job_id=parameters.job_id,
        repeat=parameters.repeat,
        attempt=parameters.attempt,
        created_utc=datetime.now(UTC),
        energylab_version=energylab.__version__,
        **_loaded(subject, parameters, instruments, settings),
        meters=session.meters,
        phases=subject.phases,
        idle=session.idle,
        warm_up=session.warm_up,
        windows=session.windows,
        stop=rule.facts(session) if rule else None,
        quality=quality,
        parameters=parameters.model_dump(exclude=set(FOLDERS)),
        extra={"meter_choice": instruments.why, **extra},
        valid=session.valid,
        reasons=session.reasons,
    )
    return record, session


def _loaded(subject: Any, parameters: Parameters, instruments: Instruments, settings: Settings) -> dict[str, Any]:
    """Return what a record says of a session that has loaded its model: the facts that its cohort is made of."""
    return {
        "energy_kind": instruments.scored[0].kind,
        "task": subject.task_facts(),
        "model": subject.model,
        "data": subject.data,
        "protocol": ProtocolFacts(
            name=parameters.protocol,
            version=PROTOCOLS[parameters.protocol],
            seed=parameters.seed,
            runs=settings.runs,
            settings=settings.as_dict(),
        ),
        "devices": instruments.devices,
        "host": host_facts(),
    }


def _stop_rule(subject: Any, parameters: Parameters, instruments: Instruments) -> StopRule | None:
    """Return the rule that may end the session early; None for all runs."""
    target, probability, peers = parameters.precision_target, parameters.star_probability, parameters.peers
    if target is None and probability is None:
        return None
    from energylab.statistics import stopping
    from energylab.statistics.stopping import StopRule
    from energylab.table import cohort_key

    if peers is None:
        return StopRule(target, lambda: subject.data.queries)
    table = stopping.read_peers(peers)

    def comparable(model: str | None) -> pd.DataFrame:
        loaded = _loaded(subject, parameters, instruments, Settings.of(parameters))
        key = cohort_key(SimpleNamespace(**loaded, missing=()))
        return stopping.comparable_rows(table, key, subject.model.model_class, without=model)

    if target is not None:
        return StopRule(target, lambda: subject.data.queries, shared=lambda: stopping.shared_of(comparable(None)))
    board = board_name(instruments.devices)
    return StopRule(
        probability,
        lambda: subject.data.queries,
        scale=lambda: stopping.scale_of(comparable(subject.model.name), board, probability),
    )


def _of_answers(subject: Any, session: Session) -> tuple[tuple[Quality, ...], dict[str, Any]]:
    """Score the answers. What goes wrong here is kept in the record: it costs no measurement."""
    why = session.unread
    if why is None:
        try:
            quality, extra = subject.score(session.answers), subject.extra(session.answers)
            to_json([extra, *(one.details for one in quality)])  # what cannot be written would cost the record
            return _of_numbers(quality, session), extra
        except SealError:  # broken rules end the session
            raise
        except Exception as error:  # noqa: BLE001 - the energy is measured, whatever a score may raise
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    warnings.warn(f"the energy is measured, the quality is not known: {why}", stacklevel=2)
    return (Quality(metric="quality", value=None, queries=len(session.answers), meaningless=why),), {"unscored": why}


def _of_numbers(quality: tuple[Quality, ...], session: Session) -> tuple[Quality, ...]:
    """Return the quality without its values where outputs were not finite: no answer was computed then."""
    if not any("not_finite" in window.marks for window in session.windows):
        return quality
    why = "outputs of the model are not finite numbers (NaN or infinity)"
    return tuple(one.model_copy(update={"value": None, "meaningless": why}) for one in quality)


class TaskSubject:
    """A model on a task."""

    _served: ServedWorkload | None = None

    def __init__(self, parameters: Parameters) -> None:
        self.task = tasks.load_task(parameters)  # checks names before anything is loaded
        self.files = tasks.foreign_files(parameters.task, type(self.task), parameters.params)
        self.rows, self.data = self.task.load_rows()
        self.phases = tuple(self.task.phases)

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load what is asked onto the devices; under a published protocol, the workload loads its model later."""
        protocol = self.task.parameters.protocol
        if protocol != "steady":
            from energylab.protocol.published import PublishedWorkload

            self.task.open(torch_name(devices[0]))
            one_total = protocol == "published-2025-12"
            workload = PublishedWorkload(self.task, self.rows, lambda: self._load_model(devices), one_total)
            self.phases = workload.phases
            return workload
        self._load_model(devices)
        self.phases = tuple(self.task.phases)  # some tasks settle them by what kind of model was loaded
        if self._is_served:
            from energylab.protocol.served import ServedWorkload

            self._served = ServedWorkload(self.task, self.rows, self.task.parameters.max_relative_bound)
            return self._served
        self.task.warm_up_longest(self.rows)
        return TaskWorkload(self.task, self.rows)

    @property
    def _is_served(self) -> bool:
        return self.task.parameters.model_source == "endpoint"

    def _load_model(self, devices: Sequence[DeviceFacts]) -> None:
        self.model = self.task.load(torch_name(devices[0]))
        self.data = self.data.model_copy(update=_of_queries(self.task.covariates(self.rows)))
        if not self._is_served:
            check_torch_agrees(devices)

    def task_facts(self) -> TaskFacts:
        """Return what was asked, as used; after `load`."""
        return TaskFacts(
            name=self.task.settings.name,
            version=self.task.settings.version,
            settings={**self.task.resolved_settings(), "runs": self.task.parameters.runs},
            overridden=self.task.overridden(),
            files=self.files,
            deviations=self.task.deviations(),
        )

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        """Score the answers, by number of the query."""
        answered = sorted(answers)
        return self.task.score([answers[i] for i in answered], [self.rows[i] for i in answered]) if answered else ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return what the record holds of the answers beside their quality."""
        serving = {} if self._served is None else {"serving": self._served.figures()}
        return {**self.task.extra([answers[i] for i in sorted(answers)]), **serving}


def _of_queries(covariates: dict[str, tuple[float, ...]]) -> dict[str, Any]:
    """Return what the data's facts say of the queries: what is known beforehand of each, and what was cut of them."""
    cut = covariates.get("truncated_tokens")
    facts = {} if cut is None else {"truncated_queries": sum(n > 0 for n in cut), "truncated_tokens": round(sum(cut))}
    return {"covariates": covariates, **facts}


class FunctionSubject:
    """Any function on queries of one's own: one phase, no quality."""

    task = "function"
    phases = FunctionWorkload.phases

    @staticmethod
    def name_of(fn: Callable[[Any], Any]) -> str:
        """Return a function's name as a record has it."""
        return getattr(fn, "__qualname__", type(fn).__name__)

    def __init__(self, parameters: Parameters, fn: Callable[[Any], Any], queries: Sequence[Any]) -> None:
        self._fn, self._queries = fn, list(queries)
        if not self._queries:
            raise MeasurementError("queries is empty; give at least one query for fn")
        self.model = ModelFacts(name=self.name_of(fn), source="function", dtype=parameters.dtype)
        digest = data.digest({"query": query} for query in self._queries)
        self.data = DataFacts(name="given", source="given", digest=digest, queries=len(self._queries))

    def load(self, devices: Sequence[DeviceFacts]) -> Workload:
        """Load what is asked onto the devices, and return it as a workload."""
        check_torch_agrees(devices)
        boards = [device.index for device in devices if device.type == "cuda"]
        return FunctionWorkload(self._fn, self._queries, boards)

    def task_facts(self) -> TaskFacts:
        """Return what was asked, as used; after `load`."""
        return TaskFacts(name=self.task, version="1", settings={"samples": len(self._queries), "batch_size": 1})

    def score(self, answers: Mapping[int, Any]) -> tuple[Quality, ...]:
        """Score the answers, by number of the query."""
        return ()

    def extra(self, answers: Mapping[int, Any]) -> dict[str, Any]:
        """Return what the record holds of the answers beside their quality."""
        return {}
