"""The report's parts: a release in words, tables and figures, one method a part; its notebook calls one a cell."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from energylab.publish import drawing, pages, repeat, units
from energylab.publish.leaderboard import is_thin
from energylab.publish.tables import interval, precision
from energylab.release import RatedCohort, RatedModel, Release, read, to_rating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURE = 0.95

#: Columns of a cohort's table that are left out where no model has a value.
_OPTIONAL = (
    ("Sessions", "sessions"), ("Size", "size"), ("Precision", "precision"), ("Quality", "quality"), ("Notes", "notes"),
)  # fmt: skip


class Shown:
    """A part of the report: HTML in a notebook's output and in the report."""

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html


class Report:
    """A release, part by part. Tables and figures are numbered in the order in which they are first asked for.

    Parameters
    ----------
    release : Release or path
        A release, its file, or the name of one in ``results/releases``.
    """

    def __init__(self, release: Release | str | os.PathLike) -> None:
        self.release = release if isinstance(release, Release) else read(release)
        self._numbers: dict[str, dict[str, int]] = {"Table": {}, "Figure": {}}

    def opening(self) -> Shown:
        """Say what this is: name, date, scheme, and what keeps it from being official."""
        bands = sorted({text for text in map(pages.band, self.release.cohorts) if text})
        return self._part("opening", bands=bands, digest=self.release.digest())

    def summary(self) -> Shown:
        """Say the main results in a few sentences, counted from the release."""
        return self._part("summary", sentences=_summary(self.release))

    def cohorts(self) -> Shown:
        """Show one row a cohort: what was rated, on what, and how far apart its models are."""
        rows = [
            {
                "cohort": cohort,
                "title": units.cohort_title(cohort.task, cohort.model_class),
                "lightest": cohort.models[0],
                "heaviest": cohort.models[-1],
                "ratio": units.ratio(cohort.models[-1].energy_wh / cohort.models[0].energy_wh),
                "unsure": len(_unsure(cohort)),
                "thin": is_thin(cohort),
            }
            for cohort in self.release.cohorts
        ]
        return self._part("cohorts", table=self._number("Table", "cohorts"), rows=rows)

    def star_counts(self) -> Shown:
        """Draw how the stars of each cohort are distributed; nothing where no star was given."""
        from energylab.figures import ratings as figures

        if not any(model.stars for _, model in self.release.rated()):
            return self._part("unrated")
        caption = "The stars of each cohort: share of its rated models, with their number."
        return self._figure("star_counts", caption, lambda: figures.distribution(to_rating(self.release).stars))

    def models(self) -> Shown:
        """Show each cohort's figure and table of models."""
        return Shown("".join(self._cohort(cohort) for cohort in self.release.cohorts))

    def moved(self) -> Shown:
        """Show what moved since the previous release, and what was read and not rated."""
        return self._part(
            "moved", moved=self._number("Table", "moved", self.release.previous and self.release.previous.moves),
            left_out=self._number("Table", "left_out", self.release.left_out),
        )  # fmt: skip

    def method(self) -> Shown:
        """Say how figures, intervals and stars were made, with this release's settings."""
        assumptions = sorted({cohort.assumption for cohort in self.release.cohorts if cohort.assumption})
        return self._part("method", assumptions=assumptions)

    def machines(self) -> Shown:
        """Show the machines and the software that ran."""
        machines = self.release.machines
        return self._part("machines", table=self._number("Table", "machines", machines))

    def sessions(self) -> Shown:
        """Show every session: record, job, model, machine, energy and digest."""
        rows = [
            {"model": model, "title": units.cohort_title(cohort.task, cohort.model_class), "session": session}
            for cohort, model in self.release.rated()
            for session in model.sessions
        ]
        return self._part("sessions", table=self._number("Table", "sessions", rows), rows=rows)

    def again(self) -> Shown:
        """Show the commands that make this report, and its first measurement, again."""
        command = next(filter(None, (repeat.command(model) for _, model in self.release.rated())), None)
        return self._part("again", command=command, digest=self.release.digest())

    def _cohort(self, cohort: RatedCohort) -> str:
        from energylab.figures import release as figures

        title = units.cohort_title(cohort.task, cohort.model_class)
        caption = (
            f"{title}: energy per 1,000 queries with its expanded 95 % interval, on a logarithmic scale; dashed, the "
            "edges between star bands; right, the probability of each number of stars."
        )
        figure = self._figure(f"figure {cohort.key}", caption, lambda: figures.cohort(cohort))
        table = self._number("Table", f"table {cohort.key}")
        shared = _shared_notes(cohort)
        rows = [_row(rank, model, shared) for rank, model in enumerate(cohort.models, start=1)]
        part = self._part(
            "cohort",
            cohort=cohort,
            title=title,
            shared=shared,
            figure=Markup(figure._repr_html_()),  # noqa: S704 - our own template's
            table=table,
            rows=rows,
            optional=[(title, column) for title, column in _OPTIONAL if any(row[column] for row in rows)],
        )
        return part._repr_html_()

    def _figure(self, key: str, caption: str, draw: Callable[[], Figure]) -> Shown:
        """Draw under fixed settings, and embed the drawing so that nothing in it can act on the page."""
        import matplotlib.pyplot as plt

        with plt.rc_context(drawing.SETTINGS):
            svg = drawing.to_svg(draw())
        encoded = base64.b64encode(svg.encode()).decode()
        return self._part("figure", number=self._number("Figure", key), caption=caption, encoded=encoded)

    def _number(self, what: str, key: str, content: Any = True) -> int | None:
        """Return the number of a table or figure; None, and no number used, where it would be empty."""
        numbers = self._numbers[what]
        return numbers.setdefault(key, len(numbers) + 1) if content else None

    def _part(self, template: str, **values: Any) -> Shown:
        return Shown(pages.render(f"report/{template}.html.j2", release=self.release, **values))


def _shared_notes(cohort: RatedCohort) -> list[str]:
    """Return the notes that all models of a cohort have, to be said once."""
    notes = [_notes(model) for model in cohort.models]
    return [note for note in notes[0] if all(note in other for other in notes)]


def _notes(model: RatedModel) -> list[str]:
    return [*filter(None, model.note.split("; ")), *model.validity_notes]


def _row(rank: int, model: RatedModel, shared: list[str]) -> dict[str, Any]:
    quality = next(iter(model.quality), None)
    return {
        "rank": rank,
        "model": model,
        "interval": interval(model),
        "sessions": str(len(model.sessions) or ""),
        "size": units.count(model.parameters) if model.parameters else "",
        "precision": precision(model),
        "quality": f"{quality.metric} {quality.value:.3g}" if quality and quality.value is not None else "",
        "notes": "; ".join(note for note in _notes(model) if note not in shared),
    }


def _unsure(cohort: RatedCohort) -> list[RatedModel]:
    return [m for m in cohort.models if m.star_probability is not None and m.star_probability < _SURE]


def _summary(release: Release) -> list[str]:
    rated = list(release.rated())
    starred = [model for _, model in rated if model.stars is not None]
    five = sum(model.stars == 5 for model in starred)
    sentences = [
        f"{units.plural(len(rated), 'model')} in {units.plural(len(release.cohorts), 'cohort')} are rated by the "
        f"scheme {release.scheme.replace('_', ' ')}; {len(starred)} have stars, and {five} of these have five."
    ]
    known = [model for model in starred if model.star_probability is not None]
    if known:
        unsure = [model for model in known if model.star_probability < _SURE]
        least = min(known, key=lambda model: model.star_probability)
        sentences.append(
            f"{len(unsure)} of {len(known)} stars have a probability below 95 %; the least sure is that of "
            f"{least.model}, with {units.percent(least.star_probability)}."
        )
    else:
        sentences.append("No star has a probability: nothing was repeated, and no noise was stated.")
    held = [(cohort, _held_up(cohort)) for cohort in release.cohorts]
    cohort, moved = max(held, key=lambda pair: pair[1] / len(pair[0].models))
    if moved:
        sentences.append(
            f"The scale hangs on single models: in {units.cohort_title(cohort.task, cohort.model_class)}, leaving out "
            f"{cohort.models[-1].model} alone would change the stars of {moved} of the other "
            f"{len(cohort.models) - 1} models."
        )
    return sentences


def _held_up(cohort: RatedCohort) -> int:
    """Return how many stars would change without the heaviest model."""
    return sum(
        peer.role == "heaviest" and peer.stars != model.stars for model in cohort.models for peer in model.without
    )
