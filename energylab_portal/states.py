"""The states of a submission, and which may follow which."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal["received", "checked", "queued", "measuring", "measured", "reviewed", "published", "rejected"]

STATES: tuple[State, ...] = get_args(State)

#: The way of a submission that goes well; a closed result is measured already and skips two.
OPEN_WAY: tuple[State, ...] = ("received", "checked", "queued", "measuring", "measured", "reviewed", "published")
CLOSED_WAY: tuple[State, ...] = ("received", "checked", "measured", "reviewed", "published")

#: What may follow. A published result is not taken back: a later release may leave it out and say so.
NEXT: dict[State, tuple[State, ...]] = {
    "received": ("checked", "rejected"),
    "checked": ("queued", "measured", "rejected"),
    "queued": ("measuring", "rejected"),
    "measuring": ("measured", "queued", "rejected"),
    "measured": ("reviewed", "rejected"),
    "reviewed": ("published", "rejected"),
    "published": (),
    "rejected": ("received",),
}

WORDS: dict[State, str] = {
    "received": "Received: it waits to be checked.",
    "checked": "Checked: it may go on.",
    "queued": "Queued: it waits for a free device.",
    "measuring": "Measuring: a worker runs it now.",
    "measured": "Measured: the operator will look at the result.",
    "reviewed": "Reviewed: it will be in the next release.",
    "published": "Published: it is on the leaderboard.",
    "rejected": "Rejected: the reason below says what to do.",
}


def way(kind: str) -> tuple[State, ...]:
    """Return the states that a submission of this kind goes through when all goes well."""
    return OPEN_WAY if kind == "open" else CLOSED_WAY


def sources(target: State) -> tuple[State, ...]:
    """Return the states from which `target` may be reached."""
    return tuple(state for state in STATES if target in NEXT[state])
