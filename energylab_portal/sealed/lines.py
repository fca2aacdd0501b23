"""The connection of host and container: one JSON object per line, of limited length, one answer per question.

The host asks, the container answers. An answer carries the number of its question; anything that comes unasked, too
late, too long or in another shape ends the run. Times and energies never travel here: the host reads its own meters
before it asks and after it was answered.
"""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from energylab.errors import BundleError, EnergylabError, SealError
from energylab_portal.sealed.bundle import parse

#: Maximal length of a line in bytes, and maximal number of values in it.
MAX_LINE, MAX_VALUES = 4 * 2**20, 200_000
Name = Annotated[str, StringConstraints(max_length=100)]
HELLO = {"hello": "energylab-sealed", "version": 2}


class Line:
    """One end of the connection; it sends and receives complete lines."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def send(self, message: dict[str, Any], timeout_s: float | None = None) -> None:
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(data) > MAX_LINE:
            raise SealError(f"a message has {len(data)} bytes; at most {MAX_LINE} are allowed")
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise SealError(f"the other end accepted no message within {timeout_s:g} s") from None
        except OSError as error:
            raise SealError(f"the connection is closed: {error.strerror or error}") from None

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Read one message; None if the connection was closed."""
        deadline_s, seen = None if timeout_s is None else time.monotonic() + timeout_s, 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > MAX_LINE:
                raise SealError(f"the other end sent more than {MAX_LINE} bytes without an end of line")
            piece = self._piece(deadline_s, timeout_s)
            if not piece:
                return None
            self._buffer += piece
        data = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = parse(data, "a message", max_values=MAX_VALUES)
        except BundleError as error:
            raise SealError(f"the other end sent an invalid message: {error}") from None
        if not isinstance(message, dict):
            raise SealError(f"the other end sent {type(message).__name__} instead of an object")
        return message

    def _piece(self, deadline_s: float | None, timeout_s: float | None) -> bytes:
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        try:
            if left_s is not None and left_s <= 0:  # the limit holds for the whole message
                raise TimeoutError
            self._socket.settimeout(left_s)
            return self._socket.recv(1 << 16)
        except TimeoutError:
            raise SealError(f"no answer within {timeout_s:g} s") from None
        except OSError:
            return b""

    def quiet(self) -> bool:
        """Whether no data wait to be read; an answer before its question violates the protocol."""
        readable, _, _ = select.select([self._socket], [], [], 0)
        return not self._buffer and not readable


class QueryError(EnergylabError):
    """A query failed in the container, with this message."""


class Answer(BaseModel):
    """Base of the container's answers; further fields are not allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Failed(Answer):
    """An exception was raised in the container."""

    error: Name
    message: Annotated[str, StringConstraints(max_length=2000)]


A = TypeVar("A", bound=Answer)


class Questions:
    """The host's end: sends numbered questions, and accepts one answer to each."""

    def __init__(self, line: Line, limit_s: float) -> None:
        self._line = line
        self._limit_s = limit_s
        self._number = 0
        self.broken: SealError | None = None

    def ask(self, what: str, shape: type[A], **facts: Any) -> A:
        """Ask one question; an answer that is unexpected, late, out of order or malformed ends the run."""
        if self.broken is not None:
            raise self.broken
        try:
            answer = self._ask(what, facts)
            if "error" in answer and "error" not in shape.model_fields:
                failed = Failed.model_validate(answer)
                raise QueryError(f"{failed.error}: {failed.message}")
            return shape.model_validate(answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))[:100]
            self.broken = SealError(f"the answer to {what!r} is malformed: {where}: {first['msg']}")
        except SealError as error:
            self.broken = error
        raise self.broken

    def _ask(self, what: str, facts: dict[str, Any]) -> dict[str, Any]:
        if not self._line.quiet():
            raise SealError("the container sent data before a question, so the run was ended")
        self._number += 1
        self._line.send({"number": self._number, "do": what, **facts}, self._limit_s)
        answer = self._line.receive(self._limit_s)
        if answer is None:
            raise SealError(f"the container ended before its answer to {what!r}")
        if answer.pop("number", None) != self._number:
            raise SealError(f"the container answered {what!r} out of order, so the run was ended")
        return answer
