"""Tasks on pictures: their base class, classification and captioning."""

from __future__ import annotations

import io
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.errors import DataError
from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Plain, Row, TaskSettings, all_finite, mean_quality, rouge_l, unscored
from energylab.tasks.drawing import Placed, draw_scene, drawable_objects, photograph
from energylab.tasks.media import Group, Inputs, MediaTask, grouped, read_processor
from energylab.tasks.tokenizers import local_tokenizer, read_tokenizer, repair_padding, usable_padding

#: Model types that do not accept the padding mask of their image processor.
WITHOUT_MASK = ("yolos",)

LARGE_BYTES = 1_000_000  # larger inputs of a batch are kept in a file


class PictureSettings(Plain):
    """Synthetic pictures."""

    sizes: tuple[tuple[int, int], ...] = Field(min_length=1)  # width and height in pixels; all equally frequent
    things: tuple[int, int] = (1, 6)  # fewest and most objects per picture, at most six


class ImageSettings(TaskSettings):
    """Settings of a task on pictures."""

    synthetic: PictureSettings  # sizes and contents of synthetic pictures


class ImageTask(MediaTask):
    """A task whose queries are pictures. Every picture keeps its own shape.

    Image processors use PIL and numpy, as in the published measurement.
    """

    Settings = ImageSettings
    medium = "image"
    head_class: str
    image_processor: Any = None

    @abstractmethod
    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        """Return the reference columns of a synthetic picture."""

    def auto_class(self, config: Any) -> str:
        return self.head_class

    def read_processor(self) -> Any:
        self.image_processor = image_processor(self.origin, self.config)
        return self.image_processor

    def decode(self, encoded: bytes) -> Any:
        from PIL import Image, ImageOps

        try:
            return ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"the picture ({len(encoded)} bytes) cannot be decoded: {error}") from error

    def synthesise(self, count: int, seed: int) -> list[Row]:
        import numpy as np

        rng = np.random.default_rng(seed)
        settings, stock = self.settings.synthetic, drawable_objects()
        sizes = [settings.sizes[index % len(settings.sizes)] for index in range(count)]
        rows = []
        for index in rng.permutation(count):
            number = int(rng.integers(settings.things[0], settings.things[1] + 1))
            chosen = [stock[drawable] for drawable in rng.choice(len(stock), size=number, replace=False)]
            picture, placed, caption = draw_scene(rng, sizes[index], chosen)
            rows.append({"image": photograph(rng, picture), **self.references_of(placed, caption)})
        return rows

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        from PIL import Image

        sizes = [Image.open(io.BytesIO(row["image"])).size for row in rows]
        return {"pixels": tuple(float(width * height) for width, height in sizes)}

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        pictures = [self.decode(row["image"]) for row in rows]
        features = [self.image_processor(images=picture, return_tensors="pt").data for picture in pictures]
        if self.config.model_type in WITHOUT_MASK:
            features = [{"pixel_values": one["pixel_values"]} for one in features]
        return grouped(features, [picture.size[::-1] for picture in pictures])

    def shelve(self, inputs: Inputs) -> Inputs:
        """Keep large pictures in a memory-mapped file, since a window may hold hundreds of 20 MB each."""
        import torch

        tensors = [group.tensors for group in inputs.groups]
        if sum(one.nbytes for part in tensors for one in part.values()) < LARGE_BYTES:
            return inputs
        folder = next(one for one in ("/var/tmp", tempfile.gettempdir()) if Path(one).is_dir())  # /tmp may be memory
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".pt") as file:
            torch.save(tensors, file.name)
            mapped = torch.load(file.name, mmap=True, weights_only=True)
        groups = zip(inputs.groups, mapped, strict=True)
        return Inputs(tuple(Group(group.positions, part) for group, part in groups), inputs.sizes)


def image_processor(origin: models.Origin, config: Any) -> Any:
    """Read a model's image processor (on PIL); for random weights, make it from the values of the architecture."""
    from transformers import AutoImageProcessor

    with models.quiet():
        return read_processor(origin, config, AutoImageProcessor.from_pretrained, "image_processor", backend="pil")


class ImageClassification(ImageTask):
    """Classify a picture in one forward pass; the class with the largest logit is the answer."""

    columns = ("image", "label")
    references = ("label",)
    head_class = "AutoModelForImageClassification"

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        return {"label": placed[0].drawable.imagenet}

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[str]:
        names = self.model.config.id2label
        return inputs.in_order([names[index] for index in logits.argmax(-1).tolist()] for logits in outputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of pictures with the right class.

        A class is right if it shares a name with the reference, since ImageNet's classes are lists of synonyms.
        """
        meaningless = self.no_quality("accuracy", rows)
        if meaningless is not None:
            return (meaningless,)
        known = set().union(*(_names(label) for label in self.model.config.id2label.values()))
        references = [_names(row["label"]) for row in rows]
        unknown = sum(not (reference & known) for reference in references)
        if unknown == len(rows):
            return (unscored("accuracy", rows, "none of the data's labels is a class of the model"),)
        right = [float(bool(_names(a) & names)) for a, names in zip(answers, references, strict=True)]
        return mean_quality("accuracy", right, labels_unknown_to_the_model=unknown)


class ImageCaptioningSettings(ImageSettings):
    """Settings of image captioning."""

    new_tokens: int = Field(ge=1)  # tokens generated for a query


class ImageCaptioning(ImageTask):
    """A decoder describes the picture, without a text prompt."""

    Settings = ImageCaptioningSettings
    phases = ("preprocess", "prefill", "generate")
    columns = ("image", "caption")
    references = ("caption",)
    head_class = "AutoModelForImageTextToText"

    def read_processor(self) -> Any:
        super().read_processor()
        if self.origin.architecture is None:
            return read_tokenizer(self.origin, self.config)
        return local_tokenizer(getattr(self.config, "text_config", self.config), self.origin.architecture.tokenizer)

    def ready(self) -> dict[str, Any]:
        """Find the length of the prompt in an output, by a grey picture."""
        from PIL import Image

        repair_padding(self.model.generation_config, usable_padding(self.config.get_text_config(), self.processor))
        grey = io.BytesIO()
        Image.new("RGB", (64, 64), "gray").save(grey, format="PNG")
        self.measure_prompt(grey.getvalue())
        return {"new_tokens": self.new_tokens}

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        return {"caption": caption}

    def finite(self, inputs: Inputs, outputs: Any) -> bool:
        first = {**self.generation("prefill"), "output_logits": True, "return_dict_in_generate": True}
        return all(all_finite(self.ask(group.tensors, first).logits) for group in inputs.groups)

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[str]:
        return self.free_texts(inputs, outputs)

    def right_answers(self, rows: Sequence[Row]) -> list[str]:
        return [_captions(row)[0] for row in rows]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean ROUGE-L F1 against the caption, or the most similar of several.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        meaningless = self.no_quality("rouge_l", rows)
        if meaningless is not None:
            return (meaningless,)
        values = [score.fmeasure for score in rouge_l([_captions(row) for row in rows], answers)]
        return mean_quality("rouge_l", values, answers="free to stop, at most new_tokens")


def _captions(row: Row) -> list[str]:
    return [row["caption"]] if isinstance(row["caption"], str) else list(row["caption"])


def _names(label: Any) -> set[str]:
    return {name.strip().casefold().replace("_", " ") for name in str(label).split(",")}
