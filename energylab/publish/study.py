"""Publish a finished study: a release, its leaderboard and its report, in one folder."""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import NamedTuple

from energylab import release, store
from energylab.errors import ReleaseError
from energylab.publish import leaderboard, report
from energylab.release import LARGEST, Release
from energylab.studies.state import planned_roots


class Published(NamedTuple):
    """What a study published: the release, its file, the leaderboard's first page and the report."""

    release: Release
    release_file: Path
    leaderboard: Path
    report: Path


def publish_study(
    records_folder: str | os.PathLike,
    out_folder: str | os.PathLike,
    cohort: str = LARGEST,
    address: str | None = None,
) -> Published:
    """Make a release of a study's records, and its leaderboard and report, in `out_folder`.

    The release has the name of the study and the date of its newest record, so that equal records give equal releases.
    """
    records_folder, out_folder = Path(records_folder), Path(out_folder)
    roots = planned_roots([records_folder])
    newest = max((record.created_utc for _, record in store.read_records(*roots)), default=None)
    if newest is None:
        raise ReleaseError(f"{records_folder} holds no records; run the study first")
    study = re.sub(r"[^A-Za-z0-9._-]+", "-", records_folder.resolve().name).strip("-._") or "study"
    name = f"{study[:80]}-{newest.date()}"
    made = _named(release.make(roots, name=name, date=newest.date(), cohort=cohort, address=address), out_folder)
    return Published(
        release=made,
        release_file=release.write(made, out_folder / "releases"),
        leaderboard=leaderboard.build(made, out_folder / "leaderboard", [records_folder]),
        report=report.write(made, out_folder / "report.html"),
    )


def _named(made: Release, out_folder: Path) -> Release:
    """Return the release, with a number in its name if another release of that day has the name."""
    names = (made.name if number == 1 else f"{made.name}-{number}" for number in count(1))
    for named in (made.model_copy(update={"name": name}) for name in names):
        path = out_folder / "releases" / f"{named.name}.json"
        if not path.is_file() or path.read_bytes() == named.to_bytes():
            return named
    raise ReleaseError(f"{out_folder} has no free name for another release; choose another --output")
