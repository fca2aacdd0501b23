"""The statement: one page with the facts about a model that purchasing needs, as Markdown and HTML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from energylab.publish import page, text
from energylab.publish.emissions import Grid
from energylab.release import RatedCohort, RatedModel, Release
from energylab.table import key_facts


def markdown(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> str:
    """Return the statement of a model of a release as Markdown, with its emissions on a grid."""
    machines = [release.machines[session.machine] for session in model.sessions]
    return _engine().get_template("statement.md.j2").render(
        release=release, cohort=cohort, model=model, grid=grid, known=key_facts(cohort.cohort),
        tied=page.tied(cohort, model), meters=sorted({meter for machine in machines for meter in machine.meters}),
        drivers=sorted({machine.driver for machine in machines if machine.driver}), queries=_queries(model),
        command=page.repeat_command(model),
    )  # fmt: skip


def html(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> str:
    """Return the statement as a self-contained page that fits one sheet of A4."""
    import mistune

    body = mistune.create_markdown(escape=True, plugins=["table"])(markdown(release, cohort, model, grid))
    body = re.sub(r"<thead>\s*<tr>(\s*<th></th>)+\s*</tr>\s*</thead>", "", body)  # the tables have no headings
    return page.render("statement.html.j2", name=model.model, body=Markup(body))  # noqa: S704 - escaped by mistune


def write(
    release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid, folder: str | Path = "."
) -> tuple[Path, Path]:
    """Write a model's statement as ``statement-NAME.html`` and ``.md``, and return both paths."""
    base = f"statement-{text.anchor(cohort.key)}-{text.slug(model.model)}"
    return (
        page.write(Path(folder, f"{base}.html"), html(release, cohort, model, grid)),
        page.write(Path(folder, f"{base}.md"), markdown(release, cohort, model, grid)),
    )


def _engine() -> Environment:
    """Return an engine that prints values as plain text in Markdown, except code."""

    def plain(value: Any) -> Any:
        return text.markdown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    engine = page.environment().overlay(autoescape=False, finalize=plain)
    engine.filters.update(code=_fenced, data=text.data)
    return engine


def _fenced(command: str) -> Markup:
    """Return a command as a code block with a fence longer than any in its text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return Markup(f"{fence}bash\n{text.visible(command)}\n{fence}")  # noqa: S704 - a block of code


def _queries(model: RatedModel) -> str:
    """Return the numbers of sessions, runs and queries of a figure."""
    counts = sorted({(session.runs, session.queries) for session in model.sessions})
    each = " or ".join(f"{text.plural(runs, 'run')} of {text.plural(n, 'query', 'queries')}" for runs, n in counts)
    return f"{text.plural(len(model.sessions), 'session')} of {each}" if counts else ""
