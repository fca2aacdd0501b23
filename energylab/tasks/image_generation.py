"""Image generation: draw what a prompt says, by latent diffusion."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.errors import ModelError, TaskError
from energylab.record import Quality
from energylab.tasks import diffusion, hub, models
from energylab.tasks.base import Row, Tokens
from energylab.tasks.machine import Machine
from energylab.tasks.text import TextSettings, TextTask


class ImageGenerationSettings(TextSettings):
    """Settings of image generation."""

    diffusion_steps: int = Field(ge=1)  # denoising steps of one picture


@dataclass(frozen=True)
class Drawn:
    """What one call of the pipeline gave.

    Attributes
    ----------
    images : list of PIL.Image.Image
        One a prompt.
    evaluations : int
        How often the denoiser ran.
    """

    images: list[Any]
    evaluations: int


class ImageGeneration(TextTask):
    """A pipeline turns each prompt into one picture, with the size and the guidance of its own defaults.

    The only phase is ``call``, as published: the pipeline tokenises inside it. The starting noise of a prompt comes
    from a seed of its own, so that a picture does not depend on what else is in its batch.
    """

    Settings = ImageGenerationSettings
    phases = ("call",)
    columns = ("prompt",)

    evaluations: int = 0

    @property
    def diffusion_steps(self) -> int:
        """Denoising steps a picture: the parameter, or the task's published value."""
        return self.parameters.diffusion_steps or self.settings.diffusion_steps

    @property
    def quality_model(self) -> str | None:
        """The CLIP model that scores pictures, where one is given."""
        return self.parameters.quality_model

    def resolved_settings(self) -> dict[str, Any]:
        """Return every setting that takes part, as used."""
        return {**super().resolved_settings(), "diffusion_steps": self.diffusion_steps}

    # ---- loading

    def auto_class(self, config: Any) -> str:
        """Pipelines are no transformers models; see `build`."""
        raise TaskError("image generation loads pipelines, not single models")

    def refuse(self, request: models.ModelRequest, machine: Machine) -> int:
        """Refuse a pipeline before it is loaded, or count it."""
        return diffusion.prepare_pipeline(request, machine)[2]

    def build(self, request: models.ModelRequest) -> models.Loaded:
        """Load a diffusion pipeline."""
        return diffusion.load_pipeline(request)

    def load_processor(self, loaded: models.Loaded) -> Any:
        """Return the tokenizer of the pipeline's first text encoder."""
        return loaded.model.tokenizer

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Count how often the denoiser runs, and silence what the pipeline would print inside a window."""
        import torch
        from diffusers.utils import logging

        logging.set_verbosity_error()
        longest = loaded.model.tokenizer.model_max_length
        self.max_input_tokens = longest if longest < 1_000_000 else None  # longer prompts are cut off
        diffusion.denoiser(loaded.model).register_forward_pre_hook(torch.compiler.disable(self._tick))
        return {"scheduler": type(loaded.model.scheduler).__name__, "diffusion_steps": self.diffusion_steps}

    def _tick(self, *_: Any) -> None:
        self.evaluations += 1

    # ---- phases

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return the prompts."""
        return [row["prompt"] for row in rows]

    def preprocess(self, rows: Sequence[Row]) -> list[str]:
        """Return the prompts: the pipeline does the rest itself, inside ``call``."""
        return self.texts(rows)

    def call(self, inputs: list[str]) -> Drawn:
        """Draw one picture a prompt."""
        import torch

        before = self.evaluations
        noise = [torch.Generator("cpu").manual_seed(_seed(prompt, self.parameters.seed)) for prompt in inputs]
        images = self.model(inputs, num_inference_steps=self.diffusion_steps, generator=noise).images
        return Drawn(images, self.evaluations - before)

    def count(self, phase: str, inputs: list[str], outputs: Drawn) -> Tokens:
        """Check that every prompt has a picture, and that the denoiser ran once a step.

        Raises
        ------
        TaskError
            If a picture is missing, or the pipeline took another number of steps.
        """
        scheduler = self.model.scheduler
        if scheduler.num_inference_steps != self.diffusion_steps or outputs.evaluations != len(scheduler.timesteps):
            raise TaskError(
                f"the denoiser ran {outputs.evaluations} times for {scheduler.num_inference_steps} steps "
                f"({len(scheduler.timesteps)} times to visit), {self.diffusion_steps} steps were asked for"
            )
        if len(outputs.images) != len(inputs):
            raise TaskError(f"{len(inputs)} prompts gave {len(outputs.images)} pictures")
        return Tokens()

    # ---- answers

    def answers(self, inputs: list[str], outputs: Drawn) -> list[Any]:
        """Return the pictures."""
        return outputs.images

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean CLIP score, where a CLIP model is given by the parameter ``quality_model``.

        References
        ----------
        J. Hessel et al., "CLIPScore" (2021), without its factor of 2.5: 100 times the cosine, at least 0.
        """
        metric = "clip_score"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        if self.quality_model is None:
            why = "no CLIP model was given to score with; name one by quality_model"
            return (Quality(metric=metric, value=None, queries=len(rows), meaningless=why),)
        value = clip_score(self.quality_model, answers, self.texts(rows))
        details = {"quality_model": self.quality_model}
        return (Quality(metric=metric, value=value, queries=len(rows), details=details),)


def clip_score(model: str, images: Sequence[Any], prompts: Sequence[str]) -> float:
    """Return the mean of 100 times the cosine, at least 0, between pictures and their prompts.

    Parameters
    ----------
    model : str
        Folder or hub id of a CLIP model.
    images : sequence of PIL.Image.Image
        The pictures.
    prompts : sequence of str
        Their prompts.

    Raises
    ------
    ModelError
        If the model cannot be had, or is no CLIP model.
    """
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder = Path(model).expanduser()
    if not folder.is_dir():
        commit = hub.resolve_commit(model, None, "model", ModelError)
        patterns = (*models.SMALL_FILES, "*.safetensors")
        folder = hub.snapshot(model, commit, "model", patterns, ModelError)
    origin = models.Origin(model, folder)
    with models.quiet():
        clip = origin.read(CLIPModel.from_pretrained, "CLIP weights").eval()
        look = origin.read(AutoImageProcessor.from_pretrained, "image processor", backend="pil")
        read = origin.read(AutoTokenizer.from_pretrained, "tokenizer")
    values = []
    for image, prompt in zip(images, prompts, strict=True):
        words = read([prompt], truncation=True, max_length=clip.config.text_config.max_position_embeddings)
        with torch.inference_mode():
            pixels = look(images=image, return_tensors="pt")["pixel_values"]
            output = clip(pixel_values=pixels, **{name: torch.tensor(ids) for name, ids in words.items()})
        values.append(max(float((output.image_embeds * output.text_embeds).sum()), 0.0))
    return 100.0 * sum(values) / len(values)


def _seed(prompt: str, seed: int) -> int:
    """Return the seed of a prompt's starting noise: its own, the same in every batch."""
    return (zlib.crc32(prompt.encode()) + seed) % 2**31
