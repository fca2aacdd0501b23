"""Image generation by diffusion pipelines, built with random weights or loaded from a folder or the hub."""

from __future__ import annotations

import importlib
import inspect
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.errors import ModelError, TaskError
from energylab.record import Quality
from energylab.tasks import hub, models
from energylab.tasks.base import Row, Tokens, unscored
from energylab.tasks.machine import Machine, refuse_options, refuse_size
from energylab.tasks.text import TextSettings, TextTask
from energylab.tasks.tokenizers import local_tokenizer


class ImageGenerationSettings(TextSettings):
    """Settings of image generation."""

    diffusion_steps: int = Field(ge=1)  # denoising steps of one picture


@dataclass(frozen=True)
class Drawn:
    """What one call of the pipeline gave."""

    images: list[Any]  # one a prompt
    evaluations: int  # how often the denoiser ran


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
        return {**super().resolved_settings(), "diffusion_steps": self.diffusion_steps}

    # ---- loading

    def find(self, request: models.ModelRequest, machine: Machine | None = None) -> models.Prepared:
        return prepare_pipeline(request, machine)

    def build(self, prepared: models.Prepared) -> models.Loaded:
        return load_pipeline(prepared)

    def read_processor(self) -> None:
        """Read nothing: the pipeline has its own tokenizers."""

    def fit(self) -> dict[str, Any]:
        """Settle nothing: one phase, and the limits are the pipeline's."""
        return {}

    def ready(self) -> dict[str, Any]:
        """Count how often the denoiser runs, and silence what the pipeline would print inside a window."""
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
        """Return the prompts: the pipeline does the rest itself, inside ``call``."""
        return self.texts(rows)

    def prepare_all(self, rows: Sequence[Row]) -> list[Row]:
        """Drop empty prompts; the published runner preprocesses none."""
        return [row for row in rows if not self.is_empty(row)]

    def fetch(self, table: list[Row], queries: Sequence[int]) -> list[str]:
        return self.prepare([table[query] for query in queries])

    def call(self, phase: str, inputs: list[str]) -> Drawn:
        return self.draw(inputs, self.diffusion_steps)

    def run_short(self, inputs: list[str]) -> None:
        """Draw in two steps, for the published protocol's warm-up."""
        self.draw(inputs, steps=2)

    def draw(self, prompts: list[str], steps: int) -> Drawn:
        """Draw one picture a prompt in so many steps."""
        import torch

        before = self.evaluations
        noise = [torch.Generator("cpu").manual_seed(_seed(prompt, self.parameters.seed)) for prompt in prompts]
        images = self.model(prompts, num_inference_steps=steps, generator=noise).images
        return Drawn(images, self.evaluations - before)

    # ---- after the windows

    def finite(self, inputs: list[str], outputs: Drawn) -> bool:
        """Whether pictures were made of finite numbers: the library turns others into black ones."""
        return all(image.getextrema() != ((0, 0),) * len(image.getbands()) for image in outputs.images)

    def count(self, phase: str, inputs: list[str], outputs: Drawn) -> Tokens:
        """Check that every prompt has a picture, and that the denoiser ran once a step, where outputs were kept."""
        if outputs is None:
            return Tokens()
        scheduler = self.model.scheduler
        if scheduler.num_inference_steps != self.diffusion_steps or outputs.evaluations != len(scheduler.timesteps):
            raise TaskError(
                f"the denoiser ran {outputs.evaluations} times for {scheduler.num_inference_steps} steps "
                f"({len(scheduler.timesteps)} times to visit), {self.diffusion_steps} steps were asked for"
            )
        if len(outputs.images) != len(inputs):
            raise TaskError(f"{len(inputs)} prompts gave {len(outputs.images)} pictures")
        return Tokens()

    def answers(self, inputs: list[str], outputs: Drawn) -> list[Any]:
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
            return (unscored(metric, rows, "no CLIP model was given to score with; name one by quality_model"),)
        value = clip_score(self.quality_model, answers, self.texts(rows))
        details = {"quality_model": self.quality_model}
        return (Quality(metric=metric, value=value, queries=len(rows), details=details),)


def clip_score(model: str, images: Sequence[Any], prompts: Sequence[str]) -> float:
    """Return the mean of 100 times the cosine, at least 0, between pictures and their prompts.

    `model` is a folder or hub id.
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


# ---- pipelines


@dataclass(frozen=True)
class Component:
    """One part of a pipeline: its class of diffusers or transformers, and the values of its configuration."""

    kind: type
    values: dict[str, Any]

    @property
    def is_network(self) -> bool:
        """Whether it has weights."""
        import torch

        return issubclass(self.kind, torch.nn.Module)

    def build(self) -> Any:
        """Create it, on torch's current default device and in its default precision."""
        if hasattr(self.kind, "config_class") and self.kind.config_class is not None:  # of transformers
            return self.kind(self.kind.config_class.from_dict(dict(self.values)))
        return self.kind.from_config(dict(self.values))


def prepare_pipeline(request: models.ModelRequest, machine: Machine | None = None) -> models.Prepared:
    """Find a text-to-image pipeline and refuse, before any weight is read, what cannot be done with it."""
    machine = machine or Machine.detect(request.device)
    _refuse(request)
    refuse_options(machine, request.dtype, None, None, request.compile, request.gpus)
    origin = models.locate(request)
    with models.quiet(), _quiet_diffusers():
        components = read_components(origin)
        count = count_parameters(origin, components)
    refuse_size(machine, origin.name, count, request.dtype, request.gpus)
    return models.Prepared(request, origin, components, None, count, {})


def load_pipeline(prepared: models.Prepared) -> models.Loaded:
    """Load a prepared pipeline onto its device."""
    request, origin = prepared.request, prepared.origin
    with models.quiet(), _quiet_diffusers():
        random = origin.folder is None
        pipeline = _random(request, origin, prepared.config) if random else _stored(request, origin)
    pipeline.set_progress_bar_config(disable=True)
    if request.compile:
        denoiser(pipeline).compile()
    facts = models.describe(request, origin, _Networks(pipeline), prepared.count)
    facts = facts.model_copy(update={"architecture": type(pipeline).__name__})
    return models.Loaded(pipeline, pipeline.config, origin, facts)


def denoiser(pipeline: Any) -> Any:
    """Return the network that is run once a step: a U-Net or a transformer."""
    for name in ("unet", "transformer"):
        if getattr(pipeline, name, None) is not None:
            return getattr(pipeline, name)
    raise ModelError(f"pipeline {type(pipeline).__name__} has neither a U-Net nor a transformer; it cannot be measured")


def read_components(origin: models.Origin) -> dict[str, Component]:
    """Return the parts of a pipeline by name, from its architecture or from the configuration files of a folder."""
    if origin.architecture is not None:
        parts = origin.architecture.options.get("components")
        if not parts:
            raise ModelError(f"architecture {origin.name!r} is no diffusion pipeline; choose one with components")
        return {name: _component(origin, None, **values) for name, values in parts.items()}
    file = origin.folder / "model_index.json"
    if not file.is_file():
        raise ModelError(f"model {origin.name!r} has no model_index.json: it is no diffusion pipeline")
    listed = json.loads(file.read_text(encoding="utf-8"))
    found = {}
    for name, value in listed.items():
        config = origin.folder / name / "config.json"
        if isinstance(value, list) and value[0] is not None and config.is_file():
            found[name] = _component(origin, value[0], value[1], **json.loads(config.read_text(encoding="utf-8")))
    return found


def count_parameters(origin: models.Origin, components: dict[str, Component]) -> int:
    """Count the weights of every part on the meta device."""
    import torch

    total = 0
    for name, component in components.items():
        if component.is_network:
            try:
                with torch.device("meta"):
                    total += sum(weight.numel() for weight in component.build().parameters())
            except models.LIBRARY_ERRORS as error:
                raise ModelError(f"model {origin.name!r}: its {name} cannot be built: {error}") from error
    return total


class _Networks:
    """The weights of a pipeline as one, for its description."""

    def __init__(self, pipeline: Any) -> None:
        import torch

        self._parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        self.dtype = denoiser(pipeline).dtype

    def parameters(self) -> Iterator[Any]:
        """Yield every weight."""
        for part in self._parts:
            yield from part.parameters()


def _refuse(request: models.ModelRequest) -> None:
    """Refuse what diffusion pipelines are not offered here."""
    problems = []
    if request.quantisation:
        problems.append(f"quantisation={request.quantisation!r}")
    if request.attention:
        problems.append(f"attention={request.attention!r}")
    if request.gpus > 1:
        problems.append(f"gpus={request.gpus}")
    if problems:
        raise ModelError(f"a diffusion pipeline does not take {', '.join(problems)}; leave it at its default")


def _component(origin: models.Origin, library: str | None, kind: str | None = None, **values: Any) -> Component:
    """Find a part's class: in diffusers, in transformers, or in the module of one pipeline."""
    name = kind or values.pop("class")
    places = ["diffusers", "transformers"] if library is None else [library, f"diffusers.pipelines.{library}"]
    for place in places:
        try:
            return Component(getattr(importlib.import_module(place), name), values)
        except (ImportError, AttributeError):
            continue
    raise ModelError(f"model {origin.name!r}: no class {name!r} in {' or '.join(places)}")


def _random(request: models.ModelRequest, origin: models.Origin, components: dict[str, Component]) -> Any:
    """Build every network straight on the device in the task's precision, and stand-ins for the tokenizers."""
    import diffusers
    import torch

    parts: dict[str, Any] = {}
    devices = [request.device] if request.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.device(request.device), _precision(request.dtype):
        torch.manual_seed(request.seed)
        for name, component in components.items():
            if component.is_network:
                parts[name] = component.build().eval().requires_grad_(False)
    for name, component in components.items():
        if not component.is_network:
            parts[name] = component.build()
    for name in [name for name in parts if name.startswith("text_encoder")]:
        config = parts[name].config
        kind = "t5" if config.model_type == "t5" else "roberta"
        parts[name.replace("text_encoder", "tokenizer")] = local_tokenizer(config, kind)
    pipeline = getattr(diffusers, origin.architecture.options["pipeline"])
    taken = inspect.signature(pipeline.__init__).parameters
    absent = {name: None for name, value in taken.items() if name != "self" and value.default is value.empty}
    plain = {"requires_safety_checker": False} if "requires_safety_checker" in taken else {}
    return pipeline(**{**absent, **parts, **plain})


def _stored(request: models.ModelRequest, origin: models.Origin) -> Any:
    """Load a pipeline from a folder, or fetch exactly the files it needs from the hub first."""
    import torch
    from diffusers import AutoPipelineForText2Image, DiffusionPipeline

    trusted = origin.trust_remote_code
    if origin.repo is not None:
        with hub.explained(origin.repo, origin.commit, "model", ModelError):
            fetched = Path(DiffusionPipeline.download(origin.repo, revision=origin.commit, trust_remote_code=trusted))
        origin = models.Origin(origin.name, fetched, trust_remote_code=trusted)
    loader = AutoPipelineForText2Image.from_pretrained
    return origin.read(loader, "pipeline", dtype=getattr(torch, request.dtype)).to(request.device)


@contextmanager
def _precision(dtype: str) -> Iterator[None]:
    """Make new weights in one precision inside the block."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Keep diffusers' notices and bars out of a notebook while a pipeline is loaded."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
