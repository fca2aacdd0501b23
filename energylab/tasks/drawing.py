"""Pictures of known content: simple objects drawn on plain backgrounds, with their names and boxes.

They are the sample data of the image tasks and, at the published sizes and in random arrangement, the synthetic data:
the energy of a picture depends on its size alone, and labels and boxes are known exactly.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_FILLED = {"box": "rectangle", "ellipse": "ellipse", "polygon": "polygon", "pie": "pieslice"}  # PIL's names

#: Kind, points in the unit square (x to the right, y down), and a colour if it differs from the object's.
Shape = tuple[str, tuple[float, ...]] | tuple[str, tuple[float, ...], str]


@dataclass(frozen=True)
class DrawableObject:
    """An object that can be drawn."""

    coco: str  # its class in COCO
    imagenet: str  # its class in ImageNet-1k
    colour: str  # its main colour
    aspect: float  # width over height
    shapes: tuple[Shape, ...]  # its shapes, back to front


@dataclass(frozen=True)
class Placed:
    """An object in a picture with its box: x, y, width and height in pixels."""

    drawable: DrawableObject
    box: tuple[int, int, int, int]


@lru_cache(maxsize=1)
def _stock() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("drawable_objects.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def drawable_objects() -> tuple[DrawableObject, ...]:
    """Return every object that can be drawn: the packaged ``drawable_objects.yaml``."""
    return tuple(DrawableObject(**one) for one in _stock()["objects"])


def draw_scene(rng: Any, size: tuple[int, int], chosen: Sequence[DrawableObject]) -> tuple[Any, list[Placed], str]:
    """Draw objects side by side without overlap; return the picture, the placed objects and a caption."""
    from PIL import Image, ImageDraw

    grounds = _stock()["grounds"]
    ground = grounds[int(rng.integers(len(grounds)))]
    picture = Image.new("RGB", size, ground["upper"])
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, round(ground["horizon"] * size[1]), *size), fill=ground["lower"])
    cells = _cells(rng, size, len(chosen))
    placed = [Placed(drawable, _place(rng, drawable, cell)) for drawable, cell in zip(chosen, cells, strict=True)]
    for one in placed:
        _draw(pen, one)
    names = [f"{'an' if drawable.coco[0] in 'aeiou' else 'a'} {drawable.coco}" for drawable in chosen]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return picture, placed, f"{listed} {ground['place']}"


def photograph(rng: Any, picture: Any, grain: float = 6.0, quality: int = 90) -> bytes:
    """Add the noise of a photograph to a drawing and encode it as JPEG, so that decoding takes as long as for one."""
    import numpy as np
    from PIL import Image

    levels = np.asarray(picture, dtype=np.float32)
    noisy = levels + rng.normal(0.0, grain, levels.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=quality)
    return file.getvalue()


def _cells(rng: Any, size: tuple[int, int], count: int) -> list[tuple[float, float, float, float]]:
    columns = {1: 1, 2: 2, 3: 3, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    width, height = size[0] / columns, size[1] / rows
    cells = [(column * width, row * height, width, height) for row in range(rows) for column in range(columns)]
    return [cells[index] for index in rng.permutation(len(cells))[:count]]


def _place(rng: Any, drawable: DrawableObject, cell: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Choose size and place of an object inside its cell; x, y, width, height in whole pixels."""
    left, top, width, height = cell
    tall = min(height, width / drawable.aspect) * rng.uniform(0.6, 0.9)
    wide = tall * drawable.aspect
    x = left + rng.uniform(0.0, width - wide)
    y = top + rng.uniform(0.0, height - tall)
    return round(x), round(y), max(round(wide), 4), max(round(tall), 4)


def _draw(pen: Any, placed: Placed) -> None:
    x, y, width, height = placed.box
    line = max(round(0.03 * min(width, height)), 2)
    for kind, points, *own in placed.drawable.shapes:
        colour = own[0] if own else placed.drawable.colour
        if kind == "text":
            colour, _, words = colour.partition(":")
            at = x + points[0] * width, y + points[1] * height
            pen.text(at, words, colour, font_size=points[2] * height, anchor="mm")
            continue
        ends, angles = (points[:4], points[4:]) if kind in ("arc", "pie") else (points, ())
        at = [(x + ends[i] * width, y + ends[i + 1] * height) for i in range(0, len(ends), 2)]
        if kind in ("line", "arc"):
            getattr(pen, kind)(at, *angles, fill=colour, width=line)
        else:
            getattr(pen, _FILLED[kind])(at, *angles, fill=colour)
