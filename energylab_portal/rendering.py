"""Pages of the portal: the leaderboard's engine and look, with templates of its own."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader

from energylab.publish import page as pages
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS
from energylab_portal.states import WORDS, way


@cache
def environment() -> Environment:
    """Return the leaderboard's engine, which escapes everything, reading the portal's templates."""
    engine = pages.environment().overlay(loader=PackageLoader("energylab_portal", "templates"))
    engine.filters = {**pages.environment().filters, "moment": moment, "size": size}
    engine.globals = {
        **pages.environment().globals,
        "attestations": ATTESTATIONS,
        "attestation_version": ATTESTATION_VERSION,
        "state_words": WORDS,
        "way": way,
    }
    return engine


def page(template: str, **values: Any) -> str:
    """Fill a template of the portal."""
    return environment().get_template(template).render(**values)


@cache
def style() -> str:
    """Return the leaderboard's style sheet, followed by what only the portal needs."""
    engine = environment()
    return pages.source("leaderboard/style.css") + engine.loader.get_source(engine, "portal.css")[0]


def moment(seconds: float | None) -> str:
    """Return a time as people read it, UTC: 2026-03-05 14:07."""
    if seconds is None:
        return "–"
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M}"


def size(count: int | None) -> str:
    """Return a number of bytes as people read it."""
    if count is None:
        return "–"
    return (
        f"{count:,} bytes" if count < 10_000 else f"{count / 1e3:,.0f} kB" if count < 10e6 else f"{count / 1e6:,.1f} MB"
    )
