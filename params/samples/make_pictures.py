"""Make the samples of pictures: draw them, store them as PNG beside their labels, boxes and captions.

Run once, by hand, when the drawings change: ``python make_pictures.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from energylab.tasks.drawing import draw_scene, drawable_objects

FOLDER = Path(__file__).parent
OBJECTS = drawable_objects()
SIZE = (640, 480)
SCENES = 20


def classification(rng: np.random.Generator) -> list[tuple[Any, dict[str, Any]]]:
    """One picture of each object, labelled with its ImageNet name."""
    drawn = []
    for drawable in OBJECTS:
        picture, _, _ = draw_scene(rng, SIZE, [drawable])
        drawn.append((picture, {"label": drawable.imagenet}))
    return drawn


def detection(rng: np.random.Generator) -> list[tuple[Any, dict[str, Any]]]:
    """Scenes of two to six objects with their COCO names and boxes (x, y, width, height in pixels)."""
    drawn = []
    for number in range(SCENES):
        chosen = rng.choice(len(OBJECTS), size=2 + number % 5, replace=False)
        picture, placed, _ = draw_scene(rng, SIZE, [OBJECTS[index] for index in chosen])
        objects = [{"label": one.drawable.coco, "box": list(one.box)} for one in placed]
        drawn.append((picture, {"objects": objects}))
    return drawn


def captioning(rng: np.random.Generator) -> list[tuple[Any, dict[str, Any]]]:
    """Scenes of one to three objects with a caption."""
    drawn = []
    for number in range(SCENES):
        chosen = rng.choice(len(OBJECTS), size=1 + number % 3, replace=False)
        picture, _, caption = draw_scene(rng, SIZE, [OBJECTS[index] for index in chosen])
        drawn.append((picture, {"caption": caption}))
    return drawn


def store(folder: Path, drawn: list[tuple[Any, dict[str, Any]]]) -> None:
    """Write pictures and rows.jsonl."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number, (picture, references) in enumerate(drawn, start=1):
        name = f"{number:02d}.png"
        picture.quantize(64).save(folder / name, optimize=True)
        rows.append({"image": name, **references})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Draw all three samples, each from its own seed."""
    store(FOLDER / "image_classification", classification(np.random.default_rng(1)))
    store(FOLDER / "object_detection", detection(np.random.default_rng(2)))
    store(FOLDER / "image_captioning", captioning(np.random.default_rng(3)))


if __name__ == "__main__":
    main()
