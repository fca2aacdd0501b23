"""Tasks on pictures: classification, detection and captioning."""

from __future__ import annotations

import contextlib
import io
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from energylab.errors import DataError
from energylab.record import DataFacts, Quality
from energylab.tasks import models
from energylab.tasks.base import Row, all_finite, mean_quality, unscored
from energylab.tasks.drawing import Placed, draw_scene, photograph, things
from energylab.tasks.media import Group, Inputs, MediaTask, grouped, read_processor
from energylab.tasks.settings import Plain, TaskSettings
from energylab.tasks.tokenizers import local_tokenizer, repair_padding, usable_padding

#: Model types that have no use for the mask of padding their image processor makes.
WITHOUT_MASK = ("yolos",)

LARGE_BYTES = 1_000_000  # of a batch's inputs, from which on they are kept in a file
MOST_DETECTIONS = 100  # a picture, as COCO's evaluation counts them


class PictureSettings(Plain):
    """Synthetic pictures."""

    sizes: tuple[tuple[int, int], ...] = Field(min_length=1)  # width and height in pixels; all equally frequent
    things: tuple[int, int] = (1, 6)  # fewest and most things in one picture, at most six


class ImageSettings(TaskSettings):
    """Settings of a task on pictures."""

    synthetic: PictureSettings  # sizes and contents of synthetic pictures


class ImageTask(MediaTask):
    """A task whose queries are pictures. Every picture goes to the model in its own shape.

    Image processors run on PIL and numpy, as they did when the published figures were measured.
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
        settings, stock = self.settings.synthetic, things()
        sizes = [settings.sizes[index % len(settings.sizes)] for index in range(count)]
        rows = []
        for index in rng.permutation(count):
            number = int(rng.integers(settings.things[0], settings.things[1] + 1))
            chosen = [stock[thing] for thing in rng.choice(len(stock), size=number, replace=False)]
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
        """Keep large pictures in a file that is mapped into memory: a window may hold hundreds, of 20 MB each."""
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
    """Read a model's image processor on PIL; for a random model make it with the values of its architecture."""
    from transformers import AutoImageProcessor

    with models.quiet():
        return read_processor(origin, config, AutoImageProcessor.from_pretrained, "image_processor", backend="pil")


class ImageClassification(ImageTask):
    """A picture goes through the network once; the class with the largest logit is the answer."""

    columns = ("image", "label")
    references = ("label",)
    head_class = "AutoModelForImageClassification"

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        return {"label": placed[0].thing.imagenet}

    def answers(self, inputs: Inputs, outputs: list[Any]) -> list[str]:
        names = self.model.config.id2label
        return inputs.in_order([names[index] for index in logits.argmax(-1).tolist()] for logits in outputs)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Share of pictures whose class is right.

        A class is right when it shares a name with the reference: ImageNet's classes are lists of synonyms.
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


class DetectionSettings(ImageSettings):
    """Settings of object detection."""

    pad_to_largest: bool = False  # whether every picture is padded to the set's largest


class ObjectDetection(ImageTask):
    """A picture goes through the detector once; every query of the decoder is a box, a class and a score."""

    Settings = DetectionSettings
    columns = ("image", "objects")
    references = ("objects",)
    head_class = "AutoModelForObjectDetection"

    rows: Sequence[Row] = ()  # of the whole set, where the largest decides the shape of all

    def references_of(self, placed: Sequence[Placed], caption: str) -> Row:
        return {"objects": [{"label": one.thing.coco, "box": list(one.box)} for one in placed]}

    def check_row(self, row: Row) -> str | None:
        problem = super().check_row(row)
        if problem or row.get("objects") is None:
            return problem
        for one in row["objects"]:
            if not isinstance(one, dict) or "label" not in one or len(one.get("box", ())) != 4:
                return f"objects must be a list of {{label, box: [x, y, width, height]}}, one is {one!r}"
        return None

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        rows, facts = super().load_rows()
        self.rows = rows if self.settings.pad_to_largest else []
        return rows, facts

    @cached_property
    def largest(self) -> tuple[int, int]:
        """Height and width that hold every picture of the set, as the image processor makes them."""
        prepared = (super(ObjectDetection, self).prepare([row]) for row in self.rows)
        shapes = [inputs.groups[0].tensors["pixel_values"].shape for inputs in prepared]
        return max(shape[-2] for shape in shapes), max(shape[-1] for shape in shapes)

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        inputs = super().prepare(rows)
        return padded(inputs, *self.largest) if self.rows else inputs

    def keep(self, outputs: Any) -> dict[str, Any]:
        return {"logits": outputs.logits, "pred_boxes": outputs.pred_boxes}

    def answers(self, inputs: Inputs, outputs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        found = []
        for group, output in zip(inputs.groups, outputs, strict=True):
            sizes = [inputs.sizes[position] for position in group.positions]
            boxes = self.image_processor.post_process_object_detection(
                SimpleNamespace(**output), threshold=0.0, target_sizes=sizes
            )
            found.append([_best(self.model.config.id2label, one) for one in boxes])
        return inputs.in_order(found)

    def right_answers(self, rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
        """Return every object as a detection that is sure."""
        return [[{**one, "score": 1.0} for one in row["objects"]] for row in rows]

    def score(self, answers: Sequence[list[dict[str, Any]]], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean average precision over classes and over overlaps of 0.50 to 0.95.

        References
        ----------
        T.-Y. Lin et al., "Microsoft COCO" (2014); the evaluation is that of pycocotools.
        """
        meaningless = self.no_quality("mAP", rows)
        if meaningless is not None:
            return (meaningless,)
        values = mean_average_precision(answers, [row["objects"] for row in rows])
        if values is None:
            return (unscored("mAP", rows, "the references hold no object"),)
        return (Quality(metric="mAP", value=values[0], queries=len(rows), details={"AP50": values[1]}),)


def padded(inputs: Inputs, height: int, width: int) -> Inputs:
    import torch

    def larger(tensor: Any) -> Any:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))

    alike = [{name: larger(tensor) for name, tensor in group.tensors.items()} for group in inputs.groups]
    positions = tuple(position for group in inputs.groups for position in group.positions)
    return Inputs(
        (Group(positions, {name: torch.cat([one[name] for one in alike]) for name in alike[0]}),), inputs.sizes
    )


class ImageCaptioningSettings(ImageSettings):
    """Settings of image captioning."""

    new_tokens: int = Field(ge=1)  # tokens generated for a query


class ImageCaptioning(ImageTask):
    """A decoder describes the picture, given nothing but the picture."""

    Settings = ImageCaptioningSettings
    phases = ("preprocess", "prefill", "generate")
    columns = ("image", "caption")
    references = ("caption",)
    head_class = "AutoModelForImageTextToText"

    def read_processor(self) -> Any:
        from transformers import AutoTokenizer

        super().read_processor()
        if self.origin.architecture is None:
            return self.origin.read(AutoTokenizer.from_pretrained, "tokenizer")
        return local_tokenizer(getattr(self.config, "text_config", self.config), self.origin.architecture.tokenizer)

    def ready(self) -> dict[str, Any]:
        """See with a grey picture how many given tokens an output begins with."""
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
        """Mean ROUGE-L F1 against the caption, or the nearest of several.

        References
        ----------
        C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
        """
        meaningless = self.no_quality("rouge_l", rows)
        if meaningless is not None:
            return (meaningless,)
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        pairs = [(_captions(row), answer) for answer, row in zip(answers, rows, strict=True)]
        values = [scorer.score_multi(captions, answer)["rougeL"].fmeasure for captions, answer in pairs]
        return mean_quality("rouge_l", values, answers="free to stop, at most new_tokens")


def _captions(row: Row) -> list[str]:
    return [row["caption"]] if isinstance(row["caption"], str) else list(row["caption"])


def _names(label: Any) -> set[str]:
    return {name.strip().casefold().replace("_", " ") for name in str(label).split(",")}


def mean_average_precision(
    answers: Sequence[Sequence[dict[str, Any]]], references: Sequence[Sequence[dict[str, Any]]]
) -> tuple[float, float] | None:
    """Score detections as COCO does; labels without a reference do not count. None without any reference."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for objects in references for one in objects})
    if not labels:
        return None
    numbers = {label: number for number, label in enumerate(labels, start=1)}

    def listed(pictures: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
        known = [(image, one) for image, objects in enumerate(pictures) for one in objects if one["label"] in numbers]
        return [
            {"image_id": n, "category_id": numbers[one["label"]], "bbox": list(one["box"]), **one} for n, one in known
        ]

    found = listed(answers)
    if not found:
        return 0.0, 0.0
    truth = [
        {"id": number, "iscrowd": 0, "area": one["box"][2] * one["box"][3], **one}
        for number, one in enumerate(listed(references), start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its tables
        coco = COCO()
        images, categories = [{"id": n} for n in range(len(references))], [{"id": n} for n in numbers.values()]
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": truth}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _best(names: dict[int, str], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn one picture's tensors into plain detections, best first."""
    detections = []
    for index in found["scores"].argsort(descending=True)[:MOST_DETECTIONS].tolist():
        left, top, right, bottom = found["boxes"][index].tolist()
        score, box = float(found["scores"][index]), [left, top, right - left, bottom - top]
        detections.append({"label": names[int(found["labels"][index])], "score": score, "box": box})
    return detections
