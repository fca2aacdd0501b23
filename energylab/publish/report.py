"""The report of a release: text, tables and figures of notebook 05, and that notebook rendered as one page."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup, escape

from energylab.paths import shipped
from energylab.publish import chromium, page, text
from energylab.publish.leaderboard import is_thin
from energylab.release import Move, RatedCohort, RatedModel, Release, read, to_rating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURE = 0.95

#: Text in drawings is kept as text, in the reader's fonts.
_SVG = {"svg.hashsalt": "energylab", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.0}


class Report:
    """A release (or its file, or its name in ``results/releases``); each method shows a part of it in a notebook."""

    def __init__(self, release: Release | str | os.PathLike) -> None:
        self.release = release if isinstance(release, Release) else read(release)

    def opening(self) -> HTML:
        """Show name, date and scheme, and why the release is not official."""
        bands = page.bands(self.release.cohorts)
        return HTML(page.render("report-opening.html.j2", release=self.release, bands=bands))

    def summary(self) -> HTML:
        """Show the main results in a few sentences, computed from the release."""
        items = Markup("").join(Markup("<li>{}</li>").format(text.one_line(found)) for found in _summary(self.release))
        return HTML(f"<ul>{items}</ul>")

    def cohorts(self) -> HTML:
        """Show one row for each cohort: what was rated, on which device, and the range of its energies."""
        rows = (
            {
                "Cohort": text.cohort_title(cohort.task, cohort.model_class),
                "Models": f"{len(cohort.models)}{' (thin)' if is_thin(cohort) else ''}",
                "Energy is": cohort.energy_kind,
                "Device": cohort.device or "not stated",
                "Lowest": f"{cohort.models[0].model}, {text.figure(cohort.models[0].energy_wh)}",
                "Highest": f"{cohort.models[-1].model}, {text.figure(cohort.models[-1].energy_wh)}",
                "Ratio": text.figure(cohort.models[-1].energy_wh / cohort.models[0].energy_wh),
                "Stars below 95 %": len(_unsure(cohort.models)),
            }
            for cohort in self.release.cohorts
        )
        return _table(rows, "Cohorts: the models that were compared with each other. Energies in Wh per 1,000 queries.")

    def star_counts(self) -> HTML:
        """Draw the distribution of stars in each cohort, or state that no model has stars."""
        from energylab.figures import ratings as figures

        if not any(model.stars for _, model in self.release.rated()):
            return HTML("<p>No model of this release has stars; the reason is given for each cohort below.</p>")
        caption = "The stars of each cohort: share of its rated models, with their number."
        return _figure(lambda: figures.distribution(to_rating(self.release).stars), caption)

    def models(self) -> HTML:
        """Show each cohort's figure and table of models."""
        return HTML("".join(map(_cohort, self.release.cohorts)))

    def moved(self) -> HTML:
        """Show what changed since the previous release, and which records were not rated."""
        previous, left_out = self.release.previous, self.release.left_out
        if previous is None:
            moved = "<p>This release states no previous release to compare with.</p>"
        else:
            since = f"since {previous.name} ({text.day(previous.date)})."
            moved = _table(map(_move, previous.moves), f"Changes {since}", f"No changes {since}").data
        rows = ({"Task": x.task, "Model": x.model, "Record": x.record_id or "–", "Why": x.why} for x in left_out)
        return HTML(moved + (_table(rows, "Records that were read but not rated.").data if left_out else ""))

    def method(self) -> HTML:
        """Describe how figures, intervals and stars were computed, with this release's settings."""
        assumptions = sorted({cohort.assumption for cohort in self.release.cohorts if cohort.assumption})
        return HTML(page.render("report-method.html.j2", release=self.release, assumptions=assumptions))

    def machines(self) -> HTML:
        """Show machines and software."""
        rows = (
            {
                "Devices": ", ".join([*machine.devices, *machine.boards]),
                "Driver": machine.driver or "–",
                "Meters": "; ".join(machine.meters),
                "Host": f"{machine.processor or 'processor not stated'}; {machine.system or 'system not stated'}",
                "Software": ", ".join(
                    f"{name} {version}"
                    for name, version in sorted({**machine.packages, "energylab": machine.energylab_version}.items())
                ),
            }
            for machine in self.release.machines
        )
        return _table(rows, "Machines and their software.", "No machine is recorded.")

    def sessions(self) -> HTML:
        """Show every session: record, machine, energy and digest."""
        rows = (
            {
                "Cohort": text.cohort_title(cohort.task, cohort.model_class),
                "Model": model.model,
                "Record": session.record_id,
                "Date": str(session.created_utc.date()),
                "Energy": "invalid" if session.energy_wh is None else text.figure(session.energy_wh),
                "sha256": session.digest,
            }
            for cohort, model in self.release.rated()
            for session in model.sessions
        )
        return _table(rows, "All sessions, in Wh per 1,000 queries.", "No session is recorded.")

    def again(self) -> HTML:
        """Show the commands that reproduce this report and repeat its first measurement."""
        first = next(filter(None, (page.repeat_command(model) for _, model in self.release.rated())), None)
        commands = filter(None, [f"energylab report results/releases/{self.release.name}.json", first])
        blocks = (Markup("<pre><code>{}</code></pre>").format(text.visible(command)) for command in commands)
        return HTML("".join(blocks))


def write(release: Release, output: str | os.PathLike, pdf: bool = False) -> Path:
    """Execute the report's notebook on a release, and write it as one HTML file and optionally as a PDF."""
    written = page.write(Path(output), render(release))
    if pdf:
        chromium.print_pdf(written, written.with_suffix(".pdf"))
    return written


def render(release: Release) -> str:
    """Return a release's report as one self-contained page."""
    import nbformat
    import papermill
    from nbconvert import HTMLExporter

    from energylab.studies.job import kernel

    notebook = str(shipped("notebooks/05-report.ipynb"))
    with tempfile.TemporaryDirectory(prefix="energylab-report-") as folder, kernel(notebook) as running:
        source, executed = Path(folder) / "release.json", Path(folder) / "report.ipynb"
        source.write_bytes(release.to_bytes())
        papermill.execute_notebook(
            notebook, str(executed), {"release": str(source)}, cwd=folder, progress_bar=False, km=running,
        )  # fmt: skip
        shown = nbformat.read(executed, as_version=4)
    shown.cells = [cell for cell in shown.cells if "notebook-only" not in cell.metadata.get("tags", [])]
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(shown)
    title = f"Energy ratings of AI models: report of release {release.name}, {text.day(release.date)}"
    return page.render("report.html.j2", title=title, body=Markup(body))  # noqa: S704 - escaped part by part


def _table(rows: Iterable[dict[str, Any]], caption: str, empty: str = "Nothing.") -> HTML:
    """Return rows as a table without empty columns."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return HTML(f"<p>{escape(text.one_line(empty))}</p>")
    frame = frame.loc[:, ~frame.isin(["", "–"]).all()]
    frame = frame.map(lambda value: text.one_line(value) if isinstance(value, str) else value)
    with pd.option_context("display.max_colwidth", None):
        table = frame.to_html(index=False, border=0, na_rep="–")
    return HTML(f'<p class="caption">{escape(text.one_line(caption))}</p><div class="scroll">{table}</div>')


def _figure(draw: Callable[[], Figure], caption: str) -> HTML:
    """Draw with fixed settings, and embed the drawing as an image, which cannot run code in the page."""
    import matplotlib.pyplot as plt

    out = io.StringIO()
    with plt.rc_context(_SVG):
        figure = draw()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    encoded = base64.b64encode(out.getvalue().encode()).decode()
    picture = Markup('<figure><img src="data:image/svg+xml;base64,{0}" alt="{1}"><figcaption>{1}</figcaption></figure>')
    return HTML(picture.format(encoded, text.one_line(caption)))


def _cohort(cohort: RatedCohort) -> str:
    """Return one cohort's heading, figures and table."""
    from energylab.figures import release as figures

    title = text.cohort_title(cohort.task, cohort.model_class)
    caption = (
        f"{title}: energy per 1,000 queries with its expanded 95 % interval, on a logarithmic scale. Dashed lines: "
        "edges between star bands. Right: probability of each number of stars."
    )
    rows = (_row(cohort, number, model) for number, model in enumerate(cohort.models, start=1))
    parts = [
        page.render("report-cohort.html.j2", cohort=cohort, title=title),
        _figure(lambda: figures.cohort(cohort), caption).data,
        _table(rows, f"{title}. Energy in Wh per 1,000 queries.").data,
    ]
    if drawn := figures.right_answers(cohort):
        right = f"{title}: energy against quality. Blue, with names: models that no other model beats in both."
        parts.append(_figure(lambda: drawn, right).data)
    return "".join(parts)


def _row(cohort: RatedCohort, number: int, model: RatedModel) -> dict[str, Any]:
    quality, right = next(iter(model.quality), None), model.per_right
    span = right and f" ({text.span(right.low_wh, right.high_wh, right.energy_wh)})"
    return {
        "Rank": page.ranks(cohort, model) or str(number),
        "Model": model.model,
        "Energy": text.figure(model.energy_wh),
        "95 % interval": page.interval(model),
        "Stars": model.stars or "–",
        "Probability": "–" if model.star_probability is None else text.percent(model.star_probability),
        "Sessions": len(model.sessions) or "",
        "Size": text.count(model.parameters) if model.parameters else "",
        "Precision": page.precision(model),
        "Quality": f"{quality.metric} {quality.value:.3g}" if quality and quality.value is not None else "",
        "Wh per 1,000 right": f"{text.figure(right.energy_wh)}{span}" if right else "",
        "Stars by right answers": (right and right.stars) or "–",
        "Notes": "; ".join(filter(None, [page.marks(model), model.note, *model.validity_notes])),
    }


def _move(move: Move) -> dict[str, str]:
    return {
        "Cohort": text.cohort_title(move.task, move.model_class),
        "Model": move.model,
        "What": move.what,
        "Stars": f"{move.stars_before or '–'} → {move.stars_now or '–'}",
        "Why": move.why,
    }


def _unsure(models: Iterable[RatedModel]) -> list[RatedModel]:
    return [model for model in models if model.star_probability is not None and model.star_probability < _SURE]


def _summary(release: Release) -> list[str]:
    """Return the main results, one sentence each."""
    rated = [model for _, model in release.rated()]
    starred = [model for model in rated if model.stars is not None]
    known = [model for model in starred if model.star_probability is not None]
    stars = "No star has a probability: no session was repeated, and no noise was stated."
    if known:
        least = min(known, key=lambda model: model.star_probability)
        assumed = next(filter(None, map(page.assuming, release.cohorts)), "")
        stars = (
            f"{len(_unsure(known))} of {len(known)} stars have a probability below 95 %{assumed}; the lowest is that "
            f"of {least.model}, with {text.percent(least.star_probability)}."
        )
    sentences = [
        f"{text.plural(len(rated), 'model')} in {text.plural(len(release.cohorts), 'cohort')} are rated by the scheme "
        f"{release.scheme.replace('_', ' ')}; {len(starred)} have stars, and "
        f"{sum(model.stars == 5 for model in starred)} of these have five.",
        stars,
        what_it_cost(release),
    ]
    cohort = max(release.cohorts, key=lambda cohort: _held_up(cohort) / len(cohort.models))
    if _held_up(cohort):
        sentences.append(
            f"The scale depends on single models: in {text.cohort_title(cohort.task, cohort.model_class)}, leaving out "
            f"only {cohort.models[-1].model} would change the stars of {_held_up(cohort)} of the other "
            f"{len(cohort.models) - 1} models."
        )
    return list(filter(None, sentences))


def what_it_cost(release: Release) -> str:
    """State the energy and time that measuring a release took, and per model; empty for imported figures."""
    spent = [model.spent for _, model in release.rated() if model.spent]
    if not spent:
        return ""
    wh, minutes = sum(one.wh for one in spent), sum(one.minutes for one in spent)
    kinds = sorted({cohort.energy_kind for cohort, model in release.rated() if model.spent})
    known = [one.published_wh for one in spent if one.published_wh is not None]
    beside = f"; ten full runs of each take {text.figure(sum(known))} Wh" if len(known) == len(spent) else ""
    return (
        f"Measuring it took {text.figure(wh)} Wh ({', '.join(kinds)}) and {text.figure(minutes)} minutes, "
        f"{text.figure(wh / len(spent))} Wh per rated model{beside}."
    )


def _held_up(cohort: RatedCohort) -> int:
    """Return how many stars would change without the model of highest energy."""
    return sum(
        peer.role == "heaviest" and peer.stars != model.stars for model in cohort.models for peer in model.without
    )
