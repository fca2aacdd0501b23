"""Conversion between records and statements: shown values, committed values, and derived ones.

`shown` takes from a record what leaves the owner's machine, field by field. `record_of` builds the public record from
it: energies from readings, settings from parameters and the task's own file, sizes from the weights' headers. So no
two places of a bundle can disagree, and nothing that a container said decides a size class.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab import tasks
from energylab.errors import BundleError, ParameterError, unknown_name
from energylab.parameters import PROTOCOLS, Parameters
from energylab.protocol.settings import Settings
from energylab.protocol.validity import POLL_S
from energylab.record import (
    PHASES,
    DataFacts,
    MeterFacts,
    MeterReadings,
    ModelFacts,
    ProtocolFacts,
    Quality,
    QueryFailure,
    Record,
    TaskFacts,
    Window,
    canonical_json,
)
from energylab.tasks.base import Task
from energylab.tasks.models import model_class
from energylab_portal.sealed.statement import ALIAS, ClosedRun, Edges, Point, Score, SealedWindow, Weights

#: Replaces a private text.
WITHHELD = "withheld"

#: Parameters that reveal nothing about the model or the machine's folders.
SHOWN = (
    "task", "data_source", "samples", "runs", "window_s", "batch_size", "dtype", "new_tokens", "diffusion_steps",
    "quantisation", "attention", "compile", "gpus", "meter", "cpu_core_w", "idle_s", "warm_up_min_s", "warm_up_max_s",
    "max_attempts", "max_relative_bound", "seed", "repeat", "attempt",
)  # fmt: skip

#: Bits of a value by its safetensors type; each value is one weight.
WHOLE = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
PACKED = {"I64": 64, "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16, "I8": 8, "U8": 8}
PRECISION = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
#: Bits of a weight quantised at loading, by a part of the method's name.
LOADED_BITS = {"4": 4, "fp8": 8, "8": 8}
#: Maximal numbers of runs and queries of a statement.
MOST_RUNS, MOST_QUERIES = 200, 100_000
#: Largest ratio of instantaneous power to the limit, which is enforced over milliseconds.
PEAK = 1.5


@dataclass(frozen=True)
class Known:
    """A verifier's facts on a run's task, none of them from the bundle."""

    parameters: Parameters
    task: Task
    data: DataFacts
    facts: TaskFacts


def known(parameters: dict[str, Any], params: str | Path | None) -> Known:
    """Find a task of energylab by name, and make its rows if they are not from the hub."""
    name = parameters.get("task")
    names = sorted(file.stem for file in (own_params(params) / "tasks").glob("*.yaml"))
    if name not in names:
        raise unknown_name("task", str(name)[:60], names, hint="a sealed run takes energylab's own tasks")
    checked = Parameters.check({**parameters, "params": str(own_params(params))})
    if checked.runs > MOST_RUNS or checked.samples > MOST_QUERIES:
        raise BundleError(f"runs={checked.runs}, samples={checked.samples}: at most {MOST_RUNS} and {MOST_QUERIES:,}")
    task = tasks.load_task(checked)
    data = DataFacts(name=None, source=checked.data_source, digest=None, queries=checked.samples)
    if checked.data_source != "hub":
        data = task.load_rows()[1]
    return Known(checked, task, data, task_facts(task))


def own_params(explicit: str | Path | None) -> Path:
    """Return the named parameter folder, or that of the package; never one next to a bundle."""
    if explicit is not None:
        return Path(explicit)
    import energylab

    package = Path(energylab.__file__).parent
    return next(one for one in (package.parent / "params", package / "_params") if (one / "tasks").is_dir())


def task_facts(task: Task) -> TaskFacts:
    return TaskFacts(
        name=task.settings.name,
        version=task.settings.version,
        settings={**task.resolved_settings(), "runs": task.parameters.runs},
        overridden=task.overridden(),
    )


def shown(record: Record, edges: Sequence[Sequence[tuple]], origin_s: float, alias: str, **more: Any) -> ClosedRun:
    """Return the shown values of a record, field by field."""
    data = record.data
    reason = WITHHELD if "failed:" in record.warm_up.reason else record.warm_up.reason
    return ClosedRun(
        created_utc=record.created_utc,
        energylab_version=record.energylab_version,
        name=alias,
        parameters={name: record.parameters[name] for name in SHOWN},
        task_version=record.task.version,
        protocol_version=record.protocol.version,
        data_digest=data.digest,
        covariates=data.covariates,
        truncated=(data.truncated_queries, data.truncated_tokens),
        attention=record.model.attention,
        devices=record.devices,
        meters=tuple(meter for meter in record.meters if meter.scored),
        host=record.host,
        idle=record.idle,
        warm_up=record.warm_up.model_copy(update={"reason": reason}),
        windows=tuple(
            _shown_window(window, pairs, origin_s) for window, pairs in zip(record.windows, edges, strict=True)
        ),
        scores=tuple(Score(metric=one.metric, value=one.value, queries=one.queries) for one in record.quality),
        **more,
    )


def _shown_window(window: Window, pairs: Sequence[tuple], origin_s: float) -> SealedWindow:
    def point(reading: Any) -> Point | None:
        return None if reading is None else Point(time_s=reading.time_s - origin_s, energy_j=reading.energy_j)

    same = {name: getattr(window, name) for name in SealedWindow.model_fields if name in Window.model_fields}
    edges = tuple(
        Edges(start=point(start), stop=point(stop), bound_j=part.bound_j, max_power_w=part.max_power_w)
        for (start, stop), part in zip(pairs, window.meters, strict=False)
    )
    return SealedWindow(**same, edges=edges, failed=len(window.failures))


def private_of(record: Record, answers: dict[int, str], hashes: dict[str, str]) -> dict[str, Any]:
    """Return the committed values by name: all values of a record that are not shown."""
    failures = [[failure.message for failure in window.failures] for window in record.windows]
    return {
        "model": record.model.model_dump(mode="json"),
        "parameters": record.parameters,
        "extra": record.extra,
        "quality": [one.model_dump(mode="json") for one in record.quality],
        "messages": {"reasons": list(record.reasons), "warm_up": record.warm_up.reason, "failures": failures},
        "outputs": {str(query): answers[query] for query in sorted(answers)},
        "weights": hashes,
    }


def record_of(run: ClosedRun, of: Known) -> Record:
    """Build the public record of a run; see the module's docstring."""
    for what, told, ours in (
        ("task", run.task_version, of.facts.version), ("protocol", run.protocol_version, PROTOCOLS["steady"]),
    ):  # fmt: skip
        if told != ours:
            raise BundleError(f"{what} version {told!r}: this energylab has {ours!r}; use the same version")
    if sorted(run.parameters) != sorted(SHOWN):
        raise BundleError(f"the parameters must be: {', '.join(SHOWN)}")
    parameters, settings = of.parameters, Settings.of(of.parameters)
    windows = tuple(_window(run, of, index) for index in range(len(run.windows)))
    return Record(
        record_id=run.measurement_id,
        job_id=hashlib.sha256(canonical_json([run.name, run.parameters])).hexdigest()[:16],
        repeat=parameters.repeat,
        attempt=parameters.attempt,
        created_utc=run.created_utc,
        energylab_version=run.energylab_version,
        energy_kind=run.meters[0].kind,
        task=of.facts,
        model=_model(run, of),
        data=of.data.model_copy(update={
            "digest": run.data_digest, "covariates": run.covariates, "truncated_queries": run.truncated[0],
            "truncated_tokens": run.truncated[1],
        }),
        protocol=ProtocolFacts(
            name="steady", version=PROTOCOLS["steady"], seed=parameters.seed, runs=settings.runs,
            settings=settings.as_dict(),
        ),
        devices=run.devices,
        meters=run.meters,
        host=run.host,
        phases=tuple(phase for phase in PHASES if any(window.phase == phase for window in windows)),
        idle=run.idle,
        warm_up=run.warm_up,
        windows=windows,
        quality=tuple(Quality(**score.model_dump()) for score in run.scores),
        parameters=run.parameters,
        valid=True,  # `energylab_portal.sealed.checks.coverage` refuses incomplete runs
    )  # fmt: skip


def _window(run: ClosedRun, of: Known, index: int) -> Window:
    told = run.windows[index]
    reasons = told.reasons
    whole = len(told.edges) == len(run.meters) and all(edge.start and edge.stop for edge in told.edges)
    if not reasons and not whole:
        raise BundleError(f"window {index} is valid, but lacks readings of a scored meter")
    parts = tuple(_part(run, meter, edge) for meter, edge in zip(run.meters, told.edges, strict=False))
    bounds = [part.bound_j for part in parts]
    made = {"prefill": 1, "generate": getattr(of.task, "new_tokens", None)}.get(told.phase)
    exact = isinstance(made, int) and of.facts.name != "reasoning"
    return Window(
        index=index,
        **told.model_dump(include={"run", "phase", "block", "attempt", "queries", "replications", "input_tokens"}),
        output_tokens=made * len(told.queries) if exact and told.output_tokens is not None else told.output_tokens,
        start_s=told.edges[0].start.time_s if whole else 0.0,
        duration_s=max(edge.stop.time_s - edge.start.time_s for edge in told.edges) if whole else 0.0,
        meters=parts,
        energy_j=sum(part.energy_j for part in parts) if whole else None,
        bound_j=sum(bounds) if whole and None not in bounds else None,
        states=told.states,
        failures=tuple(
            QueryFailure(query=query, error=WITHHELD, message=WITHHELD) for query in told.queries[: told.failed]
        ),
        valid=not reasons,
        reasons=reasons,
        marks=told.marks,
    )


def _part(run: ClosedRun, meter: MeterFacts, edge: Edges) -> MeterReadings:
    """Return one meter's energy of a window; its bound is limited to the plausible range of the meter."""
    if edge.start is None or edge.stop is None:
        return MeterReadings(meter=meter.name, device=meter.device, energy_j=None)
    energy_j, seconds = edge.stop.energy_j - edge.start.energy_j, edge.stop.time_s - edge.start.time_s
    if meter.kind == "estimated":
        return MeterReadings(meter=meter.name, device=meter.device, energy_j=energy_j)
    mean_w = energy_j / seconds if seconds > 0 else 0.0
    limit_w = next((one.power_limit_w for one in run.devices if one.uuid == meter.device), None) or mean_w
    power_w = min(max(edge.max_power_w or 0.0, mean_w), max(limit_w * PEAK, mean_w))
    most_s = meter.latency_s if meter.update_period_s is None else meter.update_period_s + 2 * POLL_S
    least_s = 0.0 if meter.update_period_s is None else POLL_S
    least_j, most_j = (2 * (late_s * power_w + meter.quantum_j) for late_s in (least_s, most_s))
    bound_j = min(max(edge.bound_j or 0.0, least_j), most_j)
    return MeterReadings(meter=meter.name, device=meter.device, energy_j=energy_j, bound_j=bound_j, max_power_w=power_w)


def weight_count(weights: Weights) -> int:
    """Return the number of weights in the files, including those packed into integers."""
    whole = sum(count for kind, count in weights.elements.items() if kind in WHOLE)
    packed_bits = sum(count * PACKED[kind] for kind, count in weights.elements.items() if kind in PACKED)
    if packed_bits > 16 * whole and weights.packed_bits is None:
        raise BundleError("the weights are packed integers, but the configuration lacks their number of bits")
    count = whole + (packed_bits // weights.packed_bits if weights.packed_bits else 0)
    stored_bits = packed_bits + sum(weights.elements.get(kind, 0) * bits for kind, bits in WHOLE.items())
    if not count or stored_bits > 8 * weights.bytes:
        raise BundleError("the weight files are smaller than their headers state; save them again as safetensors")
    return count


def loaded_bits(run: ClosedRun, of: Known) -> float:
    """Return the bits of a weight in memory: quantised, of the requested precision, or as stored."""
    asked = of.parameters.quantisation
    if asked is not None:
        return next((bits for name, bits in LOADED_BITS.items() if name in asked.lower()), 8)
    if run.weights.packed_bits is not None:
        return run.weights.packed_bits
    return BITS[_dtype(run, of)]


def _dtype(run: ClosedRun, of: Known) -> str:
    """Return the precision of the computation: the requested one, or that of most stored weights."""
    asked = of.facts.settings.get("dtype")
    if asked in BITS:
        return asked
    stored = max((kind for kind in run.weights.elements if kind in PRECISION), key=run.weights.elements.get, default="")
    return PRECISION.get(stored, "float16")


def _model(run: ClosedRun, of: Known) -> ModelFacts:
    count = weight_count(run.weights)
    packed = None if run.weights.packed_bits is None else f"{run.weights.packed_bits}-bit, as the checkpoint"
    return ModelFacts(
        name=run.name,
        source="path",
        parameters=count,
        model_class=model_class(count, of.task.settings.model_classes),
        dtype=_dtype(run, of),
        quantisation=of.parameters.quantisation or packed,
        attention=run.attention,
        compiled=of.parameters.compile,
        weights_bytes=round(count * loaded_bits(run, of) / 8),
    )


def checked_alias(name: str) -> str:
    """Check and return the public name of a closed model."""
    if not re.fullmatch(ALIAS, name):
        raise ParameterError(f"public name {name[:80]!r}: use 3 to 60 letters, digits, spaces or characters of ._-")
    return name
