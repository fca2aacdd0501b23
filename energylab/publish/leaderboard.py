"""A release as a folder of pages: tables with intervals, one page a model, labels, and the same as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from energylab.publish import grid, label, model_page, names, pages, units
from energylab.publish.folder import replace_folder
from energylab.publish.scale import Scale
from energylab.ratings.stars import THIN
from energylab.release import RatedCohort, RatedModel, Release

CSV_COLUMNS = (
    "task", "model_class", "model", "energy_wh_per_1000_queries", "expanded_low_wh", "expanded_high_wh",
    "repeatability_low_wh", "repeatability_high_wh", "energy_kind", "official", "stars", "star_probability",
    "p_star_1", "p_star_2", "p_star_3", "p_star_4", "p_star_5", "expected_stars", "parameters", "dtype",
    "quantisation", "quality_metric", "quality", "output_tokens_per_1000_queries", "device", "sessions", "note", "page",
)  # fmt: skip


def build(
    release: Release,
    folder: str | os.PathLike,
    records: Iterable[str | os.PathLike] = (),
    labels: bool = True,
) -> Path:
    """Write a release's leaderboard: pages that open from a folder, with no server and no network.

    Parameters
    ----------
    release : Release
    folder : path
        Made, or replaced when it holds an earlier leaderboard.
    records : iterable of path, optional
        Where the records that the release names may be found; those with the right digest are offered for download.
    labels : bool, default True
        Draw a label for every model.

    Returns
    -------
    pathlib.Path
        The folder's ``index.html``.

    Raises
    ------
    ReleaseError
        If `folder` holds something that is not a leaderboard.
    """
    files = {**_files(release), **model_page.record_files(release, records)}
    if labels:
        files.update(label.files(release))
    site = model_page.Site(release, frozenset(files))
    replace_folder(Path(folder), _all_files(files, site), marker="leaderboard.json")
    return Path(folder) / "index.html"


def _all_files(files: dict[str, bytes], site: model_page.Site) -> Iterator[tuple[str, bytes]]:
    yield from files.items()
    yield from site.pages()


def _files(release: Release) -> dict[str, bytes]:
    return {
        "index.html": index_html(release).encode(),
        "style.css": pages.source("leaderboard/style.css").encode(),
        "leaderboard.js": pages.source("leaderboard/leaderboard.js").encode(),
        "leaderboard.json": to_json(release),
        "leaderboard.csv": to_csv(release),
        "release.json": release.to_bytes(),
    }


def index_html(release: Release) -> str:
    """Return the page of all tables."""
    return pages.render(
        "leaderboard/index.html.j2",
        release=release,
        digest=release.digest(),
        root="",
        total=sum(len(cohort.models) for cohort in release.cohorts),
        cohorts=release.cohorts,
        bands=sorted({text for text in map(pages.band, release.cohorts) if text}),
        tasks=[
            (task, [{"size": len(cohort.models), "table": _table(cohort)} for cohort in group])
            for task, group in groupby(release.cohorts, key=lambda cohort: cohort.task)
        ],
        precisions=sorted({precision(model) for _, model in release.rated()} - {""}),
        kinds=sorted({cohort.energy_kind for cohort in release.cohorts}),
        grids=grid.grids(),
        grid_source=grid.source(),
    )


def _table(cohort: RatedCohort) -> Markup:
    scale = Scale.of(cohort)
    metric = next((quality.metric for model in cohort.models for quality in model.quality), None)
    return Markup(  # noqa: S704 - the template escapes what it prints
        pages.render(
            "leaderboard/table.html.j2",
            cohort=cohort,
            ticks=scale.ticks(),
            edges=[scale.at(edge) for edge in cohort.edges_wh or ()],
            rows=(_row(cohort, model, scale) for model in cohort.models),
            notes=_warning(cohort),
            metric=metric,
            sizes=any(model.parameters for model in cohort.models),
            precisions=any(precision(model) for model in cohort.models),
        )
    )


def _warning(cohort: RatedCohort) -> str:
    if cohort.edges_wh is None:
        return f"No stars: {cohort.edges_reason}."
    thin = f"Only {units.plural(len(cohort.models), 'model')}: a star means little here." if is_thin(cohort) else ""
    assumed = f"Intervals and probabilities rest on an assumption: {cohort.assumption}." if cohort.assumption else ""
    return " ".join(filter(None, (thin, assumed)))


def is_thin(cohort: RatedCohort) -> bool:
    """Return whether a cohort is so small that its stars say little."""
    return len(cohort.models) < THIN


def _row(cohort: RatedCohort, model: RatedModel, scale: Scale) -> dict[str, Any]:
    start, length, centre = scale.bar(model)
    quality = next(iter(model.quality), None)
    return {
        "numbers": _numbers(model),
        "href": f"models/{names.slug(model.model)}.html#{names.anchor(cohort.key)}",
        "name": model.model,
        "stars": model.stars,
        "probability": "" if model.star_probability is None else units.percent(model.star_probability),
        "energy": units.figure(model.energy_wh),
        "interval": interval(model),
        "start": start,
        "length": length,
        "centre": centre,
        "quality": "–" if quality is None or quality.value is None else f"{quality.value:.3g}",
        "size": units.count(model.parameters) if model.parameters else "–",
        "precision": precision(model) or "–",
    }


def _numbers(model: RatedModel) -> str:
    """Return the row's numbers as the script reads them: FIELDS of leaderboard.js, ``-`` where there is none."""
    quality = next((quality.value for quality in model.quality), None)
    low, high = (model.expanded.low_wh, model.expanded.high_wh) if model.expanded else (None, None)
    numbers = (
        model.energy_wh, low, high, model.stars, model.star_probability, model.parameters, quality, model.output_tokens,
    )  # fmt: skip
    return " ".join("-" if number is None else f"{number:.6g}" for number in numbers)


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
            "note": model.note or None,
            "page": f"models/{names.slug(model.model)}.html#{names.anchor(cohort.key)}",
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
        "not_included": pages.NEVER_INCLUDED,
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
        "note": model.note or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_csv(release: Release) -> bytes:
    """Return the leaderboard as CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows(release):
        cells = (row[column] for column in CSV_COLUMNS)
        writer.writerow([names.csv_text(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue().encode()
