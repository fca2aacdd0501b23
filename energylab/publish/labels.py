"""Labels: one model's rating on a card of 260 by 364, drawn by hand in one SVG template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from energylab.errors import ReleaseError, unknown_name
from energylab.publish import chromium, contents, names, pages, qr, units
from energylab.publish.scale import Ladder
from energylab.publish.textfit import Fitted, fit, width
from energylab.release import RatedCohort, RatedModel, Release

WIDTH, HEIGHT, MARGIN = 260, 364, 16
INNER = WIDTH - 2 * MARGIN

_QR_SIDE = 80  # of the dark modules; the quiet zone around them lies in the margin


def _star_points() -> str:
    """Return a five-pointed star in a box of 28 by 28."""
    corners = []
    for corner in range(10):
        radius = 14 if corner % 2 == 0 else 5.6
        angle = math.pi * (corner / 5 - 0.5)
        corners.append(f"{14 + radius * math.cos(angle):.2f},{14.6 + radius * math.sin(angle):.2f}")
    return " ".join(corners)


_STAR = _star_points()


@dataclass(frozen=True)
class Labels:
    """The labels of a release.

    Parameters
    ----------
    release : Release
    """

    release: Release

    def svg(self, cohort: RatedCohort, model: RatedModel) -> str:
        """Return a model's label as SVG.

        Parameters
        ----------
        cohort : RatedCohort
            One of the release's cohorts.
        model : RatedModel
            One of the cohort's models.

        Returns
        -------
        str
            A file with a title and a description, generic fonts, and no reference to anything outside it.
        """
        band = _band(cohort)
        top = 58 if band else 38
        title = names.one_line(units.cohort_title(cohort.task, cohort.model_class))
        qr_path, modules = qr.path(self.qr_text(model))
        return pages.render(
            "label.svg.j2",
            model=model,
            band=band and fit(band, INNER - 12, 14, largest=9, smallest=5),
            name=_lines(fit(names.one_line(model.model), INNER, 94 - top, largest=17, smallest=7.5), bottom=94),
            task=fit(title, INNER, 13.5, largest=11, smallest=6),
            stars=[(MARGIN + 34 * place, _STAR, place < (model.stars or 0)) for place in range(5)],
            rating=_rating(model),
            energy=_energy(model),
            interval=fit(_interval(cohort, model), INNER, 12, largest=9.5, smallest=6),
            ruler=_ruler(self._ladders[cohort.key], model),
            facts=_facts(self.release, cohort),
            qr={"path": qr_path, "scale": round(_QR_SIDE / modules, 4), "side": _QR_SIDE},
            description=describe(self.release, cohort, model),
        )

    def files(self) -> dict[str, bytes]:
        """Return the labels of all models, by the names they have in a leaderboard's folder."""
        return {file_name(cohort, model): self.svg(cohort, model).encode() for cohort, model in self.release.rated()}

    def qr_text(self, model: RatedModel) -> str:
        """Return what the QR code says: the address of the model's page.

        A release without an address has no page on the web: the code then says, as text, which release and page
        prove the label.
        """
        page = f"models/{names.slug(model.model)}.html"
        if self.release.address:
            return f"{self.release.address.rstrip('/')}/{page}"
        return f"energylab release {self.release.name} {page} sha256:{self._digest[:16]}"

    @cached_property
    def _ladders(self) -> dict[str, Ladder]:
        return {cohort.key: Ladder(cohort) for cohort in self.release.cohorts}

    @cached_property
    def _digest(self) -> str:
        return self.release.digest()


def file_name(cohort: RatedCohort, model: RatedModel) -> str:
    """Return the name of a label in a leaderboard's folder."""
    return f"labels/{names.anchor(cohort.key)}--{names.slug(model.model)}.svg"


def find(release: Release, name: str, task: str | None = None, model_class: str | None = None) -> tuple:
    """Return the one cohort and model that a name means.

    Parameters
    ----------
    release : Release
    name : str
        The model's name.
    task, model_class : str, optional
        Needed where the model is rated more than once.

    Returns
    -------
    tuple of RatedCohort and RatedModel

    Raises
    ------
    UnknownNameError
        If no model has that name; names the nearest.
    ReleaseError
        If the name is rated more than once, or not in that task and class.
    """
    named = [(cohort, model) for cohort, model in release.rated() if model.model == name]
    if not named:
        raise unknown_name("model", name, {model.model for _, model in release.rated()})
    found = [
        (cohort, model)
        for cohort, model in named
        if task in (None, cohort.task) and model_class in (None, cohort.model_class)
    ]
    if len(found) != 1:
        where = ", ".join(units.cohort_title(cohort.task, cohort.model_class) for cohort, _ in named)
        raise ReleaseError(f"model {name!r} is rated in: {where}; choose one with --task and --model-class")
    return found[0]


def write(
    release: Release, cohort: RatedCohort, model: RatedModel, kind: str = "svg", output: Path | None = None
) -> Path:
    """Write one label as a file.

    Parameters
    ----------
    release, cohort, model
        As `find` returns them.
    kind : str, default "svg"
        ``svg``, ``png`` (four pixels to a unit) or ``pdf`` (of the label's size); the last two by Chromium.
    output : path, optional
        By default the name it has in a leaderboard's folder, in the working folder.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MissingExtraError
        If Chromium is needed and not there.
    ReleaseError
        If the file cannot be made.
    """
    svg = Labels(release).svg(cohort, model)
    output = output or Path(Path(file_name(cohort, model)).name).with_suffix(f".{kind}")
    if kind == "png":
        return chromium.label_png(svg, output, WIDTH, HEIGHT)
    if kind == "pdf":
        return chromium.label_pdf(svg, output, WIDTH, HEIGHT)
    try:
        output.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot write {output}: {error.strerror}; choose another file") from error
    return output


def describe(release: Release, cohort: RatedCohort, model: RatedModel) -> str:
    """Return the label in one paragraph, for those who hear it."""
    stars = f"{units.plural(model.stars, 'star')} of 5" if model.stars else "no stars"
    sure = f" with probability {units.percent(model.star_probability)}" if model.star_probability is not None else ""
    band = _band(cohort)
    return (
        f"{f'{band}. ' if band else ''}{names.one_line(model.model)}, "
        f"{units.cohort_title(cohort.task, cohort.model_class)}: {stars}{sure}; "
        f"{units.figure(model.energy_wh)} Wh per 1,000 queries, {_interval(cohort, model)}, "
        f"on {cohort.device or 'hardware that is not stated'}, {units.month(release.date)}, release {release.name}, "
        f"scheme {release.scheme} {release.scheme_version}. Not included: {contents.not_included(release, cohort)}."
    )


def _band(cohort: RatedCohort) -> str | None:
    """Return the words across an unofficial label; None for an official one."""
    if cohort.official:
        return None
    if cohort.energy_kind == "imported":
        return "IMPORTED FIGURES, NOT MEASURED HERE"
    what = f"{cohort.energy_kind} energy" if cohort.energy_kind != "measured" else "unofficial"
    if any("random" in why for why in cohort.not_official):
        what += ", random weights"
    return f"NOT FOR PUBLICATION: {what}"


def _lines(name: Fitted, bottom: float) -> dict[str, Any]:
    """Return a name's lines with their baselines above `bottom`, at the right margin where it is written from there."""
    first = bottom - 0.3 * name.size - (len(name.lines) - 1) * name.line_height
    return {
        "size": name.size,
        "x": WIDTH - MARGIN if name.right_to_left else MARGIN,
        "direction": "rtl" if name.right_to_left else "ltr",
        "lines": [(round(first + i * name.line_height, 2), line) for i, line in enumerate(name.lines)],
    }


def _rating(model: RatedModel) -> str:
    if model.stars is None:
        return "not rated"
    sure = "" if model.star_probability is None else f", probability {units.percent(model.star_probability)}"
    return f"{model.stars} of 5 stars{sure}"


def _energy(model: RatedModel) -> dict[str, Any]:
    """Return the figure and the font size at which it and its unit fill the width at most."""
    text, unit = units.figure(model.energy_wh), "Wh per 1,000 queries"
    room = INNER - 6 - 11 * width(unit)
    return {"text": text, "unit": unit, "size": min(34.0, math.floor(10 * room / width(text)) / 10)}


def _interval(cohort: RatedCohort, model: RatedModel) -> str:
    if model.expanded is None:
        return f"{cohort.energy_kind}; no interval is known"
    low_high = units.span(model.expanded.low_wh, model.expanded.high_wh, model.energy_wh)
    what = f"{cohort.assumption} assumed" if cohort.assumption else "expanded"
    if cohort.energy_kind == "estimated":  # its power model may be wrong by a factor of two, and no interval holds that
        what = "power model aside"
    return f"{cohort.energy_kind}, {low_high} Wh (95 %, {what})"


def _ruler(ladder: Ladder, model: RatedModel) -> dict[str, Any]:
    """Return where peers, the bands' edges and the model's interval stand on the label's scale."""

    def x(per_cent: float) -> float:
        return round(MARGIN + INNER * per_cent / 100, 1)

    start, length, centre = ladder.scale.bar(model)
    models = ladder.cohort.models
    return {
        "peers": "".join(f"M{x(place):g} 225v8" for place in ladder.places),
        "edges": list(map(x, ladder.edges)),
        "start": x(start),
        "length": round(max(INNER * length / 100, 1.5), 1),
        "centre": x(centre),
        "least": units.figure(models[0].energy_wh),
        "most": units.figure(models[-1].energy_wh),
        "count": units.plural(len(models), "model"),
    }


def _facts(release: Release, cohort: RatedCohort) -> list[tuple[float, str, float]]:
    """Return the lines beside the QR code: baseline, text, font size."""
    texts = (
        names.one_line(cohort.device or "hardware not stated"),
        units.month(release.date),
        f"Release {release.name}",
        f"Scheme {release.scheme.replace('_', ' ')}, version {release.scheme_version}",
        contents.not_included_line(release, cohort),
    )
    lines, baseline = [], 275.0
    for fact in map(_short, texts):
        for line in fact.lines:
            lines.append((round(baseline, 2), line, fact.size))
            baseline += fact.line_height
        baseline += 4.5
    return lines


def _short(text: str) -> Fitted:
    """Fit a fact beside the QR code: on one line where it stays legible, else on two."""
    room = INNER - _QR_SIDE - 10
    one = fit(text, room, 10.5, largest=9, smallest=7)
    return one if "…" not in "".join(one.lines) else fit(text, room, 21, largest=9, smallest=6)
