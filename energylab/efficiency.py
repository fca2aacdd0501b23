"""What saves energy for one model on one device: a sweep, the device's limits, the Pareto front, and advice."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, Field, field_validator

from energylab.energy import run_energies_j, scored_totals, session_energy_j, totals
from energylab.errors import MeasurementError, ModelError
from energylab.files import write_whole
from energylab.overheads import seconds_a_query
from energylab.parameters import NotebookParameters, Parameters
from energylab.paths import results_root
from energylab.record import EnergyKind, Record
from energylab.statistics.uncertainty import mean_interval
from energylab.studies import devices as device_names
from energylab.studies import plan as planning
from energylab.studies.run import local
from energylab.studies.run import run as run_jobs
from energylab.studies.state import StudyFolder

if TYPE_CHECKING:
    import pandas as pd

#: Tracks of settings; only figures of one track are strictly comparable.
BASE, OPTIMISED, SERVED = "as loaded", "optimised", "served"

#: Lists of the notebook: the parameter that each varies, the type of its values, and the label of a value.
KNOBS = {
    "batch_sizes": ("batch_size", int, "batch {}"),
    "dtypes": ("dtype", str, "{}"),
    "quantisations": ("quantisation", str, "{}"),
    "attentions": ("attention", str, "{} attention"),
    "output_lengths": ("new_tokens", int, "{} new tokens"),
    "concurrencies": ("concurrency", int, "{} at once"),
}

#: Parts of a query's energy, and what to do if one is the largest.
PARTS = {
    "static": "idle power for the duration of the answer: keep the device busy (batch), or finish sooner",
    "memory": "reading the weights, once per token and batch: read fewer bytes (smaller weights), or batch",
    "arithmetic": "the model's multiplications: use a lower precision, fewer tokens, or a smaller model",
    "rest": "launching small steps and waiting between them: cut the overhead (static cache, torch.compile), or batch",
}

#: Quality metrics for which lower is better.
LESS_IS_BETTER = ("bits_per_byte",)

#: Side of the square matrices and bytes of the copied block: large enough to use the whole device, small enough to be
#: quick.
SIZES = {"cuda": (8192, 2 << 30), "cpu": (768, 128 << 20)}

NAN = float("nan")


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep: its differences from the base, its records, and reasons for missing ones."""

    label: str
    track: str  # BASE, OPTIMISED or SERVED
    values: dict[str, Any]
    records: tuple[Record, ...] = ()
    missing: str = ""


class EfficiencyParameters(NotebookParameters):
    """Parameters of notebook 07. Lists are text with values separated by commas; empty lists are skipped."""

    model: str = Field("tiny-llama", description="architecture name, folder or hub id of a decoder")
    model_source: str = Field("random", description="random | path | hub; quantisation needs stored weights")
    data_source: str = Field("sample", description="hub | sample | synthetic")
    name: str = Field("efficiency", description="name of the study: its records are kept in results/NAME")
    devices: str = Field("auto", description="auto | cpu | a GPU by index or UUID: one device is used")
    dtype: str = Field("float32", description="precision of the base; text generation is published in float16")
    new_tokens: int = Field(16, ge=1, description="length of the base's answers, in tokens")
    batch_sizes: str = Field("8", description="queries a batch; the base asks one at a time")
    dtypes: str = Field("bfloat16", description="further precisions")
    quantisations: str = Field("", description="int8, fp8, bitsandbytes-4bit …")
    attentions: str = Field("eager", description="eager, sdpa, flash_attention_2 …; the base: the library's choice")
    output_lengths: str = Field("4", description="further lengths of answers, in tokens")
    concurrencies: str = Field("", description="requests at once on `transformers serve`: 1,4,16; empty: no server")
    compile: bool = Field(False, description="torch.compile in the optimised track; a GPU compiles without being asked")
    samples: int = Field(8, ge=1, description="queries of one run; 100 or more for a real model")
    runs: int = Field(3, ge=2, description="runs of each session: two or more, to tell differences from noise")
    repeats: int = Field(1, ge=1, description="sessions of each setting: 3 for intervals between sessions")
    window_s: float = Field(0.1, gt=0, description="shortest window in seconds; 10 where a counter ticks every 100 ms")
    idle_s: float = Field(0.1, gt=0, description="seconds each idle level is observed; 10 on a GPU")
    warm_up_min_s: float = Field(0.1, ge=0, description="shortest warm-up in seconds; 10 on a GPU")
    warm_up_max_s: float = Field(0.5, gt=0, description="longest warm-up in seconds; 300 on a GPU")
    max_relative_bound: float = Field(0.05, gt=0, lt=1, description="largest error bound of a window, relative")
    calibration_s: float = Field(0.2, gt=0, description="window of the device's limits in seconds; 5 on a GPU")
    meter: str = Field("auto", description="auto | nvml | rapl | estimate …: the meter that is scored")

    @field_validator("batch_sizes", "output_lengths", "concurrencies")
    @classmethod
    def _counts(cls, text: str) -> str:
        if any(not part.isdecimal() or int(part) < 1 for part in listed(text)):
            raise ValueError(f"every value of {text!r} must be a whole number of 1 or more, separated by commas")
        return text

    @property
    def base(self) -> dict[str, Any]:
        """The parameters of the base's session."""
        same = self.model_dump(include=Parameters.model_fields.keys() - {"compile"})
        return {"task": "text_generation", "batch_size": 1, **same}

    @property
    def settings(self) -> list[Setting]:
        """The base, every change of a single parameter, the optimised track, and loads on a server."""
        found = [Setting("base", BASE, {})]
        for name, (knob, kind, words) in KNOBS.items():
            values = [kind(part) for part in listed(getattr(self, name))]
            track = SERVED if knob == "concurrency" else BASE
            found += [Setting(words.format(one), track, {knob: one}) for one in values if one != self.base.get(knob)]
        faster = {"cache": "static"} | ({"compile": True} if self.compile else {})
        label = "static cache, compiled" if self.compile else "static cache"
        largest = max(map(int, listed(self.batch_sizes)), default=1)
        found.append(Setting(label, OPTIMISED, faster))
        if largest > 1:
            found.append(Setting(f"{label}, batch {largest}", OPTIMISED, {**faster, "batch_size": largest}))
        return sorted(found, key=lambda one: one.track == SERVED)

    @property
    def inside(self) -> list[Setting]:
        """The settings without a server."""
        return [one for one in self.settings if one.track != SERVED]


def listed(text: str) -> list[str]:
    """Read a notebook's list: values separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def plan(name: str, base: Mapping[str, Any], tried: Sequence[Setting], repeats: int = 1) -> planning.Plan:
    """Return settings as a study of the benchmark notebook, every job's parameters checked."""
    study = {"title": f"What saves energy: {name}", "repeats": repeats, "parameters": dict(base)}
    study["include"] = [one.values for one in tried]
    return planning.from_text(yaml.safe_dump(study, sort_keys=False), name)


def check(namespace: Mapping[str, Any]) -> EfficiencyParameters:
    """Check the notebook's parameters and those of every session, before anything is measured."""
    asked = EfficiencyParameters.from_notebook(namespace)
    plan(asked.name, asked.base, asked.inside, asked.repeats)
    return asked


def measure(asked: EfficiencyParameters) -> list[Setting]:
    """Measure all settings without a record, the base first, and return all with their records."""
    loads = [one for one in asked.settings if one.track == SERVED]
    measured = _run(asked, asked.name, asked.base, asked.inside)
    if not loads:
        return measured
    with _endpoint(asked) as (endpoint, name):
        served = {key: value for key, value in asked.base.items() if key != "batch_size"}
        served |= {"model": name, "model_source": "endpoint", "endpoint": endpoint}
        return measured + _run(asked, f"{asked.name}-served", served, loads)


def _run(asked: EfficiencyParameters, name: str, base: Mapping[str, Any], tried: Sequence[Setting]) -> list[Setting]:
    """Measure settings one after the other on one device, as a study of that name."""
    planned, folder = plan(name, base, tried, asked.repeats), StudyFolder(name, results_root())
    planning.check(planned)
    run_jobs(planned, folder, partial(local, devices=device_names.available(asked.devices)[0]))
    states, found = folder.states(planned), []
    for one in tried:
        wanted = {**base, **one.values, "repeat": 0}
        mine = [state for job, state in states.items() if {**job.values, "repeat": 0} == wanted]
        records = tuple(state.record for state in mine if state.measured)
        lacking = dict.fromkeys(state.reason or state.status for state in mine if not state.measured)
        found.append(replace(one, records=records, missing="; ".join(lacking)))
    return found


@contextlib.contextmanager
def _endpoint(asked: EfficiencyParameters) -> Iterator[tuple[str, str]]:
    """Serve the model with ``transformers serve``, and yield the endpoint and the model's name there."""
    from energylab.serving.processes import transformers_serve
    from energylab.tasks.served import store_random

    folder = results_root() / asked.name / "model"
    random = asked.model_source == "random"
    served = str(store_random(asked.model, folder, dtype=asked.dtype)) if random else asked.model
    with transformers_serve(served, "--continuous-batching", "--dtype", asked.dtype) as endpoint:
        yield endpoint, served


class Cost(BaseModel, frozen=True, extra="forbid"):
    """Energy of one operation, or one byte, at full speed."""

    per_s: float  # operations or bytes per second
    j: float  # joules of one, with idle power
    above_rest_j: float  # joules of one, without idle power


class Limits(BaseModel, frozen=True, extra="forbid"):
    """The measured limits of one device."""

    device: str  # its name
    energy_kind: EnergyKind  # kind of all energies
    rest_w: float  # idle power, with a context
    flop: dict[str, Cost]  # per floating-point operation, by precision
    byte: Cost  # per byte read or written


def measure_limits(dtypes: Sequence[str], device: str = "auto", window_s: float = 0.5, meters: Any = None) -> Limits:
    """Measure the limits of a device with a large matrix product, a large copy and at rest, by the usual protocol."""
    import torch

    import energylab
    from energylab.devices import resolve_devices, torch_name

    where = torch_name(resolve_devices(device, 1)[0])
    side, block = SIZES[where.partition(":")[0]]

    def run(fn: Callable[[Any], Any]) -> Record:
        record = energylab.measure(
            fn=fn, queries=[0], meters=meters, device=device, runs=3, window_s=window_s, idle_s=min(window_s, 2.0),
            warm_up_min_s=window_s / 2, warm_up_max_s=4 * window_s,
        )  # fmt: skip
        if not record.valid or record.idle_with_model_w is None:
            why = "; ".join(record.reasons) or "its idle power is unknown; lengthen calibration_s"
            raise MeasurementError(f"the limits of {record.devices[0].name} are unknown: {why}")
        return record

    def product(dtype: str) -> Cost:
        left, right, out = (torch.randn(side, side, device=where).to(getattr(torch, dtype)) for _ in range(3))
        return cost(run(lambda _: torch.mm(left, right, out=out)), 2 * side**3, rest_w)

    source, target = (torch.ones(block, device=where, dtype=torch.uint8) for _ in range(2))
    copied = run(lambda _: target.copy_(source))
    rest_w = copied.idle_with_model_w
    return Limits(
        device=copied.devices[0].name,
        energy_kind=copied.energy_kind,
        rest_w=rest_w,
        flop={dtype: product(dtype) for dtype in dtypes},
        byte=cost(copied, 2 * block, rest_w),  # read and written
    )


def cost(record: Record, amount: float, rest_w: float) -> Cost:
    """Return the energy of each of `amount` operations or bytes in a record of a single query."""
    energy_j, seconds = session_energy_j(record), seconds_a_query(record)
    above_j = max(energy_j - rest_w * seconds, 0.0)  # a negative difference is noise
    return Cost(per_s=amount / seconds, j=energy_j / amount, above_rest_j=above_j / amount)


def calibrate(asked: EfficiencyParameters) -> Limits:
    """Measure the device's limits for all precisions of the sweep, after the sweep, or read earlier results.

    This runs in a separate process, so that the notebook holds no context on the board.
    """
    file = results_root() / asked.name / "limits.json"
    dtypes = list(dict.fromkeys([asked.dtype, *listed(asked.dtypes)]))
    known = Limits.model_validate_json(file.read_bytes()) if file.is_file() else None
    if known and set(dtypes) <= known.flop.keys():
        return known
    lease = (device_names.available(asked.devices)[0],)
    target = "cpu" if lease == (device_names.CPU,) else "cuda"
    with ProcessPoolExecutor(1, get_context("spawn"), _show, (device_names.environment(lease),)) as process:
        try:
            limits = process.submit(measure_limits, dtypes, target, asked.calibration_s).result()
        except (RuntimeError, MemoryError) as error:  # no memory for the products, or the process was killed
            what = f"the device's limits could not be measured: {type(error).__name__}: {error}"
            raise MeasurementError(f"{what}; run this cell again when no other program uses the device") from error
    write_whole(file, limits.model_dump_json(indent=1))
    return limits


def _show(environment: dict[str, str]) -> None:
    os.environ.update(environment)


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder that determine its lower bound."""

    body: int  # weights used by every token: all but the embedding table and the output layer
    head: int  # weights of the output layer, used once per new token
    parameters: int  # all weights
    kv_values: int  # cached numbers per token: keys and values of all layers
    attention_flop: int  # operations per pair of tokens in attention, all layers


def shape_of(parameters: Parameters) -> Shape:
    """Return the sizes of a decoder from its configuration; a ModelError for a mixture of experts."""
    from transformers import AutoModelForCausalLM

    from energylab.tasks import load_settings, models

    _, task = load_settings(parameters.task, parameters.params)
    origin = models.locate(parameters, task.architectures)
    config = models.read_config(origin)
    skeleton = models.build_skeleton(config, AutoModelForCausalLM, origin)
    text = config.get_text_config(decoder=True)
    if any(getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ModelError(f"model {origin.name!r} is a mixture of experts, whose work depends on the token")
    ends = skeleton.get_input_embeddings(), skeleton.get_output_embeddings()
    table, head = (layer.weight.numel() for layer in ends)
    total = skeleton.num_parameters()
    body = total - table - (0 if getattr(text, "tie_word_embeddings", False) else head)
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    return Shape(body, head, total, 2 * layers * keys * width, 4 * layers * heads * width)


def least_work(shape: Shape, record: Record) -> tuple[float, float] | None:
    """Return lower bounds of the operations and read bytes of one query; None if its tokens are unknown.

    Two operations per weight and token (a multiplication and an addition) [1]_; the prompt passes the body at once, and
    the output layer is used only for new tokens. The weights are read once for the prompt and once for every further
    token, shared by the batch. Norms, activations and writing are omitted, so this is a lower bound.

    References
    ----------
    .. [1] Kaplan et al. (2020), Scaling Laws for Neural Language Models, https://arxiv.org/abs/2001.08361, section 2.1.
    """
    total = next((one for one in totals(record) if one.phase == "generate"), None)
    if total is None or not total.input_tokens or not total.output_tokens:
        return None
    prompt, new = total.input_tokens / total.queries, total.output_tokens / total.queries
    batch = record.task.settings.get("concurrency") or record.task.settings.get("batch_size") or 1
    batch = batch if record.model.source == "endpoint" else min(batch, total.queries)
    fed = prompt + new - 1
    flop = 2 * shape.body * fed + 2 * shape.head * new + shape.attention_flop * fed * (fed + 1) / 2
    value_bytes = 4 if record.model.dtype in (None, "float32") else 2
    weight_bytes = (record.model.weights_bytes or shape.parameters * value_bytes) / shape.parameters
    cached = shape.kv_values * value_bytes * sum(prompt + step for step in range(1, round(new)))
    return flop, new * (shape.body + shape.head) * weight_bytes / batch + cached


def compare(asked: EfficiencyParameters, sweep: Sequence[Setting], limits: Limits) -> pd.DataFrame:
    """Return the table of all settings with the Pareto front; see `table` and `front`."""
    from energylab.tasks.models import quiet_imports

    if not sweep[0].records:
        raise ModelError(f"the base was not measured: {sweep[0].missing}")
    try:
        with quiet_imports():
            shape = shape_of(Parameters.check(asked.base))
    except ModelError as error:
        warnings.warn(f"the lower bound is unknown: {error}", stacklevel=2)
        shape = None
    return front(table(sweep, limits, shape))


def table(sweep: Sequence[Setting], limits: Limits, shape: Shape | None) -> pd.DataFrame:
    """Return one row per measured setting, with means over its sessions, per query.

    Returns
    -------
    pandas.DataFrame
        Indexed by label: ``track, sessions, new_tokens, energy_j``, ``half_width_j`` (95 %, from sessions, or from the
        runs of a single one), ``token_j``, ``latency_s`` (until the end of the answer), ``tokens_per_s``, ``quality,
        quality_metric``, ``least_j`` (lower bound on this device), ``times_least``, and ``static_j, memory_j,
        arithmetic_j, rest_j``, which add up to ``energy_j``; NaN if unknown; ``energy_kind``.
    """
    import pandas as pd

    return pd.DataFrame([_row(one, limits, shape) for one in sweep if one.records]).set_index("setting")


def _row(setting: Setting, limits: Limits, shape: Shape | None) -> dict[str, Any]:
    import pandas as pd

    records, first = setting.records, setting.records[0]
    sessions = pd.DataFrame([_session(record, limits, shape) for record in records])
    spread = sessions["energy_j"] if len(records) > 1 else run_energies_j(first)
    quality = next((one for one in first.quality if one.value is not None), None)
    return {
        "setting": setting.label,
        "track": setting.track,
        "sessions": len(records),
        **sessions.mean().to_dict(),
        "half_width_j": mean_interval(spread).half_width if len(spread) > 1 else NAN,
        "token_j": sessions["energy_j"].mean() / sessions["new_tokens"].mean(),
        "quality": quality.value if quality else NAN,
        "quality_metric": quality.metric if quality else None,
        "energy_kind": first.energy_kind,
    }


def _session(record: Record, limits: Limits, shape: Shape | None) -> dict[str, float]:
    """Return one session's figures per query.

    Static is idle power times duration. Memory and arithmetic are the least work at the device's measured energy above
    idle. The rest is launches, waiting at high clocks, and other work. The lower bound is the sum of reading and
    arithmetic at full speed, one after the other, with idle power.
    """
    energy_j, seconds = session_energy_j(record), seconds_a_query(record, "generate")
    made = [total for total in scored_totals(record) if total.phase == "generate"]
    new = sum(total.output_tokens for total in made) / sum(total.queries for total in made)
    served = record.extra.get("serving")  # latency of requests; otherwise a query waits for its batch
    batch = min(record.task.settings.get("batch_size") or 1, record.queries)
    latency_s = served["latency_s"]["mean"] if served else seconds * batch
    figures = {"new_tokens": new, "energy_j": energy_j, "tokens_per_s": new / seconds, "latency_s": latency_s}
    work, flop = shape and least_work(shape, record), limits.flop.get(record.model.dtype or "")
    if work is None or flop is None:
        return figures | dict.fromkeys(("least_j", "times_least", *(f"{name}_j" for name in PARTS)), NAN)
    least_j = work[0] * flop.j + work[1] * limits.byte.j
    known = {
        "static_j": limits.rest_w * seconds_a_query(record),
        "memory_j": work[1] * limits.byte.above_rest_j,
        "arithmetic_j": work[0] * flop.above_rest_j,
    }
    rest_j = energy_j - sum(known.values())
    return figures | {"least_j": least_j, "times_least": energy_j / least_j, **known, "rest_j": rest_j}


def front(frame: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``front``: whether a setting is on the Pareto front, that is, no other setting beats it.

    Only settings with the same number of new tokens are compared. Quality counts if both are known; otherwise only
    energy and latency count.
    """
    rows = frame.to_dict("records")
    return frame.assign(front=[not any(_beats(other, one) for other in rows) for one in rows])


def _beats(other: dict[str, Any], one: dict[str, Any]) -> bool:
    if other is one or other["new_tokens"] != one["new_tokens"]:
        return False
    pairs = [(other[name], one[name]) for name in ("energy_j", "latency_s")]
    if not math.isnan(other["quality"]) and not math.isnan(one["quality"]):
        sign = 1 if one["quality_metric"] in LESS_IS_BETTER else -1
        pairs.append((sign * other["quality"], sign * one["quality"]))
    return all(theirs <= ours for theirs, ours in pairs) and any(theirs < ours for theirs, ours in pairs)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table for display: few digits, units in the names, empty cells for unknown values."""
    import pandas as pd

    def digits(name: str, form: str = "{:.3g}") -> pd.Series:
        return frame[name].map(lambda value: f"{value:,.0f}" if value >= 100 else form.format(value)).replace("nan", "")

    def against_base(row: pd.Series) -> str:
        first = frame[(frame["track"] == SERVED) == (row["track"] == SERVED)].iloc[0]
        return f"{row['energy_j'] / first['energy_j'] - 1:+.0%}" if differs(row, first) else "no clear change"

    half = digits("half_width_j", "{:.2g}").map(lambda width: f"\u00a0±\u00a0{width}" if width else "")
    columns = {
        "track": frame["track"],
        "J per query": digits("energy_j") + half,  # kept on one line
        "change from base": frame.apply(against_base, axis=1),
        "J per token": digits("token_j"),
        "latency, s": digits("latency_s"),
        "tokens/s": digits("tokens_per_s"),
        "quality": digits("quality").replace("", "unknown"),
        "times lower bound": digits("times_least"),
        **{name: (frame[f"{name}_j"] / frame["energy_j"]).map("{:.0%}".format).replace("nan%", "") for name in PARTS},
        "front": frame["front"].map({True: "yes", False: ""}),
        "kind": frame["energy_kind"],
    }
    return pd.DataFrame(columns)


def limits_table(limits: Limits) -> pd.DataFrame:
    """Tabulate the device's limits in picojoules and billions per second."""
    import pandas as pd

    costs = {f"one operation in {dtype}": cost for dtype, cost in limits.flop.items()} | {"one byte": limits.byte}
    frame = pd.DataFrame([one.model_dump() for one in costs.values()], index=pd.Index(costs, name=limits.device))
    frame = frame[["j", "above_rest_j", "per_s"]] * [1e12, 1e12, 1e-9]
    frame = frame.set_axis(["pJ", "pJ above idle", "10⁹ per second"], axis=1).map("{:.4g}".format)
    return frame.assign(**{"idle power": f"{limits.rest_w:.4g} W", "kind": limits.energy_kind})


def missing_table(sweep: Sequence[Setting]) -> pd.DataFrame | str:
    """Tabulate the settings that could not be measured, with reasons."""
    import pandas as pd

    lost = {one.label: one.missing for one in sweep if one.missing}
    return pd.Series(lost, name="reason").rename_axis("setting").to_frame() if lost else "Every setting was measured."


def advice(frame: pd.DataFrame) -> str:
    """Return advice on saving energy for this model and device, as one paragraph; the first row is the base."""
    rows = frame.reset_index().to_dict("records")
    base = rows[0]
    sentences = [
        f"As loaded, a query needs **{base['energy_j']:.3g} J**, and its answer takes {base['latency_s']:.3g} s."
    ]
    if not math.isnan(base["times_least"]):
        largest = max(PARTS, key=lambda name: base[f"{name}_j"])
        share = base[f"{largest}_j"] / base["energy_j"]
        sentences.append(
            f"That is **{base['times_least']:.3g} times** the energy this device needs to read each weight once per "
            f"token and to do the arithmetic once. The largest part, {share:.0%}, is {PARTS[largest]}."
        )
    alike = [row for row in rows if row["track"] != SERVED and row["new_tokens"] == base["new_tokens"]]
    quick = [row for row in alike if row["latency_s"] <= 1.05 * base["latency_s"]]
    best, now = (min(some, key=lambda row: row["energy_j"]) for some in (alike, quick))
    cases = {f"answers may take {best['latency_s']:.2g} s": best, "answers may not take longer than now": now}
    saving = [
        f"if {case}, use **{row['setting']}** and save {1 - row['energy_j'] / base['energy_j']:.0%}"
        for case, row in cases.items()
        if differs(base, row) and (row is now or best is not now)
    ]
    nothing = "None of the settings clearly saves energy: keep the model as loaded."
    sentences.append(f"**Recommendation:** {'; '.join(saving)}." if saving else nothing)
    return " ".join([*sentences, *_cautions(frame)])


def differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two energies differ by more than their 95 % half-widths, added in quadrature; an unknown one is 5 %."""
    widths = [row["half_width_j"] for row in (one, other)]
    known = [
        0.05 * row["energy_j"] if math.isnan(width) else width for row, width in zip((one, other), widths, strict=True)
    ]
    return abs(one["energy_j"] - other["energy_j"]) > math.hypot(*known)


def _cautions(frame: pd.DataFrame) -> Iterator[str]:
    kinds = sorted(set(frame["energy_kind"]))
    if frame["sessions"].min() < 2:
        yield "**These are single sessions**, and sessions differ: set repeats=3 before acting on them."
    if kinds != ["measured"]:
        yield f"Energy here is **{' and '.join(kinds)}**: compare it only on this machine."
    if frame["quality"].isna().all():
        yield "Quality is unknown here (random weights, or a server): check it before using a lower precision."
