"""Every error energylab raises on purpose, and how an unknown name is reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class EnergylabError(Exception):
    """Base of all errors raised by energylab; catch this to catch them all."""


class ParameterError(EnergylabError):
    """A parameter has an unknown name, a wrong type or a value that is not allowed."""


class UnknownNameError(ParameterError):
    """A name (task, model, meter, scheme …) is not among the known ones."""


class TaskError(EnergylabError):
    """A task cannot be run: its data, its model or its outputs are not what it asks for."""


class ModelError(EnergylabError):
    """A model cannot be loaded, does not fit the task, or does not fit the device."""


class ServedError(EnergylabError):
    """A server did not answer a query as asked.

    `status` is that of its answer, where it was a refusal; `usage` is False when it answered but did not count the
    tokens; `silent` is True when it gave no sign of life for as long as it was allowed to.
    """

    def __init__(self, message: str, status: int | None = None, usage: bool = True, silent: bool = False) -> None:
        super().__init__(message)
        self.status, self.usage, self.silent = status, usage, silent


class DataError(EnergylabError):
    """A data set is missing, too small, lacks a column or holds an unusable row."""


class MeterError(EnergylabError):
    """An energy meter cannot be opened or read."""


class MeterPermissionError(MeterError):
    """The counter exists but this user may not read it; the message names the command that grants it."""


class DeviceLostError(MeterError):
    """The device stopped answering while it was being measured."""


class CounterStuckError(MeterError):
    """The counter did not step while it was waited for."""


class CounterJumpError(MeterError):
    """The counter stepped further, or backward, than the device can have made it."""


class MeasurementError(EnergylabError):
    """A measurement ended without a usable figure."""


class FormatError(EnergylabError):
    """Another program's file cannot be read or written: its format, unit or a fact it does not state."""


class RecordError(EnergylabError):
    """A record file is truncated, foreign or of a newer version."""


class StudyError(EnergylabError):
    """A study cannot be planned, run or packed as asked."""


class CohortError(EnergylabError):
    """Records that may not be compared were about to be compared."""


class ReleaseError(EnergylabError):
    """A release cannot be made, read or published: its file, its contents or the folder to write to."""


class PortalError(EnergylabError):
    """Something asked of the portal is not allowed, not there, or not possible now; the message says what to do."""


class NotThereError(PortalError):
    """No submission, key or release is known by that name or link."""


class ConflictError(PortalError):
    """What is asked does not go with what is there: a state has moved on, a name is taken, a bundle was used."""


class BundleError(EnergylabError):
    """A bundle, a key or an opening cannot be made or read, or would give a secret away."""


class SealError(EnergylabError):
    """A sealed run cannot be started, or what runs in the container broke the rules."""


class StatisticsError(EnergylabError):
    """An estimate or interval was asked of data that cannot carry it (too few values, a NaN, no variation)."""


class MissingExtraError(EnergylabError):
    """An optional library is not installed; the message names the extra that brings it."""


#: Most names that an error lists; of more, the nearest.
MOST_LISTED = 60


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to `name`, or None when nothing is near."""
    return next(iter(difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)), None)


def unknown_name(what: str, name: object, allowed: Iterable[str], hint: str = "") -> UnknownNameError:
    """Build the one error for an unknown name: the bad value, the nearest match, all allowed values, what to do next.

    `what` is the kind of thing named, for example ``"task"``.
    """
    known = sorted(allowed)
    shown = known if len(known) <= MOST_LISTED else difflib.get_close_matches(str(name), known, n=8, cutoff=0.0)
    more = f", and {len(known) - len(shown)} more" if len(shown) < len(known) else ""
    match = nearest(str(name), known)
    parts = [f"unknown {what} {name!r}", f"did you mean {match!r}?" if match else ""]
    parts += [f"allowed: {', '.join(shown) or '(none)'}{more}", hint]
    return UnknownNameError("; ".join(part for part in parts if part))


#: Pydantic's words to plainer ones.
_PLAINER = {
    "Value error, ": "",
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
}


def problem_text(problem: Mapping[str, Any]) -> str:
    """Say in plain words what a pydantic validator found, of one entry of ``ValidationError.errors()``."""
    text = {"missing": "is missing", "extra_forbidden": "is not a known name"}.get(problem["type"], problem["msg"])
    for theirs, ours in _PLAINER.items():
        text = text.replace(theirs, ours)
    return text
