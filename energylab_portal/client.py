"""Client of the portal's JSON interface; its retries create no second submission."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from energylab.errors import PortalError

#: Status codes after which the same request is sent again, and the maximal number of attempts.
_AGAIN, _TRIES = (429, 500, 502, 503, 504), 6


@dataclass(frozen=True)
class Client:
    """Client of one portal."""

    address: str  # ``https://…``, without a path
    sleep: Callable[[float], None] = time.sleep  # waits between two attempts, in seconds

    def submit_open(
        self, model: str, tasks: Sequence[str], contact: str, revision: str | None = None
    ) -> dict[str, Any]:
        """Submit an open model; return the receipt."""
        asked = {"model": model, "revision": revision, "tasks": list(tasks), "contact": contact}
        return self._send("open", json=asked)

    def submit_closed(self, bundle: Path, attested: Sequence[str], contact: str) -> dict[str, Any]:
        """Submit the bundle of a closed model; return the receipt."""
        try:
            content = bundle.read_bytes()
        except OSError as error:
            raise PortalError(f"cannot read {bundle}: {error.strerror}") from error
        return self._send(
            "closed", data={"contact": contact, "attested": list(attested)}, files={"bundle": ("bundle", content)}
        )

    def status(self, link: str) -> dict[str, Any]:
        """Return the status of a submission, by its private link or the link's token."""
        return self._ask("GET", link.rstrip("/").rpartition("/")[2])

    def _send(self, kind: str, **body: Any) -> dict[str, Any]:
        """Send a submission. All attempts have the same key, so only one of them counts."""
        return self._ask("POST", kind, headers={"Idempotency-Key": secrets.token_urlsafe(24)}, **body)

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        if urlsplit(self.address).scheme not in ("http", "https"):
            raise PortalError(f"portal address {self.address!r} is no URL: write https://NAME or http://127.0.0.1:PORT")
        url, reason = f"{self.address.rstrip('/')}/api/v1/submissions/{path}", ""
        for attempt in range(_TRIES):
            wait_s = float(2**attempt)
            try:
                answer = httpx.request(method, url, timeout=60.0, **more)
            except httpx.HTTPError as error:
                reason = str(error)
            else:
                if answer.is_success:
                    return answer.json()
                reason = _words(answer)
                if answer.status_code not in _AGAIN:
                    raise PortalError(f"the portal refused the request: {reason}")
                wait_s = float(answer.headers.get("Retry-After", wait_s))
            if attempt < _TRIES - 1:
                self.sleep(min(wait_s, 60.0))
        raise PortalError(f"{self.address} does not answer ({reason}); run the same command again")


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def describe(status: Mapping[str, Any]) -> str:
    lines = [f"{status['submission']}  {status['words']}"]
    lines += [f"reason and what to do: {status['reason']}"] if status["reason"] else []
    for figure in status["figures"]:
        wh = figure["energy_wh_per_1000_queries"]
        told = "unavailable" if wh is None else f"{wh:.3g} Wh per 1,000 queries"
        lines.append(f"{figure['task']}: {told}, {figure['energy_kind']}, on {figure['device']}")
    lines += [f"{label['title']}: label {label['label']}, badge {label['badge']}" for label in status["labels"]]
    return "\n".join(lines)
