"""The leaderboard as tables for programs: JSON by cohort, and one flat CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from energylab.publish import contents, names, units
from energylab.ratings.uncertainty import POOLED
from energylab.release import RatedCohort, RatedModel, Release, significant

CSV_COLUMNS = (
    "task", "model_class", "model", "energy_wh_per_1000_queries", "expanded_low_wh", "expanded_high_wh",
    "repeatability_low_wh", "repeatability_high_wh", "energy_kind", "official", "stars", "star_probability",
    "p_star_1", "p_star_2", "p_star_3", "p_star_4", "p_star_5", "expected_stars", "parameters", "dtype",
    "quantisation", "quality_metric", "quality", "output_tokens_per_1000_queries", "device", "sessions", "note", "page",
)  # fmt: skip


def interval(model: RatedModel) -> str:
    """Return a model's expanded interval as text, or a dash where there is none."""
    if model.expanded is None:
        return "–"
    return units.span(model.expanded.low_wh, model.expanded.high_wh, model.energy_wh)


def precision(model: RatedModel) -> str:
    """Return a model's precision, and its quantisation where it has one."""
    return " ".join(part for part in (model.dtype, model.quantisation) if part)


def rows(release: Release) -> Iterator[dict[str, Any]]:
    """Yield one flat row a model, with the columns `CSV_COLUMNS`; None where there is no value."""
    for cohort, model in release.rated():
        quality = next(iter(model.quality), None)
        yield {
            "task": cohort.task,
            "model_class": cohort.model_class,
            "model": model.model,
            "energy_wh_per_1000_queries": model.energy_wh,
            "expanded_low_wh": model.expanded.low_wh if model.expanded else None,
            "expanded_high_wh": model.expanded.high_wh if model.expanded else None,
            "repeatability_low_wh": model.repeatability.low_wh if model.repeatability else None,
            "repeatability_high_wh": model.repeatability.high_wh if model.repeatability else None,
            "energy_kind": cohort.energy_kind,
            "official": cohort.official,
            "stars": model.stars,
            "star_probability": model.star_probability,
            **{f"p_star_{n}": model.probabilities[n - 1] if model.probabilities else None for n in range(1, 6)},
            "expected_stars": model.expected_stars,
            "parameters": model.parameters,
            "dtype": model.dtype,
            "quantisation": model.quantisation,
            "quality_metric": quality.metric if quality else None,
            "quality": quality.value if quality else None,
            "output_tokens_per_1000_queries": model.output_tokens,
            "device": cohort.device,
            "sessions": len(model.sessions),
            "note": _own_note(model),
            "page": f"models/{names.slug(model.model)}.html",
        }


def to_json(release: Release) -> bytes:
    """Return the leaderboard as JSON: the release's name, and its cohorts with one line a model."""
    head = {
        "release": release.name,
        "date": release.date.isoformat(),
        "scheme": release.scheme,
        "scheme_version": release.scheme_version,
        "methodology_version": release.methodology_version,
        "release_sha256": release.digest(),
        "unit": "Wh per 1,000 queries",
        "not_included": contents.not_in_figures(release),
    }
    cohorts = ",\n".join(map(_json_cohort, release.cohorts))
    return f'{_compact(head)[:-1]},\n"cohorts":[\n{cohorts}\n]}}\n'.encode()


def _json_cohort(cohort: RatedCohort) -> str:
    facts = ("task", "model_class", "energy_kind", "device", "official", "not_official", "edges_wh")
    head = {name: getattr(cohort, name) for name in facts}
    models = ",\n".join(_compact(_json_model(model)) for model in cohort.models)
    return f'{_compact(head)[:-1]},"models":[\n{models}\n]}}'


def _json_model(model: RatedModel) -> dict[str, Any]:
    """Return one model without what has no value."""
    values = {
        "model": model.model,
        "energy_wh": model.energy_wh,
        "expanded_wh": model.expanded and [model.expanded.low_wh, model.expanded.high_wh],
        "stars": model.stars,
        "probabilities": model.probabilities,
        "parameters": model.parameters,
        "precision": precision(model) or None,
        "quality": {quality.metric: quality.value for quality in model.quality} or None,
        "output_tokens": model.output_tokens,
        "sessions": len(model.sessions) or None,
        "note": _own_note(model),
    }
    return {name: value for name, value in values.items() if value is not None}


def _own_note(model: RatedModel) -> str | None:
    """Return what is to be known of this model; what holds for its whole table stands on the page, once."""
    return "; ".join(part for part in model.note.split("; ") if part != POOLED) or None


def _rounded(value: Any) -> Any:
    """Round figures to six significant digits; the release beside the tables holds them whole."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return significant(value, 6) if isinstance(value, float) else value


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return names.csv_text(value)
    return _rounded(value)


def to_csv(release: Release) -> bytes:
    """Return the leaderboard as CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows(release):
        writer.writerow([_cell(row[column]) for column in CSV_COLUMNS])
    return out.getvalue().encode()
