"""From reviewed submissions to releases and their leaderboards, so that a crash in between publishes nothing by half.

There are two boards. What was measured here and what its owners measured rest on different grounds, and are never
rated against each other.
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

#: Kind of the submissions of a board to where its leaderboard is.
BOARDS = {"open": "leaderboard", "closed": "closed"}

Rated = list[tuple[Submission, list[StoredRecord]]]


@dataclass(frozen=True)
class Outcome:
    releases: tuple[str, ...]  # names of the releases: one a board that has something new
    models: int  # rated models in them
    published: tuple[str, ...]  # submissions that are on the leaderboard from now on
    left_out: tuple[str, ...]  # submissions that were reviewed and are not, with the reason, one line each


def publish(database: Database, settings: Settings, name: str, date: str) -> Outcome:
    """Rate everything that is published or reviewed, as new releases on show: one a board with something new.

    The files are made first; one transaction then puts the releases on show and makes their submissions published.
    Files of a release that no transaction knows are a crash's, and are made again.
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
            raise PortalError(f"no submission is reviewed; review one that is measured, then publish{reasons}")
        made = {board: _make(settings, board, names[board], date, rated[board], before[board]) for board in fresh}
        return _record(database, made, rated, left_out)


def current(session: Session, board: str = "open") -> PublishedRelease | None:
    """Return a board's release on show: its newest."""
    of_board = select(PublishedRelease).where(PublishedRelease.board == board)
    return session.scalar(of_board.order_by(PublishedRelease.id.desc()).limit(1))


def read_release(settings: Settings, name: str) -> Release:
    return release.read(settings.releases / f"{name}.json")


def _check_name(session: Session, name: str) -> None:
    if session.scalar(select(PublishedRelease).where(PublishedRelease.name == name)) is not None:
        raise ConflictError(f"there is a release {name[:100]!r}, and a release is never changed; choose another name")


def _with_records(session: Session) -> tuple[dict[str, Rated], list[str]]:
    """Return what may be in a release, with its records, by board; and what may not be any more, with the reason."""
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
    """Return the folder of a release's leaderboard, made from release and records where it is missing."""
    folder = settings.sites / name
    if (folder / "index.html").is_file():
        return folder
    with _alone(settings):
        with database.reading() as session:  # also of keys that were revoked since: what was published stays so
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
        raise PortalError(f"date {date[:20]!r}: write YYYY-MM-DD") from None
    roots = [_write_records(settings, submission, records) for submission, records in rated]
    previous = None if before is None else read_release(settings, before.name)
    address = f"{settings.address}/{BOARDS[board]}"
    made = release.make(roots, name=name, date=date, cohort=LARGEST, address=address, previous=previous)
    (settings.releases / f"{made.name}.json").unlink(missing_ok=True)  # of a publication that did not come to its end
    release.write(made, settings.releases)
    _build(settings, made, roots)
    return made


def _write_records(settings: Settings, submission: Submission, records: Sequence[StoredRecord]) -> Path:
    folder = settings.records / submission.name
    for number, stored in enumerate(records):
        store.write(Record.model_validate_json(stored.text), folder / f"{number:02d}")
    return folder


def _record(database: Database, made: dict[str, Release], rated: dict[str, Rated], left_out: list[str]) -> Outcome:
    """Put releases on show and their submissions into their last state, in one transaction."""
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
            raise PortalError(f"nothing new could be rated: {'; '.join(left_out)}")
    return Outcome(tuple(shown), models, tuple(published), tuple(left_out))


def _settle(session: Session, made: Release, rated: Rated) -> tuple[list[str], list[str]]:
    """Publish the reviewed submissions that a release rates; say of the others why not."""
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
    """Let one publication run at a time; the operating system lets go however it ends."""
    try:
        with FileLock(settings.folder / ".publishing", timeout=0):
            yield
    except Timeout:
        raise ConflictError("a release is being made right now; wait for it") from None


# ---- badges by address, for model cards


_RATED, _UNRATED, _UNOFFICIAL = "#0a6a62", "#56636a", "#8f2412"


def badge(made: Release, cohort: RatedCohort, rated: RatedModel) -> str:
    stars = "no stars" if rated.stars is None else "★" * rated.stars + "☆" * (5 - rated.stars)
    official = "" if cohort.official else ", unofficial"
    words = f"{stars} {text_of.figure(rated.energy_wh)} Wh per 1,000, {cohort.energy_kind}{official}"
    colour = _UNOFFICIAL if not cohort.official else _UNRATED if rated.stars is None else _RATED
    return _draw(one_line(words), labels.describe(made, cohort, rated), colour)


def unrated() -> str:
    """Draw the badge of a model that is not in the release: a picture in a model card is never broken."""
    return _draw("not rated", "This model is not rated on this leaderboard, or is rated in several tasks: name one.")


def _draw(words: str, title: str, colour: str = _UNRATED) -> str:
    """Draw a badge of one line: an SVG file that refers to nothing outside it."""
    from energylab_portal.web import page

    left, pad, size = "energy", 14, 11  # pixels: on both sides of a text together, and of a letter
    split = round(size * width(left)) + pad
    whole = split + round(size * width(words)) + pad
    return page("badge.svg.j2", left=left, right=words, split=split, width=whole, title=title, colour=colour)
