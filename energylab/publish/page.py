"""Shared by all pages: the template engine, sentences about cohorts and models, and writing files."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from energylab.errors import ReleaseError, unknown_name
from energylab.protocol.validity import WARNINGS
from energylab.publish import text
from energylab.release import NEVER_INCLUDED, RatedCohort, RatedModel, Release

#: Not included in a processor's energy.
BESIDE_PROCESSOR = (
    "memory, accelerators and the rest of the host (only the processor is measured), "
    "cooling, fans and the building’s overhead (PUE)"
)
UNKNOWN = "unknown, since the hardware of the figures is not stated"

#: Not covered by the interval of an estimate.
MODEL_ERROR = "the error of the power model, which may be a factor of two"


def _printed(value: Any) -> Any:
    """Make hidden characters of a printed text visible; markup of our own templates is not changed."""
    return text.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """Return a name as text that breaks between its words in a narrow cell."""
    return Markup(re.sub(r"(?<=[/_-])(?=\w)", "<wbr>", str(escape(text.one_line(name)))))  # noqa: S704 - escaped


@cache
def environment() -> Environment:
    """Return the template engine of this package: missing values are errors, and all text is escaped."""
    engine = Environment(
        loader=PackageLoader("energylab.publish", "templates"), autoescape=True, undefined=StrictUndefined,
        finalize=_printed, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    shared = ("anchor", "count", "day", "figure", "month", "percent", "plural", "slug", "span", "task_title")
    engine.filters.update({name: getattr(text, name) for name in shared})
    engine.filters.update(line=text.one_line, breakable=_breakable)
    words = (assuming, band, interval, marks, meanings_of_marks, not_included, not_in_figures, ranks, repeated, stars,
             unrated_reason)  # fmt: skip
    engine.globals.update({function.__name__: function for function in words})
    engine.globals.update(MODEL_ERROR=MODEL_ERROR, estimated=any_estimated, cohort_title=text.cohort_title)
    engine.globals.update(class_sizes=text.CLASS_SIZES, kind_words=text.KIND_WORDS)
    return engine


def render(template: str, **values: Any) -> str:
    """Fill a template of this package."""
    return environment().get_template(template).render(**values)


def source(template: str) -> str:
    """Return the unchanged text of a template, for style sheets and scripts of a page."""
    return environment().loader.get_source(environment(), template)[0]


def band(cohort: RatedCohort) -> str | None:
    """Return the text of the band across an unofficial page; None for an official cohort."""
    return next(iter(bands([cohort])), None)


def bands(cohorts: Iterable[RatedCohort]) -> list[str]:
    """Return the bands of several cohorts: one for imported figures, one with the reasons why others are unofficial."""
    unofficial = [cohort for cohort in cohorts if not cohort.official]
    reasons: dict[str, set[str]] = {}
    for reason in (why for cohort in unofficial if cohort.energy_kind != "imported" for why in cohort.not_official):
        what, _, listed = reason.partition(": ")
        reasons.setdefault(what, set()).update(filter(None, listed.split(", ")))
    joined = "; ".join(f"{what}: {', '.join(sorted(listed))}" if listed else what for what, listed in reasons.items())
    imported = any(cohort.energy_kind == "imported" for cohort in unofficial)
    return ["Imported figures, not measured here."] * imported + [f"Not for publication: {joined}."] * bool(joined)


def not_included(release: Release, cohort: RatedCohort) -> str:
    """Return what the energies of a cohort do not include, to be printed after "not included:"."""
    if cohort.device in (None, "", "not stated"):
        return UNKNOWN
    own = {number for number, machine in enumerate(release.machines) if machine.processor == cohort.device}
    metered = own and any(session.machine in own for model in cohort.models for session in model.sessions)
    return BESIDE_PROCESSOR if metered else NEVER_INCLUDED


def not_in_figures(release: Release) -> str:
    """Return what a release's figures do not include, by hardware if it differs."""
    found: dict[str, dict[str, None]] = {}
    for cohort in release.cohorts:
        found.setdefault(not_included(release, cohort), {})[cohort.device or "hardware that is not stated"] = None
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"on {', '.join(devices)}: {what}" for what, devices in found.items())


def any_estimated(release: Release) -> bool:
    """Whether a release holds estimated energies, whose intervals do not cover the error of the power model."""
    return any(cohort.energy_kind == "estimated" for cohort in release.cohorts)


def interval(model: RatedModel) -> str:
    """Return a model's expanded interval as text, or a dash if there is none."""
    if model.expanded is None:
        return "–"
    return text.span(model.expanded.low_wh, model.expanded.high_wh, model.energy_wh)


def repeated(model: RatedModel) -> bool:
    """Whether a model was measured in more than one valid session, so that its spread is known."""
    return sum(session.valid for session in model.sessions) > 1


def assuming(cohort: RatedCohort, model: RatedModel | None = None) -> str:
    """Return ", assuming a noise of 1 %" if a cohort, or this model of it, assumes one; else an empty text."""
    known = not cohort.assumption or (model is not None and repeated(model))
    return "" if known else f", assuming a {cohort.assumption}"


def stars(cohort: RatedCohort, model: RatedModel) -> str:
    """Return a model's stars with their probability and its assumption, or the reason for no stars."""
    if model.stars is None:
        return f"not rated: {unrated_reason(cohort, model) or 'this table gives no stars'}"
    if model.star_probability is None:
        return f"{model.stars} of 5 stars"
    return f"{model.stars} of 5 stars, with probability {text.percent(model.star_probability)}{assuming(cohort)}"


def unrated_reason(cohort: RatedCohort, model: RatedModel | None = None) -> str:
    """Return why a model, or a whole cohort, has no stars, without the words "not rated" that notes may begin with."""
    reason = (model and model.note) or cohort.edges_reason
    return reason.removeprefix("not rated: ")


def ranked(cohort: RatedCohort) -> int:
    """Return how many models of a cohort have a rank."""
    return sum(model.rank_low is not None for model in cohort.models)


def ranks(cohort: RatedCohort, model: RatedModel, of: int | None = None) -> str | None:
    """Return a model's rank as a range, "3–5 of 32"; None if it has no rank. `of` saves counting the ranked models."""
    if model.rank_low is None:
        return None
    range_ = f"{model.rank_low}" if model.rank_low == model.rank_high else f"{model.rank_low}–{model.rank_high}"
    return f"{range_} of {of or ranked(cohort)}"


def tied(cohort: RatedCohort, model: RatedModel) -> list[str]:
    """Return the other models whose range of ranks overlaps the model's own: their order by energy is uncertain."""
    if model.rank_low is None:
        return []
    low, high = model.rank_low, model.rank_high
    peers = [other for other in cohort.models if other.rank_low is not None and other.rank_low <= high]
    return [other.model for other in peers if low <= other.rank_high and other is not model]


def marks(model: RatedModel) -> str:
    """Return the warnings that must be shown with a figure; empty if there are none."""
    return "; ".join(mark.replace("_", " ") for mark in model.marks or ())


def meanings_of_marks(models: Iterable[RatedModel]) -> list[str]:
    """Return one sentence for each warning that some models have, in alphabetical order."""
    found = sorted({mark for model in models for mark in model.marks or ()})
    return [f"{mark.replace('_', ' ').capitalize()}: {WARNINGS.get(mark, mark)}." for mark in found]


def precision(model: RatedModel) -> str:
    """Return a model's precision and quantisation, if any."""
    return " ".join(part for part in (model.dtype, model.quantisation) if part)


def repeat_command(model: RatedModel) -> str | None:
    """Return the papermill command that repeats a model's first session; None if no session has parameters."""
    parameters = next((session.parameters for session in model.sessions if session.parameters), None)
    if parameters is None:
        return None
    words = ["papermill", "notebooks/01-benchmark.ipynb", "repeated.ipynb"]
    for name, value in sorted(parameters.items()):
        if value is not None:  # -r keeps text as text, such as the revision 5607e12
            words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
    return shlex.join(words)


def find(
    release: Release, name: str, task: str | None = None, model_class: str | None = None
) -> tuple[RatedCohort, RatedModel]:
    """Return the cohort and model of a release with a given name; an error if it is rated in several cohorts."""
    named = [(cohort, model) for cohort, model in release.rated() if model.model == name]
    if not named:
        raise unknown_name("model", name, {model.model for _, model in release.rated()})
    found = [pair for pair in named if task in (None, pair[0].task) and model_class in (None, pair[0].model_class)]
    if len(found) != 1:
        where = ", ".join(text.cohort_title(cohort.task, cohort.model_class) for cohort, _ in named)
        raise ReleaseError(f"model {name!r} is rated in: {where}; choose one with --task and --model-class")
    return found[0]


def write(path: Path, content: str | bytes) -> Path:
    """Write one file; a folder that cannot be written to is a ReleaseError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ReleaseError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    return path


def replace_folder(folder: Path, files: Iterable[tuple[str, bytes]], marker: str) -> None:
    """Replace `folder` by a new folder with these files, completely or not at all.

    An existing folder is replaced only if it is empty or holds `marker`, which shows that it was written before.
    """
    if folder.exists() and not (folder / marker).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} holds other files and no {marker}; choose an empty or new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            fresh, earlier = Path(place) / "fresh", Path(place) / "earlier"
            for name, content in files:
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(content)
            if folder.exists():
                folder.rename(earlier)
            try:
                fresh.rename(folder)
            finally:
                if earlier.exists() and not folder.exists():
                    earlier.rename(folder)
    except OSError as error:
        raise ReleaseError(f"cannot write {folder}: {error.strerror}; free space or choose another folder") from error
