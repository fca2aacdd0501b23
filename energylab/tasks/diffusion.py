"""Image generation by diffusion pipelines."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import Field

from energylab.errors import ModelError, TaskError
from energylab.parameters import Parameters
from energylab.record import Quality
from energylab.tasks import hub, models
from energylab.tasks.base import Row, Tokens, unscored
from energylab.tasks.machine import Machine
from energylab.tasks.pipelines import denoiser, load_pipeline, prepare_pipeline
from energylab.tasks.text import TextSettings, TextTask


class ImageGenerationSettings(TextSettings):
    """Settings of image generation."""

    diffusion_steps: int = Field(ge=1)  # denoising steps of one picture


class Pictures(NamedTuple):
    """Result of one call of the pipeline."""

    images: list[Any]  # one per prompt
    evaluations: int  # how often the denoiser ran


class ImageGeneration(TextTask):
    """A pipeline generates one picture per prompt, with its default size and guidance.

    The only phase is ``call``, as published: the pipeline tokenises inside it. Each prompt has its own seed for the
    starting noise, so that a picture does not depend on its batch.
    """

    Settings = ImageGenerationSettings
    phases = ("call",)
    columns = ("prompt",)
    takes = ("quality_model",)

    evaluations: int = 0

    @property
    def diffusion_steps(self) -> int:
        return self.given("diffusion_steps")["diffusion_steps"]

    def resolved_settings(self) -> dict[str, Any]:
        return {**super().resolved_settings(), "diffusion_steps": self.diffusion_steps}

    # ---- loading

    def find(self, request: Parameters, machine: Machine | None = None) -> models.Prepared:
        return prepare_pipeline(request, self.settings.architectures, machine)

    def build(self) -> Any:
        return load_pipeline(self._prepared)

    def read_processor(self) -> None:
        """Return nothing: the pipeline has its own tokenizers."""

    def fit(self) -> dict[str, Any]:
        return {}

    def ready(self) -> dict[str, Any]:
        """Count how often the denoiser runs, and silence messages of the pipeline inside windows."""
        import torch
        from diffusers.utils import logging

        logging.set_verbosity_error()
        self.processor = self.model.tokenizer
        longest = self.processor.model_max_length
        self.max_input_tokens = longest if longest < 1_000_000 else None  # longer prompts are cut off
        denoiser(self.model).register_forward_pre_hook(torch.compiler.disable(self._tick))
        return {"scheduler": type(self.model.scheduler).__name__, "diffusion_steps": self.diffusion_steps}

    def _tick(self, *_: Any) -> None:
        self.evaluations += 1

    # ---- queries and phase

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return [row["prompt"] for row in rows]

    def prepare(self, rows: Sequence[Row]) -> list[str]:
        """Return the prompts; the pipeline prepares them inside ``call``."""
        return self.texts(rows)

    def prepare_all(self, rows: Sequence[Row]) -> list[Row]:
        """Drop empty prompts; the published runner does no other preprocessing."""
        return [row for row in rows if not self.is_empty(row)]

    def fetch(self, table: list[Row], queries: Sequence[int]) -> list[str]:
        return self.prepare([table[query] for query in queries])

    def call(self, phase: str, inputs: list[str]) -> Pictures:
        return self.draw(inputs, self.diffusion_steps)

    def run_short(self, inputs: list[str]) -> None:
        self.draw(inputs, steps=2)

    def draw(self, prompts: list[str], steps: int) -> Pictures:
        import torch

        before = self.evaluations
        noise = [torch.Generator("cpu").manual_seed(noise_seed(prompt, self.parameters.seed)) for prompt in prompts]
        images = self.model(prompts, num_inference_steps=steps, generator=noise).images
        return Pictures(images, self.evaluations - before)

    # ---- after the windows

    def finite(self, inputs: list[str], outputs: Pictures) -> bool:
        """Whether the outputs were finite; the library renders others as black pictures."""
        return all(image.getextrema() != ((0, 0),) * len(image.getbands()) for image in outputs.images)

    def count(self, phase: str, inputs: list[str], outputs: Pictures) -> Tokens:
        """Check that every prompt has a picture and that the denoiser ran once per step, if outputs were kept."""
        if outputs is None:
            return Tokens()
        scheduler = self.model.scheduler
        if scheduler.num_inference_steps != self.diffusion_steps or outputs.evaluations != len(scheduler.timesteps):
            raise TaskError(
                f"diffusion_steps={self.diffusion_steps}, but the denoiser ran {outputs.evaluations} times for "
                f"{scheduler.num_inference_steps} steps with {len(scheduler.timesteps)} time steps"
            )
        if len(outputs.images) != len(inputs):
            raise TaskError(f"the pipeline returned {len(outputs.images)} pictures for {len(inputs)} prompts")
        return Tokens()

    def answers(self, inputs: list[str], outputs: Pictures) -> list[Any]:
        return outputs.images

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean CLIP score, if the parameter ``quality_model`` names a CLIP model.

        References
        ----------
        J. Hessel et al., "CLIPScore" (2021), without its factor of 2.5: 100 times the cosine, at least 0.
        """
        metric, model = "clip_score", self.parameters.quality_model
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        if model is None:
            return (unscored(metric, rows, "no CLIP model is given to score with; name one by quality_model"),)
        value = clip_score(model, answers, self.texts(rows))
        return (Quality(metric=metric, value=value, queries=len(rows), details={"quality_model": model}),)


def clip_score(model: str, images: Sequence[Any], prompts: Sequence[str]) -> float:
    """Return the mean of 100 times the cosine, at least 0, of pictures and prompts; `model` is a folder or hub id."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder = Path(model).expanduser()
    if not folder.is_dir():
        commit = hub.resolve_commit(model, None, "model", ModelError)
        folder = hub.snapshot(model, commit, "model", (*models.SMALL_FILES, "*.safetensors"), ModelError)
    origin = models.Origin(model, folder)
    with models.quiet():
        clip = origin.read(CLIPModel.from_pretrained, "CLIP weights").eval()
        look = origin.read(AutoImageProcessor.from_pretrained, "image processor", backend="pil")
        read = origin.read(AutoTokenizer.from_pretrained, "tokenizer")
    values = []
    longest = clip.config.text_config.max_position_embeddings
    for image, prompt in zip(images, prompts, strict=True):
        words = read([prompt], truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            output = clip(pixel_values=look(images=image, return_tensors="pt")["pixel_values"], **words)
        values.append(max(float((output.image_embeds * output.text_embeds).sum()), 0.0))
    return 100.0 * fmean(values)


def noise_seed(prompt: str, seed: int) -> int:
    """Return the seed of a prompt's starting noise, which is the same in every batch."""
    return (zlib.crc32(prompt.encode()) + seed) % 2**31
