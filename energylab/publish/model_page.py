"""One page a model: its figures, its peers, what would change its star, and how to check and repeat them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from energylab import store
from energylab.publish import advice, grid, labels, names, pages, repeat, timeline, units
from energylab.publish.scale import Ladder
from energylab.release import RatedModel, Release

_PEERS = 3  # shown on either side


def record_files(release: Release, roots: Iterable[str | os.PathLike]) -> dict[str, bytes]:
    """Return the records that the release names, as files to download; only those whose digest is the stated one.

    Parameters
    ----------
    release : Release
    roots : iterable of path
        Searched for records.

    Returns
    -------
    dict of str to bytes
        ``records/ID.json`` to the record's canonical JSON.
    """
    wanted = {session.record_id: session.digest for _, model in release.rated() for session in model.sessions}
    roots = list(roots)
    found = store.read_records(*roots) if roots else ()
    return {
        record_file(record.record_id): record.model_dump_json(indent=1).encode()
        for _, record in found
        if wanted.get(record.record_id) == record.digest()
    }


def record_file(record_id: str) -> str:
    """Return the name of a record's file in the leaderboard's folder."""
    return f"records/{names.slug(record_id)}.json"


@dataclass(frozen=True)
class Site:
    """All model pages of a release.

    Attributes
    ----------
    release : Release
    files : frozenset of str
        Names of the labels and records that lie in the folder; only these are linked.
    """

    release: Release
    files: frozenset[str]

    def pages(self) -> Iterator[tuple[str, bytes]]:
        """Yield every page's name and content."""
        shared = {
            "release": self.release,
            "digest": self.release.digest(),
            "root": "../",
            "grid_source": grid.source(),
        }
        rated: dict[str, list[dict[str, Any]]] = {}
        for cohort in self.release.cohorts:
            ladder = Ladder(cohort)
            strokes = "".join(f"M{10 * place:g} 0v12" for place in ladder.places)
            for rank, model in enumerate(cohort.models, start=1):
                rated.setdefault(model.model, []).append(self._part(ladder, rank, model, strokes))
        for name, parts in rated.items():
            bands = sorted({text for text in (pages.band(part["cohort"]) for part in parts) if text})
            html = pages.render("leaderboard/model.html.j2", name=name, parts=parts, bands=bands, **shared)
            yield f"models/{names.slug(name)}.html", html.encode()

    def _part(self, ladder: Ladder, rank: int, model: RatedModel, strokes: str) -> dict[str, Any]:
        cohort = ladder.cohort
        start, length, centre = ladder.scale.bar(model)
        return {
            "cohort": cohort,
            "model": model,
            "rank": rank,
            "ladder": ladder,
            "strokes": strokes,
            "start": start,
            "length": length,
            "centre": centre,
            "label": self._existing(labels.file_name(cohort, model)),
            "advice": advice.what_would_change(cohort, model),
            "peers": _peers(ladder, rank),
            "phases": _phases(model),
            "strips": [timeline.strip(session) for session in model.sessions if timeline.timed(session)],
            "sessions": [self._session(session) for session in model.sessions],
            "command": repeat.command(model),
        }

    def _session(self, session: Any) -> dict[str, Any]:
        return {
            "facts": session,
            "machine": self.release.machines[session.machine],
            "file": self._existing(record_file(session.record_id)),
        }

    def _existing(self, name: str) -> str | None:
        return name if name in self.files else None


def _peers(ladder: Ladder, rank: int) -> list[dict[str, Any]]:
    models = ladder.cohort.models
    near = range(max(0, rank - 1 - _PEERS), min(len(models), rank + _PEERS))
    shown = sorted({0, *near, len(models) - 1})
    own = models[rank - 1].energy_wh
    return [
        {
            "rank": place + 1,
            "model": models[place],
            "href": f"{names.slug(models[place].model)}.html#{names.anchor(ladder.cohort.key)}",
            "ratio": units.ratio(models[place].energy_wh / own),
            "bar": ladder.scale.bar(models[place]),
            "self": place == rank - 1,
        }
        for place in shown
    ]


def _phases(model: RatedModel) -> list[dict[str, Any]]:
    """Return the phases with their share of the rated energy; phases that are not rated have none."""
    known = {phase.phase: phase.energy_wh for phase in model.phases if phase.scored and phase.energy_wh}
    total_wh = sum(known.values())
    return [
        {"phase": phase, "share": known[phase.phase] / total_wh if phase.phase in known else None}
        for phase in model.phases
    ]
