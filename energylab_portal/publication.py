"""From reviewed submissions to releases and their leaderboards, so that a crash in between publishes nothing by half.

There are two boards. What was measured here and what its owners measured rest on different grounds, and are never
rated against each other.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from energylab import release, store
from energylab.errors import ConflictError, PortalError
from energylab.publish import leaderboard, text
from energylab.record import Record
from energylab.release import LARGEST, Release
from energylab_portal import log
from energylab_portal.database import Database
from energylab_portal.schema import PublishedRelease, StoredRecord, Submission
from energylab_portal.settings import Settings
from energylab_portal.submissions import records_of

ACTOR = "operator"

#: Kind of the submissions of a board to where its leaderboard is.
BOARDS = {"open": "leaderboard", "closed": "closed"}

Rated = list[tuple[Submission, list[StoredRecord]]]


@dataclass(frozen=True)
class Outcome:
    """What a publication did.

    Attributes
    ----------
    releases : tuple of str
        Names of the releases: one a board that has something new.
    models : int
        Rated models in them.
    published : tuple of str
        Submissions that are on the leaderboard from now on.
    left_out : tuple of str
        Submissions that were reviewed and are not, with the reason, one line each.
    """

    releases: tuple[str, ...]
    models: int
    published: tuple[str, ...]
    left_out: tuple[str, ...]


def publish(database: Database, settings: Settings, name: str, date: str) -> Outcome:
    """Rate everything that is published or reviewed, as new releases on show: one a board with something new.

    The files are made first; one transaction then puts the releases on show and makes their submissions published.
    Files of a release that no transaction knows are a crash's, and are made again.

    Parameters
    ----------
    database : Database
    settings : Settings
    name : str
        Of the release; new. The board of closed models adds ``-closed``.
    date : str
        ``YYYY-MM-DD``.

    Returns
    -------
    Outcome

    Raises
    ------
    ConflictError
        If the name is taken, or another publication runs.
    PortalError
        If nothing is reviewed.
    ReleaseError
        If a name or date is not allowed, or nothing can be rated.
    """
    with _alone(settings):
        with database.reading() as session:
            rated = _with_records(session)
            before = {board: current(session, board) for board in BOARDS}
            fresh = [board for board in BOARDS if any(one.state == "reviewed" for one, _ in rated[board])]
            names = {board: name if board == "open" else f"{name}-closed" for board in fresh}
            for wanted in names.values():
                _check_name(session, wanted)
        if not fresh:
            raise PortalError("no submission is reviewed; review one that is measured, then publish")
        made = {board: _make(settings, board, names[board], date, rated[board], before[board]) for board in fresh}
        return _record(database, made, rated)


def current(session: Session, board: str = "open") -> PublishedRelease | None:
    """Return a board's release on show: its newest."""
    of_board = select(PublishedRelease).where(PublishedRelease.board == board)
    return session.scalar(of_board.order_by(PublishedRelease.id.desc()).limit(1))


def read_release(settings: Settings, name: str) -> Release:
    """Read a release that was published here."""
    return release.read(settings.releases / f"{name}.json")


def _check_name(session: Session, name: str) -> None:
    if session.scalar(select(PublishedRelease).where(PublishedRelease.name == name)) is not None:
        raise ConflictError(f"there is a release {name[:100]!r}, and a release is never changed; choose another name")


def _with_records(session: Session) -> dict[str, Rated]:
    """Return what may be in a release, with its records, by board."""
    rated: dict[str, Rated] = {board: [] for board in BOARDS}
    for one in log.in_states(session, ("reviewed", "published"), limit=1_000_000):
        rated[one.kind].append((one, records_of(session, one.id)))
    return rated


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
    shutil.rmtree(settings.sites / made.name, ignore_errors=True)
    leaderboard.build(made, settings.sites / made.name, records=roots, home="/")
    return made


def _write_records(settings: Settings, submission: Submission, records: Sequence[StoredRecord]) -> Path:
    folder = settings.records / submission.name
    for number, stored in enumerate(records):
        store.write(Record.model_validate_json(stored.text), folder / f"{number:02d}")
    return folder


def _record(database: Database, made: dict[str, Release], rated: dict[str, Rated]) -> Outcome:
    """Put releases on show and their submissions into their last state, in one transaction."""
    published: list[str] = []
    left_out: list[str] = []
    with database.writing() as session:
        for board, one in made.items():
            new, left = _settle(session, database, one, rated[board])
            left_out += left
            if not new:
                continue
            published += new
            now, models = database.now(session), sum(len(cohort.models) for cohort in one.cohorts)
            session.add(
                PublishedRelease(
                    name=one.name, board=board, date=str(one.date), digest=one.digest(), made_s=now, models=models
                )
            )
            log.note(session, None, now, ACTOR, f"release {one.name} published: {text.plural(models, 'model')}")
        if not published:
            raise PortalError(f"nothing new could be rated: {'; '.join(left_out)}")
    shown = [one for board, one in made.items() if any(name in published for name in _names(rated[board]))]
    models = sum(len(cohort.models) for one in shown for cohort in one.cohorts)
    return Outcome(tuple(one.name for one in shown), models, tuple(published), tuple(left_out))


def _names(rated: Rated) -> list[str]:
    return [submission.name for submission, _ in rated]


def _settle(session: Session, database: Database, made: Release, rated: Rated) -> tuple[list[str], list[str]]:
    """Publish the reviewed submissions that a release rates; say of the others why not."""
    on_it = {one.record_id for _, model in made.rated() for one in model.sessions}
    why = {left.record_id: left.why for left in made.left_out}
    published, left_out = [], []
    for submission, records in rated:
        if submission.state != "reviewed":
            continue
        ids = [record.record_id for record in records]
        if on_it.intersection(ids):
            held = log.by_name(session, submission.name)
            log.move(session, database, held, "published", ACTOR, f"in release {made.name}", release=made.name)
            published.append(submission.name)
            continue
        reason = next((why[one] for one in ids if one in why), "its records could not be rated")
        left_out.append(f"{submission.name}: {reason}")
        log.note(session, submission.id, database.now(session), ACTOR, f"not in release {made.name}: {reason}")
    return published, left_out


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one publication run at a time; the operating system lets go however it ends."""
    with (settings.folder / ".publishing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError("another release is being published right now; wait for it") from None
        yield
