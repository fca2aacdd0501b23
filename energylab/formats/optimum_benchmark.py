"""optimum-benchmark's reports: energies by phase, with or without repeats, as its scenarios write them.

A report holds one object a target (``preprocess``, ``prefill``, ``decode``, ``forward``, ``call``), each with an
``energy`` of ``{unit, cpu, ram, gpu, total}`` and, in the branch that made the published figures, one such object a
repeat under ``measures``. ``decode`` is generate minus prefill, so generate, which is rated here, is their sum: a
failed prefill then cancels, and a failed generate shows as a sum of zero. ``efficiency`` is a number of samples over
``energy.total``: their product says how many queries the energy is of.

References
----------
https://github.com/huggingface/optimum-benchmark: ``trackers/energy.py``, ``scenarios/energy_star/scenario.py`` and
``scenarios/inference/scenario.py`` of 0.6.0; repeats as in commit 1cd1b7c0 of August 2024.
"""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts, HostFacts

NAME = "optimum-benchmark"

#: What a report of this workbench's own says of itself, beside its phases.
OWN = "energylab"

#: Targets of a report, by the phase they are here; the scenarios spell preprocessing in two ways.
PHASES = {
    "preprocess": "preprocess",
    "preprocess_dataset": "preprocess",
    "prefill": "prefill",
    "decode": "decode",
    "generate": "generate",
    "forward": "forward",
    "call": "call",
    "total": "total",  # in reports of this workbench's own, of a figure without phases
}

#: A sum of prefill and decode so small against them is a difference that began as zero.
_ROUNDING = 1e-9

#: Packages whose versions the configuration's environment states.
_PACKAGES = ("optimum_benchmark", "transformers", "accelerate", "diffusers", "optimum", "timm", "peft")


class Energy(Part):
    """An energy by component; repeats may stand inside it."""

    unit: str | None = None
    cpu: common.Number = None
    ram: common.Number = None
    gpu: common.Number = None
    total: common.Number = None
    measures: list[Energy] | None = None


class Efficiency(Part):
    """Samples or tokens per energy."""

    unit: common.Text = None
    value: common.Number = None


class Latency(Part):
    """Seconds, one value a repeat."""

    unit: common.Text = None
    values: list[common.Number] | None = None


class Target(Part):
    """One phase of a report."""

    energy: Energy | None = None
    latency: Latency | None = None
    efficiency: Efficiency | None = None
    measures: list[Energy] | None = None

    def repeats(self) -> list[Energy]:
        """Return the energies of the repeats, beside the mean or inside it; the one energy where there are none."""
        return self.measures or self.energy.measures or [self.energy]

    def count(self, *units: str) -> int | None:
        """Return the whole number that an efficiency in one of some units is of, over the energy of all components."""
        efficiency, total = self.efficiency, self.energy.total
        if efficiency is None or efficiency.unit not in units or not total or not efficiency.value:
            return None
        count = efficiency.value * total
        whole = abs(count - round(count)) <= common.CLOSE * max(count, 1)
        return round(count) if whole and round(count) >= 1 else None

    def duration_s(self, run: int) -> float | None:
        """Return how long a repeat took, where there are as many latencies as energies."""
        values = self.latency.values if self.latency and self.latency.unit == "s" else None
        if not values or len(values) != len(self.repeats()):
            return None
        value = values[run if len(values) > 1 else 0]
        return value if (value or 0) > 0 else None


class Configuration(Part):
    """What the configuration beside a report states; nothing where there is none."""

    backend: common.Loose = {}
    scenario: common.Loose = {}
    environment: common.Loose = {}

    @property
    def samples(self) -> int | None:
        """The number of queries of a pass over the data; scenarios without data have none."""
        kind = str(self.scenario.get("_target_", self.scenario.get("name", ""))).lower().replace("_", "")
        value = self.scenario.get("num_samples")
        return value if "energystar" in kind and isinstance(value, int) and not isinstance(value, bool) else None


class Itself(Part):
    """What a report of this workbench says of itself."""

    model: common.Text = None
    model_class: common.Text = None
    task: common.Text = None
    queries: common.Whole = None
    data: common.Text = None
    batch_size: common.Whole = None
    dtype: common.Text = None
    device: common.Text = None
    device_type: common.Text = None
    devices: common.DeviceCount = None


def read(source: Source, asked: Asked) -> list[Session]:
    """Return the one session of a report."""
    where, report = source.name, _report(source.json)
    targets = {
        PHASES[name]: common.parse(Target, report[name], f"{where}, {name}") for name in report if name in PHASES
    }
    targets = {phase: target for phase, target in targets.items() if target.energy is not None}
    config = _configuration(source)
    unit = common.settle(_unit(targets, where), asked.unit, where)
    for phase, target in targets.items():
        _check_mean(target, phase, where)
    component = _component(asked, targets, config, where)
    queries = common.query_count(asked, _queries(targets, config, where), where)
    runs, once = _runs(targets, unit, component, queries, where)
    note = f"measured once and counted in each of the {len(runs)} runs: {', '.join(once)}"
    session = Session(
        model=common.model_name(asked, config.backend.get("model"), where),
        task=common.task_name(asked, config.backend.get("task"), where),
        queries=queries,
        runs=runs,
        unit=unit,
        meter=("codecarbon", f"energy.{component} of each phase"),
        component=component,
        as_named={p: tuple(unit.joules(getattr(e, component)) for e in t.repeats()) for p, t in targets.items()},
        notes=(note,) if once else (),
        **_known(config, component),
    )
    return [session]


def _report(content: Any) -> Any:
    if isinstance(content, dict) and isinstance(content.get("report"), dict) and "config" in content:
        return content["report"]
    return content


def _unit(targets: dict[str, Target], where: str) -> Unit | None:
    """Return the unit that every energy of the report states."""
    units = {energy.unit for target in targets.values() for energy in (target.energy, *target.repeats())}
    if len(units) != 1:
        raise FormatError(f"{where} mixes units ({', '.join(sorted(map(str, units)))}); correct the file")
    stated = units.pop()
    return None if stated is None else Unit(common.unit_named(stated), f"field energy.unit says {stated!r}")


def _check_mean(target: Target, phase: str, where: str) -> None:
    """Refuse a target whose repeats do not have the mean that it states."""
    for name in common.COMPONENTS:
        mean, values = getattr(target.energy, name), [getattr(energy, name) for energy in target.repeats()]
        if mean is None or None in values:
            continue
        if abs(fmean(values) - mean) > common.CLOSE * max(*map(abs, values), abs(mean)):
            raise FormatError(
                f"{where}: {phase} energy.{name} is {mean:g}, and its {len(values)} measures have the mean "
                f"{fmean(values):g}; the file contradicts itself, get it again"
            )


def _component(asked: Asked, targets: dict[str, Target], config: Configuration, where: str) -> str:
    if config.backend.get("device") == "cpu" and asked.component is None:
        raise FormatError(
            f"{where}: the model ran on a CPU, where no GPU is metered; say --component cpu, ram or total"
        )
    energies = [energy for target in targets.values() for energy in target.repeats()]
    return common.rated_component(
        asked, {name: [getattr(e, name) for e in energies] for name in common.COMPONENTS}, where
    )


def _queries(targets: dict[str, Target], config: Configuration, where: str) -> int | None:
    """Return how many queries the energies are of: efficiency x total, or the configuration's number of samples."""
    found = {phase: target.count("samples/kWh", "images/kWh") for phase, target in targets.items()}
    found["the configuration's num_samples"] = config.samples
    found = {source: count for source, count in found.items() if count is not None}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{phase}: {count}" for phase, count in found.items())
        raise FormatError(f"{where} disagrees about the number of queries ({listed}); import the phases' report alone")
    return next(iter(found.values()), None)


def _runs(
    targets: dict[str, Target], unit: Unit, component: str, queries: int, where: str
) -> tuple[tuple[dict[str, Measure], ...], list[str]]:
    """Return the measures of every run, and the phases that were measured once and count in every run."""
    counts = {len(target.repeats()) for target in targets.values()} - {1}
    if len(counts) > 1:
        raise FormatError(f"{where}: phases have different numbers of measures ({sorted(counts)}); get the file again")
    count = counts.pop() if counts else 1
    runs = tuple(_run(targets, number, unit, component, queries) for number in range(count))
    return runs, [phase for phase, target in targets.items() if len(target.repeats()) == 1 < count]


def _run(targets: dict[str, Target], run: int, unit: Unit, component: str, queries: int) -> dict[str, Measure]:
    found = {phase: _measure(target, run, unit, component) for phase, target in targets.items()}
    decode = found.pop("decode", None)
    if "generate" not in found and decode is not None and "prefill" in found:
        tokens = targets["decode"].count("tokens/kWh")
        found["generate"] = _generate(found["prefill"], decode, None if tokens is None else tokens + queries)
    return found


def _measure(target: Target, run: int, unit: Unit, component: str) -> Measure:
    repeats = target.repeats()
    energy = repeats[run if len(repeats) > 1 else 0]
    joules = {name: unit.joules(getattr(energy, name)) for name in common.COMPONENTS}
    others = {name: value for name, value in joules.items() if name != component and value is not None}
    return Measure(joules[component], target.duration_s(run), others=others)


def _generate(prefill: Measure, decode: Measure, tokens: int | None) -> Measure:
    """Return generate: prefill plus decode. Prefill makes one token a query, decode the others."""
    known = None not in (prefill.energy_j, decode.energy_j)
    energy_j = prefill.energy_j + decode.energy_j if known else None
    if known and abs(energy_j) <= _ROUNDING * max(abs(prefill.energy_j), abs(decode.energy_j)):
        energy_j = 0.0
    timed = None not in (prefill.duration_s, decode.duration_s)
    return Measure(
        energy_j=energy_j,
        duration_s=prefill.duration_s + decode.duration_s if timed else None,
        others={name: prefill.others[name] + decode.others[name] for name in prefill.others if name in decode.others},
        output_tokens=tokens,
        reasons=("negative_decode",) if known and decode.energy_j < 0 < energy_j else (),
    )


def _configuration(source: Source) -> Configuration:
    """Return the configuration: in the file, or in ``benchmark_config.json`` beside it."""
    if OWN in source.json:
        return _of_itself(common.parse(Itself, source.json[OWN], f"{source.name}, {OWN}"))
    if "report" in source.json:
        return common.parse(Configuration, source.json["config"], f"{source.name}, config")
    beside = source.neighbour("benchmark_config.json")
    return common.parse(Configuration, beside.json if beside else {}, beside.name if beside else source.name)


def _of_itself(own: Itself) -> Configuration:
    """Return what a report of this workbench says of itself as a configuration would say it."""
    count = own.devices or 1
    return Configuration(
        backend={
            "model": own.model, "task": own.task, "device": own.device_type, "device_ids": list(range(count)),
            "torch_dtype": own.dtype, "model_class": own.model_class,
        },
        scenario={
            "_target_": "EnergyStarScenario", "num_samples": own.queries, "dataset_name": own.data,
            "input_shapes": {"batch_size": own.batch_size},
        },
        environment={"gpu": [own.device] * count if own.device else [], "cpu": own.device},
    )  # fmt: skip


def _known(config: Configuration, component: str) -> dict[str, Any]:
    """Return what the configuration states, as fields of a session; nothing where there is none."""
    backend, scenario = config.backend, config.scenario
    if not (backend or scenario or config.environment):
        return {}
    devices, counted = _devices(config, component)
    seed = backend.get("seed")
    return {
        "devices": devices,
        "devices_counted": counted,
        "facts": _facts(backend),
        "data": {"name": _text(scenario.get("dataset_name")), "source": None},
        "settings": _settings(backend, scenario),
        "protocol": {name: scenario[name] for name in ("name", "warmup_runs", "iterations") if name in scenario},
        "host": _host(config.environment, backend),
        "seed": seed if isinstance(seed, int) else None,
    }


def _text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None


def _facts(backend: dict[str, Any]) -> dict[str, Any]:
    extra = backend.get("model_kwargs")
    dtype, compiled = _text(backend.get("torch_dtype")), backend.get("torch_compile")
    return {
        "source": "random" if backend.get("no_weights") is True else None,
        "revision": _text(extra.get("revision")) if isinstance(extra, dict) else None,
        "dtype": dtype if dtype != "auto" else None,
        "quantisation": _text(backend.get("quantization_scheme")),
        "attention": _text(backend.get("attn_implementation")),
        "compiled": compiled if isinstance(compiled, bool) else None,
        "real_weights": backend.get("no_weights") is not True,
        "model_class": _text(backend.get("model_class")),
    }


def _settings(backend: dict[str, Any], scenario: dict[str, Any]) -> dict[str, Any]:
    parts = [scenario.get(name) for name in ("generate_kwargs", "call_kwargs", "forward_kwargs", "reasoning_params")]
    shapes = scenario.get("input_shapes")
    found = {
        "batch_size": shapes.get("batch_size") if isinstance(shapes, dict) else None,
        "dtype": backend.get("torch_dtype"),
    }
    for part in parts:
        found |= part if isinstance(part, dict) else {}
    return {name: value for name, value in found.items() if value is not None}


def _devices(config: Configuration, component: str) -> tuple[tuple[DeviceFacts, ...], bool]:
    """Return the devices the energy is of, and whether their number is stated."""
    backend, environment = config.backend, config.environment
    if component != "gpu":
        return (DeviceFacts(name=_text(environment.get("cpu")), type="cpu"),), True
    ids, gpus = backend.get("device_ids"), environment.get("gpu")
    numbers = [int(each) for each in re.findall(r"\d{1,6}", str(ids))] if ids is not None else []
    gpus = [str(gpu) for gpu in gpus] if isinstance(gpus, list) else [str(gpus)] if gpus else []
    kind = "cuda" if backend.get("device") == "cuda" else "not stated"
    names = [gpus[number] if number < len(gpus) else None for number in numbers or [0]]
    pairs = zip(names, numbers or [None], strict=True)
    return tuple(DeviceFacts(name=name, type=kind, index=number) for name, number in pairs), bool(numbers)


def _host(environment: dict[str, Any], backend: dict[str, Any]) -> HostFacts:
    if not environment:
        return common.NO_HOST
    packages = {name.replace("_", "-"): environment.get(f"{name}_version") for name in _PACKAGES}
    if backend.get("name") == "pytorch":
        packages["torch"] = backend.get("version")
    memory_mb, cores = environment.get("cpu_ram_mb"), environment.get("cpu_count")
    return HostFacts(
        processor=_text(environment.get("cpu")),
        cores=cores if isinstance(cores, int) else None,
        memory_bytes=round(memory_mb * 1e6) if isinstance(memory_mb, (int, float)) and memory_mb < 1e12 else None,
        system=_text(environment.get("platform")) or _text(environment.get("system")),
        python=_text(environment.get("python_version")),
        packages={name: str(version) for name, version in packages.items() if version},
    )


def _recognises(source: Source) -> bool:
    report = _report(source.json)
    targets = [report[name] for name in PHASES if name in report] if isinstance(report, dict) else []
    energies = [target.get("energy") for target in targets if isinstance(target, dict)]
    return any(isinstance(energy, dict) and "gpu" in energy for energy in energies)


_TITLE = "optimum-benchmark report (benchmark_report.json, benchmark.json)"
FORMATS = (Format(NAME, _TITLE, _recognises, read),)
