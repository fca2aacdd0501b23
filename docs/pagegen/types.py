"""Types and limits of pydantic fields in words."""

from __future__ import annotations

import re
import types
import typing

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def words(annotation: object) -> str:
    """Return a type as people write it: ``float or None``, ``list of Window``, ``"A", "B" or "C"``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return words(arguments[0])
    if origin is typing.Literal:
        return _either([f'"{value}"' if isinstance(value, str) else str(value) for value in arguments])
    if origin in (typing.Union, types.UnionType):
        return _either([words(argument) for argument in arguments])
    if origin is tuple and arguments and arguments[-1] is Ellipsis:
        return f"list of {words(arguments[0])}"
    if origin in (list, set, frozenset):
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return f"mapping of {words(arguments[0])} to {words(arguments[1])}"
    if annotation is types.NoneType:
        return "None"
    return re.sub(r"^(?:\w+\.)*", "", getattr(annotation, "__name__", str(annotation)))


def limits(field: FieldInfo) -> str:
    """Return the limits of a number: ``> 0, < 1``."""
    return ", ".join(
        f"{_SIGNS[type(limit)][0]} {getattr(limit, _SIGNS[type(limit)][1]):g}"
        for limit in field.metadata
        if type(limit) in _SIGNS
    )


def default(field: FieldInfo) -> str:
    """Return the default as written; ``required`` without one."""
    if field.default_factory is not None:
        return repr(field.default_factory())
    return "required" if field.default is PydanticUndefined else repr(field.default)


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
