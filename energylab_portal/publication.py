"""Releases and leaderboards from reviewed submissions; a crash never publishes a part of them.

There are two leaderboards: models measured here, and closed models measured by their owners. They are never compared.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import select
from sqlalchemy.orm import Session

from energylab import release, store
from energylab.errors import ConflictError, PortalError
from energylab.publish import label as labels
from energylab.publish import leaderboard
from energylab.publish import text as text_of
from energylab.publish.text import one_line
from energylab.publish.textfit import width
from energylab.record import Record
from energylab.release import LARGEST, RatedCohort, RatedModel, Release
from energylab_portal import review, tables
from energylab_portal.database import Database
from energylab_portal.settings import Settings
from energylab_portal.tables import PublishedRelease, StoredRecord, Submission

ACTOR = "operator"

#: Path of the leaderboard for each kind of submission.
BOARDS = {"open": "leaderboard", "closed": "closed"}

Rated = list[tuple[Submission, list[StoredRecord]]]


@dataclass(frozen=True)
class Outcome:
    releases: tuple[str, ...]  # names of the new releases, at most one per board
    models: int  # rated models in them
    published: tuple[str, ...]  # newly published submissions
    left_out: tuple[str, ...]  # reviewed submissions that were not published, with the reason


def publish(database: Database, settings: Settings, name: str, date: str) -> Outcome:
    """Rate all published and reviewed submissions, and publish a release for each board with new ones.

    The files are written first; one transaction then makes the releases current and their submissions published.
    Files of a release without a transaction remain from a crash, and are written again.
    """
    with _alone(settings):
        with database.reading() as session:
            rated, left_out = _with_records(session)
            before = {board: current(session, board) for board in BOARDS}
            fresh = [board for board in BOARDS if any(one.state == "reviewed" for one, _ in rated[board])]
            names = {board: name if board == "open" else f"{name}-closed" for board in fresh}
            for wanted in names.values():
                _check_name(session, wanted)
        if not fresh:
            reasons = f" ({'; '.join(left_out)})" if left_out else ""
            raise PortalError(f"no submission is reviewed; review a measured one, then publish{reasons}")
        made = {board: _make(settings, board, names[board], date, rated[board], before[board]) for board in fresh}
        return _record(database, made, rated, left_out)


def current(session: Session, board: str = "open") -> PublishedRelease | None:
    """Return a board's current release: its newest."""
    of_board = select(PublishedRelease).where(PublishedRelease.board == board)
    return session.scalar(of_board.order_by(PublishedRelease.id.desc()).limit(1))


def read_release(settings: Settings, name: str) -> Release:
    return release.read(settings.releases / f"{name}.json")


def _check_name(session: Session, name: str) -> None:
    if session.scalar(select(PublishedRelease).where(PublishedRelease.name == name)) is not None:
        raise ConflictError(f"release {name[:100]!r} exists, and releases are never changed; choose another name")


def _with_records(session: Session) -> tuple[dict[str, Rated], list[str]]:
    """Return the submissions of a release with their records, by board; and the refused ones, with the reason."""
    rated: dict[str, Rated] = {board: [] for board in BOARDS}
    left_out = []
    for one in tables.in_states(session, ("reviewed", "published"), limit=1_000_000):
        try:
            review.refuse_revoked(session, one)
        except ConflictError as error:
            left_out.append(f"{one.name}: {error}")
            continue
        rated[one.kind].append((one, tables.records_of(session, one.id)))
    return rated, left_out


def site(settings: Settings, database: Database, name: str) -> Path:
    """Return the folder of a release's leaderboard; if missing, build it from release and records."""
    folder = settings.sites / name
    if (folder / "index.html").is_file():
        return folder
    with _alone(settings):
        with database.reading() as session:  # includes keys revoked since: published results stay published
            ever = tables.in_states(session, ("published",), limit=1_000_000)
            roots = [_write_records(settings, one, tables.records_of(session, one.id)) for one in ever]
        return _build(settings, read_release(settings, name), roots)


def _build(settings: Settings, made: Release, roots: Sequence[Path]) -> Path:
    folder = settings.sites / made.name
    shutil.rmtree(folder, ignore_errors=True)
    leaderboard.build(made, folder, records=roots, home="/")
    return folder


def _make(
    settings: Settings, board: str, name: str, date: str, rated: Rated, before: PublishedRelease | None
) -> Release:
    """Write the records as files, the release, and its leaderboard."""
    try:
        dt.date.fromisoformat(date)
    except ValueError:
        raise PortalError(f"date {date[:20]!r} is not valid: write YYYY-MM-DD") from None
    roots = [_write_records(settings, submission, records) for submission, records in rated]
    previous = None if before is None else read_release(settings, before.name)
    address = f"{settings.address}/{BOARDS[board]}"
    made = release.make(roots, name=name, date=date, cohort=LARGEST, address=address, previous=previous)
    (settings.releases / f"{made.name}.json").unlink(missing_ok=True)  # remains of an interrupted publication
    release.write(made, settings.releases)
    _build(settings, made, roots)
    return made


def _write_records(settings: Settings, submission: Submission, records: Sequence[StoredRecord]) -> Path:
    folder = settings.records / submission.name
    for number, stored in enumerate(records):
        store.write(Record.model_validate_json(stored.text), folder / f"{number:02d}")
    return folder


def _record(database: Database, made: dict[str, Release], rated: dict[str, Rated], left_out: list[str]) -> Outcome:
    """Make releases current and their submissions published, in one transaction."""
    published, shown, models = [], [], 0
    with database.writing() as session:
        for board, one in made.items():
            new, left = _settle(session, one, rated[board])
            left_out = [*left_out, *left]
            if not new:
                continue
            now, count = tables.now(session), sum(len(cohort.models) for cohort in one.cohorts)
            facts = {"name": one.name, "board": board, "date": str(one.date), "digest": one.digest()}
            session.add(PublishedRelease(**facts, made_s=now, models=count))
            tables.note(session, None, ACTOR, f"release {one.name} published: {text_of.plural(count, 'model')}")
            published, shown, models = published + new, [*shown, one.name], models + count
        if not published:
            raise PortalError(f"no new submission could be rated: {'; '.join(left_out)}")
    return Outcome(tuple(shown), models, tuple(published), tuple(left_out))


def _settle(session: Session, made: Release, rated: Rated) -> tuple[list[str], list[str]]:
    """Publish the reviewed submissions rated in a release; return them, and the others with the reason."""
    on_it = {one.record_id for _, model in made.rated() for one in model.sessions}
    why = {left.record_id: left.why for left in made.left_out}
    published, left_out = [], []
    for submission, records in rated:
        if submission.state != "reviewed":
            continue
        review.refuse_revoked(session, submission)  # revoked while the release was made: nothing is published
        ids = [record.record_id for record in records]
        if on_it.intersection(ids):
            held = tables.by_name(session, submission.name)
            tables.move(session, held, "published", ACTOR, f"in release {made.name}", release=made.name)
            published.append(submission.name)
            continue
        reason = next((why[one] for one in ids if one in why), "its records could not be rated")
        left_out.append(f"{submission.name}: {reason}")
        tables.note(session, submission.id, ACTOR, f"not in release {made.name}: {reason}")
    return published, left_out


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one publication run at a time; the operating system frees the lock, also after a crash."""
    try:
        with FileLock(settings.folder / ".publishing", timeout=0):
            yield
    except Timeout:
        raise ConflictError("another release is being made; try again when it is finished") from None


# ---- badges by address, for model cards


_RATED, _UNRATED, _UNOFFICIAL = "#0a6a62", "#56636a", "#8f2412"


def badge(made: Release, cohort: RatedCohort, rated: RatedModel) -> str:
    stars = "no stars" if rated.stars is None else "★" * rated.stars + "☆" * (5 - rated.stars)
    official = "" if cohort.official else ", unofficial"
    words = f"{stars} {text_of.figure(rated.energy_wh)} Wh per 1,000, {cohort.energy_kind}{official}"
    colour = _UNOFFICIAL if not cohort.official else _UNRATED if rated.stars is None else _RATED
    return _draw(one_line(words), labels.describe(made, cohort, rated), colour)


def unrated() -> str:
    """Draw a badge for a model that is not in the release, so that model cards show no broken picture."""
    return _draw("not rated", "This model is not rated on this leaderboard, or is rated in several tasks: choose one.")


def _draw(words: str, title: str, colour: str = _UNRATED) -> str:
    """Draw a badge with one line of text as an SVG file without external references."""
    from energylab_portal.web import page

    left, pad, size = "energy", 14, 11  # pixels: on both sides of a text together, and of a letter
    split = round(size * width(left)) + pad
    whole = split + round(size * width(words)) + pad
    return page("badge.svg.j2", left=left, right=words, split=split, width=whole, title=title, colour=colour)
