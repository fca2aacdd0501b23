"""One page for each model: figures, similar models, what would change its star, how to check and repeat it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from energylab import store
from energylab.publish import emissions, label, page, text
from energylab.publish.scale import Scale
from energylab.release import RatedCohort, RatedModel, Release, SessionFacts, WindowPoint, WithoutPeer

_PEERS = 3  # similar models shown on either side
_WIDTH, _HEIGHT, _LEAST = 1000.0, 60.0, 1.5  # size of the drawing of windows, and its narrowest bar
_LEVELS = 5


def record_files(release: Release, roots: Iterable[str | os.PathLike]) -> dict[str, bytes]:
    """Return the records of a release found under `roots` with the right digest, by file name."""
    wanted = {session.record_id: session.digest for _, model in release.rated() for session in model.sessions}
    roots = list(roots)
    found = store.read_records(*roots) if roots else ()
    return {
        _record_file(record.record_id): record.model_dump_json(indent=1).encode()
        for _, record in found
        if wanted.get(record.record_id) == record.digest()
    }


def _record_file(record_id: str) -> str:
    return f"records/{text.slug(record_id)}.json"


def pages(release: Release, files: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every model page; labels and records are linked if they are among `files`."""
    shared = {"release": release, "digest": release.digest(), "root": "../", "grid": emissions.grid_of()}
    parts: dict[str, list[dict[str, Any]]] = {}
    for cohort in release.cohorts:
        scale = Scale(cohort)
        for place, model in enumerate(cohort.models):
            parts.setdefault(model.model, []).append(_part(release, files, scale, place, model))
    for name, own in parts.items():
        bands = page.bands(part["cohort"] for part in own)
        html = page.render("leaderboard/model.html.j2", name=name, parts=own, bands=bands, **shared)
        yield f"models/{text.slug(name)}.html", html.encode()


def _part(release: Release, files: frozenset[str], scale: Scale, place: int, model: RatedModel) -> dict[str, Any]:
    cohort = scale.cohort
    drawn = label.file_name(cohort, model)
    return {
        "cohort": cohort,
        "model": model,
        "place": place + 1,
        "scale": scale,
        "label": drawn if drawn in files else None,
        "tied": page.tied(cohort, model),
        "advice": what_would_change(cohort, model),
        "peers": _peers(cohort.models, place),
        "rated_wh": sum(phase.energy_wh for phase in model.phases if phase.scored and phase.energy_wh),
        "strips": [_strip(session) for session in model.sessions if _timed(session)],
        "sessions": [
            (session, release.machines[session.machine], files & {_record_file(session.record_id)})
            for session in model.sessions
        ],
        "command": page.repeat_command(model),
    }


def _peers(models: tuple[RatedModel, ...], place: int) -> list[tuple[int, RatedModel]]:
    """Return the models shown with the one at `place`, with their numbers: the nearest, the lowest and the highest."""
    near = range(max(0, place - _PEERS), min(len(models), place + _PEERS + 1))
    return [(at + 1, models[at]) for at in sorted({0, *near, len(models) - 1})]


def what_would_change(cohort: RatedCohort, model: RatedModel) -> list[str]:
    """Return one sentence for each change that would change a model's star, or the reason for no star."""
    if model.stars is None or cohort.edges_wh is None:
        return [f"Not rated: {page.unrated_reason(cohort, model)}."]
    sentences = []
    if model.stars < _LEVELS:
        edge = cohort.edges_wh[_LEVELS - 1 - model.stars]
        sentences.append(
            f"With {100 * (1 - edge / model.energy_wh):.3g} % less energy, at most {text.figure(edge)} Wh per 1,000 "
            f"queries, it would have {text.plural(model.stars + 1, 'star')} if the other models do not change."
        )
    if model.stars > 1:
        edge = cohort.edges_wh[_LEVELS - model.stars]
        sentences.append(
            f"With {100 * (edge / model.energy_wh - 1):.3g} % more energy, above {text.figure(edge)} Wh per 1,000 "
            f"queries, it would have {text.plural(model.stars - 1, 'star')}."
        )
    return [*sentences, *_doubt(cohort, model), *(_without(model, peer) for peer in model.without)]


def _doubt(cohort: RatedCohort, model: RatedModel) -> list[str]:
    """Return the probability that the star would change: the sum of the probabilities of all other stars."""
    if model.star_probability is None:
        return []
    if model.star_probability > 0.99:  # as shown by `percent`
        changes, which = "less than 1 of 100 cases", ""
    else:
        others = [(share, n) for n, share in enumerate(model.probabilities, start=1) if n != model.stars and share > 0]
        likely = "; ".join(f"{text.plural(n, 'star')}: {text.percent(p)}" for p, n in sorted(others, reverse=True))
        changes, which = f"{text.percent(1 - model.star_probability)} of cases", f" ({likely})"
    return [f"A new measurement of the whole table would change its star in {changes}{which}{page.assuming(cohort)}."]


def _without(model: RatedModel, absent: WithoutPeer) -> str:
    outcome = f"it would have {text.plural(absent.stars, 'star')}" if absent.stars else "it would not be rated"
    outcome = "its star would not change" if absent.stars == model.stars else outcome
    return f"Without the {absent.role} model of the table, {absent.peer}, {outcome}."


def _timed(session: SessionFacts) -> bool:
    """Whether the times of all windows are known; imported files often do not state them."""
    return bool(session.windows) and all(None not in (w.start_s, w.duration_s) for w in session.windows)


def _strip(session: SessionFacts) -> dict[str, Any]:
    """Return one session's windows over time, as bars of mean power: x, y, width, height, class and title of each."""
    begin = min(window.start_s for window in session.windows)
    seconds = max(window.start_s + window.duration_s for window in session.windows) - begin
    most_w = max((window.mean_power_w or 0.0 for window in session.windows), default=0.0)
    bars = [_bar(window, begin, seconds or 1.0, most_w or 1.0) for window in session.windows]
    return {"session": session, "seconds": seconds, "most_w": most_w, "bars": bars}


def _bar(window: WindowPoint, begin: float, seconds: float, most_w: float) -> tuple:
    x = round(_WIDTH * (window.start_s - begin) / seconds, 1)
    width = round(max(_WIDTH * window.duration_s / seconds, _LEAST), 1)
    if not window.valid or window.mean_power_w is None:
        why = ", ".join(window.reasons) or "no power"
        return x, 0.0, width, _HEIGHT, "bad", f"run {window.run}, {window.phase}: invalid ({why})"
    height = round(_HEIGHT * window.mean_power_w / most_w, 1)
    title = f"run {window.run}, {window.phase}: {window.mean_power_w:.3g} W for {window.duration_s:.3g} s"
    return x, round(_HEIGHT - height, 1), width, height, "ok", title
