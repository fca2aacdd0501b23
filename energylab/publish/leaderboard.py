"""The leaderboard of a release: a folder of pages with tables, one page per model, labels, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from energylab.publish import budget, emissions, label, model_page, page, text
from energylab.publish.scale import Scale
from energylab.ratings.rating import THIN
from energylab.release import RatedCohort, RatedModel, Release, significant

#: Names of a row's numbers in the order of FIELDS in leaderboard.js.
_FIELDS = (
    "energy_wh_per_1000_queries", "expanded_low_wh", "expanded_high_wh", "stars", "star_probability", "parameters",
    "quality", "output_tokens_per_1000_queries", "rank_low", "rank_high",
)  # fmt: skip


def build(
    release: Release,
    folder: str | os.PathLike,
    records: Iterable[str | os.PathLike] = (),
    with_labels: bool = True,
    home: str | None = None,
) -> Path:
    """Write a release's leaderboard, which needs no server, and return its first page.

    An earlier leaderboard in `folder` is replaced. Records under `records` are offered for download if their digest is
    named in the release. `home` is the address of the site that the leaderboard is part of.
    """
    files = {
        "index.html": index_html(release, home).encode(),
        "style.css": _style(release).encode(),
        "budget.html": _budget(release).encode(),
        **{name: page.source(f"leaderboard/{name}").encode() for name in ("icon.svg", "leaderboard.js", "budget.js")},
        "leaderboard.json": to_json(release),
        "leaderboard.csv": to_csv(release),
        "release.json": release.to_bytes(),
        **model_page.record_files(release, records),
        **(label.files(release) if with_labels else {}),
    }

    def everything() -> Iterator[tuple[str, bytes]]:
        yield from files.items()
        yield from model_page.pages(release, frozenset(files))

    page.replace_folder(Path(folder), everything(), marker="leaderboard.json")
    return Path(folder) / "index.html"


def _style(release: Release) -> str:
    """Return the style sheet, with the positions of the band edges in this release's tables."""
    rules = [page.source("leaderboard/style.css")]
    for number, cohort in enumerate(release.cohorts):
        edges = (f"linear-gradient(var(--edge), var(--edge)) {x}% 0 / 1px 100% no-repeat" for x in Scale(cohort).edges)
        rules.append(f".e{number} td.bar svg {{ background: {', '.join(edges) or 'none'}; }}\n")
    return "".join(rules)


def index_html(release: Release, home: str | None = None) -> str:
    """Return the page of all tables; see `build`."""
    numbered = groupby(enumerate(release.cohorts), key=lambda pair: pair[1].task)
    return page.render(
        "leaderboard/index.html.j2",
        release=release,
        digest=release.digest(),
        root="",
        home=home,
        bands=page.bands(release.cohorts),
        tasks=[(task, [_table(number, cohort) for number, cohort in group]) for task, group in numbered],
        precisions=sorted({page.precision(model) for _, model in release.rated()} - {""}),
        kinds=sorted({cohort.energy_kind for cohort in release.cohorts}),
        grids=emissions.grids(),
    )


def _budget(release: Release) -> str:
    return page.render(
        "leaderboard/budget.html.j2", release=release, digest=release.digest(), root="", grids=emissions.grids(),
        bands=page.bands(release.cohorts), rated=budget.rated, pue=emissions.PUE, days=budget.DAYS_A_YEAR,
        left_out=budget.LEFT_OUT,
    )  # fmt: skip


def _table(number: int, cohort: RatedCohort) -> dict[str, Any]:
    """Return the content of a cohort's table, without empty columns."""
    scale, models = Scale(cohort), cohort.models
    return {
        "cohort": cohort,
        "edges_id": f"e{number}",
        "scale": scale,
        "rows": (_row(model, scale) for model in models),
        "notes": _notes(cohort),
        "metric": next((each.metric for model in models for each in model.quality[:1] if each.value is not None), None),
        "ranked": scale.ranked > 0,
        "right": next((model.per_right.unit for model in models if model.per_right), None),
        "sizes": any(model.parameters for model in models),
        "precisions": any(page.precision(model) for model in models),
    }


def _notes(cohort: RatedCohort) -> str:
    """Return the notes on a whole table."""
    if cohort.edges_wh is None:
        return f"No stars: {page.unrated_reason(cohort)}."
    few = text.plural(len(cohort.models), "model")
    thin = f"Only {few}: one model more or less may change most stars." if is_thin(cohort) else ""
    assumed = f"Not repeated: intervals and probabilities assume a {cohort.assumption}." if cohort.assumption else ""
    return " ".join(filter(None, (thin, assumed)))


def is_thin(cohort: RatedCohort) -> bool:
    """Whether a cohort is so small that one model more or less may change most stars."""
    return len(cohort.models) < THIN


def _row(model: RatedModel, scale: Scale) -> dict[str, Any]:
    facts = _facts(model)
    numbers = ("-" if facts[name] is None else f"{facts[name]:.6g}" for name in _FIELDS)
    return {
        "model": model,
        "numbers": " ".join(numbers),
        "href": facts["page"],
        "bar": scale.bar(model),
        "ranks": page.ranks(scale.cohort, model, scale.ranked),
        "quality": "–" if facts["quality"] is None else f"{facts['quality']:.3g}",
        "precision": page.precision(model) or "–",
    }


def _facts(model: RatedModel) -> dict[str, Any]:
    """Return one model's row of the CSV and JSON tables; None for missing values."""
    quality = next(iter(model.quality), None)
    return {
        "model": model.model,
        "energy_wh_per_1000_queries": model.energy_wh,
        "expanded_low_wh": model.expanded and model.expanded.low_wh,
        "expanded_high_wh": model.expanded and model.expanded.high_wh,
        "repeatability_low_wh": model.repeatability and model.repeatability.low_wh,
        "repeatability_high_wh": model.repeatability and model.repeatability.high_wh,
        "stars": model.stars,
        "star_probability": model.star_probability,
        **{f"p_star_{n}": model.probabilities and model.probabilities[n - 1] for n in range(1, 6)},
        "expected_stars": model.expected_stars,
        "rank_low": model.rank_low,
        "rank_high": model.rank_high,
        "parameters": model.parameters,
        "dtype": model.dtype,
        "quantisation": model.quantisation,
        "quality_metric": quality and quality.metric,
        "quality": quality and quality.value,
        "output_tokens_per_1000_queries": model.output_tokens,
        "sessions": len(model.sessions),
        "wh_per_1000_right": model.per_right and model.per_right.energy_wh,
        "wh_per_1000_right_low": model.per_right and model.per_right.low_wh,
        "wh_per_1000_right_high": model.per_right and model.per_right.high_wh,
        "standby_w": model.standby and model.standby.power_w,
        "marks": "; ".join(model.marks or ()) or None,
        "note": model.note or None,
        "page": f"models/{text.slug(model.model)}.html",
    }


def to_csv(release: Release) -> bytes:
    """Return the leaderboard as CSV; text that looks like a formula gets an apostrophe."""
    shared = ("task", "model_class", "energy_kind", "official", "device")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    for number, (cohort, model) in enumerate(release.rated()):
        row = {**{name: getattr(cohort, name) for name in shared}, **_facts(model)}
        if number == 0:
            writer.writerow(row)
        writer.writerow(map(_cell, row.values()))
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return text.csv_text(value)
    return significant(value, 6) if isinstance(value, float) else value


def to_json(release: Release) -> bytes:
    """Return the leaderboard as JSON, with six significant digits; the release file has all digits."""
    facts = ("task", "model_class", "energy_kind", "device", "official", "not_official", "edges_wh")
    content = {
        "release": release.name,
        "date": release.date.isoformat(),
        "scheme": release.scheme,
        "scheme_version": release.scheme_version,
        "methodology_version": release.methodology_version,
        "release_sha256": release.digest(),
        "unit": "Wh per 1,000 queries",
        "not_included": page.not_in_figures(release),
        "cohorts": [
            {
                **{name: getattr(cohort, name) for name in facts},
                "models": [
                    {name: value for name, value in _facts(model).items() if value is not None}
                    for model in cohort.models
                ],
            }
            for cohort in release.cohorts
        ],
    }
    rounded = json.loads(json.dumps(content), parse_float=lambda figure: significant(float(figure), 6))
    return json.dumps(rounded, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
