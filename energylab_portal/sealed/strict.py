"""JSON from strangers: bounded in size, depth and number of values; one meaning a text, or none at all."""

from __future__ import annotations

import json
from typing import Any

from energylab.errors import BundleError

#: Most values a text may hold: what bounds the memory that reading it takes.
MAX_VALUES = 2_000_000
MAX_DEPTH = 32
#: Digits of the longest integer: enough for nanoseconds since the epoch, and for bytes of any memory.
MAX_DIGITS = 20
#: Largest number: sums, products and quotients of such stay finite.
MAX_NUMBER = 1e18


def parse(data: bytes, what: str, *, max_values: int = MAX_VALUES) -> Any:
    """Read JSON as strictly as it can be read.

    Parameters
    ----------
    data : bytes
        UTF-8 text; its size must have been bounded by the caller.
    what : str
        What it is, for the message.
    max_values : int
        Most values it may hold.

    Returns
    -------
    object

    Raises
    ------
    BundleError
        If it is not JSON, repeats a key, is nested too deeply, holds too many values, a number that is not finite
        or beyond `MAX_NUMBER`, or an integer of too many digits.
    """
    # Every value but the first follows a comma, a bracket or a brace: counted before anything is built.
    values = 1 + sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if values > max_values:
        raise BundleError(f"{what} holds up to {values} values, more than {max_values}")
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse_constant,
            parse_int=_short_int,
            parse_float=_finite,
        )
    except RecursionError:
        raise BundleError(f"{what} is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"{what} is not strict JSON: {str(error)[:200]}") from None
    if rb"\u" in data and _has_half_characters(value):
        raise BundleError(f"{what} holds half of a character, which no text can")
    if _deeper_than(value, MAX_DEPTH):
        raise BundleError(f"{what} is nested more than {MAX_DEPTH} levels deep")
    return value


def _has_half_characters(value: Any) -> bool:
    """Tell whether a lone surrogate, written as an escape, is in a text: it could not be written again."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return built


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{text[:30]} is beyond {MAX_NUMBER:g}")
    return value


def _deeper_than(value: Any, limit: int) -> bool:
    """Walk level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
