"""A release as a folder of pages: tables with intervals, one page a model, labels, and the same as JSON and CSV."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from energylab.publish import grid, model_page, names, pages, tables, units
from energylab.publish.folder import replace_folder
from energylab.publish.labels import Labels
from energylab.publish.scale import Ladder, Scale
from energylab.ratings.rating import THIN
from energylab.ratings.uncertainty import POOLED
from energylab.release import RatedCohort, RatedModel, Release


def build(
    release: Release,
    folder: str | os.PathLike,
    records: Iterable[str | os.PathLike] = (),
    with_labels: bool = True,
    home: str | None = None,
) -> Path:
    """Write a release's leaderboard: pages that open from a folder, with no server and no network.

    Parameters
    ----------
    release : Release
    folder : path
        Made, or replaced when it holds an earlier leaderboard.
    records : iterable of path, optional
        Where the records that the release names may be found; those with the right digest are offered for download.
    with_labels : bool, default True
        Draw a label for every model.
    home : str, optional
        Address of the site that the leaderboard is part of; its first page links there.

    Returns
    -------
    pathlib.Path
        The folder's ``index.html``.

    Raises
    ------
    ReleaseError
        If `folder` holds something that is not a leaderboard.
    """
    files = {**_files(release, home), **model_page.record_files(release, records)}
    if with_labels:
        files.update(Labels(release).files())
    site = model_page.Site(release, frozenset(files))
    replace_folder(Path(folder), _all_files(files, site), marker="leaderboard.json")
    return Path(folder) / "index.html"


def _all_files(files: dict[str, bytes], site: model_page.Site) -> Iterator[tuple[str, bytes]]:
    yield from files.items()
    yield from site.pages()


def _files(release: Release, home: str | None = None) -> dict[str, bytes]:
    return {
        "index.html": index_html(release, home).encode(),
        "icon.svg": pages.source("leaderboard/icon.svg").encode(),
        "style.css": _style(release).encode(),
        "leaderboard.js": pages.source("leaderboard/leaderboard.js").encode(),
        "leaderboard.json": tables.to_json(release),
        "leaderboard.csv": tables.to_csv(release),
        "release.json": release.to_bytes(),
    }


def _style(release: Release) -> str:
    """Return the style sheet: the one of all releases, and where the bands' edges stand in this one's tables."""
    rules = [_edge_rule(f"e{number}", cohort) for number, cohort in enumerate(release.cohorts) if cohort.edges_wh]
    return pages.source("leaderboard/style.css") + "".join(rules)


def _edge_rule(table: str, cohort: RatedCohort) -> str:
    lines = (f"linear-gradient(var(--edge), var(--edge)) {x}% 0 / 1px 100% no-repeat" for x in Ladder(cohort).edges)
    return f".{table} td.bar svg {{ background: {', '.join(lines)}; }}\n"


def index_html(release: Release, home: str | None = None) -> str:
    """Return the page of all tables; see `build`."""
    return pages.render(
        "leaderboard/index.html.j2",
        release=release,
        digest=release.digest(),
        root="",
        home=home,
        total=sum(len(cohort.models) for cohort in release.cohorts),
        cohorts=release.cohorts,
        bands=sorted({text for text in map(pages.band, release.cohorts) if text}),
        tasks=[
            (task, [{"size": len(cohort.models), "table": _table(cohort, f"e{number}")} for number, cohort in group])
            for task, group in groupby(enumerate(release.cohorts), key=lambda numbered: numbered[1].task)
        ],
        precisions=sorted({tables.precision(model) for _, model in release.rated()} - {""}),
        kinds=sorted({cohort.energy_kind for cohort in release.cohorts}),
        grids=grid.grids(),
        grid_source=grid.source(),
    )


def _table(cohort: RatedCohort, edges_id: str) -> Markup:
    ladder = Ladder(cohort)
    metric = next((quality.metric for model in cohort.models for quality in model.quality), None)
    return Markup(  # noqa: S704 - the template escapes what it prints
        pages.render(
            "leaderboard/table.html.j2",
            cohort=cohort,
            edges_id=edges_id,
            ticks=ladder.ticks,
            edges=ladder.edges,
            rows=(_row(cohort, model, ladder.scale) for model in cohort.models),
            notes=_warning(cohort),
            metric=metric,
            sizes=any(model.parameters for model in cohort.models),
            precisions=any(tables.precision(model) for model in cohort.models),
        )
    )


def _warning(cohort: RatedCohort) -> str:
    if cohort.edges_wh is None:
        return f"No stars: {cohort.edges_reason}."
    thin = f"Only {units.plural(len(cohort.models), 'model')}: a star means little here." if is_thin(cohort) else ""
    assumed = (
        f"Nothing was repeated: intervals and probabilities assume a {cohort.assumption}." if cohort.assumption else ""
    )
    pooled = any(POOLED in model.note for model in cohort.models)
    few = "Few sessions: a bar rests on its model’s own, a probability on the scatter of the whole table."
    return " ".join(filter(None, (thin, assumed, few if pooled else "")))


def is_thin(cohort: RatedCohort) -> bool:
    """Return whether a cohort is so small that its stars say little."""
    return len(cohort.models) < THIN


def _row(cohort: RatedCohort, model: RatedModel, scale: Scale) -> dict[str, Any]:
    start, length, centre = scale.bar(model)
    quality = next(iter(model.quality), None)
    return {
        "numbers": _numbers(model),
        "href": f"models/{names.slug(model.model)}.html",
        "name": model.model,
        "stars": model.stars,
        "probability": "" if model.star_probability is None else units.percent(model.star_probability),
        "energy": units.figure(model.energy_wh),
        "interval": tables.interval(model),
        "start": start,
        "length": length,
        "centre": centre,
        "quality": "–" if quality is None or quality.value is None else f"{quality.value:.3g}",
        "size": units.count(model.parameters) if model.parameters else "–",
        "precision": tables.precision(model) or "–",
    }


def _numbers(model: RatedModel) -> str:
    """Return the row's numbers as the script reads them: FIELDS of leaderboard.js, ``-`` where there is none."""
    quality = next((quality.value for quality in model.quality), None)
    low, high = (model.expanded.low_wh, model.expanded.high_wh) if model.expanded else (None, None)
    numbers = (
        model.energy_wh, low, high, model.stars, model.star_probability, model.parameters, quality, model.output_tokens,
    )  # fmt: skip
    return " ".join("-" if number is None else f"{number:.6g}" for number in numbers)
