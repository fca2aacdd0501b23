"""From reviewed submissions to a release and its leaderboard, so that a crash in between publishes nothing by half."""

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
from energylab.portal import log
from energylab.portal.database import Database
from energylab.portal.schema import PublishedRelease, StoredRecord, Submission
from energylab.portal.settings import Settings
from energylab.publish import leaderboard
from energylab.record import Record
from energylab.release import Release
from energylab.release.choose import LARGEST

ACTOR = "operator"


@dataclass(frozen=True)
class Outcome:
    """What a publication did.

    Attributes
    ----------
    name : str
        Of the release.
    models : int
        Rated models in it.
    published : tuple of str
        Submissions that are on the leaderboard from now on.
    left_out : tuple of str
        Submissions that were reviewed and are not, with the reason, one line each.
    """

    name: str
    models: int
    published: tuple[str, ...]
    left_out: tuple[str, ...]


def publish(database: Database, settings: Settings, name: str, date: str) -> Outcome:
    """Rate everything that is published or reviewed, as a new release on show.

    The files are made first; one transaction then makes the release the one on show and its submissions published.
    Files of a release that no transaction knows are a crash's, and are made again.

    Parameters
    ----------
    database : Database
    settings : Settings
    name : str
        Of the release; new.
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
            _check_name(session, name)
            rated = _with_records(session)
            before = current(session)
        if not any(submission.state == "reviewed" for submission, _ in rated):
            raise PortalError("no submission is reviewed; review one that is measured, then publish")
        made = _make(settings, name, date, rated, before)
        return _record(database, made, rated)


def current(session: Session) -> PublishedRelease | None:
    """Return the release on show: the newest."""
    return session.scalar(select(PublishedRelease).order_by(PublishedRelease.id.desc()).limit(1))


def read_release(settings: Settings, name: str) -> Release:
    """Read a release that was published here."""
    return release.read(settings.releases / f"{name}.json")


def _check_name(session: Session, name: str) -> None:
    if session.scalar(select(PublishedRelease).where(PublishedRelease.name == name)) is not None:
        raise ConflictError(
            f"there is a release {name[:100]!r} already, and a release is never changed; choose another name"
        )


def _with_records(session: Session) -> list[tuple[Submission, list[StoredRecord]]]:
    """Return what may be in a release, with its records."""
    return [
        (submission, list(session.scalars(select(StoredRecord).where(StoredRecord.submission_id == submission.id))))
        for submission in log.in_states(session, ("reviewed", "published"), limit=1_000_000)
    ]


def _make(
    settings: Settings, name: str, date: str, rated: Sequence[tuple[Submission, list[StoredRecord]]],
    before: PublishedRelease | None,
) -> Release:  # fmt: skip
    """Write the records as files, the release, and its leaderboard."""
    try:
        dt.date.fromisoformat(date)
    except ValueError:
        raise PortalError(f"date {date[:20]!r}: write YYYY-MM-DD") from None
    roots = [_write_records(settings, submission, records) for submission, records in rated]
    previous = None if before is None else read_release(settings, before.name)
    made = release.make(
        roots, name=name, date=date, cohort=LARGEST, address=f"{settings.address}/leaderboard", previous=previous
    )
    (settings.releases / f"{made.name}.json").unlink(missing_ok=True)  # of a publication that did not come to its end
    release.write(made, settings.releases)
    shutil.rmtree(settings.sites / made.name, ignore_errors=True)
    leaderboard.build(made, settings.sites / made.name, records=roots)
    return made


def _write_records(settings: Settings, submission: Submission, records: Sequence[StoredRecord]) -> Path:
    folder = settings.records / submission.name
    for number, stored in enumerate(records):
        store.write(Record.model_validate_json(stored.text), folder / f"{number:02d}")
    return folder


def _record(database: Database, made: Release, rated: Sequence[tuple[Submission, list[StoredRecord]]]) -> Outcome:
    on_it = {session.record_id for _, model in made.rated() for session in model.sessions}
    why = {left.record_id: left.why for left in made.left_out}
    published, left_out = [], []
    with database.writing() as session:
        for submission, records in rated:
            ids = [record.record_id for record in records]
            if submission.state != "reviewed":
                continue
            if not on_it.intersection(ids):
                reason = next((why[one] for one in ids if one in why), "its records could not be rated")
                left_out.append(f"{submission.name}: {reason}")
                words = f"not in release {made.name}: {reason}"
                log.note(session, submission.id, database.now(session), ACTOR, words)
                continue
            submission = log.by_name(session, submission.name)
            log.move(session, database, submission, "published", ACTOR, f"in release {made.name}", release=made.name)
            published.append(submission.name)
        if not published:
            raise PortalError(f"nothing new could be rated: {'; '.join(left_out)}")
        models = sum(len(cohort.models) for cohort in made.cohorts)
        now = database.now(session)
        session.add(
            PublishedRelease(name=made.name, date=str(made.date), digest=made.digest(), made_s=now, models=models)
        )
        log.note(session, None, now, ACTOR, f"release {made.name} published: {models} models")
    return Outcome(made.name, models, tuple(published), tuple(left_out))


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one publication run at a time; the operating system lets go however it ends."""
    with (settings.folder / ".publishing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError("another release is being published right now; wait for it") from None
        yield
