"""Pictures whose content is known: simple things drawn on plain grounds, with their names and boxes.

They are the sample data of the image tasks, and, at the published sizes and in random arrangement, the synthetic
data. A drawing is not a photograph: what a detector makes of one says little of what it makes of the other, but its
cost depends on the size of the picture alone, and its labels and boxes are right by construction.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: A shape is a kind, its points in the unit square (x to the right, y down), and its colour; None is the thing's own.
Shape = tuple[str, tuple[float, ...], str | None]


@dataclass(frozen=True)
class Thing:
    """Something that can be drawn.

    Attributes
    ----------
    coco : str
        Its name among the classes of COCO.
    imagenet : str
        Its name among the classes of ImageNet-1k.
    colour : str
        Its own colour.
    aspect : float
        Width over height.
    shapes : tuple of Shape
        What it is made of, back to front.
    """

    coco: str
    imagenet: str
    colour: str
    aspect: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Placed:
    """A thing at its place: box as x, y, width, height in pixels, its visible extent."""

    thing: Thing
    box: tuple[int, int, int, int]


#: A place: its name in a caption, colour of the upper part, colour of the ground, where the ground begins.
GROUNDS = (
    ("on a green field under a blue sky", "lightskyblue", "forestgreen", 0.62),
    ("on the beach", "lightcyan", "khaki", 0.55),
    ("on a wooden table", "antiquewhite", "peru", 0.45),
    ("on a grey street", "lightsteelblue", "dimgray", 0.6),
    ("in front of a white wall", "whitesmoke", "gainsboro", 0.8),
)

THINGS = (
    Thing(
        "car",
        "sports car, sport car",
        "red",
        2.0,
        (
            ("polygon", (0.18, 0.42, 0.32, 0.0, 0.68, 0.0, 0.84, 0.42), None),
            ("polygon", (0.26, 0.4, 0.35, 0.1, 0.48, 0.1, 0.48, 0.4), "lightcyan"),
            ("polygon", (0.52, 0.4, 0.52, 0.1, 0.66, 0.1, 0.76, 0.4), "lightcyan"),
            ("box", (0.0, 0.4, 1.0, 0.8), None),
            ("ellipse", (0.12, 0.6, 0.32, 1.0), "black"),
            ("ellipse", (0.68, 0.6, 0.88, 1.0), "black"),
            ("ellipse", (0.18, 0.72, 0.26, 0.88), "silver"),
            ("ellipse", (0.74, 0.72, 0.82, 0.88), "silver"),
            ("box", (0.95, 0.48, 1.0, 0.58), "yellow"),
        ),
    ),
    Thing(
        "bus",
        "school bus",
        "orange",
        2.2,
        (
            ("box", (0.0, 0.0, 1.0, 0.84), None),
            ("box", (0.0, 0.5, 1.0, 0.56), "black"),
            ("box", (0.05, 0.12, 0.2, 0.42), "lightcyan"),
            ("box", (0.25, 0.12, 0.4, 0.42), "lightcyan"),
            ("box", (0.45, 0.12, 0.6, 0.42), "lightcyan"),
            ("box", (0.65, 0.12, 0.8, 0.42), "lightcyan"),
            ("box", (0.86, 0.12, 0.97, 0.8), "lightcyan"),
            ("ellipse", (0.12, 0.66, 0.28, 1.0), "black"),
            ("ellipse", (0.66, 0.66, 0.82, 1.0), "black"),
        ),
    ),
    Thing(
        "traffic light",
        "traffic light, traffic signal, stoplight",
        "black",
        0.36,
        (
            ("box", (0.42, 0.6, 0.58, 1.0), "gray"),
            ("box", (0.0, 0.0, 1.0, 0.68), None),
            ("ellipse", (0.2, 0.03, 0.8, 0.22), "red"),
            ("ellipse", (0.2, 0.25, 0.8, 0.44), "gold"),
            ("ellipse", (0.2, 0.47, 0.8, 0.66), "lime"),
        ),
    ),
    Thing(
        "stop sign",
        "street sign",
        "red",
        0.55,
        (
            ("box", (0.46, 0.5, 0.54, 1.0), "gray"),
            (
                "polygon",
                (0.29, 0.0, 0.71, 0.0, 1.0, 0.16, 1.0, 0.39, 0.71, 0.55, 0.29, 0.55, 0.0, 0.39, 0.0, 0.16),
                "white",
            ),
            (
                "polygon",
                (0.31, 0.02, 0.69, 0.02, 0.96, 0.17, 0.96, 0.38, 0.69, 0.53, 0.31, 0.53, 0.04, 0.38, 0.04, 0.17),
                None,
            ),
            ("text", (0.5, 0.275, 0.2), "white:STOP"),
        ),
    ),
    Thing(
        "clock",
        "analog clock",
        "white",
        1.0,
        (
            ("ellipse", (0.0, 0.0, 1.0, 1.0), "black"),
            ("ellipse", (0.06, 0.06, 0.94, 0.94), None),
            ("line", (0.5, 0.1, 0.5, 0.18), "black"),
            ("line", (0.5, 0.82, 0.5, 0.9), "black"),
            ("line", (0.1, 0.5, 0.18, 0.5), "black"),
            ("line", (0.82, 0.5, 0.9, 0.5), "black"),
            ("line", (0.5, 0.5, 0.5, 0.2), "black"),
            ("line", (0.5, 0.5, 0.72, 0.6), "black"),
        ),
    ),
    Thing(
        "sports ball",
        "basketball",
        "darkorange",
        1.0,
        (
            ("ellipse", (0.0, 0.0, 1.0, 1.0), None),
            ("line", (0.5, 0.0, 0.5, 1.0), "black"),
            ("line", (0.0, 0.5, 1.0, 0.5), "black"),
            ("arc", (-0.45, 0.1, 0.35, 0.9, -60, 60), "black"),
            ("arc", (0.65, 0.1, 1.45, 0.9, 120, 240), "black"),
        ),
    ),
    Thing(
        "umbrella",
        "umbrella",
        "crimson",
        1.0,
        (
            ("line", (0.5, 0.0, 0.5, 0.9), "black"),
            ("arc", (0.5, 0.8, 0.7, 1.0, 0, 180), "black"),
            ("pie", (0.0, 0.06, 1.0, 1.0, 180, 360), None),
            ("pie", (0.33, 0.06, 0.67, 1.0, 180, 360), "pink"),
        ),
    ),
    Thing(
        "boat",
        "yawl",
        "saddlebrown",
        1.0,
        (
            ("line", (0.48, 0.0, 0.48, 0.8), "black"),
            ("polygon", (0.5, 0.02, 0.5, 0.7, 0.92, 0.7), "white"),
            ("polygon", (0.45, 0.12, 0.45, 0.7, 0.15, 0.7), "white"),
            ("polygon", (0.0, 0.76, 1.0, 0.76, 0.84, 1.0, 0.16, 1.0), None),
        ),
    ),
    Thing(
        "apple",
        "Granny Smith",
        "yellowgreen",
        0.95,
        (
            ("line", (0.5, 0.2, 0.58, 0.0), "saddlebrown"),
            ("ellipse", (0.0, 0.16, 0.62, 1.0), None),
            ("ellipse", (0.38, 0.16, 1.0, 1.0), None),
            ("ellipse", (0.56, 0.02, 0.84, 0.16), "forestgreen"),
        ),
    ),
    Thing(
        "orange",
        "orange",
        "orange",
        1.0,
        (("ellipse", (0.0, 0.0, 1.0, 1.0), None), ("ellipse", (0.46, 0.06, 0.56, 0.14), "darkgreen")),
    ),
    Thing(
        "banana",
        "banana",
        "gold",
        1.7,
        (
            (
                "polygon",
                (
                    0.0,
                    0.1,
                    0.07,
                    0.0,
                    0.2,
                    0.38,
                    0.45,
                    0.56,
                    0.72,
                    0.5,
                    0.94,
                    0.2,
                    1.0,
                    0.3,
                    0.88,
                    0.72,
                    0.62,
                    0.98,
                    0.34,
                    1.0,
                    0.12,
                    0.7,
                ),
                None,
            ),
            ("polygon", (0.0, 0.1, 0.07, 0.0, 0.1, 0.1, 0.03, 0.18), "saddlebrown"),
            ("polygon", (0.94, 0.2, 1.0, 0.3, 0.97, 0.38, 0.92, 0.26), "saddlebrown"),
        ),
    ),
    Thing(
        "pizza",
        "pizza, pizza pie",
        "goldenrod",
        1.0,
        (
            ("ellipse", (0.0, 0.0, 1.0, 1.0), "peru"),
            ("ellipse", (0.06, 0.06, 0.94, 0.94), None),
            ("ellipse", (0.2, 0.24, 0.36, 0.4), "firebrick"),
            ("ellipse", (0.56, 0.16, 0.72, 0.32), "firebrick"),
            ("ellipse", (0.64, 0.54, 0.8, 0.7), "firebrick"),
            ("ellipse", (0.3, 0.62, 0.46, 0.78), "firebrick"),
            ("line", (0.5, 0.02, 0.5, 0.98), "sienna"),
            ("line", (0.02, 0.5, 0.98, 0.5), "sienna"),
        ),
    ),
    Thing(
        "cup",
        "coffee mug",
        "royalblue",
        1.1,
        (
            ("ellipse", (0.6, 0.2, 1.0, 0.75), None),
            ("ellipse", (0.66, 0.32, 0.92, 0.63), "white"),
            ("box", (0.0, 0.08, 0.74, 1.0), None),
            ("ellipse", (0.0, 0.0, 0.74, 0.18), "white"),
            ("ellipse", (0.05, 0.03, 0.69, 0.16), "saddlebrown"),
        ),
    ),
    Thing(
        "tv",
        "television, television system",
        "black",
        1.5,
        (
            ("box", (0.0, 0.0, 1.0, 0.84), None),
            ("box", (0.05, 0.06, 0.95, 0.78), "steelblue"),
            ("polygon", (0.05, 0.78, 0.4, 0.35, 0.6, 0.6, 0.75, 0.45, 0.95, 0.78), "seagreen"),
            ("box", (0.45, 0.84, 0.55, 0.95), None),
            ("box", (0.28, 0.93, 0.72, 1.0), None),
        ),
    ),
    Thing(
        "potted plant",
        "pot, flowerpot",
        "chocolate",
        0.7,
        (
            ("line", (0.5, 0.7, 0.5, 0.2), "darkgreen"),
            ("ellipse", (0.0, 0.2, 0.48, 0.4), "green"),
            ("ellipse", (0.52, 0.2, 1.0, 0.4), "green"),
            ("ellipse", (0.34, 0.0, 0.66, 0.36), "green"),
            ("ellipse", (0.1, 0.38, 0.5, 0.54), "forestgreen"),
            ("ellipse", (0.5, 0.38, 0.9, 0.54), "forestgreen"),
            ("box", (0.14, 0.6, 0.86, 0.7), None),
            ("polygon", (0.2, 0.7, 0.8, 0.7, 0.7, 1.0, 0.3, 1.0), None),
        ),
    ),
    Thing(
        "vase",
        "vase",
        "teal",
        0.55,
        (
            ("polygon", (0.3, 0.0, 0.7, 0.0, 0.62, 0.2, 0.38, 0.2), None),
            ("ellipse", (0.0, 0.15, 1.0, 0.9), None),
            ("box", (0.25, 0.86, 0.75, 1.0), None),
            ("box", (0.06, 0.46, 0.94, 0.52), "white"),
        ),
    ),
    Thing(
        "bottle",
        "wine bottle",
        "darkgreen",
        0.3,
        (
            ("box", (0.36, 0.0, 0.64, 0.36), None),
            ("box", (0.34, 0.0, 0.66, 0.1), "firebrick"),
            ("pie", (0.0, 0.26, 1.0, 0.6, 180, 360), None),
            ("box", (0.0, 0.42, 1.0, 1.0), None),
            ("box", (0.0, 0.56, 1.0, 0.82), "ivory"),
        ),
    ),
    Thing(
        "laptop",
        "laptop, laptop computer",
        "silver",
        1.5,
        (
            ("box", (0.14, 0.0, 0.86, 0.68), "black"),
            ("box", (0.18, 0.05, 0.82, 0.62), "deepskyblue"),
            ("polygon", (0.14, 0.68, 0.86, 0.68, 1.0, 0.94, 0.0, 0.94), None),
            ("box", (0.0, 0.92, 1.0, 1.0), "gray"),
            ("polygon", (0.2, 0.72, 0.8, 0.72, 0.86, 0.84, 0.14, 0.84), "dimgray"),
        ),
    ),
    Thing(
        "tie",
        "Windsor tie",
        "navy",
        0.35,
        (
            ("polygon", (0.2, 0.0, 0.8, 0.0, 0.66, 0.16, 0.34, 0.16), None),
            ("polygon", (0.34, 0.16, 0.66, 0.16, 1.0, 0.82, 0.5, 1.0, 0.0, 0.82), None),
            ("polygon", (0.2, 0.45, 0.8, 0.53, 0.84, 0.6, 0.16, 0.52), "white"),
            ("polygon", (0.08, 0.66, 0.92, 0.76, 0.95, 0.83, 0.04, 0.73), "white"),
        ),
    ),
    Thing(
        "book",
        "book jacket, dust cover, dust jacket, dust wrapper",
        "maroon",
        0.75,
        (
            ("box", (0.06, 0.0, 1.0, 0.96), "ivory"),
            ("box", (0.0, 0.0, 0.94, 1.0), None),
            ("box", (0.0, 0.0, 0.08, 1.0), "black"),
            ("box", (0.2, 0.15, 0.8, 0.22), "gold"),
            ("box", (0.3, 0.3, 0.7, 0.35), "gold"),
            ("ellipse", (0.32, 0.5, 0.68, 0.78), "gold"),
        ),
    ),
)


def draw_scene(rng: Any, size: tuple[int, int], things: Sequence[Thing]) -> tuple[Any, list[Placed], str]:
    """Draw things side by side on a ground, none covering another.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chooses the ground, the order and the exact places.
    size : (int, int)
        Width and height in pixels.
    things : sequence of Thing
        What to draw, one to six of them.

    Returns
    -------
    (PIL.Image.Image, list of Placed, str)
        The picture in RGB, every thing with its box, and a caption that names them all.
    """
    from PIL import Image, ImageDraw

    place, upper, lower, horizon = GROUNDS[int(rng.integers(len(GROUNDS)))]
    picture = Image.new("RGB", size, upper)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, round(horizon * size[1]), *size), fill=lower)
    placed = [
        Placed(thing, _place(rng, thing, cell))
        for thing, cell in zip(things, _cells(rng, size, len(things)), strict=True)
    ]
    for one in placed:
        _draw(pen, one)
    return picture, placed, f"{_listed([one.thing for one in placed])} {place}"


def photograph(rng: Any, picture: Any, grain: float = 6.0, quality: int = 90) -> bytes:
    """Give a drawing the grain of a photograph and encode it as JPEG, so that it costs as much to decode as one.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the grain.
    picture : PIL.Image.Image
        The drawing, RGB.
    grain : float
        Standard deviation of the noise, in levels of 255.
    quality : int
        JPEG quality.

    Returns
    -------
    bytes
        A JPEG file.
    """
    import numpy as np
    from PIL import Image

    levels = np.asarray(picture, dtype=np.float32)
    noisy = levels + rng.normal(0.0, grain, levels.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=quality)
    return file.getvalue()


def _cells(rng: Any, size: tuple[int, int], count: int) -> list[tuple[float, float, float, float]]:
    """Divide the picture into a grid and return as many cells as there are things, in random order."""
    columns = {1: 1, 2: 2, 3: 3, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    width, height = size[0] / columns, size[1] / rows
    cells = [(column * width, row * height, width, height) for row in range(rows) for column in range(columns)]
    return [cells[index] for index in rng.permutation(len(cells))[:count]]


def _place(rng: Any, thing: Thing, cell: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Choose size and place of a thing inside its cell; x, y, width, height in whole pixels."""
    left, top, width, height = cell
    tall = min(height, width / thing.aspect) * rng.uniform(0.6, 0.9)
    wide = tall * thing.aspect
    x = left + rng.uniform(0.0, width - wide)
    y = top + rng.uniform(0.0, height - tall)
    return round(x), round(y), max(round(wide), 4), max(round(tall), 4)


def _draw(pen: Any, placed: Placed) -> None:
    x, y, width, height = placed.box
    line = max(round(0.03 * min(width, height)), 2)
    for kind, points, colour in placed.thing.shapes:
        fill = colour or placed.thing.colour
        if kind == "text":
            fill, _, words = fill.partition(":")
            pen.text(
                (x + points[0] * width, y + points[1] * height), words, fill, font_size=points[2] * height, anchor="mm"
            )
            continue
        ends = points[:4] if kind in ("arc", "pie") else points
        at = [(x + ends[i] * width, y + ends[i + 1] * height) for i in range(0, len(ends), 2)]
        if kind == "box":
            pen.rectangle(at, fill=fill)
        elif kind == "ellipse":
            pen.ellipse(at, fill=fill)
        elif kind == "polygon":
            pen.polygon(at, fill=fill)
        elif kind == "line":
            pen.line(at, fill=fill, width=line)
        elif kind == "arc":
            pen.arc(at, *points[4:], fill=fill, width=line)
        else:
            pen.pieslice(at, *points[4:], fill=fill)


def _listed(things: Sequence[Thing]) -> str:
    names = [f"{'an' if thing.coco[0] in 'aeiou' else 'a'} {thing.coco}" for thing in things]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
