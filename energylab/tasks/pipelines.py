"""Diffusion pipelines: locate and count them, then build random weights or load from a folder or the hub."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import hub, models
from energylab.tasks.machine import Machine, refuse_options, refuse_size
from energylab.tasks.tokenizers import local_tokenizer


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
    """Locate a text-to-image pipeline and check, before weights are read, that it can be measured."""
    machine = machine or Machine.detect(request.device)
    asked = {"quantisation": request.quantisation, "attention": request.attention, "gpus": request.gpus}
    other = [f"{name}={value!r}" for name, value in asked.items() if value not in (None, 1)]
    if other:
        raise ModelError(f"a diffusion pipeline does not support {', '.join(other)}; leave it out")
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
            f"pipeline {type(pipeline).__name__} has neither a U-Net nor a transformer; choose another model"
        )
    return found


def read_components(origin: models.Origin) -> dict[str, Component]:
    """Return the parts of a pipeline by name, from its architecture or from the configuration files of a folder."""
    if origin.architecture is not None:
        parts = origin.architecture.options.get("components")
        if not parts:
            raise ModelError(f"architecture {origin.name!r} is not a diffusion pipeline; choose one with components")
        modules = ("diffusers", "transformers")
        return {name: _component(origin, modules, values["class"], values) for name, values in parts.items()}
    file = origin.folder / "model_index.json"
    if not file.is_file():
        raise ModelError(f"model {origin.name!r} has no model_index.json; choose a diffusion pipeline")
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
    """Build every network directly on the device in the task's precision, with locally made tokenizers."""
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
    """Load a pipeline from a folder, or fetch the files it needs from the hub first."""
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
    """Silence the libraries' notices and progress bars while a pipeline is loaded."""
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
