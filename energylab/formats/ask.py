"""Facts that must be had: from the file, or from the user; never from a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from energylab.errors import FormatError
from energylab.formats.session import Asked

COMPONENTS = ("gpu", "cpu", "ram", "total")

#: More than any run has; a larger number is damage.
MOST_QUERIES, MOST_DEVICES = 10_000_000, 100_000

#: Names of the hub's tasks, by the names they have here.
HUB_TASKS = {
    "text-generation": "text_generation",
    "text2text-generation": "summarization",
    "summarization": "summarization",
    "question-answering": "question_answering",
    "text-classification": "text_classification",
    "sentence-similarity": "sentence_similarity",
    "image-classification": "image_classification",
    "object-detection": "object_detection",
    "automatic-speech-recognition": "speech_recognition",
    "text-to-image": "image_generation",
    "image-to-text": "image_captioning",
}

_TASK = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}")


def model(asked: Asked, stated: Any, where: str) -> str:
    """Return the model's name: the user's, or the file's."""
    name = asked.model or stated
    if not isinstance(name, str) or not name.strip():
        raise FormatError(f"{where} does not name the model; name it with --model")
    return name


def task(asked: Asked, stated: Any, where: str) -> str:
    """Return the task's name as it is spelled here: the user's, or the file's."""
    name = asked.task or stated
    if not isinstance(name, str) or not name.strip():
        raise FormatError(f"{where} does not name the task; name it with --task, for example --task text_generation")
    known = HUB_TASKS.get(name, name.strip().lower().replace("-", "_").replace(" ", "_"))
    if not _TASK.fullmatch(known):
        raise FormatError(f"{where}: task {name!r} is not a name of letters, digits, _ and .; name it with --task")
    return known


def queries(asked: Asked, stated: Any, where: str) -> int:
    """Return how many queries an energy is of: the file's number, or the user's where it has none."""
    count = stated if stated is not None else asked.queries
    if count is None:
        raise FormatError(f"{where} does not say how many queries its energy is of; state it with --queries")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_QUERIES:
        raise FormatError(f"{where}: queries={count!r}: must be a whole number from 1 to {MOST_QUERIES:,}")
    if asked.queries is not None and asked.queries != count:
        raise FormatError(f"{where}: --queries {asked.queries} contradicts the file, which says {count}; leave it out")
    return count


def component(asked: Asked, energies: Mapping[str, list[float | None]], where: str) -> str:
    """Return whose energy is rated; by default the GPU's, and a file that has none is refused.

    Parameters
    ----------
    asked : Asked
    energies : mapping of str to list of float or None
        Every value of each component that the file has.
    where : str
    """
    name = asked.component or "gpu"
    if name not in COMPONENTS:
        raise FormatError(f"component {name!r} is not known; allowed: {', '.join(COMPONENTS)}")
    if asked.component is not None or any(value for value in energies.get(name, [])):
        return name
    others = [other for other in COMPONENTS if any(value for value in energies.get(other, []))]
    raise FormatError(
        f"{where}: the {name} energy is zero or missing everywhere: there was no {name} meter, or it failed; "
        + (f"to take another one, say --component {' or '.join(others)}; " if others else "")
        + "to import it as invalid, say --component gpu"
    )


def number(value: Any, name: str, where: str) -> float | None:
    """Return a number of a file; None for an empty cell or null.

    Raises
    ------
    FormatError
        If it is anything else than a finite number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or isinstance(value, bool):
        raise FormatError(f"{where}: {name}={value!r} is not a finite number; correct the file")
    return found


def whole(value: Any, name: str, where: str) -> int | None:
    """Return a whole number of a file; None where there is none."""
    found = number(value, name, where)
    if found is not None and found != int(found):
        raise FormatError(f"{where}: {name}={value!r} is not a whole number; correct the file")
    return None if found is None else int(found)


def devices(value: Any, name: str, where: str) -> int | None:
    """Return a number of devices; None where there is none, and for zero, which says that none was seen."""
    found = whole(value, name, where)
    if found is not None and not 0 <= found <= MOST_DEVICES:
        raise FormatError(f"{where}: {name}={value!r}: must be a whole number from 0 to {MOST_DEVICES:,}")
    return found or None


def mapping(value: Any, name: str, where: str) -> Mapping[str, Any]:
    """Return a part of a JSON file that must be an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FormatError(f"{where}: {name} must be an object, and is {type(value).__name__}; correct the file")
    return value
