"""CodeCarbon's ``emissions.csv``: one row a tracked run, energies in kWh, without model, task or number of queries.

``flush()`` writes a row of the same ``run_id`` again and again, each the sum so far: the last one is the run. Tasks of
one tracker share a ``run_id`` too, and their energies do not grow: each is a part of the work, a cohort of its own.

References
----------
https://docs.codecarbon.io, output: ``EmissionsData`` of CodeCarbon 3.3.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise

from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts, HostFacts

#: Columns of the energies, by component.
ENERGIES = {"gpu": "gpu_energy", "cpu": "cpu_energy", "ram": "ram_energy", "total": "energy_consumed"}

#: How far power x time may be from energy: CodeCarbon averages power over its own samples.
_POWER_AGREES = 0.2

#: How far the parts may be from their sum.
_SUM_AGREES = 1e-3

#: Columns that are kept as they are.
_KEPT = ("project_name", "run_id", "emissions", "country_iso_code", "region", "cloud_provider", "cloud_region", "pue")

_NOTE = "everything between the tracker's start and stop is in the energy, loading included if it was tracked"


class Row(Part):
    """One row of the table."""

    run_id: str
    task_name: common.Text = None
    timestamp: common.Time = None
    duration: common.Number
    gpu_energy: common.Number
    cpu_energy: common.Number
    ram_energy: common.Number
    energy_consumed: common.Number
    gpu_power: common.Number = None
    cpu_power: common.Number = None
    ram_power: common.Number = None
    gpu_count: common.DeviceCount = None
    gpu_model: common.Text = None
    cpu_count: common.Whole = None
    cpu_model: common.Text = None
    ram_total_size: common.Number = None
    os: common.Text = None
    python_version: common.Text = None
    codecarbon_version: common.Text = None
    tracking_mode: common.Text = None

    def energy(self, component: str) -> float | None:
        """Return the energy of a component in kWh."""
        return getattr(self, ENERGIES[component])

    def contradiction(self) -> str:
        """Return how the parts and their sum disagree, or an empty text."""
        parts, total = [self.energy(part) for part in ("gpu", "cpu", "ram")], self.energy_consumed
        if None in (*parts, total) or abs(sum(parts) - total) <= _SUM_AGREES * abs(total):
            return ""
        return f"gpu_energy + cpu_energy + ram_energy is {sum(parts):g}, and energy_consumed {total:g}"

    def power_agrees(self) -> bool:
        """Say whether some component's energy over time is the power that the row states, in kWh."""
        powers = [(self.energy(part), getattr(self, f"{part}_power")) for part in ("gpu", "cpu", "ram")]
        return any(
            self.duration and power and energy and abs(energy * 3.6e6 / self.duration / power - 1) < _POWER_AGREES
            for energy, power in powers
        )


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session a run, or a task of one; model, task and queries are asked for."""
    rows = [(where, common.parse(Row, cells, where)) for where, cells in source.rows]
    for where, row in rows:
        if contradiction := row.contradiction():
            raise FormatError(f"{where}: {contradiction}; the row contradicts itself")
    agreeing = sum(row.power_agrees() for _, row in rows)
    shown = f"; in {agreeing} of {len(rows)} rows energy over duration in kWh is the stated power" if agreeing else ""
    unit = common.settle(Unit("kWh", f"CodeCarbon's unit, by its column names{shown}"), asked.unit, source.name)
    component = common.rated_component(
        asked, {part: [row.energy(part) for _, row in rows] for part in ENERGIES}, source.name
    )
    if asked.model_column is not None and asked.model_column not in source.columns:
        known = ", ".join(sorted(source.columns))
        raise FormatError(f"{source.name} has no column {asked.model_column!r}; it has {known}")
    cells = dict(source.rows)
    return [_session(row, cells[where], where, several, unit, component, asked) for where, row, several in _runs(rows)]


def _runs(rows: list[tuple[str, Row]]) -> list[tuple[str, Row, bool]]:
    """Return the rows that stand for a run: of sums that grow under one id the last, of separate tasks each."""
    found = []
    for _, group in groupby(sorted(rows, key=lambda each: each[1].run_id), key=lambda each: each[1].run_id):
        same = list(group)
        growing = all(_grows(before, after) for (_, before), (_, after) in pairwise(same))
        last = [same[-1]] if growing else same
        found += [(where, row, len(last) > 1 or row.task_name is not None) for where, row in last]
    order = {where: number for number, (where, _) in enumerate(rows)}
    return sorted(found, key=lambda each: order[each[0]])


def _grows(before: Row, after: Row) -> bool:
    """Say whether a row is the same tracker's sum some time on, not another task of it."""
    pairs = [(before.duration, after.duration), *((before.energy(p), after.energy(p)) for p in ENERGIES)]
    return before.task_name == after.task_name and all((old or 0.0) <= (new or 0.0) for old, new in pairs)


def _session(
    row: Row, cells: dict[str, str], where: str, several: bool, unit: Unit, component: str, asked: Asked
) -> Session:
    joules = {part: unit.joules(row.energy(part)) for part in ENERGIES}
    devices, counted, note = _devices(row, component)
    part = (row.task_name or where.rpartition(", ")[2]) if several else ""
    return Session(
        model=common.model_name(asked, cells[asked.model_column] if asked.model_column else None, where),
        task=common.task_name(asked, None, where),
        queries=common.query_count(asked, None, where),
        runs=(
            {
                "total": Measure(
                    energy_j=joules[component],
                    duration_s=row.duration or None,
                    others={part: j for part, j in joules.items() if part != component and j is not None},
                )
            },
        ),
        unit=unit,
        meter=("codecarbon", f"column {ENERGIES[component]}"),
        component=component,
        row=f"run {row.run_id}, {where.rpartition(', ')[2]}",
        run_id=f"{row.run_id} {part}".strip(),
        part=part,
        devices=devices,
        devices_counted=counted,
        protocol={"tracking_mode": row.tracking_mode} if row.tracking_mode else {},
        host=HostFacts(
            processor=row.cpu_model,
            cores=row.cpu_count,
            memory_bytes=round(row.ram_total_size * 2**30) if row.ram_total_size else None,
            system=row.os,
            python=row.python_version,
            packages={"codecarbon": row.codecarbon_version} if row.codecarbon_version else {},
        ),
        created_utc=row.timestamp,
        notes=tuple(filter(None, (_NOTE, note))),
        extra={"codecarbon": {name: cells[name] for name in _KEPT if cells.get(name)}},
    )


def _devices(row: Row, component: str) -> tuple[tuple[DeviceFacts, ...], bool, str]:
    """Return the devices, whether their number is stated, and what to note of them.

    CodeCarbon writes several equal GPUs as ``2 x NAME``, and unlike ones with nothing between them: where one ends
    cannot be told, so their names are not stated.
    """
    if component != "gpu":
        return (DeviceFacts(name=row.cpu_model, type="cpu" if component == "cpu" else "other"),), True, ""
    count, name, note = row.gpu_count or 1, row.gpu_model, ""
    if name and len(re.findall(r"\d+ x ", name)) > 1:
        name, note = None, f"unlike GPUs, whose names cannot be told apart: {name}"
    elif name and (found := re.fullmatch(r"(\d+) x (.+)", name)):
        name = found[2]
    kind = "cuda" if name and name.startswith(("NVIDIA", "Tesla", "GeForce", "Quadro")) else "other"
    return (
        tuple(DeviceFacts(name=name, type=kind if name else "not stated") for _ in range(count)),
        bool(row.gpu_count),
        note,
    )


def _recognises(source: Source) -> bool:
    return source.columns >= {*ENERGIES.values(), "duration", "run_id"}


FORMATS = (Format("codecarbon", "CodeCarbon emissions.csv", _recognises, read),)
