"""Submit from a program: the portal's JSON interface, with retries that double nothing."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from energylab.errors import PortalError

#: Answers after which the same request may be sent again.
_AGAIN = (429, 500, 502, 503, 504)

_TIMEOUT_S = 60.0
_TRIES = 6


@dataclass(frozen=True)
class Client:
    """A portal as a program sees it.

    Attributes
    ----------
    address : str
        ``https://…``, without a path.
    sleep : callable
        Waits so many seconds between two tries.
    """

    address: str
    sleep: Callable[[float], None] = time.sleep

    def submit_open(
        self, model: str, tasks: Sequence[str], contact: str, revision: str | None = None
    ) -> dict[str, Any]:
        """Submit an open model; return the receipt.

        Raises
        ------
        PortalError
            If the portal refuses it, in its words, or does not answer after several tries.
        """
        asked = {"model": model, "revision": revision, "tasks": list(tasks), "contact": contact}
        return self._send("/api/v1/submissions/open", json.dumps(asked).encode(), "application/json")

    def submit_closed(self, bundle: Path, attested: Sequence[str], contact: str) -> dict[str, Any]:
        """Submit the bundle of a closed model; return the receipt.

        Raises
        ------
        PortalError
            As `submit_open`; or if the file cannot be read.
        """
        try:
            content = bundle.read_bytes()
        except OSError as error:
            raise PortalError(f"cannot read {bundle}: {error.strerror}") from error
        fields = [("contact", contact), *(("attested", name) for name in attested)]
        body, kind = multipart(fields, "bundle", "bundle", content)
        return self._send("/api/v1/submissions/closed", body, kind)

    def status(self, link: str) -> dict[str, Any]:
        """Return what is known of a submission, by its private link or the link's token.

        Raises
        ------
        PortalError
            If there is none, or the portal does not answer.
        """
        token = link.rstrip("/").rpartition("/")[2]
        return self._ask(urllib.request.Request(f"{self._root}/api/v1/submissions/{token}"))

    @property
    def _root(self) -> str:
        if urlsplit(self.address).scheme not in ("http", "https"):
            raise PortalError(f"portal address {self.address!r}: write https://NAME, or http://127.0.0.1:PORT")
        return self.address.rstrip("/")

    def _send(self, path: str, body: bytes, kind: str) -> dict[str, Any]:
        """Send a submission. All tries carry one key: whichever arrives first is the submission."""
        headers = {"Content-Type": kind, "Idempotency-Key": secrets.token_urlsafe(24)}
        return self._ask(urllib.request.Request(f"{self._root}{path}", body, headers, method="POST"))

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        why = ""
        for attempt in range(_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s) only, see _root
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                why = _words(error)
                if error.code not in _AGAIN:
                    raise PortalError(f"the portal refused it: {why}") from None
                wait = float(error.headers.get("Retry-After") or 2**attempt)
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                why, wait = str(getattr(error, "reason", error)), float(2**attempt)
            if attempt < _TRIES - 1:
                self.sleep(min(wait, 60.0))
        raise PortalError(f"{self.address} does not answer ({why}); nothing is lost: run the same command again later")


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"


def multipart(fields: Sequence[tuple[str, str]], file_field: str, file_name: str, content: bytes) -> tuple[bytes, str]:
    """Encode a form with one file as ``multipart/form-data``.

    Returns
    -------
    bytes
        The body.
    str
        Its content type, with the boundary.

    References
    ----------
    RFC 7578, Returning Values from Forms: multipart/form-data.
    """
    boundary = f"energylab-{secrets.token_hex(16)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{file_field}"; filename="{file_name}"\r\n'
    parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content)
    return b"".join(parts) + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def describe(status: Mapping[str, Any]) -> str:
    """Write a submission's status for a terminal."""
    lines = [f"{status['submission']}  {status['words']}"]
    lines += [f"why, and what to do: {status['reason']}"] if status["reason"] else []
    lines += [
        f"{figure['task']}: "
        + ("unavailable" if figure["energy_wh_per_1000_queries"] is None
           else f"{figure['energy_wh_per_1000_queries']:.3g} Wh per 1,000 queries")
        + f", {figure['energy_kind']}, on {figure['device']}"
        for figure in status["figures"]
    ]  # fmt: skip
    lines += [f"{label['title']}: label {label['label']}, badge {label['badge']}" for label in status["labels"]]
    return "\n".join(lines)
