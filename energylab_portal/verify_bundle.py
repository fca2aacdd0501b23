"""Verify one bundle in a process of its own; see `energylab_portal.child_process`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from energylab_portal.child_process import answer


def verdict(question: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on a bundle as plain values; the record as its JSON."""
    from energylab_portal.sealed import official
    from energylab_portal.sealed.verify import verify

    found = verify(Path(question["bundle"]), keys=question["keys"], official=official.load(question["params"]))
    return {
        "accepted": found.accepted,
        "key_id": found.key_id,
        "key_known": found.key_known,
        "digest": found.digest,
        "checks": [{"name": check.name, "passed": check.passed, "words": check.words} for check in found.checks],
        "record": None if found.record is None else found.record.model_dump_json(),
    }


if __name__ == "__main__":
    answer(verdict)
