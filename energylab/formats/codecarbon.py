"""CodeCarbon's ``emissions.csv``: one row per tracked run, energies in kWh, without model, task or number of queries.

``flush()`` writes a row of the same ``run_id`` again and again, each the sum so far: the last one is the run. Tasks of
one tracker share a ``run_id`` too, and their energies do not grow: each is a part of the work, a cohort of its own.

References
----------
https://docs.codecarbon.io, output: ``EmissionsData`` of CodeCarbon 3.3.
"""

from __future__ import annotations

import re
from itertools import pairwise

from energylab.errors import FormatError
from energylab.formats.common import Asked, DeviceCount, Measure, Number, Part, Session, Time, Unit, Whole, parse
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts, HostFacts

#: Columns of the energies, by component.
ENERGIES = {"gpu": "gpu_energy", "cpu": "cpu_energy", "ram": "ram_energy", "total": "energy_consumed"}

#: Largest relative difference of the parts and their sum.
_SUM_AGREES = 1e-3

#: Columns copied unchanged.
_KEPT = ("project_name", "run_id", "emissions", "country_iso_code", "region", "cloud_provider", "cloud_region", "pue")

_NOTE = "everything between the tracker's start and stop is in the energy, loading included if it was tracked"


class Row(Part):
    run_id: str
    task_name: str | None = None
    timestamp: Time = None
    duration: Number = None
    gpu_energy: Number = None
    cpu_energy: Number = None
    ram_energy: Number = None
    energy_consumed: Number = None
    gpu_count: DeviceCount = None
    gpu_model: str | None = None
    cpu_count: Whole = None
    cpu_model: str | None = None
    ram_total_size: Number = None
    os: str | None = None
    python_version: str | None = None
    codecarbon_version: str | None = None
    tracking_mode: str | None = None

    def energies(self) -> dict[str, float | None]:
        """Return the energies by component, in kWh."""
        return {component: getattr(self, column) for component, column in ENERGIES.items()}

    def grown_from(self, before: Row) -> bool:
        """Whether the row is a later sum of the same tracker, not another task."""
        old, new = [before.duration, *before.energies().values()], [self.duration, *self.energies().values()]
        return before.task_name == self.task_name and all((a or 0) <= (b or 0) for a, b in zip(old, new, strict=True))


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session per run or task; the user must state model, task and queries."""
    source.check_column(asked.model_column)
    runs: dict[str, list[tuple[str, dict[str, str], Row]]] = {}
    for place, cells in source.rows:
        row = parse(Row, cells, f"{source.name}, {place}")
        _check_sum(row, f"{source.name}, {place}")
        runs.setdefault(row.run_id, []).append((place, cells, row))
    sessions = []
    for same in runs.values():
        growing = all(after.grown_from(before) for (_, _, before), (_, _, after) in pairwise(same))
        for place, cells, row in same[-1:] if growing else same:
            part = row.task_name or ("" if growing else place)
            sessions.append(_session(place, cells, row, part, asked))
    return sessions


def _check_sum(row: Row, where: str) -> None:
    *parts, total = row.energies().values()
    if None not in (*parts, total) and abs(sum(parts) - total) > _SUM_AGREES * abs(total):
        raise FormatError(
            f"{where}: gpu_energy + cpu_energy + ram_energy is {sum(parts):g}, and energy_consumed {total:g}; "
            "correct the row"
        )


def _session(place: str, cells: dict[str, str], row: Row, part: str, asked: Asked) -> Session:
    component = asked.component or "gpu"
    devices, note = _devices(row, component)
    return Session(
        model=cells[asked.model_column] if asked.model_column else None,
        runs=({"total": Measure(row.energies(), row.duration or None)},),
        unit=Unit("kWh", "CodeCarbon's unit, by its column names"),
        meter=("codecarbon", f"column {ENERGIES.get(component)}"),
        row=f"run {row.run_id}, {place}",
        run_id=f"{row.run_id} {part}".strip(),
        part=part,
        devices=devices,
        devices_counted=component != "gpu" or bool(row.gpu_count),
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
        notes=(_NOTE, note) if note else (_NOTE,),
        extra={"codecarbon": {name: cells[name] for name in _KEPT if cells.get(name)}},
    )


def _devices(row: Row, component: str) -> tuple[tuple[DeviceFacts, ...], str]:
    """Return the devices, and a note on them.

    CodeCarbon writes several equal GPUs as ``2 x NAME``, and unlike ones with nothing between them: where one ends
    cannot be told, so their names are not stated.
    """
    if component != "gpu":
        return (DeviceFacts(name=row.cpu_model, type="cpu" if component == "cpu" else "other"),), ""
    name, note = re.sub(r"^\d+ x ", "", row.gpu_model or "") or None, ""
    if len(re.findall(r"\d+ x ", row.gpu_model or "")) > 1:
        name, note = None, f"unlike GPUs, whose names cannot be told apart: {row.gpu_model}"
    known = "cuda" if re.match("NVIDIA|Tesla|GeForce|Quadro", name or "") else "other"
    device = DeviceFacts(name=name, type=known if name else "not stated")
    return (device,) * (row.gpu_count or 1), note


_COLUMNS = {*ENERGIES.values(), "duration", "run_id"}
FORMATS = (Format("codecarbon", "CodeCarbon emissions.csv", lambda source: source.columns >= _COLUMNS, read),)
