"""What is signed: an in-toto statement on one sealed run, as frozen models.

References
----------
in-toto Statement v1, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from energylab.errors import BundleError
from energylab.record import Record, canonical_json
from energylab_portal.sealed.strict import parse

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:energylab:closed-run:1"

#: Version of the three sentences below; a bundle names the one its submitter agreed to.
ATTESTATION_VERSION = "1"
ATTESTATIONS = {
    "public": "The energy data of this run may be shown to everyone.",
    "integrity": "The run was measured with the unchanged runner on the stated machine; nothing in it was altered.",
    "representative": "The model measured is the production model, in the precision and quantisation it is served in.",
}

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**60)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(_Part):
    """One reading of a counter: joules, and seconds since the session's first window could begin."""

    time_s: float
    energy_j: float


class WindowReadings(_Part):
    """The two readings of one meter around one window; None in place of one that failed."""

    window: Annotated[int, Field(ge=0)]
    device: Text
    start: Point | None
    stop: Point | None


class Sample(_Part):
    """The counter between windows' edges, and what the device said of itself; None where it says nothing."""

    time_s: float
    energy_j: float
    power_w: float | None = None  # of a sensor of its own
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None


class Timeline(_Part):
    """One scored meter over the whole session, sampled from outside the container."""

    device: Text
    meter: Text
    period_s: Annotated[float, Field(gt=0)]
    samples: tuple[Sample, ...]


class Image(_Part):
    """The image that ran, as the Docker daemon names it, and the Python environment in it."""

    digest: ImageDigest
    layers: tuple[ImageDigest, ...]
    environment: Literal["installed", "shared"]
    environment_digest: Sha256 | None  # of the shared environment's files, as their packages list them
    docker: Text


class Seal(_Part):
    """How the container was closed off, as the daemon told after it had started."""

    network: Text
    read_only_root: bool
    dropped: tuple[Text, ...]
    added: tuple[Text, ...]
    no_new_privileges: bool
    privileged: bool
    user: Text
    pids_limit: int
    memory_bytes: int
    writable: tuple[Text, ...]


class Weights(_Part):
    """The model's files as the host sees them, without naming them."""

    files: Count
    bytes: Count
    elements: dict[Text, Count]  # stored type -> number of weights, from the headers of safetensors files
    experts: bool  # whether the configuration names experts, of which only some work on a token


class Attested(_Part):
    """What the submitter attests: the version of the sentences, and each of them."""

    version: Text
    public: bool
    integrity: bool
    representative: bool

    def as_dict(self) -> dict[str, bool]:
        """Return the three by name."""
        return {name: getattr(self, name) for name in ATTESTATIONS}


class ClosedRun(_Part):
    """The predicate: everything public of one sealed run."""

    schema_version: Literal[1] = 1
    run_id: Sha256
    started_utc: datetime
    finished_utc: datetime
    record: Record
    readings: tuple[WindowReadings, ...]
    timelines: tuple[Timeline, ...]
    image: Image
    seal: Seal
    data_checked_by: Literal["host", "container"]
    weights: Weights
    commitments: dict[Text, Sha256]
    attestations: Attested


def subjects(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the statement is about, each part by its digest.

    Parameters
    ----------
    predicate : mapping
        As it is written: a later version of the schema, which knows more fields, finds the same digests.
    """
    parts = {name: _sha(predicate[name]) for name in ("record", "readings", "timelines", "commitments")}
    parts["data"] = predicate["record"]["data"]["digest"]
    parts["image"] = predicate["image"]["digest"].removeprefix("sha256:")
    return [{"digest": {"sha256": value}, "name": name} for name, value in parts.items()]


def measurement_id(readings: Sequence[WindowReadings]) -> str:
    """Return the id of a measurement, made of all its readings: signed anew, it stays the same measurement."""
    return _sha([one.model_dump(mode="json") for one in readings])[:32]


def _sha(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def write(run: ClosedRun) -> bytes:
    """Return the statement as the bytes that are signed."""
    predicate = run.model_dump(mode="json")
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": subjects(predicate),
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def read(payload: bytes) -> tuple[ClosedRun, list[str]]:
    """Read a statement.

    Returns
    -------
    run : ClosedRun
    broken : list of str
        Subjects whose digest is not that of what the statement holds; empty when all are.

    Raises
    ------
    BundleError
        If it is no statement on a closed run, or not what its schema says.
    """
    content = parse(payload, "the statement")
    if not isinstance(content, dict) or content.keys() != {"_type", "subject", "predicateType", "predicate"}:
        raise BundleError("the payload is not an in-toto statement with _type, subject, predicateType and predicate")
    for field, known in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if content[field] != known:
            raise BundleError(f"{field} is {str(content[field])[:80]!r}, not {known!r}")
    try:
        # strict: a number is a number, not a text that reads like one and was not bounded above
        run = ClosedRun.model_validate_json(canonical_json(content["predicate"]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the predicate"
        raise BundleError(f"{where[:120]}: {first['msg'][:200]}") from None
    stated = content["subject"] if isinstance(content["subject"], list) else []
    found = subjects(content["predicate"])
    broken = [part["name"] for part in found if part not in stated]
    return run, broken if len(stated) == len(found) else broken or ["an unknown part"]
