"""What this machine can measure and what it cannot: one screen, with the command that would change it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from energylab.devices import all_devices, cpu_facts, host_facts
from energylab.errors import EnergylabError, MeterError, MeterPermissionError
from energylab.meters import METERS, auto_order
from energylab.meters.base import DeviceCounters, Meter
from energylab.meters.processor import quota_cores
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, HostFacts

if TYPE_CHECKING:
    from rich.table import Table

#: The order in which meters are shown; those of other packages follow.
ORDER = ("nvml", "rapl", "codecarbon", "estimate")

#: Packages whose versions are shown.
SHOWN = ("energylab", "torch", "transformers", "diffusers", "codecarbon", "nvidia-ml-py")


@dataclass(frozen=True)
class MeterFinding:
    """One meter on this machine, opened and read; or why it cannot be used."""

    name: str  # these three as in the record
    device: str
    source: str = ""
    kind: str | None = None  # of its energy; None: it cannot be used
    update_period_s: float | None = None  # time between two steps
    read_cost_s: float | None = None  # time of one read
    counters: DeviceCounters = DeviceCounters()
    problem: str | None = None  # why it cannot be used
    denied: bool = False  # by a missing permission


@dataclass(frozen=True)
class Report:
    """Everything `energylab doctor` found."""

    devices: tuple[DeviceFacts, ...]  # that a session would run on
    meters: tuple[MeterFinding, ...]  # every kind, whether it works or not
    host: HostFacts
    problems: tuple[str, ...]  # what stands in the way, each with what to do about it
    follows: tuple[str, ...]  # what it means for a measurement made here
    quota_cores: float | None = None  # processor time that the container may use, in cores; None: as much as there is


def report(devices: Sequence[DeviceFacts] | None = None, meters: Sequence[Meter] | None = None) -> Report:
    """Look at the devices, open every meter, read it, and close it again; what does not work is a finding.

    Parameters
    ----------
    devices : sequence of DeviceFacts, optional
        Devices to judge; the visible ones by default.
    meters : sequence of Meter, optional
        Meters to try; all that see these devices by default, and the others with the reason why not.
    """
    problems: list[str] = []
    if devices is None:
        devices, problems = _devices()
    found = [_try(meter) for meter in meters] if meters is not None else _all_meters(devices)
    problems += [f"{finding.name}: {finding.problem}" for finding in found if finding.denied]
    follows = tuple(_follows(devices, found))
    return Report(tuple(devices), tuple(found), host_facts(), tuple(problems), follows, quota_cores())


def _devices() -> tuple[tuple[DeviceFacts, ...], list[str]]:
    """Return the visible devices, and what was wrong with them: an error, or a board that torch cannot use."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            devices = all_devices()
            return devices, [str(warning.message) for warning in warned if warning.category is UserWarning]
        except EnergylabError as error:
            return (cpu_facts(),), [str(error)]


def candidates() -> list[str]:
    """Return the names of all meters that can be chosen; the simulated board is not this machine's."""
    known = set(METERS.names()) - {"replay"}
    return [*ORDER, *sorted(known - set(ORDER))]


def _all_meters(devices: Sequence[DeviceFacts]) -> list[MeterFinding]:
    found = []
    for name in candidates():
        try:
            kind = METERS.get(name)
            reason = kind.unavailable(devices)
            meters = kind.for_devices(devices, Parameters()) if reason is None else ()
        except EnergylabError as error:  # of another package, broken, or not to be chosen by name
            reason, meters = str(error), ()
        found += [_try(meter) for meter in meters]
        if reason is not None:
            found.append(MeterFinding(name, devices[0].type, problem=reason, denied="grant it" in reason))
    return found


def _try(meter: Meter) -> MeterFinding:
    try:
        with meter:
            meter.read()
            return MeterFinding(
                name=meter.name,
                device=meter.device,
                source=meter.source,
                kind=meter.kind,
                update_period_s=meter.update_period_s,
                read_cost_s=meter.read_cost_s,
                counters=meter.counters(),
            )
    except MeterError as error:
        denied = isinstance(error, MeterPermissionError)
        return MeterFinding(meter.name, meter.device, problem=str(error), denied=denied)


def _follows(devices: Sequence[DeviceFacts], found: Sequence[MeterFinding]) -> list[str]:
    chosen = _scored(devices, found)
    if not chosen:
        return ["energy cannot be measured here: no meter works"]
    first = chosen[0]
    if first.kind == "measured":
        lines = [f"energy here will be measured ({first.name}); with hub weights and published settings it is official"]
    else:
        lines = [f"energy here will be {first.kind} ({first.name}); it cannot be official"]
    periods = [finding.update_period_s for finding in chosen if finding.update_period_s]
    if periods:
        window_s = 2 * max(periods) / Parameters().max_relative_bound
        lines.append(f"windows of {window_s:.2g} s or more keep the counter's steps below 5 % of the energy")
    for finding in found:
        if finding.counters.cotenants:
            pids = ", ".join(map(str, finding.counters.cotenants))
            lines.append(f"other processes are on {finding.device} ({pids}): windows would be invalid until they end")
    return lines


def _scored(devices: Sequence[DeviceFacts], found: Sequence[MeterFinding]) -> list[MeterFinding]:
    """Return the meters `auto` would score."""
    for kind in auto_order(devices[0].type):
        working = [finding for finding in found if finding.name == kind.name and finding.kind is not None]
        if working:
            return working
    return []


def render(findings: Report, width: int = 100) -> str:
    """Lay the report out as plain text on one screen of `width` columns."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(_device_table(findings.devices))
    console.print(_meter_table(findings.meters))
    host = findings.host
    versions = ", ".join(f"{name} {host.packages[name]}" for name in SHOWN if name in host.packages)
    quota = "" if findings.quota_cores is None else f" (the container's quota: {findings.quota_cores:g})"
    memory = f"{host.memory_bytes / 2**30:.0f} GiB"
    console.print(f"{host.processor}, {host.cores} cores{quota}, {memory}; {host.system}", markup=False)
    console.print(f"Python {host.python}; {versions}", markup=False)
    for problem in findings.problems:
        console.print(f"! {problem}", markup=False)
    for line in findings.follows:
        console.print(f"> {line}", markup=False)
    return console.file.getvalue()


def _device_table(devices: Sequence[DeviceFacts]) -> Table:
    table = _table("device", "name", "identity", "power limit", "clocks", "ECC", "driver")
    for device in devices:
        name = "cpu" if device.index is None else f"{device.type}:{device.index}"
        limit = "" if device.power_limit_w is None else f"{device.power_limit_w:g} W"
        ecc = {None: "", True: "on", False: "off"}[device.ecc]
        table.add_row(name, device.name, device.uuid or "", limit, device.clock_policy or "", ecc, device.driver or "")
    return table


def _meter_table(found: Sequence[MeterFinding]) -> Table:
    table = _table("meter", "energy is", "steps every", "a read costs", "reads")
    for finding in found:
        kind = finding.kind or "not here"
        steps = _time(finding.update_period_s) if finding.update_period_s else "no steps" if finding.kind else ""
        table.add_row(finding.name, kind, steps, _time(finding.read_cost_s), finding.problem or finding.source)
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
