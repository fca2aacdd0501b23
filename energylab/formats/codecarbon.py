"""CodeCarbon's ``emissions.csv``: one row a tracked run, energies in kWh, without model, task or number of queries.

References
----------
https://docs.codecarbon.io, output: ``EmissionsData`` of CodeCarbon 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

from energylab.errors import FormatError
from energylab.formats import ask
from energylab.formats.ai_energy_score import time_of
from energylab.formats.session import Asked, Measure, Session
from energylab.formats.source import Source
from energylab.formats.units import Unit, settle
from energylab.record import DeviceFacts, HostFacts

#: Columns of the energies, by component.
ENERGIES = {"gpu": "gpu_energy", "cpu": "cpu_energy", "ram": "ram_energy", "total": "energy_consumed"}

_NEEDED = frozenset({*ENERGIES.values(), "duration", "run_id"})

#: How far power x time may be from energy: CodeCarbon averages power over its own samples.
_POWER_AGREES = 0.2

#: How far the parts may be from their sum.
_SUM_AGREES = 1e-3


class CodeCarbon:
    """Reader of ``emissions.csv``."""

    name = "codecarbon"
    title = "CodeCarbon emissions.csv"

    def recognises(self, source: Source) -> bool:
        """Say whether a file is such a table."""
        return source.columns >= _NEEDED

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return one session a row; model, task and queries are asked for."""
        places = [f"{source.name}, row {number}" for number in range(2, len(source.rows) + 2)]
        energies = [
            {part: ask.number(row[column], column, where) for part, column in ENERGIES.items()}
            for row, where in zip(source.rows, places, strict=True)
        ]
        unit = settle(_unit(source, energies, places), asked.unit, source.name)
        component = ask.component(asked, {part: [each[part] for each in energies] for part in ENERGIES}, source.name)
        return [
            _session(row, energy, unit, component, asked, source, where)
            for row, energy, where in zip(source.rows, energies, places, strict=True)
        ]


def _unit(source: Source, energies: list[dict[str, float | None]], places: list[str]) -> Unit:
    """Return kWh, CodeCarbon's unit, with what the rows show of it; refuses rows that contradict themselves."""
    proofs = []
    for row, energy, where in zip(source.rows, energies, places, strict=True):
        parts = [energy[part] for part in ("gpu", "cpu", "ram")]
        if None not in (*parts, energy["total"]) and abs(sum(parts) - energy["total"]) > _SUM_AGREES * abs(
            energy["total"]
        ):
            raise FormatError(
                f"{where}: gpu_energy + cpu_energy + ram_energy is {sum(parts):g}, and energy_consumed "
                f"{energy['total']:g}; the row contradicts itself"
            )
        proofs.append(_power_agrees(row, energy, where))
    agreeing = sum(1 for proof in proofs if proof)
    shown = f"; in {agreeing} of {len(proofs)} rows energy over duration in kWh is the stated power" if agreeing else ""
    return Unit("kWh", f"CodeCarbon's unit, by its column names{shown}")


def _power_agrees(row: Mapping[str, str], energy: Mapping[str, float | None], where: str) -> bool:
    """Say whether some component's energy over time is the power that the row states, in kWh."""
    seconds = ask.number(row["duration"], "duration", where)
    for part in ("gpu", "cpu", "ram"):
        power_w = ask.number(row.get(f"{part}_power"), f"{part}_power", where)
        if seconds and power_w and energy[part] and abs(energy[part] * 3.6e6 / seconds / power_w - 1) < _POWER_AGREES:
            return True
    return False


def _session(
    row: Mapping[str, str], energy: Mapping[str, float | None], unit: Unit, component: str, asked: Asked,
    source: Source, where: str,
) -> Session:  # fmt: skip
    joules = {part: None if value is None else unit.joules(value) for part, value in energy.items()}
    devices, counted = _devices(row, component, where)
    measure = Measure(
        energy_j=joules[component],
        duration_s=ask.number(row["duration"], "duration", where) or None,
        others={part: value for part, value in joules.items() if part != component and value is not None},
    )
    return Session(
        model=ask.model(asked, _model(row, asked, source), where),
        task=ask.task(asked, None, where),
        queries=ask.queries(asked, None, where),
        runs=({"total": measure},),
        unit=unit,
        meter=("codecarbon", f"column {ENERGIES[component]}"),
        component=component,
        row=f"run {row['run_id']}, row {where.rpartition(' ')[2]}",
        devices=devices,
        devices_counted=counted,
        protocol={"tracking_mode": row["tracking_mode"]} if row.get("tracking_mode") else {},
        host=_host(row, where),
        created_utc=time_of(row.get("timestamp")),
        notes=("everything between the tracker's start and stop is in the energy, loading included if it was tracked",),
        extra={"codecarbon": {name: row[name] for name in _KEPT if row.get(name)}},
    )


#: Columns that are kept as they are.
_KEPT = ("project_name", "run_id", "emissions", "country_iso_code", "region", "cloud_provider", "cloud_region", "pue")


def _model(row: Mapping[str, str], asked: Asked, source: Source) -> str | None:
    if asked.model_column is None:
        return None
    if asked.model_column not in row:
        raise FormatError(f"{source.name} has no column {asked.model_column!r}; it has {', '.join(sorted(row))}")
    return row[asked.model_column]


def _devices(row: Mapping[str, str], component: str, where: str) -> tuple[tuple[DeviceFacts, ...], bool]:
    """Return the devices; CodeCarbon writes several as ``2 x NAME``."""
    if component != "gpu":
        return (DeviceFacts(name=row.get("cpu_model") or None, type="cpu" if component == "cpu" else "other"),), True
    name, _, rest = (row.get("gpu_model") or "").partition(" x ")
    name = rest if name.isdigit() and rest else row.get("gpu_model") or None
    count = ask.devices(row.get("gpu_count"), "gpu_count", where)
    kind = "cuda" if name and name.startswith(("NVIDIA", "Tesla", "GeForce", "Quadro")) else "other"
    return tuple(DeviceFacts(name=name, type=kind) for _ in range(count or 1)), bool(count)


def _host(row: Mapping[str, str], where: str) -> HostFacts:
    gib = ask.number(row.get("ram_total_size"), "ram_total_size", where)
    version = row.get("codecarbon_version")
    return HostFacts(
        processor=row.get("cpu_model") or None,
        cores=ask.whole(row.get("cpu_count"), "cpu_count", where),
        memory_bytes=round(gib * 2**30) if gib else None,
        system=row.get("os") or None,
        python=row.get("python_version") or None,
        packages={"codecarbon": version} if version else {},
    )
