"""What may be submitted: the same rules for the pages, the JSON interface and the command line."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from energylab.errors import PortalError, UnknownNameError, unknown_name
from energylab.publish.text import one_line
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_CONTACT = re.compile(r"[^\s@<>\"]{1,64}@[^\s@<>\"]{1,189}")


def _model(value: str) -> str:
    value = value.strip()
    if not _MODEL.fullmatch(value) or ".." in value or "--" in value:
        raise ValueError("write a hub id: organisation/name, of letters, digits, '.', '_' and '-'")
    return value


def _revision(value: str | None) -> str | None:
    value = (value or "").strip()
    if value and (not _REVISION.fullmatch(value) or ".." in value):
        raise ValueError("write a branch, a tag or a commit; leave it empty for the main branch")
    return value or None


def _contact(value: str) -> str:
    value = value.strip()
    if not _CONTACT.fullmatch(value) or one_line(value) != value:
        raise ValueError("write an address for mail: name@example.org; only the operator sees it")
    return value


Contact = Annotated[
    str, Field(max_length=254, description="mail address; the operator alone sees it"), AfterValidator(_contact)
]


class OpenSubmission(BaseModel):
    """An open model to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(max_length=200, description="hub id, organisation/name"), AfterValidator(_model)]
    revision: Annotated[
        str | None,
        Field(max_length=200, description="branch, tag or commit; main when left out"),
        AfterValidator(_revision),
    ] = None
    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=20, description="names of tasks")]
    contact: Contact


class ClosedSubmission(BaseModel):
    """What comes with the bundle of a closed model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: Contact
    attested: Annotated[
        tuple[str, ...],
        Field(max_length=10, description=f"the statements made; all are needed: {', '.join(ATTESTATIONS)}"),
    ]


def check_tasks(names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    """Return the tasks asked for, each once, in order.

    Parameters
    ----------
    names : tuple of str
        As they were sent.
    known : collection of str
        Every task there is.

    Raises
    ------
    UnknownNameError
        If there is no such task; names the nearest.
    """
    for name in names:
        if name not in known:
            raise unknown_name("task", name[:100], known)
    return tuple(dict.fromkeys(names))


def check_attested(names: tuple[str, ...]) -> str:
    """Return the version of the statements when all of them were made.

    Raises
    ------
    PortalError
        Names the statements that are missing.
    """
    missing = [name for name in ATTESTATIONS if name not in names]
    if missing:
        raise PortalError(f"a closed result needs all three statements; missing: {', '.join(missing)}")
    strange = [name for name in names if name not in ATTESTATIONS]
    if strange:
        raise UnknownNameError(str(unknown_name("statement", strange[0][:100], ATTESTATIONS)))
    return ATTESTATION_VERSION
