"""All errors that energylab raises, and the message for an unknown name."""

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
    """A task cannot be run: its settings, its class or its model's outputs are wrong."""


class ModelError(EnergylabError):
    """A model cannot be loaded, does not fit the task, or does not fit the device."""


class ServedError(EnergylabError):
    """A server did not answer a query correctly.

    `status` is the HTTP status of a refusal; `usage` is False if the answer lacks token counts; `silent` is True if
    the server sent nothing for the allowed time.
    """

    def __init__(self, message: str, status: int | None = None, usage: bool = True, silent: bool = False) -> None:
        super().__init__(message)
        self.status, self.usage, self.silent = status, usage, silent


class DataError(EnergylabError):
    """A data set is missing, too small, lacks a column or holds an unusable row."""


class MeterError(EnergylabError):
    """An energy meter cannot be opened or read."""


class MeterPermissionError(MeterError):
    """This user may not read the counter; the message names the command that grants access."""


class DeviceLostError(MeterError):
    """The device stopped answering during the measurement."""


class CounterStuckError(MeterError):
    """The counter did not step within the time it was watched."""


class CounterJumpError(MeterError):
    """The counter moved backwards, or by more energy than the device can have used."""


class MeasurementError(EnergylabError):
    """A measurement ended without a usable result."""


class FormatError(EnergylabError):
    """A file of another program cannot be read or written: wrong format, unknown unit, or missing facts."""


class RecordError(EnergylabError):
    """A record file is truncated, of another program or of a newer version."""


class StudyError(EnergylabError):
    """A study cannot be planned, run or packed."""


class CohortError(EnergylabError):
    """Records of different cohorts cannot be compared."""


class ReleaseError(EnergylabError):
    """A release cannot be made, read or published: its file, its contents or the folder to write to."""


class PortalError(EnergylabError):
    """A request to the portal is not allowed, not found, or not possible now; the message says what to do."""


class NotThereError(PortalError):
    """No submission, key or release has this name or link."""


class ConflictError(PortalError):
    """A request conflicts with the current state: a state has changed, a name is taken, a bundle was used."""


class BundleError(EnergylabError):
    """A bundle, key or opening cannot be made or read, or would disclose a secret."""


class SealError(EnergylabError):
    """A sealed run cannot be started, or the container violated its rules."""


class StatisticsError(EnergylabError):
    """The data do not allow the estimate or interval (too few values, a NaN, no variation)."""


class MissingExtraError(EnergylabError):
    """An optional library is not installed; the message names the extra that installs it."""


#: An error lists at most this many names; of more, the nearest.
MOST_LISTED = 60


def nearest(name: str, allowed: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the allowed name closest to `name`, or None if none is similar."""
    return next(iter(difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=cutoff)), None)


def unknown_name(what: str, name: object, allowed: Iterable[str], hint: str = "") -> UnknownNameError:
    """Return the error for an unknown name: bad value, nearest match, allowed values, and `hint` (what to do next).

    `what` is the kind of name, for example ``"task"``.
    """
    known = sorted(allowed)
    shown = known if len(known) <= MOST_LISTED else difflib.get_close_matches(str(name), known, n=8, cutoff=0.0)
    more = f", and {len(known) - len(shown)} more" if len(shown) < len(known) else ""
    match = nearest(str(name), known)
    parts = [f"unknown {what} {name!r}", f"did you mean {match!r}?" if match else ""]
    parts += [f"allowed: {', '.join(shown) or '(none)'}{more}", hint]
    return UnknownNameError("; ".join(part for part in parts if part))


#: Phrases of pydantic and their plainer forms.
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
    """Return the message of one entry of ``ValidationError.errors()`` of pydantic in plain words."""
    text = {"missing": "is missing", "extra_forbidden": "is not a known name"}.get(problem["type"], problem["msg"])
    for theirs, ours in _PLAINER.items():
        text = text.replace(theirs, ours)
    return text
