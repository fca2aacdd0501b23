"""The signed statement: an in-toto statement on one sealed run. It lists every field that leaves the owner's machine.

Each fact is stated once: a window holds its readings, not its energy; settings, ids, bounds, sizes and names that
follow from other facts are derived by whoever reads it (`energylab_portal.sealed.derive`).

References
----------
in-toto Statement v1, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from energylab.errors import BundleError, ParameterError, unknown_name
from energylab.record import DeviceFacts, DeviceState, HostFacts, IdleLevel, MeterFacts, WarmUp, canonical_json
from energylab_portal.sealed.bundle import parse

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:energylab:sealed-run:2"

#: Version of the three statements below; a bundle names the version its submitter agreed to.
ATTESTATION_VERSION = "1"
ATTESTATIONS = {
    "public": "The energy data of this run may be shown to everyone.",
    "integrity": "The run was measured with the unchanged runner on the stated machine; nothing in it was altered.",
    "representative": "The model measured is the production model, in the precision and quantisation it is served in.",
}

#: Names of all committed values.
COMMITTED = frozenset(("model", "parameters", "extra", "quality", "messages", "outputs", "weights"))

#: Maximal number of samples of a bundle, over all its timelines; a longer session is sampled less often.
MOST_SAMPLES = 200_000

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=200)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@_.+-]{1,60}$")]
ALIAS = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{2,59}$"
Alias = Annotated[str, StringConstraints(pattern=ALIAS)]
Count = Annotated[int, Field(ge=0, le=2**60)]
Phase = Literal["preprocess", "forward", "prefill", "generate", "call"]
Covariates = dict[Word, Annotated[tuple[float, ...], Field(max_length=100_000)]]


def _whole(commitments: dict[str, str]) -> dict[str, str]:
    if commitments.keys() != COMMITTED:
        raise ValueError(f"the commitments must be: {', '.join(sorted(COMMITTED))}")
    if len(set(commitments.values())) < len(commitments):
        raise ValueError("two commitments are equal: each needs its own salt")
    return commitments


Commitments = Annotated[dict[Word, Sha256], AfterValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(_Part):
    """One reading of a counter: joules, and seconds since the session's start."""

    time_s: float
    energy_j: float


class Edges(_Part):
    """The readings of one scored meter at the edges of one window; None for a failed reading."""

    start: Point | None
    stop: Point | None
    bound_j: float | None  # from the session's edges; limited to the meter's plausible range
    max_power_w: float | None


class SealedWindow(_Part):
    """One window: its queries, its repetitions, and one pair of readings per scored meter."""

    run: Annotated[int, Field(ge=0, lt=200)]
    phase: Phase
    block: Count
    attempt: Count
    queries: Annotated[tuple[Count, ...], Field(max_length=100_000)]
    replications: Count
    edges: Annotated[tuple[Edges, ...], Field(max_length=64)]
    input_tokens: Count | None
    output_tokens: Count | None
    states: Annotated[tuple[DeviceState, ...], Field(max_length=64)]
    failed: Count  # number of failed queries; their messages stay with the owner
    reasons: Annotated[tuple[Word, ...], Field(max_length=30)]  # empty if the window is valid
    marks: Annotated[tuple[Word, ...], Field(max_length=30)]


class Score(_Part):
    """Quality of the answers."""

    metric: Word
    value: float | None
    queries: Count


class Timeline(_Part):
    """Samples of one scored meter over the whole session, taken outside the container, as columns."""

    device: Text
    meter: Word
    period_s: Annotated[float, Field(gt=0)]
    time_s: tuple[float, ...]
    energy_j: tuple[float, ...]
    power_w: tuple[float | None, ...]  # from a separate sensor; empty if the device has none


def most_samples(meters: int) -> int:
    """Return the maximal number of samples per timeline."""
    return min(MOST_SAMPLES // max(meters, 1), 50_000)


class Image(_Part):
    """The image that ran, by its Docker digests, and its Python environment."""

    digest: ImageDigest
    layers: Annotated[tuple[ImageDigest, ...], Field(max_length=200)]
    environment: Literal["installed", "shared"]
    environment_digest: Sha256 | None  # of the file lists of a shared environment's packages
    docker: Word


class Seal(_Part):
    """Isolation of the container, by ``docker inspect`` after its start; other values are not valid."""

    network: Literal["none"]
    read_only_root: Literal[True]
    dropped: tuple[Literal["ALL"]]
    added: tuple[()]
    no_new_privileges: Literal[True]
    privileged: Literal[False]
    user: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(:[0-9]+)?$")]  # by number, never root
    pids_limit: Annotated[int, Field(gt=0, le=2**15)]  # not the kernel's limit, which is no limit
    memory_bytes: Annotated[int, Field(gt=0, le=2**45)]  # at most the memory of a large machine
    writable: tuple[Literal["/tmp"], ...]


class Weights(_Part):
    """Facts of the model's files, read by the host, without their names."""

    files: Annotated[int, Field(ge=1)]
    bytes: Count
    elements: dict[Word, Count]  # stored type -> number of values, from the headers of safetensors files
    packed_bits: Annotated[int, Field(ge=1, le=8)] | None = None  # per weight, if integers hold several weights
    expert_elements: Count = 0  # values in tensors of experts
    experts: Count = 0  # experts per layer
    experts_used: Count = 0  # experts active per token

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        if self.expert_elements > sum(self.elements.values()) or self.experts_used > self.experts:
            raise ValueError("more active experts than experts, or more values in experts than in all files")
        return self


class Attested(_Part):
    """The submitter's attestations: all statements above in this version; none is implied."""

    version: Literal["1"]
    public: Literal[True]
    integrity: Literal[True]
    representative: Literal[True]


def attest(names: Sequence[str]) -> Attested:
    """Return the attestations; raise an error that names missing or unknown ones."""
    for name in names:
        if name not in ATTESTATIONS:
            raise unknown_name("attestation", name[:100], ATTESTATIONS)
    missing = [f"{name} ({text})" for name, text in ATTESTATIONS.items() if name not in names]
    if missing:
        raise ParameterError(f"attestations are missing: {' '.join(missing)}; all three are required")
    return Attested(version=ATTESTATION_VERSION, **dict.fromkeys(ATTESTATIONS, True))


class ClosedRun(_Part):
    """The predicate: all public facts of one sealed run."""

    schema_version: Literal[2] = 2
    started_utc: datetime
    finished_utc: datetime
    created_utc: datetime
    energylab_version: Word
    name: Alias
    parameters: dict[Word, Text | int | float | bool | None]
    task_version: Word
    protocol_version: Word
    data_digest: Sha256
    covariates: Covariates
    truncated: tuple[Count | None, Count | None]  # queries, tokens
    attention: Word | None
    devices: Annotated[tuple[DeviceFacts, ...], Field(min_length=1, max_length=64)]
    meters: Annotated[tuple[MeterFacts, ...], Field(min_length=1, max_length=64)]
    host: HostFacts
    idle: Annotated[tuple[IdleLevel, ...], Field(max_length=3)]
    warm_up: WarmUp
    windows: Annotated[tuple[SealedWindow, ...], Field(min_length=1, max_length=50_000)]
    scores: Annotated[tuple[Score, ...], Field(max_length=30)]
    timelines: Annotated[tuple[Timeline, ...], Field(max_length=64)]
    image: Image
    seal: Seal
    weights: Weights
    commitments: Commitments
    attestations: Attested

    @property
    def measurement_id(self) -> str:
        """The id of the measurement, computed from all readings, so a new signature does not change it."""
        edges = [[edge.model_dump(include={"start", "stop"}) for edge in window.edges] for window in self.windows]
        return hashlib.sha256(canonical_json(edges)).hexdigest()[:32]


def write(run: ClosedRun) -> bytes:
    """Return the statement as the bytes that are signed."""
    predicate = run.model_dump(mode="json")
    return canonical_json({
        "_type": STATEMENT_TYPE, "subject": _subject(predicate), "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    })  # fmt: skip


def _subject(predicate: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "run", "digest": {"sha256": hashlib.sha256(canonical_json(predicate)).hexdigest()}}]


def read(payload: bytes) -> ClosedRun:
    content = parse(payload, "the statement")
    if not isinstance(content, dict) or content.keys() != {"_type", "subject", "predicateType", "predicate"}:
        raise BundleError("the payload is not an in-toto statement with _type, subject, predicateType and predicate")
    for field, known in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if content[field] != known:
            raise BundleError(f"{field} is {str(content[field])[:80]!r}, not {known!r}")
    try:
        # strict: no number may be given as text
        run = ClosedRun.model_validate_json(canonical_json(content["predicate"]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the predicate"
        raise BundleError(f"{where[:120]}: {first['msg'][:200]}") from None
    if content["subject"] != _subject(content["predicate"]):
        raise BundleError("the subject is not the digest of the statement's predicate")
    return run
