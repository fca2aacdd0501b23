"""optimum-benchmark's reports: energies by phase, with or without repeats.

A report holds one object a target (``preprocess``, ``prefill``, ``decode``, ``forward``, ``call``), each with an
``energy`` of ``{unit, cpu, ram, gpu, total}`` and, in the branch that made the published figures, one such object a
repeat under ``measures``. ``decode`` is generate minus prefill, so generate, which is rated here, is their sum: a
failed prefill then cancels, and a failed generate shows as a sum of zero.

References
----------
https://github.com/huggingface/optimum-benchmark: ``trackers/energy.py``, ``scenarios/energy_star/scenario.py`` and
``scenarios/inference/scenario.py`` of 0.6.0; repeats as in commit 1cd1b7c0 of August 2024.
"""

from __future__ import annotations

import re
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from energylab.errors import FormatError
from energylab.formats.common import CLOSE, COMPONENTS, Asked, Measure, Number, Part, Session, Unit, parse, unit_named
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts, HostFacts

NAME = "optimum-benchmark"

#: Key of the configuration in reports exported by energylab.
OWN = "energylab"

#: Energylab's phases of the targets of a report; ``total`` is used in reports exported by energylab.
PHASES = {
    "preprocess": "preprocess", "preprocess_dataset": "preprocess", "prefill": "prefill", "decode": "decode",
    "generate": "generate", "forward": "forward", "call": "call", "total": "total",
}  # fmt: skip


class Energy(Part):
    unit: str | None = None
    cpu: Number = None
    ram: Number = None
    gpu: Number = None
    total: Number = None
    measures: list[Energy] | None = None

    def parts(self) -> dict[str, float | None]:
        """Return the energies by component."""
        return {name: getattr(self, name) for name in COMPONENTS}


class Latency(Part):
    unit: str | None = None
    values: list[Number] | None = None


class Target(Part):
    energy: Energy | None = None
    latency: Latency | None = None
    measures: list[Energy] | None = None

    def repeats(self) -> list[Energy]:
        """Return the energies of the repeats, or the single energy if there are none."""
        return self.measures or self.energy.measures or [self.energy]

    def measure(self, run: int) -> Measure:
        """Return a repeat, with its duration if there are as many latencies as energies."""
        repeats, times = self.repeats(), self.latency.values if self.latency and self.latency.unit == "s" else None
        number = run if len(repeats) > 1 else 0
        seconds = times[number] if times and len(times) == len(repeats) else None
        return Measure(repeats[number].parts(), seconds if (seconds or 0) > 0 else None)


class Backend(Part):
    name: str | None = None
    version: str | None = None
    model: str | None = None
    model_class: Literal["A", "B", "C"] | None = None
    task: str | None = None
    device: str | None = None
    device_ids: Any = None
    seed: int | None = None
    no_weights: bool | None = None
    torch_dtype: str | None = None
    torch_compile: bool | None = None
    quantization_scheme: str | None = None
    attn_implementation: str | None = None
    model_kwargs: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        """Return the fields of `energylab.record.ModelFacts`."""
        return {
            "source": "random" if self.no_weights else None,
            "revision": self.model_kwargs.get("revision"),
            "dtype": self.torch_dtype if self.torch_dtype != "auto" else None,
            "quantisation": self.quantization_scheme,
            "attention": self.attn_implementation,
            "compiled": self.torch_compile,
            "real_weights": not self.no_weights,
            "model_class": self.model_class,
        }


class InputShapes(Part):
    batch_size: int | None = None


class Scenario(Part):
    name: str | None = None
    target: str | None = Field(default=None, alias="_target_")
    num_samples: int | None = None
    dataset_name: str | None = None
    warmup_runs: int | None = None
    iterations: int | None = None
    input_shapes: InputShapes = InputShapes()
    generate_kwargs: dict[str, Any] = {}
    call_kwargs: dict[str, Any] = {}
    forward_kwargs: dict[str, Any] = {}
    reasoning_params: dict[str, Any] = {}

    def settings(self, dtype: str | None) -> dict[str, Any]:
        """Return the settings of the task."""
        found = {"batch_size": self.input_shapes.batch_size, "dtype": dtype, **self.generate_kwargs}
        found |= {**self.call_kwargs, **self.forward_kwargs, **self.reasoning_params}
        return {name: value for name, value in found.items() if value is not None}


class Environment(Part):
    """The machine; versions of packages are fields such as ``transformers_version``."""

    cpu: str | None = None
    cpu_count: int | None = None
    cpu_ram_mb: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    gpu: list[str | None] | str = []
    platform: str | None = None
    system: str | None = None
    python_version: str | None = None

    def host(self, backend: Backend) -> HostFacts:
        """Return the machine and its software."""
        found = ((re.fullmatch("(.+)_version", name), value) for name, value in self.model_extra.items())
        versions = {name[1].replace("_", "-"): str(value) for name, value in found if name and value}
        if backend.name == "pytorch" and backend.version:
            versions["torch"] = backend.version
        return HostFacts(
            processor=self.cpu,
            cores=self.cpu_count,
            memory_bytes=round(self.cpu_ram_mb * 1e6) if self.cpu_ram_mb else None,
            system=self.platform or self.system,
            python=self.python_version,
            packages=versions,
        )


class Configuration(Part):
    backend: Backend = Backend()
    scenario: Scenario = Scenario()
    environment: Environment = Environment()

    @property
    def samples(self) -> int | None:
        """The number of queries of an energy: one pass over the data or, without data, one batch."""
        kind = (self.scenario.target or self.scenario.name or "").lower().replace("_", "")
        if "energystar" in kind:
            return None if self.scenario.num_samples == -1 else self.scenario.num_samples  # -1: all rows, however many
        return self.scenario.input_shapes.batch_size if "inference" in kind else None

    def devices(self, component: str) -> tuple[tuple[DeviceFacts, ...], bool]:
        """Return the measured devices, and whether their number is stated."""
        if component != "gpu":
            return (DeviceFacts(name=self.environment.cpu, type="cpu"),), True
        numbers = [int(each) for each in re.findall(r"\d{1,6}", str(self.backend.device_ids))]
        gpus = self.environment.gpu if isinstance(self.environment.gpu, list) else [self.environment.gpu]
        kind = "cuda" if self.backend.device == "cuda" else "not stated"
        found = [(number, gpus[number] if number < len(gpus) else None) for number in numbers]
        found = found or [(None, gpus[0] if gpus else None)]
        return tuple(DeviceFacts(name=name, type=kind, index=number) for number, name in found), bool(numbers)


def read(source: Source, asked: Asked) -> list[Session]:
    """Return the session of a report."""
    where, report = source.name, _report(source)
    targets = {PHASES[name]: parse(Target, report[name], f"{where}, {name}") for name in report if name in PHASES}
    targets = {phase: target for phase, target in targets.items() if target.energy is not None}
    for phase, target in targets.items():
        _check_mean(target, phase, where)
    config = _configuration(source)
    backend, scenario, component = config.backend, config.scenario, asked.component or "gpu"
    if backend.device == "cpu" and asked.component is None:
        raise FormatError(
            f"{where}: the model ran on a CPU, so there is no GPU energy; state --component cpu, ram or total"
        )
    devices, counted = config.devices(component)
    runs, once = _runs(targets, component, where)
    return [
        Session(
            runs=runs,
            meter=("codecarbon", f"energy.{component} of each phase"),
            unit=_unit(targets, where),
            model=backend.model,
            task=backend.task,
            queries=config.samples,
            devices=devices,
            devices_counted=counted,
            facts=backend.facts() if config.model_fields_set else {},
            data=scenario.dataset_name,
            settings=scenario.settings(backend.torch_dtype),
            protocol=scenario.model_dump(include={"name", "warmup_runs", "iterations"}, exclude_none=True),
            host=config.environment.host(backend),
            seed=backend.seed,
            notes=(f"measured once and counted in each of the {len(runs)} runs: {', '.join(once)}",) if once else (),
        )
    ]


def _report(source: Source) -> dict[str, Any]:
    """Return a file's targets, which ``benchmark.json`` stores with the configuration."""
    content = source.json["report"] if source.keys >= {"report", "config"} else source.json
    return content if isinstance(content, dict) else {}


def _unit(targets: dict[str, Target], where: str) -> Unit | None:
    """Return the common unit of all energies of the report."""
    units = {energy.unit for target in targets.values() for energy in (target.energy, *target.repeats())}
    if len(units) != 1:
        raise FormatError(f"{where} mixes units ({', '.join(sorted(map(str, units)))}); correct the file")
    stated = units.pop()
    return None if stated is None else Unit(unit_named(stated), f"field energy.unit says {stated!r}")


def _check_mean(target: Target, phase: str, where: str) -> None:
    """Raise FormatError if the mean of the repeats is not the stated mean."""
    for name, mean in target.energy.parts().items():
        values = [getattr(energy, name) for energy in target.repeats()]
        if None not in (mean, *values) and abs(fmean(values) - mean) > CLOSE * max(*map(abs, values), abs(mean)):
            raise FormatError(
                f"{where}: {phase} energy.{name} is {mean:g}, and its {len(values)} measures have the mean "
                f"{fmean(values):g}; the file contradicts itself, get it again"
            )


def _runs(targets: dict[str, Target], component: str, where: str) -> tuple[tuple[dict[str, Measure], ...], list[str]]:
    """Return the measures of every run, and the phases that were measured once and count in every run."""
    counts = {len(target.repeats()) for target in targets.values()} - {1}
    if len(counts) > 1:
        raise FormatError(f"{where}: phases have different numbers of measures ({sorted(counts)}); get the file again")
    count = counts.pop() if counts else 1
    runs = []
    for number in range(count):
        found = {phase: target.measure(number) for phase, target in targets.items()}
        decode = found.pop("decode", None)
        if decode is not None and "generate" not in found and "prefill" in found:
            found["generate"] = found["prefill"].then(decode, component)
        runs.append(found)
    return tuple(runs), [phase for phase, target in targets.items() if len(target.repeats()) == 1 < count]


def _configuration(source: Source) -> Configuration:
    """Return the configuration: in the file, or in ``benchmark_config.json`` beside it."""
    where = f"{source.name}, its configuration"
    if OWN in source.json:
        return parse(Configuration, source.json[OWN], where)
    if "report" in source.json:
        return parse(Configuration, source.json["config"], where)
    return parse(Configuration, source.config, where)


def _recognises(source: Source) -> bool:
    targets = [target for name, target in _report(source).items() if name in PHASES and isinstance(target, dict)]
    energies = [target.get("energy") for target in targets]
    return any(isinstance(energy, dict) and "gpu" in energy for energy in energies)


_TITLE = "optimum-benchmark report (benchmark_report.json, benchmark.json)"
FORMATS = (Format(NAME, _TITLE, _recognises, read),)
