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

from collections.abc import Mapping
from typing import Any

from energylab.errors import FormatError
from energylab.formats import ask, optimum_facts
from energylab.formats.session import Asked, Measure, Session
from energylab.formats.source import Source
from energylab.formats.units import Unit, named, settle

NAME = "optimum-benchmark"

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

#: How far a mean may be from its parts, and a number of queries from a whole one, before a report contradicts itself.
_CLOSE = 1e-6


class OptimumBenchmark:
    """Reader of ``benchmark_report.json``, and of ``benchmark.json``, which holds the configuration too."""

    name = NAME
    title = "optimum-benchmark report (benchmark_report.json, benchmark.json)"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a report."""
        report = _report(source.json)
        targets = [report[name] for name in PHASES if name in report] if isinstance(report, dict) else []
        energies = [target.get("energy") for target in targets if isinstance(target, dict)]
        return any(isinstance(energy, dict) and "gpu" in energy for energy in energies)

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the one session of a report."""
        return [_session(source, asked)]


def _report(content: Any) -> Any:
    if isinstance(content, dict) and isinstance(content.get("report"), dict) and "config" in content:
        return content["report"]
    return content


def _session(source: Source, asked: Asked) -> Session:
    targets = {
        PHASES[name]: ask.mapping(target, name, source.name)
        for name, target in _report(source.json).items()
        if name in PHASES and ask.mapping(target, name, source.name).get("energy")
    }
    config = optimum_facts.configuration(source)
    unit = settle(_unit(targets, source.name), asked.unit, source.name)
    energies = {phase: _energies(target, phase, source.name) for phase, target in targets.items()}
    component = _component(asked, energies, config, source.name)
    queries = ask.queries(asked, _queries(targets, config, source.name), source.name)
    runs = _Runs(energies, targets, unit, component, queries)
    return Session(
        model=ask.model(asked, optimum_facts.model(config), source.name),
        task=ask.task(asked, optimum_facts.task(config), source.name),
        queries=queries,
        runs=runs.phases(),
        unit=unit,
        meter=("codecarbon", f"energy.{component} of each phase"),
        component=component,
        as_named=runs.as_named(),
        notes=runs.notes(),
        **optimum_facts.known(config, component),
    )


def _unit(targets: Mapping[str, Any], where: str) -> Unit | None:
    """Return the unit that every energy of the report states."""
    units = {energy.get("unit") for target in targets.values() for energy in [target["energy"], *_repeats(target)]}
    if len(units) != 1:
        raise FormatError(f"{where} mixes units ({', '.join(sorted(map(str, units)))}); correct the file")
    stated = units.pop()
    return None if stated is None else Unit(named(str(stated)), f"field energy.unit says {stated!r}")


def _repeats(target: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the repeats of a target, beside its energy or inside it; none where it was measured once."""
    return target.get("measures") or target["energy"].get("measures") or []


def _energies(target: Mapping[str, Any], phase: str, where: str) -> list[dict[str, float | None]]:
    """Return one energy by component for every repeat, in the file's unit; checks that their mean is the one stated."""
    parts = [
        {name: ask.number(energy.get(name), f"{phase} energy.{name}", where) for name in ask.COMPONENTS}
        for energy in _repeats(target) or [target["energy"]]
    ]
    for name in ask.COMPONENTS:
        mean, values = ask.number(target["energy"].get(name), name, where), [part[name] for part in parts]
        if mean is None or None in values:
            continue
        largest = max(map(abs, values))
        if abs(sum(values) / len(values) - mean) > _CLOSE * max(largest, abs(mean)):
            raise FormatError(
                f"{where}: {phase} energy.{name} is {mean:g}, and its {len(values)} measures have the mean "
                f"{sum(values) / len(values):g}; the file contradicts itself, get it again"
            )
    return parts


def _component(asked: Asked, energies: Mapping[str, list], config: Mapping[str, Any], where: str) -> str:
    values = {name: [part[name] for parts in energies.values() for part in parts] for name in ask.COMPONENTS}
    if optimum_facts.device_type(config) == "cpu" and asked.component is None:
        raise FormatError(
            f"{where}: the model ran on a CPU, where no GPU is metered; say --component cpu, ram or total"
        )
    return ask.component(asked, values, where)


def _queries(targets: Mapping[str, Any], config: Mapping[str, Any], where: str) -> int | None:
    """Return how many queries the energies are of: efficiency x total, or the configuration's number of samples.

    Raises
    ------
    FormatError
        If phases differ, or the configuration says another number.
    """
    found = {}
    for phase, target in targets.items():
        efficiency, total = target.get("efficiency") or {}, target["energy"].get("total")
        if efficiency.get("unit") not in ("samples/kWh", "images/kWh") or not total or not efficiency.get("value"):
            continue
        count = efficiency["value"] * total
        if abs(count - round(count)) <= _CLOSE * max(count, 1) and round(count) >= 1:
            found[phase] = round(count)
    samples = optimum_facts.samples(config)
    if samples is not None:
        found["the configuration's num_samples"] = samples
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{phase}: {count}" for phase, count in found.items())
        raise FormatError(f"{where} disagrees about the number of queries ({listed}); import the phases' report alone")
    return next(iter(found.values()), None)


class _Runs:
    """The report's phases as runs: a phase that was measured once counts in every run."""

    def __init__(self, energies, targets, unit: Unit, component: str, queries: int) -> None:
        self._energies, self._targets, self._unit = energies, targets, unit
        self._component, self._queries = component, queries
        counts = {len(parts) for parts in energies.values() if len(parts) > 1}
        if len(counts) > 1:
            raise FormatError(f"phases have different numbers of measures ({sorted(counts)}); the file is damaged")
        self.count = counts.pop() if counts else 1

    def phases(self) -> tuple[dict[str, Measure], ...]:
        """Return the measures of every run, generate put together again."""
        return tuple(self._run(run) for run in range(self.count))

    def as_named(self) -> dict[str, tuple[float | None, ...]]:
        """Return the rated component by the report's own phases, in joules."""
        return {
            phase: tuple(self._joules(phase, run, self._component) for run in range(len(parts)))
            for phase, parts in self._energies.items()
        }

    def notes(self) -> tuple[str, ...]:
        """Say which phases were measured once beside repeats of the others."""
        once = [phase for phase, parts in self._energies.items() if len(parts) == 1 < self.count]
        return (f"measured once and counted in each of the {self.count} runs: {', '.join(once)}",) if once else ()

    def _run(self, run: int) -> dict[str, Measure]:
        found = {p: self._measure(p, run) for p in self._energies if p not in ("decode", "generate")}
        if "generate" in self._energies:
            found["generate"] = self._measure("generate", run)
        elif "decode" in self._energies and "prefill" in self._energies:
            found["generate"] = self._generate(found["prefill"], self._measure("decode", run))
        return found

    def _joules(self, phase: str, run: int, component: str) -> float | None:
        parts = self._energies[phase]
        value = parts[run if len(parts) > 1 else 0][component]
        return None if value is None else self._unit.joules(value)

    def _measure(self, phase: str, run: int) -> Measure:
        others = {name: self._joules(phase, run, name) for name in ask.COMPONENTS if name != self._component}
        return Measure(
            energy_j=self._joules(phase, run, self._component),
            duration_s=optimum_facts.duration_s(self._targets[phase], run, len(self._energies[phase])),
            others={name: value for name, value in others.items() if value is not None},
            output_tokens=self._tokens(phase),
        )

    def _tokens(self, phase: str) -> int | None:
        """Return the tokens that decoding made: its efficiency is in tokens."""
        target = self._targets[phase]
        efficiency, total = target.get("efficiency") or {}, target["energy"].get("total")
        if phase != "decode" or efficiency.get("unit") != "tokens/kWh" or not total:
            return None
        count = efficiency["value"] * total
        return round(count) if count >= 1 and abs(count - round(count)) <= _CLOSE * count else None

    def _generate(self, prefill: Measure, decode: Measure) -> Measure:
        """Return generate: prefill plus decode. Prefill makes one token a query, decode the others."""
        known = prefill.energy_j is not None and decode.energy_j is not None
        energy_j = prefill.energy_j + decode.energy_j if known else None
        if known and abs(energy_j) <= _ROUNDING * max(abs(prefill.energy_j), abs(decode.energy_j)):
            energy_j = 0.0
        timed = prefill.duration_s is not None and decode.duration_s is not None
        return Measure(
            energy_j=energy_j,
            duration_s=prefill.duration_s + decode.duration_s if timed else None,
            others={
                name: prefill.others[name] + decode.others[name] for name in prefill.others if name in decode.others
            },
            output_tokens=None if decode.output_tokens is None else decode.output_tokens + self._queries,
            reasons=("negative_decode",) if known and decode.energy_j < 0 < energy_j else (),
        )
