"""The statement: one page about one model with what purchasing asks for, as HTML and as Markdown.

Both are written from the same facts. Equal releases and options give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from energylab.errors import ReleaseError
from energylab.publish import contents, names, pages, repeat, units
from energylab.publish.carbon import Intensity
from energylab.publish.tables import interval
from energylab.record import DataSource
from energylab.release import RatedCohort, RatedModel, Release
from energylab.table import key_facts

UNSTATED = "not stated"

#: Record digests on the page; the release holds all of them.
_DIGESTS = 4


@dataclass(frozen=True)
class Section:
    """A heading and its facts.

    Attributes
    ----------
    title : str
    facts : tuple of (str, str)
        Label and value; values are plain text.
    """

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Statement:
    """The facts of one statement.

    Attributes
    ----------
    model, subject : str
        The model's name; task and class.
    band : str or None
        What an unofficial page says across it.
    energy, interval, kind : str
        The figure in Wh per 1,000 queries, its expanded interval, and how the energy is known.
    stars : int or None
    rating : str
        Stars with their probability, or why there are none.
    sections : tuple of Section
    commands : tuple of (str, str)
        What a command shows, and the command.
    release : str
        Name and date of the release.
    """

    model: str
    subject: str
    band: str | None
    energy: str
    interval: str
    kind: str
    stars: int | None
    rating: str
    sections: tuple[Section, ...]
    commands: tuple[tuple[str, str], ...]
    release: str

    def html(self) -> str:
        """Return the page, self-contained and fit for one sheet of A4."""
        return pages.render("statement.html.j2", statement=self)

    def markdown(self) -> str:
        """Return the same facts as Markdown."""
        return "".join(f"{line}\n" for line in _markdown(self))


def statement(release: Release, cohort: RatedCohort, model: RatedModel, grid: Intensity) -> Statement:
    """Return the statement of a model.

    Parameters
    ----------
    release : Release
    cohort : RatedCohort
        One of the release's cohorts.
    model : RatedModel
        One of the cohort's models.
    grid : Intensity
        Carbon intensity to assume for the emissions.

    Returns
    -------
    Statement
    """
    known = key_facts(cohort.cohort)
    return Statement(
        model=model.model,
        subject=units.cohort_title(cohort.task, cohort.model_class),
        band=pages.band(cohort),
        energy=units.figure(model.energy_wh),
        interval=interval(model),
        kind=units.KIND_WORDS[cohort.energy_kind],
        stars=model.stars,
        rating=_rating(model, cohort),
        sections=(
            Section("Rating", tuple(_scheme(release, cohort, model))),
            Section("Energy", tuple(_energy(release, cohort, model))),
            Section("What ran", tuple(_ran(release, cohort, model, known))),
            Section("Emissions", tuple(_emissions(model, grid))),
            Section("Evidence", tuple(_evidence(release, model))),
        ),
        commands=tuple(_commands(release, model)),
        release=f"{release.name}, {units.day(release.date)}",
    )


def write(
    release: Release, cohort: RatedCohort, model: RatedModel, grid: Intensity, folder: str | Path = "."
) -> tuple[Path, Path]:
    """Write a model's statement as ``statement-NAME.html`` and ``.md``, and return both paths.

    Raises
    ------
    ReleaseError
        If the folder cannot be written to.
    """
    made = statement(release, cohort, model, grid)
    base = Path(folder) / f"statement-{names.anchor(cohort.key)}-{names.slug(model.model)}"
    page, text = base.with_name(f"{base.name}.html"), base.with_name(f"{base.name}.md")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(made.html(), encoding="utf-8")
        text.write_text(made.markdown(), encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot write {base}: {error.strerror}; choose another folder") from error
    return page, text


def _rating(model: RatedModel, cohort: RatedCohort) -> str:
    if model.stars is None:
        return f"no stars: {model.note or cohort.edges_reason or 'the cohort earns none'}"
    sure = "" if model.star_probability is None else f", with probability {units.percent(model.star_probability)}"
    return f"{model.stars} of 5 stars{sure}"


def _scheme(release: Release, cohort: RatedCohort, model: RatedModel) -> Iterator[tuple[str, str]]:
    rank = cohort.models.index(model) + 1
    yield "Stars", _rating(model, cohort)
    if model.note and model.stars is not None:
        yield "Note", model.note
    yield "Place", f"number {rank} of {len(cohort.models)} by energy, lightest first"
    yield "Scheme", f"{release.scheme} {release.scheme_version}, methodology {release.methodology_version}"
    yield "Release", f"{release.name}, {units.day(release.date)}"
    yield "Official", "yes" if cohort.official else f"no: {'; '.join(cohort.not_official)}"


def _energy(release: Release, cohort: RatedCohort, model: RatedModel) -> Iterator[tuple[str, str]]:
    yield "Per 1,000 queries", f"{units.figure(model.energy_wh)} Wh, {units.KIND_WORDS[cohort.energy_kind]}"
    yield (
        "95 % interval",
        f"{interval(model)} Wh {contents.interval_holds(release, cohort)}"
        if model.expanded
        else "none: not enough is known",
    )
    if model.repeatability:
        low, high = model.repeatability.low_wh, model.repeatability.high_wh
        yield "Repeatability", f"{units.span(low, high, model.energy_wh)} Wh, from repeats alone"
    if cohort.assumption:
        yield "Assumed", cohort.assumption
    phases = [f"{p.phase} {units.figure(p.energy_wh)} Wh" for p in model.phases if p.scored and p.energy_wh is not None]
    if phases:
        yield "By phase", ", ".join(phases)
    meters = {meter for session in model.sessions for meter in release.machines[session.machine].meters}
    yield "Metered by", "; ".join(sorted(meters)) or UNSTATED
    yield "Never included", contents.not_included(release, cohort)
    if model.validity_notes:
        yield "Invalid windows", f"{', '.join(model.validity_notes)}; they do not count"


def _ran(release: Release, cohort: RatedCohort, model: RatedModel, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    machines = [release.machines[session.machine] for session in model.sessions]
    size = f"{units.count(model.parameters)} parameters" if model.parameters else "parameters not stated"
    yield "Model", f"{model.architecture or 'architecture not stated'}, {size}"
    yield "Revision", model.commit or model.revision or UNSTATED
    yield "Hardware", known.get("device") or cohort.device or UNSTATED
    drivers = sorted({machine.driver for machine in machines if machine.driver})
    yield "Driver", ", ".join(drivers) or UNSTATED
    yield "Precision", model.dtype or UNSTATED
    yield (
        "Quantisation",
        model.quantisation or ("none on record" if machines and cohort.energy_kind != "imported" else UNSTATED),
    )
    yield "Optimisations", _optimisations(known)
    yield "Queries", _queries(model, known)
    yield "Data", _data(known.get("data"))
    for quality in model.quality:
        value = "no value" if quality.value is None else f"{quality.value:.3g}"
        yield "Quality", f"{quality.metric} {value}" + (f" ({quality.meaningless})" if quality.meaningless else "")


def _data(stated: str | None) -> str:
    """Return the data set's name, then where it came from."""
    source, _, name = (stated or UNSTATED).partition(" ")
    return f"{name} ({source})" if source in get_args(DataSource) and name else stated or UNSTATED


def _optimisations(known: dict[str, str]) -> str:
    """Return what of a model's execution differs from plain execution, as the cohort states it."""
    named = {"attention": "attention", "compiled": "compiled", "batch": "batch size", "settings": "settings"}
    stated = [f"{label}: {known[name]}" for name, label in named.items() if name in known]
    return ", ".join(stated) or UNSTATED


def _queries(model: RatedModel, known: dict[str, str]) -> str:
    if not model.sessions:
        return UNSTATED
    counts = sorted({(session.runs, session.queries) for session in model.sessions})
    each = " or ".join(f"{units.plural(runs, 'run')} of {units.plural(n, 'query', 'queries')}" for runs, n in counts)
    return f"{units.plural(len(model.sessions), 'session')} of {each}, protocol {known.get('protocol', UNSTATED)}"


def _emissions(model: RatedModel, grid: Intensity) -> Iterator[tuple[str, str]]:
    yield "Grid assumed", f"{grid.g_per_kwh:.4g} g CO2e per kWh, {grid.where} ({grid.source})"
    yield "Per 1,000 queries", f"{grid.grams(model.energy_wh):.3g} g CO2e, of the device’s electricity alone"
    yield "For another grid", f"{units.figure(model.energy_wh)} Wh ÷ 1,000 × its g CO2e per kWh"


def _evidence(release: Release, model: RatedModel) -> Iterator[tuple[str, str]]:
    yield "Release sha256", release.digest()
    for session in model.sessions[:_DIGESTS]:
        yield f"Record {names.one_line(session.record_id)}", f"sha256 {session.digest}"
    more = len(model.sessions) - _DIGESTS
    if more > 0:
        yield "More records", f"{more}, with their sha256 in the release"
    if not model.sessions:
        yield "Records", f"none of this workbench: taken over from {' '.join(release.sources) or 'a table'}"


def _commands(release: Release, model: RatedModel) -> Iterator[tuple[str, str]]:
    yield "Whether a release is the one named above", f"sha256sum {release.name}.json"
    if model.sessions:
        code = "from energylab import store; print(store.read_record('record.json').digest())"
        yield "Whether a record is one of those named above", f'python -c "{code}"'
    command = repeat.command(model)
    if command:
        yield "The same session, measured again", command


def _markdown(made: Statement) -> Iterator[str]:
    yield f"# Energy statement: {markdown_text(made.model)}"
    yield ""
    if made.band:
        yield f"> **{markdown_text(made.band)}**"
        yield ""
    subject, rating = markdown_text(made.subject), markdown_text(made.rating)
    yield f"**{made.energy} Wh per 1,000 queries** ({subject}; {made.kind}). {rating}."
    for section in made.sections:
        yield from ("", f"## {section.title}", "", "| | |", "| --- | --- |")
        yield from (f"| {markdown_text(label)} | {markdown_text(value)} |" for label, value in section.facts)
    yield from ("", "## How to verify")
    for shows, command in made.commands:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        yield from ("", f"{shows}:", "", f"{fence}bash", names.visible(command), fence)


def markdown_text(text: str) -> str:
    """Return `text` as one line that Markdown shows as it is: no markup, no HTML, no link.

    Parameters
    ----------
    text : str
        Any text, for example a model's name.
    """
    plain = re.sub(r"([\\`*_{}\[\]<>#|&~$@!^])", r"\\\1", names.one_line(text))
    return re.sub(r"(?i)(https?|ftp|www|mailto|xmpp)([:.])", r"\1\\\2", plain)
