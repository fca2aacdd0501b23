"""Records of submissions in the database, each once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from energylab.energy import WH_PER_1000_QUERIES, session_energy_j
from energylab.errors import ConflictError
from energylab.record import Record
from energylab_portal.schema import StoredRecord


def attach(session: Session, submission_id: int, records: Sequence[Record]) -> None:
    """Keep the records of a submission.

    Raises
    ------
    ConflictError
        If one of them is here already: a result counts once.
    """
    ids = [record.record_id for record in records]
    known = session.scalars(select(StoredRecord.record_id).where(StoredRecord.record_id.in_(ids))).all()
    if known or len(set(ids)) != len(ids):
        raise ConflictError(f"the record {(known or ids)[0][:60]} was submitted before; a result counts once")
    session.add_all(_stored(submission_id, record) for record in records)
    session.flush()


def _stored(submission_id: int, record: Record) -> StoredRecord:
    energy_j = session_energy_j(record) if record.valid else None
    return StoredRecord(
        submission_id=submission_id,
        record_id=record.record_id,
        digest=record.digest(),
        task=record.task.name,
        model_class=record.model.model_class,
        energy_kind=record.energy_kind,
        energy_wh=None if energy_j is None else energy_j * WH_PER_1000_QUERIES,
        device=f"{len(record.devices)} x {record.devices[0].name}"[:200],
        valid=record.valid,
        reasons=", ".join(record.reasons),
        text=record.model_dump_json(),
    )
