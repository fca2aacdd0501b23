"""The template engine all pages share: everything printed is escaped and made visible, in one place."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from energylab.publish import contents, names, units
from energylab.release import NEVER_INCLUDED, RatedCohort


def _printed(value: Any) -> Any:
    """Make every printed text visible; markup made by our own templates is left as it is."""
    return names.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """Return a name as text that a narrow cell breaks between its words, not within them."""
    return Markup(re.sub(r"(?<=[/_-])(?=\w)", "<wbr>", str(escape(names.one_line(name)))))  # noqa: S704 - escaped


@cache
def environment() -> Environment:
    """Return the engine: strict about missing values, escaping everything, reading this package's templates."""
    engine = Environment(
        loader=PackageLoader("energylab.publish", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.filters.update(
        anchor=names.anchor,
        breakable=_breakable,
        count=units.count,
        day=units.day,
        figure=units.figure,
        line=names.one_line,
        percent=units.percent,
        plural=units.plural,
        ratio=units.ratio,
        slug=names.slug,
        span=units.span,
        task_title=units.task_title,
    )
    engine.globals.update(
        any_estimated=contents.any_estimated,
        model_error=contents.MODEL_ERROR,
        never_included=NEVER_INCLUDED,
        not_in_figures=contents.not_in_figures,
        not_included=contents.not_included,
        class_sizes=units.CLASS_SIZES,
        kind_words=units.KIND_WORDS,
        cohort_title=units.cohort_title,
        band=band,
    )
    return engine


def render(template: str, **values: Any) -> str:
    """Fill a template of this package."""
    return environment().get_template(template).render(**values)


def source(template: str) -> str:
    """Return a template's text as it is: style sheets and scripts that go beside a page."""
    engine = environment()
    return engine.loader.get_source(engine, template)[0]


def band(cohort: RatedCohort) -> str | None:
    """Return what the band across an unofficial page says; None for an official cohort.

    Estimated and simulated energies and random weights must never pass for a published rating; imported figures
    are named as somebody else's.
    """
    if cohort.official:
        return None
    if cohort.energy_kind == "imported":
        return "Imported: somebody else’s figures, not measured by this workbench."
    return f"Not for publication: {'; '.join(cohort.not_official)}."
