"""Compare and walk through what tasks return: numbers, texts, tensors, pictures, and anything made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

TOLERANCE = 1e-4  # of numbers, relative: sums in another order differ in the last digits of float32
SMALLEST = 1e-5  # absolute, for numbers around zero


def same(a: Any, b: Any) -> bool:
    """Tell whether two answers are equal, numbers within `TOLERANCE` or `SMALLEST`."""
    a, b = _plain(a), _plain(b)
    if isinstance(a, bool | str | bytes) or isinstance(b, bool) or a is None:
        return type(a) is type(b) and a == b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=SMALLEST) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return _same_arrays(a, b)
    return type(a) is type(b) and a == b


def tensors(value: Any) -> Iterator[Any]:
    """Yield every tensor inside a value."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from tensors(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from tensors(getattr(value, one.name))
    elif isinstance(getattr(value, "data", None), Mapping):
        yield from tensors(value.data)


def short(value: Any, width: int = 60) -> str:
    """Write a value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _plain(value: Any) -> Any:
    """Turn single tensors, numpy scalars, mappings in disguise and pictures into plain values."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(getattr(value, "data", None), Mapping):
        return value.data
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture
        return np.asarray(value, dtype=float) / 255
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return value


def _same_arrays(a: Any, b: Any) -> bool:
    import numpy as np

    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    numbers = np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=SMALLEST, equal_nan=True) if numbers else (a == b).all())
