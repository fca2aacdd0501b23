"""What the tasks on pictures share: decoding, image processors, synthetic pictures of the published sizes."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from energylab.errors import DataError
from energylab.tasks import models
from energylab.tasks.base import Row, TaskSettings
from energylab.tasks.drawing import Placed, Stock, draw_scene, photograph
from energylab.tasks.family import ModelTask
from energylab.tasks.media import Inputs, grouped, open_file, read_processor


class PictureSettings(BaseModel):
    """Synthetic pictures.

    Attributes
    ----------
    sizes : tuple of (int, int)
        Width and height in pixels; every size is equally frequent.
    things : (int, int)
        Fewest and most things in one picture, at most six.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: tuple[tuple[int, int], ...] = Field(min_length=1)
    things: tuple[int, int] = (1, 6)


class ImageSettings(TaskSettings):
    """Settings of a task on pictures."""

    synthetic: PictureSettings  # sizes and contents of synthetic pictures


class ImageTask(ModelTask):
    """A task whose queries are pictures: a row holds the encoded file, and ``preprocess`` decodes it.

    Decoding is part of ``preprocess`` as published, where the data set decodes a picture when it is asked for.
    Image processors run on PIL and numpy, as they did when the published figures were measured.
    """

    Settings = ImageSettings
    image_processor: Any = None

    @abstractmethod
    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        """Return the reference columns of a synthetic picture."""

    def load_processor(self, loaded: models.Loaded) -> Any:
        """Load the image processor."""
        self.image_processor = load_image_processor(loaded)
        return self.image_processor

    def open_row(self, row: Row, folder: Path) -> Row:
        """Replace the name of a picture by what the file holds."""
        return open_file(row, "image", folder)

    def check_row(self, row: Row) -> str | None:
        """Refuse a picture that is missing or cannot be decoded."""
        if not isinstance(row["image"], bytes):
            return f"column 'image' holds {type(row['image']).__name__}, not an encoded picture"
        try:
            decode_image(row["image"])
        except DataError as error:
            return str(error)
        return None

    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Draw pictures of the published sizes, each equally often, with the grain of a photograph."""
        import numpy as np

        rng = np.random.default_rng(seed)
        settings, stock = self.settings.synthetic, Stock.load().things
        sizes = [settings.sizes[index % len(settings.sizes)] for index in range(count)]
        rows = []
        for index in rng.permutation(count):
            number = int(rng.integers(settings.things[0], settings.things[1] + 1))
            things = [stock[thing] for thing in rng.choice(len(stock), size=number, replace=False)]
            picture, placed, caption = draw_scene(rng, sizes[index], things)
            rows.append({"image": photograph(rng, picture), **self.references_of(placed, caption)})
        return rows

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Count the pixels of every picture."""
        from PIL import Image

        sizes = [Image.open(io.BytesIO(row["image"])).size for row in rows]
        return {"pixels": tuple(float(width * height) for width, height in sizes)}

    def preprocess(self, rows: Sequence[Row]) -> Inputs:
        """Decode every picture, and resize, crop and normalise it as the model's image processor says."""
        pictures = [decode_image(row["image"]) for row in rows]
        features = [self.image_processor(images=picture, return_tensors="pt") for picture in pictures]
        return grouped([feature.data for feature in features], [picture.size[::-1] for picture in pictures])


def decode_image(encoded: bytes) -> Any:
    """Decode a picture.

    Parameters
    ----------
    encoded : bytes
        A file of any format that PIL reads.

    Returns
    -------
    PIL.Image.Image
        In RGB.

    Raises
    ------
    DataError
        If it is no picture, or a broken one.
    """
    from PIL import Image

    try:
        return Image.open(io.BytesIO(encoded)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture ({len(encoded)} bytes) cannot be decoded: {error}") from error


def load_image_processor(loaded: models.Loaded) -> Any:
    """Return the model's image processor on PIL, or for a random model one with the values of its architecture."""
    from transformers import AutoImageProcessor

    architecture = loaded.origin.architecture
    values = architecture.options.get("image_processor", {}) if architecture is not None else {}
    loader = AutoImageProcessor.from_pretrained
    with models.quiet():
        return read_processor(loaded.origin, loaded.config, loader, "image processor", values, backend="pil")
