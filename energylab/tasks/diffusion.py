"""Image generation by diffusion pipelines, built with random weights or loaded from a folder or the hub."""

from __future__ import annotations

import importlib
import inspect
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import Field

from energylab.errors import ModelError, TaskError
from energylab.parameters import Parameters
from energylab.record import Quality
from energylab.tasks import hub, models
from energylab.tasks.base import Row, Tokens, unscored
from energylab.tasks.machine import Machine, refuse_options, refuse_size
from energylab.tasks.text import TextSettings, TextTask
from energylab.tasks.tokenizers import local_tokenizer


class ImageGenerationSettings(TextSettings):
    """Settings of image generation."""

    diffusion_steps: int = Field(ge=1)  # denoising steps of one picture


class Pictures(NamedTuple):
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
        """Read nothing: the pipeline has its own tokenizers."""

    def fit(self) -> dict[str, Any]:
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
        """Whether pictures were made of finite numbers: the library turns others into black ones."""
        return all(image.getextrema() != ((0, 0),) * len(image.getbands()) for image in outputs.images)

    def count(self, phase: str, inputs: list[str], outputs: Pictures) -> Tokens:
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

    def answers(self, inputs: list[str], outputs: Pictures) -> list[Any]:
        return outputs.images

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Mean CLIP score, where a CLIP model is given by the parameter ``quality_model``.

        References
        ----------
        J. Hessel et al., "CLIPScore" (2021), without its factor of 2.5: 100 times the cosine, at least 0.
        """
        metric, model = "clip_score", self.parameters.quality_model
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        if model is None:
            return (unscored(metric, rows, "no CLIP model was given to score with; name one by quality_model"),)
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
    """Return the seed of a prompt's starting noise: its own, the same in every batch."""
    return (zlib.crc32(prompt.encode()) + seed) % 2**31


# ---- pipelines


class Component(NamedTuple):
    """One part of a pipeline: its class of diffusers or transformers, and the values of its configuration."""

    kind: type
    values: dict[str, Any]

    @property
    def is_network(self) -> bool:
        import torch

        return issubclass(self.kind, torch.nn.Module)

    def build(self) -> Any:
        """Create it, on torch's current default device and in its default precision."""
        config = getattr(self.kind, "config_class", None)  # of transformers
        return self.kind(config.from_dict(dict(self.values))) if config else self.kind.from_config(dict(self.values))


def prepare_pipeline(
    request: Parameters, architectures: Path | None = None, machine: Machine | None = None
) -> models.Prepared:
    """Find a text-to-image pipeline and refuse, before any weight is read, what cannot be done with it."""
    machine = machine or Machine.detect(request.device)
    asked = {"quantisation": request.quantisation, "attention": request.attention, "gpus": request.gpus}
    other = [f"{name}={value!r}" for name, value in asked.items() if value not in (None, 1)]
    if other:
        raise ModelError(f"a diffusion pipeline does not take {', '.join(other)}; leave it at its default")
    refuse_options(machine, request)
    origin = models.locate(request, architectures)
    with _quiet():
        components = read_components(origin)
        count = count_parameters(origin, components)
    refuse_size(machine, origin.name, count, request.dtype, request.gpus)
    return models.Prepared(request, origin, components, count)


def load_pipeline(prepared: models.Prepared) -> Any:
    with _quiet():
        pipeline = _random(prepared) if prepared.origin.folder is None else _stored(prepared)
    pipeline.set_progress_bar_config(disable=True)
    if prepared.request.compile:
        denoiser(pipeline).compile()
    return pipeline


def denoiser(pipeline: Any) -> Any:
    """Return the network that is run once a step: a U-Net or a transformer."""
    found = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if found is None:
        raise ModelError(
            f"pipeline {type(pipeline).__name__} has neither a U-Net nor a transformer; it cannot be measured"
        )
    return found


def read_components(origin: models.Origin) -> dict[str, Component]:
    """Return the parts of a pipeline by name, from its architecture or from the configuration files of a folder."""
    if origin.architecture is not None:
        parts = origin.architecture.options.get("components")
        if not parts:
            raise ModelError(f"architecture {origin.name!r} is no diffusion pipeline; choose one with components")
        modules = ("diffusers", "transformers")
        return {name: _component(origin, modules, values["class"], values) for name, values in parts.items()}
    file = origin.folder / "model_index.json"
    if not file.is_file():
        raise ModelError(f"model {origin.name!r} has no model_index.json: it is no diffusion pipeline")
    found = {}
    for name, value in json.loads(file.read_text(encoding="utf-8")).items():
        config = origin.folder / name / "config.json"
        if isinstance(value, list) and value[0] is not None and config.is_file():
            values = json.loads(config.read_text(encoding="utf-8"))
            found[name] = _component(origin, (value[0], f"diffusers.pipelines.{value[0]}"), value[1], values)
    return found


def count_parameters(origin: models.Origin, components: dict[str, Component]) -> int:
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


def _component(origin: models.Origin, modules: Sequence[str], name: str, values: dict[str, Any]) -> Component:
    """Find a part's class: in diffusers, in transformers, or in the module of one pipeline."""
    plain = {key: value for key, value in values.items() if key != "class"}
    for module in modules:
        try:
            return Component(getattr(importlib.import_module(module), name), plain)
        except (ImportError, AttributeError):
            continue
    raise ModelError(f"model {origin.name!r}: no class {name!r} in {' or '.join(modules)}")


def _random(prepared: models.Prepared) -> Any:
    """Build every network straight on the device in the task's precision, and stand-ins for the tokenizers."""
    import diffusers
    import torch

    request, parts = prepared.request, {}
    components = sorted(prepared.config.items(), key=lambda item: not item[1].is_network)  # networks first
    devices = [request.device] if request.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(request.seed)
        for name, component in components:
            if component.is_network:
                with torch.device(request.device), _precision(request.dtype):
                    parts[name] = component.build().eval().requires_grad_(False)
            else:
                parts[name] = component.build()
    for name in [name for name in parts if name.startswith("text_encoder")]:
        config = parts[name].config
        kind = "t5" if config.model_type == "t5" else "roberta"
        parts[name.replace("text_encoder", "tokenizer")] = local_tokenizer(config, kind)
    pipeline = getattr(diffusers, prepared.origin.architecture.options["pipeline"])
    taken = inspect.signature(pipeline.__init__).parameters
    absent = {name: None for name, value in taken.items() if name != "self" and value.default is value.empty}
    plain = {"requires_safety_checker": False} if "requires_safety_checker" in taken else {}
    return pipeline(**{**absent, **parts, **plain})


def _stored(prepared: models.Prepared) -> Any:
    """Load a pipeline from a folder, or fetch exactly the files it needs from the hub first."""
    import torch
    from diffusers import AutoPipelineForText2Image, DiffusionPipeline

    request, origin = prepared.request, prepared.origin
    trusted = origin.trust_remote_code
    if origin.repo is not None:
        with hub.explained(origin.repo, origin.commit, "model", ModelError):
            fetched = Path(DiffusionPipeline.download(origin.repo, revision=origin.commit, trust_remote_code=trusted))
        origin = models.Origin(origin.name, fetched, trust_remote_code=trusted)
    loader = AutoPipelineForText2Image.from_pretrained
    return origin.read(loader, "pipeline", dtype=getattr(torch, request.dtype)).to(request.device)


@contextmanager
def _precision(dtype: str) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' notices and bars out of a notebook while a pipeline is loaded."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with models.quiet():
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
