"""Pictures with known content."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from energylab.tasks.drawing import Stock, draw_scene, photograph

THINGS = Stock.load().things
SAMPLES = Path(__file__).parents[2] / "params" / "samples"


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.coco)
def test_the_box_is_the_extent_of_what_was_drawn(thing):
    picture, placed, _ = draw_scene(np.random.default_rng(0), (640, 480), [thing])
    empty, _, _ = draw_scene(np.random.default_rng(0), (640, 480), [thing.model_copy(update={"shapes": ()})])
    changed = np.argwhere((np.asarray(picture) != np.asarray(empty)).any(axis=-1))
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0)
    x, y, width, height = placed[0].box
    extent = np.array([left, top, right, bottom])
    assert np.abs(extent - [x, y, x + width, y + height]).max() <= 0.06 * max(width, height)


def test_things_do_not_overlap_and_stay_inside():
    rng = np.random.default_rng(1)
    for count in range(1, 7):
        chosen = [THINGS[index] for index in rng.choice(len(THINGS), size=count, replace=False)]
        _, placed, caption = draw_scene(rng, (500, 375), chosen)
        owner = np.zeros((375, 500), dtype=int)
        for one in placed:
            x, y, width, height = one.box
            assert 0 <= x < x + width <= 501
            assert 0 <= y < y + height <= 376
            owner[y : y + height - 1, x : x + width - 1] += 1
            assert one.thing.coco in caption
        assert owner.max() == 1


def test_a_photograph_keeps_the_picture_and_costs_about_what_a_photograph_does():
    rng = np.random.default_rng(2)
    picture, _, _ = draw_scene(rng, (640, 480), list(THINGS[:3]))
    encoded = photograph(rng, picture)
    decoded = np.asarray(Image.open(io.BytesIO(encoded)), dtype=float)
    assert np.abs(decoded - np.asarray(picture, dtype=float)).mean() < 6
    assert 40_000 < len(encoded) < 250_000


@pytest.mark.parametrize("name", ["image_classification", "object_detection", "image_captioning"])
def test_the_sample_has_a_readable_picture_for_every_row(name):
    folder = SAMPLES / name
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) >= 16
    for row in rows:
        with Image.open(folder / row["image"]) as picture:
            width, height = picture.size
        for one in row.get("objects", []):
            x, y, w, h = one["box"]
            assert x + w <= width + 1
            assert y + h <= height + 1


def test_the_sample_is_what_the_code_draws():
    rng = np.random.default_rng(1)
    folder = SAMPLES / "image_classification"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for thing, row in zip(THINGS[:4], rows, strict=False):
        picture, _, _ = draw_scene(rng, (640, 480), [thing])
        kept = np.asarray(Image.open(folder / row["image"]).convert("RGB"), dtype=float)
        assert row["label"] == thing.imagenet
        assert np.abs(kept - np.asarray(picture, dtype=float)).mean() < 2
