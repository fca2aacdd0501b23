"""Disclosure forms of one record: BoAmps, the energy part of Annex XI of the EU AI Act, and an SCI score.

Each names the record by its digest, says how the energy is known, and lists what it cannot state. None is legal advice.
"""

from __future__ import annotations

import math
import uuid
from typing import Any

from energylab.energy import model_energies, scored_totals, session_energy_j
from energylab.errors import RecordError
from energylab.publish import text
from energylab.publish.emissions import Grid
from energylab.record import Record
from energylab.table import record_rows, tidy_frame

NOT_STATED = "not stated"
NO_ADVICE = (
    "This form is filled in from one measurement. It is no legal advice, and does not by itself show compliance."
)

#: BoAmps types of a task's queries and answers.
_DATA = {
    "image_captioning": ("image", "text"),
    "image_classification": ("image", "other"),
    "object_detection": ("image", "object"),
    "image_generation": ("text", "image"),
    "speech_recognition": ("audio", "text"),
}
_INFRASTRUCTURE = ("publicCloud", "privateCloud", "onPremise", "other")


def energy_wh(record: Record) -> tuple[float, float | None, float | None]:
    """Return a record's Wh per 1,000 queries and the ends of its expanded 95 % interval, None where unknown."""
    if session_energy_j(record) is None or not record.valid:
        raise RecordError(f"record {record.record_id} has no energy: {', '.join(record.reasons) or 'invalid'}")
    row = model_energies(tidy_frame(record_rows(record))).models.iloc[0]
    low, high = float(row["expanded_low"]), float(row["expanded_high"])
    return float(row["energy_wh"]), *((None, None) if math.isnan(low + high) else (low, high))


def boamps(
    record: Record, publisher: str = "", infrastructure: str = "other", grid: Grid | None = None
) -> dict[str, Any]:
    """Return a record as a BoAmps report, valid against its schemas; the location is not part of a record.

    References
    ----------
    Boavizta, BoAmps, https://github.com/Boavizta/BoAmps (CC BY 4.0).
    """
    if infrastructure not in _INFRASTRUCTURE:
        raise RecordError(f"infrastructure {infrastructure!r} is unknown; choose one of {', '.join(_INFRASTRUCTURE)}")
    report = {
        "header": {
            "formatVersion": "0.1",
            "formatVersionSpecificationUri": "https://github.com/Boavizta/BoAmps/tree/main/model",
            "reportId": str(uuid.uuid5(uuid.NAMESPACE_URL, record.digest())),
            "reportDatetime": f"{record.created_utc:%Y-%m-%d %H:%M:%S}",
            "reportStatus": "draft" if record.not_official() else "final",
            "publisher": {"name": publisher or None, "confidentialityLevel": "public"},
        },
        **_work(record),
        "system": {"os": record.host.system} if record.host.system else None,
        "software": {"language": "python", "version": record.host.python},
        "infrastructure": {"infraType": infrastructure, "components": _components(record)},
        "environment": grid and {"country": grid.name, "powerSourceCarbonIntensity": grid.g_per_kwh},
    }
    return _known(report)


def _work(record: Record) -> dict[str, Any]:
    """Return the task and its energy."""
    totals = scored_totals(record)
    queries = sum(total.queries for total in totals if total.phase == totals[0].phase)
    seconds = [total.duration_s for total in totals]
    asked, answered = _DATA.get(record.task.name, ("text", "text"))
    public = record.data.source == "hub"
    task = {
        "taskStage": "inference",
        "taskFamily": record.task.name.replace("_", " "),
        "nbRequest": queries,
        "algorithms": [_algorithm(record)],
        "dataset": [
            {"dataUsage": "input", "dataType": asked, "dataQuantity": record.queries,
             "source": "public" if public else "other",
             "sourceUri": _hub(f"datasets/{record.data.name}") if public else None},
            {"dataUsage": "output", "dataType": answered, "dataQuantity": record.queries},
        ],
        "measuredAccuracy": next((q.value for q in record.quality if q.metric in ("accuracy", "exact_match")), None),
        "taskDescription": "; ".join(_caveats(record)),
    }  # fmt: skip
    measure = {
        "measurementMethod": ", ".join(sorted({meter.name for meter in record.meters if meter.scored})),
        "version": f"energylab {record.energylab_version}",
        "powerConsumption": energy_wh(record)[0] * queries / 1e6,  # kWh
        "measurementDuration": None if None in seconds else sum(seconds),
        "measurementDateTime": f"{record.created_utc:%Y-%m-%d %H:%M:%S}",
    }
    return {"task": task, "measures": [measure]}


def _algorithm(record: Record) -> dict[str, Any]:
    model, transformers = record.model, record.host.packages.get("transformers")
    return {
        "algorithmType": "neural network",
        "algorithmName": model.architecture,
        "foundationModelName": model.name,
        "foundationModelUri": _hub(model.name) if model.source == "hub" else None,
        "parametersNumber": model.parameters and model.parameters / 1e9,
        "framework": "transformers" if transformers else None,
        "frameworkVersion": transformers,
        "quantization": model.quantisation or model.dtype,
    }


def _hub(name: str) -> str:
    return f"https://huggingface.co/{name}"


def _components(record: Record) -> list[dict[str, Any]]:
    kind = {"cuda": "gpu"}
    devices = [
        {"componentName": device.name, "componentType": kind.get(device.type, device.type), "nbComponent": 1,
         "memorySize": device.memory_bytes and device.memory_bytes / 2**30}
        for device in record.devices
    ]  # fmt: skip
    if record.host.processor and all(device.type != "cpu" for device in record.devices):
        devices.append({"componentName": record.host.processor, "componentType": "cpu", "nbComponent": 1})
    return devices


def _known(value: Any) -> Any:
    """Return a form without unknown values, which BoAmps expresses by omission."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items() if each is not None}
    return [_known(each) for each in value] if isinstance(value, list) else value


def _interval(record: Record) -> str:
    wh, low, high = energy_wh(record)
    return "not known" if low is None else f"{text.span(low, high, wh)} Wh (expanded, 95 %)"


def _figure(record: Record) -> str:
    return f"{text.figure(energy_wh(record)[0])} Wh, {text.KIND_WORDS[record.energy_kind]}"


def _caveats(record: Record) -> tuple[str, ...]:
    """Return the remarks of every form: digest, kind of energy, interval, missing facts."""
    return (
        f"energylab record sha256 {record.digest()}",
        f"energy per 1,000 queries: {_figure(record)}; interval: {_interval(record)}",
        "not stated: training, embodied emissions, host, cooling and PUE beyond the metered devices",
    )


def annex_xi(record: Record) -> str:
    """Return the energy part of the documentation of Annex XI, section 1, point 2(e), of Regulation (EU) 2024/1689.

    Markdown. The annex asks providers of general-purpose models for the known or estimated energy consumption of the
    model; what a record cannot say stays *not stated*.
    """
    limits = [record.protocol.name, record.task.name.replace("_", " "), *(record.not_official() or ("official",))]
    facts = {
        "Model": record.model.name,
        "Revision": record.model.commit or record.model.revision or NOT_STATED,
        "Energy of training": NOT_STATED,
        "Computational resources of training": NOT_STATED,
        "Energy of inference, per 1,000 queries": _figure(record),
        "Interval": _interval(record),
        "What was asked": f"{record.task.name}, version {record.task.version or NOT_STATED}, {record.queries} queries",
        "Conditions": "; ".join(limits),
        "Hardware": ", ".join(device.name or NOT_STATED for device in record.devices),
        "Not included": "host, cooling and building (PUE) beyond the metered devices",
        "Evidence": f"energylab record sha256 {record.digest()}",
    }
    rows = "\n".join(f"| {text.markdown_text(name)} | {text.markdown_text(value)} |" for name, value in facts.items())
    title = "Known or estimated energy consumption (Annex XI, section 1, point 2(e), Regulation (EU) 2024/1689)"
    return f"# {title}\n\n| | |\n| --- | --- |\n{rows}\n\n{NO_ADVICE}\n"


def sci(record: Record, grid: Grid, embodied_g: float | None = None, unit_queries: int = 1000) -> dict[str, Any]:
    """Return the consumer's score of Software Carbon Intensity for AI: grams of CO2e per functional unit.

    ``SCI = (E x I + M) per R``: energy, the grid's carbon intensity, embodied emissions, functional unit. Embodied
    emissions, in grams a functional unit, are not in the score where they are not stated.

    References
    ----------
    Green Software Foundation, Software Carbon Intensity (ISO/IEC 21031:2024) and its specification for AI.
    """
    scale = unit_queries / 1000
    score, *ends = (wh and grid.grams(wh * scale) + (embodied_g or 0.0) for wh in energy_wh(record))
    return {
        "score_gco2e": score,
        "score_interval_gco2e": None if None in ends else ends,
        "functional_unit": f"{unit_queries} queries of {record.task.name}",
        "E_kwh": energy_wh(record)[0] * scale / 1000,
        "energy_kind": record.energy_kind,
        "I_gco2e_per_kwh": grid.g_per_kwh,
        "I_source": f"{grid.name}, {grid.source}",
        "M_gco2e": NOT_STATED if embodied_g is None else embodied_g,
        "boundary": "the metered devices; host, cooling and building are not included, nor is training",
        "record_sha256": record.digest(),
        "model": record.model.name,
        "note": NO_ADVICE,
    }
