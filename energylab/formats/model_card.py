"""A Hugging Face model card's metadata: ``model-index`` with energy and emissions of inference as results.

The hub's field ``co2_eq_emissions`` is of training, and is left alone.

References
----------
https://huggingface.co/docs/hub/model-cards, https://huggingface.co/docs/hub/model-cards-co2;
``huggingface_hub.ModelCardData``.
"""

from __future__ import annotations

from typing import Any

from energylab.formats.common import HUB_TASKS
from energylab.publish import text
from energylab.publish.emissions import Grid
from energylab.release import RatedCohort, RatedModel, Release, significant
from energylab.table import key_facts

_DIGITS = 6
_UNSTATED = "not stated"


def model_card(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> str:
    """Return the metadata block for the top of a model's ``README.md``."""
    from huggingface_hub import EvalResult, ModelCardData

    shared = _shared(release, cohort)
    results = [EvalResult(**shared, **metric) for metric in _metrics(release, cohort, model, grid)]
    data = ModelCardData(model_name=text.one_line(model.model), eval_results=results)
    return f"---\n{data.to_yaml()}\n---\n"


def _metrics(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> list[dict[str, Any]]:
    """Return energy, emissions with the assumed grid, stars and quality."""
    energy = {
        "metric_type": "energy",
        "metric_name": f"Energy per 1,000 queries in Wh, {cohort.energy_kind}",
        "metric_value": significant(model.energy_wh, _DIGITS),
        "metric_args": _args(release, cohort, model),
    }
    emissions = {
        "metric_type": "co2_eq_inference",
        "metric_name": "Emissions of 1,000 queries in g CO2e, inference alone",
        "metric_value": significant(grid.grams(model.energy_wh), _DIGITS),
        "metric_args": {"g_per_kwh": grid.g_per_kwh, "grid": text.one_line(grid.name), "source": grid.source},
    }
    sure = {} if model.star_probability is None else {"probability": text.percent(model.star_probability)}
    stars = {
        "metric_type": "energy_stars",
        "metric_name": "Energy rating, stars of 5",
        "metric_value": model.stars,
        "metric_args": {
            "scheme": f"{release.scheme} {release.scheme_version}",
            "models": len(cohort.models),
            **sure,
        },
    }
    quality = [
        {"metric_type": each.metric, "metric_value": significant(each.value, _DIGITS)}
        for each in model.quality
        if each.value is not None
    ]
    return [energy, emissions, *([] if model.stars is None else [stars]), *quality]


def _shared(release: Release, cohort: RatedCohort) -> dict[str, Any]:
    """Return the common part of all results; the hub requires a data set, so a missing one is 'not stated'."""
    hub_names = {name: hub for hub, name in reversed(HUB_TASKS.items())}
    data = key_facts(cohort.cohort).get("data", _UNSTATED)
    name = data.partition(" ")[2] if data.startswith(("hub ", "sample ", "synthetic ", "given ")) else data
    return {
        "task_type": hub_names.get(cohort.task, cohort.task.replace("_", "-")),
        "task_name": text.one_line(text.cohort_title(cohort.task, cohort.model_class)),
        "dataset_type": text.one_line(name or _UNSTATED),
        "dataset_name": text.one_line(name or _UNSTATED),
        "source_name": f"energylab release {release.name}, {release.date}",
        "source_url": release.address or f"urn:sha256:{release.digest()}",
    }


def _args(release: Release, cohort: RatedCohort, model: RatedModel) -> dict[str, Any]:
    ends = model.expanded and (model.expanded.low_wh, model.expanded.high_wh)
    found = {
        "energy_kind": cohort.energy_kind,
        "interval_95_wh": ends and [significant(bound, _DIGITS) for bound in ends],
        "hardware": text.one_line(key_facts(cohort.cohort).get("device") or cohort.device or _UNSTATED),
        "precision": model.dtype,
        "quantisation": model.quantisation,
        "official": cohort.official,
        "not_official": list(map(text.one_line, cohort.not_official)) or None,
        "release_sha256": release.digest(),
    }
    return {name: value for name, value in found.items() if value is not None}
