"""What this machine can measure: devices and meters on one screen, with a command for each problem."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from energylab.devices import all_devices, cpu_facts, host_facts
from energylab.errors import EnergylabError, MeterError, MeterPermissionError
from energylab.meters import METERS, auto_order
from energylab.meters.base import DeviceCounters, Meter
from energylab.meters.processor_load import quota_cores
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, HostFacts, MeterFacts

#: Order in which meters are shown; meters of other packages follow.
ORDER = ("nvml", "rapl", "codecarbon", "estimate")

#: Packages whose versions are shown.
SHOWN = ("energylab", "torch", "transformers", "diffusers", "codecarbon", "nvidia-ml-py")

DEVICE_COLUMNS = ("device", "name", "identity", "power limit", "clocks", "ECC", "driver")
METER_COLUMNS = ("meter", "energy is", "steps every", "reading takes", "source")


@dataclass(frozen=True)
class MeterFinding:
    """One meter on this machine after opening and reading it, or the reason why it cannot be used."""

    name: str
    facts: MeterFacts | None = None  # as in the record; None: it cannot be used
    counters: DeviceCounters = DeviceCounters()
    problem: str = ""  # why it cannot be used
    denied: bool = False  # whether a permission is missing


@dataclass(frozen=True)
class Report:
    """Everything `energylab doctor` found."""

    devices: tuple[DeviceFacts, ...]  # devices that a session would use
    meters: tuple[MeterFinding, ...]  # all kinds, usable or not
    host: HostFacts
    problems: tuple[str, ...]  # each with what to do about it
    follows: tuple[str, ...]  # consequences for measurements on this machine


def report(devices: Sequence[DeviceFacts] | None = None, meters: Sequence[Meter] | None = None) -> Report:
    """Describe the devices, and open, read and close every meter; meters that fail are listed with the reason.

    By default `devices` are the visible ones and `meters` all that can measure them.
    """
    problems: list[str] = []
    if devices is None:
        devices, problems = _devices()
    tried = [[_try(meter) for meter in meters]] if meters is not None else [_kind(n, devices) for n in candidates()]
    found = tuple(finding for several in tried for finding in several)
    problems += [f"{finding.name}: {finding.problem}" for finding in found if finding.denied]
    return Report(tuple(devices), found, host_facts(), tuple(problems), tuple(_follows(devices, found)))


def _devices() -> tuple[tuple[DeviceFacts, ...], list[str]]:
    """Return the visible devices, and problems with them: an error, or a board that torch cannot use."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            devices = all_devices()
            return devices, [str(warning.message) for warning in warned if warning.category is UserWarning]
        except EnergylabError as error:
            return (cpu_facts(),), [str(error)]


def candidates() -> list[str]:
    """Return the names of all meters that can be chosen, without the simulated board."""
    return [*ORDER, *sorted(set(METERS.names()) - {"replay", *ORDER})]


def _kind(name: str, devices: Sequence[DeviceFacts]) -> list[MeterFinding]:
    try:
        kind = METERS.get(name)
        reason = kind.unavailable(devices)
        if reason is None:
            return [_try(meter) for meter in kind.for_devices(devices, Parameters())]
    except EnergylabError as error:  # a broken meter of another package, or one that cannot be chosen by name
        reason = str(error)
    return [MeterFinding(name, problem=reason, denied="grant it" in reason)]


def _try(meter: Meter) -> MeterFinding:
    try:
        with meter:
            meter.read()
            return MeterFinding(meter.name, meter.facts(scored=True), meter.counters())
    except MeterError as error:
        return MeterFinding(meter.name, problem=str(error), denied=isinstance(error, MeterPermissionError))


def _follows(devices: Sequence[DeviceFacts], found: Sequence[MeterFinding]) -> list[str]:
    working = {finding.name: finding.facts for finding in found if finding.facts}
    first = next((working[kind.name] for kind in auto_order(devices[0].type) if kind.name in working), None)
    if first is None:
        return ["energy cannot be measured here: no meter works"]
    measured = first.kind == "measured"
    then = "official with hub weights and published settings" if measured else "so it cannot be official"
    lines = [f"energy here will be {first.kind} ({first.name}), {then}"]
    if first.update_period_s:
        window_s = 2 * first.update_period_s / Parameters().max_relative_bound
        lines.append(f"with windows of {window_s:.2g} s or more the counter's steps add less than 5 % of error")
    for finding in found:
        if finding.counters.cotenants:
            where, pids = finding.facts.device, ", ".join(map(str, finding.counters.cotenants))
            lines.append(f"other processes run on {where} ({pids}): windows are invalid until they end")
    return lines


def render(findings: Report, width: int = 100) -> str:
    """Format the report as plain text of `width` columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, markup=False)
    rows = {DEVICE_COLUMNS: map(_device_row, findings.devices), METER_COLUMNS: map(_meter_row, findings.meters)}
    for columns, cells in rows.items():
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*row)
        console.print(table)
    host, cores = findings.host, quota_cores()
    versions = ", ".join(f"{name} {host.packages[name]}" for name in SHOWN if name in host.packages)
    quota = "" if cores is None else f" (the container's quota: {cores:g})"
    console.print(
        f"{host.processor}, {host.cores} cores{quota}, {host.memory_bytes / 2**30:.0f} GiB; {host.system}",
        f"Python {host.python}; {versions}",
        *(f"! {problem}" for problem in findings.problems),
        *(f"> {line}" for line in findings.follows),
        sep="\n",
    )
    return console.file.getvalue()


def _device_row(device: DeviceFacts) -> tuple[str, ...]:
    name = "cpu" if device.index is None else f"{device.type}:{device.index}"
    limit = "" if device.power_limit_w is None else f"{device.power_limit_w:g} W"
    ecc = {None: "", True: "on", False: "off"}[device.ecc]
    return name, device.name, device.uuid or "", limit, device.clock_policy or "", ecc, device.driver or ""


def _meter_row(finding: MeterFinding) -> tuple[str, ...]:
    if finding.facts is None:
        return finding.name, "unavailable", "", "", finding.problem
    facts = finding.facts
    return finding.name, facts.kind, _time(facts.update_period_s, "no steps"), _time(facts.read_cost_s), facts.source


def _time(seconds: float | None, unknown: str = "") -> str:
    if not seconds:
        return unknown
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
