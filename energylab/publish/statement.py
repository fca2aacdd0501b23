"""The statement: one page about one model with what purchasing asks for, as Markdown, and as HTML made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from energylab.publish import page, text
from energylab.publish.emissions import Grid
from energylab.release import RatedCohort, RatedModel, Release
from energylab.table import key_facts

UNSTATED = "not stated"

#: Record digests on the page; the release holds all of them.
_DIGESTS = 4

#: Models named that cannot be told apart from the one the statement is of.
_PEERS = 6

Fact = tuple[str, str]


def markdown(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> str:
    """Return a model's statement as Markdown.

    Parameters
    ----------
    release : Release
    cohort, model
        One of the release's cohorts, and one of its models.
    grid : Grid
        Carbon intensity to assume for the emissions.
    """
    known = key_facts(cohort.cohort)
    sections = {
        "Rating": _rating(release, cohort, model),
        "Energy": _energy(release, cohort, model),
        "What ran": _ran(release, cohort, model, known),
        "Emissions": _emissions(model, grid),
        "Evidence": _evidence(release, model),
    }
    return _engine().get_template("statement.md.j2").render(
        release=release, cohort=cohort, model=model, sections={title: list(facts) for title, facts in sections.items()},
        rating=_stars(cohort, model), commands=list(_commands(release, model)),
    )  # fmt: skip


def html(release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid) -> str:
    """Return the same as a page, self-contained and fit for one sheet of A4."""
    import mistune

    render = mistune.create_markdown(escape=True, plugins=["table"])
    body = render(markdown(release, cohort, model, grid))
    body = re.sub(r"<thead>\s*<tr>(\s*<th></th>)+\s*</tr>\s*</thead>", "", body)  # the tables have no headings
    return page.render("statement.html.j2", name=model.model, body=Markup(body))  # noqa: S704 - escaped by mistune


def write(
    release: Release, cohort: RatedCohort, model: RatedModel, grid: Grid, folder: str | Path = "."
) -> tuple[Path, Path]:
    """Write a model's statement as ``statement-NAME.html`` and ``.md``, and return both paths.

    Raises
    ------
    ReleaseError
        If the folder cannot be written to.
    """
    base = Path(folder) / f"statement-{text.anchor(cohort.key)}-{text.slug(model.model)}"
    return (
        page.write(base.with_name(f"{base.name}.html"), html(release, cohort, model, grid)),
        page.write(base.with_name(f"{base.name}.md"), markdown(release, cohort, model, grid)),
    )


def _engine() -> Environment:
    """Return an engine whose printed values are plain text to Markdown, but for code."""

    def plain(value: Any) -> Any:
        return text.markdown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    engine = page.environment().overlay(autoescape=False, finalize=plain)
    engine.filters["code"] = _fenced
    return engine


def _fenced(command: str) -> Markup:
    """Return a command as a block of code that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return Markup(f"{fence}bash\n{text.visible(command)}\n{fence}")  # noqa: S704 - a block of code


def _stars(cohort: RatedCohort, model: RatedModel) -> str:
    if model.stars is None:
        return f"not rated: {model.note or cohort.edges_reason or 'this table gives no stars'}"
    sure = "" if model.star_probability is None else f", with probability {text.percent(model.star_probability)}"
    return f"{model.stars} of 5 stars{sure}"


def _rating(release: Release, cohort: RatedCohort, model: RatedModel) -> Iterator[Fact]:
    yield "Stars", _stars(cohort, model)
    if model.note and model.stars is not None:
        yield "Note", model.note
    place = cohort.models.index(model) + 1
    rank = page.ranks(cohort, model)
    yield (
        "Rank by energy",
        f"{rank} (95 % range)" if rank else f"number {place} of {len(cohort.models)}, no range known",
    )
    if others := page.tied(cohort, model):
        more = f" and {len(others) - _PEERS} more" if len(others) > _PEERS else ""
        yield "Not told apart from", f"{', '.join(others[:_PEERS])}{more}"
    yield "Scheme", f"{release.scheme} {release.scheme_version}, methodology {release.methodology_version}"
    yield "Release", f"{release.name}, {text.day(release.date)}"
    yield "Official", "yes" if cohort.official else f"no: {'; '.join(cohort.not_official)}"


def _energy(release: Release, cohort: RatedCohort, model: RatedModel) -> Iterator[Fact]:
    yield "Per 1,000 queries", f"{text.figure(model.energy_wh)} Wh, {text.KIND_WORDS[cohort.energy_kind]}"
    yield (
        "95 % interval",
        f"{page.interval(model)} Wh, {_covers(release, cohort)}" if model.expanded else "none is known",
    )
    if model.repeatability:
        low_high = text.span(model.repeatability.low_wh, model.repeatability.high_wh, model.energy_wh)
        yield "Repeatability", f"{low_high} Wh, {_scatter(cohort, model)}"
    elif not page.repeated(model):
        yield "Repeatability", "not known: not repeated"
    if model.per_right:
        found = model.per_right
        span = text.span(found.low_wh, found.high_wh, found.energy_wh)
        yield f"Per 1,000 {found.unit}", f"{text.figure(found.energy_wh)} Wh (95 % interval {span} Wh)"
    if model.standby:
        yield "At rest", f"{text.figure(model.standby.power_w)} W with the weights resident"
    if model.marks:
        yield "Marked", page.marks(model)
    if cohort.assumption:
        yield "Assumed", cohort.assumption
    phases = [f"{p.phase} {text.figure(p.energy_wh)} Wh" for p in model.phases if p.scored and p.energy_wh is not None]
    if phases:
        yield "By phase", ", ".join(phases)
    meters = {meter for session in model.sessions for meter in release.machines[session.machine].meters}
    yield "Metered by", "; ".join(sorted(meters)) or UNSTATED
    yield "Not included", page.not_included(release, cohort)
    if model.validity_notes:
        yield "Invalid windows", f"{', '.join(model.validity_notes)}; they do not count"


def _covers(release: Release, cohort: RatedCohort) -> str:
    """Say what the expanded interval covers."""
    if cohort.energy_kind == "estimated":
        gain = 100 * release.options.get("gain", 0)
        return f"with ±{gain:.3g} % in place of a sensor’s error; it does not cover {page.MODEL_ERROR}"
    return "including the sensor’s error"


def _scatter(cohort: RatedCohort, model: RatedModel) -> str:
    """Say what a repeatability interval rests on: repeats, or an assumption."""
    if page.repeated(model):
        return f"from {text.plural(sum(session.valid for session in model.sessions), 'session')}"
    if cohort.assumption:
        return f"assumed ({cohort.assumption}): not repeated"
    return "not from repeats of this model, which was measured once; the note says what it rests on"


def _ran(release: Release, cohort: RatedCohort, model: RatedModel, known: dict[str, str]) -> Iterator[Fact]:
    machines = [release.machines[session.machine] for session in model.sessions]
    size = f"{text.count(model.parameters)} parameters" if model.parameters else "parameters not stated"
    yield "Model", f"{model.architecture or 'architecture not stated'}, {size}"
    yield "Revision", model.commit or model.revision or UNSTATED
    yield "Hardware", known.get("device") or cohort.device or UNSTATED
    yield "Driver", ", ".join(sorted({machine.driver for machine in machines if machine.driver})) or UNSTATED
    yield "Precision", model.dtype or UNSTATED
    measured_here = machines and cohort.energy_kind != "imported"
    yield "Quantisation", model.quantisation or ("none on record" if measured_here else UNSTATED)
    named = {"attention": "attention", "compiled": "compiled", "batch": "batch size", "settings": "settings"}
    yield "Settings", ", ".join(f"{label}: {known[name]}" for name, label in named.items() if name in known) or UNSTATED
    yield "Queries", _queries(model, known)
    yield "Data", known.get("data") or UNSTATED
    for quality in model.quality:
        value = "no value" if quality.value is None else f"{quality.value:.3g}"
        yield "Quality", f"{quality.metric} {value}" + (f" ({quality.meaningless})" if quality.meaningless else "")


def _queries(model: RatedModel, known: dict[str, str]) -> str:
    if not model.sessions:
        return UNSTATED
    counts = sorted({(session.runs, session.queries) for session in model.sessions})
    each = " or ".join(f"{text.plural(runs, 'run')} of {text.plural(n, 'query', 'queries')}" for runs, n in counts)
    return f"{text.plural(len(model.sessions), 'session')} of {each}, protocol {known.get('protocol', UNSTATED)}"


def _emissions(model: RatedModel, grid: Grid) -> Iterator[Fact]:
    yield "Grid assumed", f"{grid.g_per_kwh:.4g} g CO2e per kWh, {grid.name} ({grid.source})"
    yield "Per 1,000 queries", f"{grid.grams(model.energy_wh):.3g} g CO2e, of the device’s electricity alone"
    yield "For another grid", f"{text.figure(model.energy_wh)} Wh ÷ 1,000 × its g CO2e per kWh"


def _evidence(release: Release, model: RatedModel) -> Iterator[Fact]:
    yield "Release sha256", release.digest()
    for session in model.sessions[:_DIGESTS]:
        yield f"Record {session.record_id}", f"sha256 {session.digest}"
    more = len(model.sessions) - _DIGESTS
    if more > 0:
        yield "More records", f"{more}, with their sha256 in the release"
    if not model.sessions:
        yield "Records", f"none: the figures come from {' '.join(release.sources) or 'a table'}"


def _commands(release: Release, model: RatedModel) -> Iterator[Fact]:
    yield "Check that a release is the one named above", f"sha256sum {release.name}.json"
    if model.sessions:
        code = "from energylab import store; print(store.read_record('record.json').digest())"
        yield "Check that a record is one of those named above", f'python -c "{code}"'
    command = page.repeat_command(model)
    if command:
        yield "Measure the first session again", command
