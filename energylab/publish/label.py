"""Labels: one model's rating on a card of 260 by 364, drawn by an SVG template."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from energylab.publish import chromium, page, text
from energylab.publish.scale import Scale
from energylab.publish.textfit import Fitted, fit, width
from energylab.release import NEVER_INCLUDED, RatedCohort, RatedModel, Release

WIDTH, HEIGHT, MARGIN = 260, 364, 16
INNER = WIDTH - 2 * MARGIN
_QR_SIDE = 80  # side of the dark modules; the quiet zone around them lies in the margin
_MASK = 4  # mask of the QR code: all are readable, and trying all eight would take most of a label's time
_UNIT = "Wh per 1,000 queries"

#: Short forms of `energylab.publish.page.not_included`, for one line.
_SHORT = {
    NEVER_INCLUDED: "Not included: host, cooling, PUE",
    page.BESIDE_PROCESSOR: "Not included: rest of host, cooling, PUE",
    page.UNKNOWN: "Not included: unknown",
}


def svg(
    release: Release, cohort: RatedCohort, model: RatedModel, scale: Scale | None = None, digest: str | None = None
) -> str:
    """Return a model's label as SVG with generic fonts and without references to other files.

    `scale` (of the cohort) and `digest` (of the release) save time when many labels are drawn.
    """
    band, scale = _band(cohort), scale or Scale(cohort)
    top = 60 if band else 38
    figure = text.figure(model.energy_wh)
    return page.render(
        "label.svg.j2",
        model=model,
        band=band and fit(band, INNER - 12, 14, largest=9, smallest=5),
        name=fit(text.one_line(model.model), INNER, 94 - top, largest=17, smallest=7.5),
        task=fit(text.one_line(text.cohort_title(cohort.task, cohort.model_class)), INNER, 13.5, 11, 6),
        rating=fit(_rating(cohort, model, scale.ranked), INNER, 13, largest=10.5, smallest=7),
        energy=(figure, min(34.0, math.floor(10 * (INNER - 6 - 11 * width(_UNIT)) / width(figure)) / 10)),
        unit=_UNIT,
        interval=fit(_interval(cohort, model), INNER, 12, largest=9.5, smallest=6),
        ruler=_ruler(scale, model),
        facts=_facts(release, cohort, model),
        qr=_qr(qr_text(release, model, digest)),
        description=describe(release, cohort, model, scale.ranked),
    )


def files(release: Release) -> dict[str, bytes]:
    """Return the labels of all models, by the names they have in a leaderboard's folder."""
    scales, digest = {cohort.key: Scale(cohort) for cohort in release.cohorts}, release.digest()
    return {
        file_name(cohort, model): svg(release, cohort, model, scales[cohort.key], digest).encode()
        for cohort, model in release.rated()
    }


def file_name(cohort: RatedCohort, model: RatedModel) -> str:
    """Return the name of a label in a leaderboard's folder."""
    return f"labels/{text.anchor(cohort.key)}--{text.slug(model.model)}.svg"


def write(
    release: Release, cohort: RatedCohort, model: RatedModel, kind: str = "svg", output: Path | None = None
) -> Path:
    """Write one label as ``svg``, or by Chromium as ``png`` (four pixels to a unit) or ``pdf`` (of the label's size).

    Its name is by default that in a leaderboard's folder.
    """
    drawn = svg(release, cohort, model)
    output = output or Path(Path(file_name(cohort, model)).name).with_suffix(f".{kind}")
    if kind == "svg":
        return page.write(output, drawn)
    return chromium.label(drawn, output, WIDTH, HEIGHT, pdf=kind == "pdf")


def describe(release: Release, cohort: RatedCohort, model: RatedModel, ranked: int | None = None) -> str:
    """Return the label as one paragraph of text, for screen readers."""
    band = _band(cohort)
    return (
        f"{f'{band}. ' if band else ''}{text.one_line(model.model)}, "
        f"{text.cohort_title(cohort.task, cohort.model_class)}: {_rating(cohort, model, ranked)}; "
        f"{text.figure(model.energy_wh)} {_UNIT}, {_interval(cohort, model)}, "
        f"on {cohort.device or 'hardware that is not stated'}, {text.month(release.date)}, release {release.name}, "
        f"scheme {release.scheme} {release.scheme_version}. Not included: {page.not_included(release, cohort)}."
    )


def qr_text(release: Release, model: RatedModel, digest: str | None = None) -> str:
    """Return the text of the QR code: the address of the model's page, or the release and the page in it."""
    name = f"models/{text.slug(model.model)}.html"
    if release.address:
        return f"{release.address.rstrip('/')}/{name}"
    return f"energylab release {release.name} {name} sha256:{(digest or release.digest())[:16]}"


def _qr(content: str) -> str:
    import segno

    made = segno.make(content, error="m", micro=False, mask=_MASK)
    return made.svg_inline(scale=_QR_SIDE / made.symbol_size(border=0)[0], border=0, svgclass=None, lineclass=None)


def _band(cohort: RatedCohort) -> str | None:
    """Return the text across an unofficial label; None for an official one."""
    if cohort.official:
        return None
    if cohort.energy_kind == "imported":
        return "IMPORTED FIGURES, NOT MEASURED HERE"
    what = f"{cohort.energy_kind} energy" if cohort.energy_kind != "measured" else "unofficial"
    random = ", random weights" if any("random" in reason for reason in cohort.not_official) else ""
    return f"NOT FOR PUBLICATION: {what}{random}"


def _rating(cohort: RatedCohort, model: RatedModel, ranked: int | None = None) -> str:
    rank = page.ranks(cohort, model, ranked)
    placed = f", rank {rank}" if rank else ""
    if model.stars is None:
        return f"not rated{placed}"
    assumed = "assumed " if cohort.assumption else ""
    sure = "" if model.star_probability is None else f", {assumed}probability {text.percent(model.star_probability)}"
    return f"{model.stars} of 5 stars{sure}{placed}"


def _interval(cohort: RatedCohort, model: RatedModel) -> str:
    if model.expanded is None:
        return f"{cohort.energy_kind}; interval unknown"
    what = f"{cohort.assumption} assumed" if page.assuming(cohort, model) else "expanded"
    if cohort.energy_kind == "estimated":  # no interval covers the power model
        what = "without model error" if what == "expanded" else f"{what}, without model error"
    return f"{cohort.energy_kind}, {page.interval(model)} Wh (95 %, {what})"


def _ruler(scale: Scale, model: RatedModel) -> dict[str, Any]:
    """Return the positions of other models, band edges and the model's interval on the label's scale."""

    def x(per_cent: float) -> float:
        return round(MARGIN + INNER * per_cent / 100, 1)

    start, length, centre = scale.bar(model)
    return {
        "peers": list(map(x, scale.places)),
        "edges": list(map(x, scale.edges)),
        "start": x(start),
        "length": round(max(INNER * length / 100, 1.5), 1),
        "centre": x(centre),
        "models": scale.cohort.models,
    }


def _facts(release: Release, cohort: RatedCohort, model: RatedModel) -> list[tuple[float, str, float]]:
    """Return the lines next to the QR code: baseline, text, font size."""
    texts = (
        text.one_line(cohort.device or "hardware not stated"),
        f"{text.month(release.date)}, release {release.name}",
        f"Scheme {release.scheme.replace('_', ' ')}, version {release.scheme_version}",
        *([f"Standby {text.figure(model.standby.power_w)} W"] if model.standby else []),
        _SHORT[page.not_included(release, cohort)],
    )
    lines, baseline = [], 275.0
    for fact in map(_short, texts):
        for line in fact.lines:
            lines.append((round(baseline, 2), line, fact.size))
            baseline += fact.line_height
        baseline += 3.5
    return lines


def _short(fact: str) -> Fitted:
    """Fit a fact next to the QR code: on one line if it stays legible, else on two."""
    room = INNER - _QR_SIDE - 10
    one = fit(fact, room, 10.5, largest=9, smallest=7)
    return one if "…" not in "".join(one.lines) else fit(fact, room, 21, largest=9, smallest=6)
