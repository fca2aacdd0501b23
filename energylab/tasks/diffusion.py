"""Diffusion pipelines: their components as data, built with random weights or loaded from a folder or the hub."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.errors import ModelError
from energylab.tasks import hub, models
from energylab.tasks.machine import Machine, refuse_options, refuse_size
from energylab.tasks.tokenizers import local_tokenizer


@dataclass(frozen=True)
class Component:
    """One part of a pipeline: its class, and the values of its configuration.

    Attributes
    ----------
    kind : type
        A class of diffusers or transformers.
    values : dict
        What its configuration holds.
    """

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


def load_pipeline(request: models.ModelRequest, machine: Machine | None = None) -> models.Loaded:
    """Load a text-to-image pipeline onto its device.

    As with other models, what can be refused is refused before any weight is read.

    Parameters
    ----------
    request : ModelRequest
        Which pipeline, in what shape, and where to.
    machine : Machine, optional
        What the machine can do; looked up when not given.

    Returns
    -------
    Loaded
        ``model`` is the pipeline, ``config`` its configuration.

    Raises
    ------
    ModelError
        If it is missing, gated, no text-to-image pipeline, or beyond the machine.
    """
    origin, components, count = prepare_pipeline(request, machine or Machine.detect(request.device))
    with models.quiet(), _quiet_diffusers():
        pipeline = _random(request, origin, components) if origin.folder is None else _stored(request, origin)
    pipeline.set_progress_bar_config(disable=True)
    if request.compile:
        denoiser(pipeline).compile()
    facts = models.describe(request, origin, _Networks(pipeline), count)
    facts = facts.model_copy(update={"architecture": type(pipeline).__name__})
    return models.Loaded(pipeline, pipeline.config, origin, facts)


def prepare_pipeline(request: models.ModelRequest, machine: Machine) -> tuple[models.Origin, dict[str, Component], int]:
    """Find a pipeline and refuse, before any weight is read, what cannot be done with it.

    Returns
    -------
    (Origin, dict of str to Component, int)
        Where it is, its parts, and the number of its parameters.

    Raises
    ------
    ModelError
        If it is missing, gated, no text-to-image pipeline, or beyond the machine.
    """
    _refuse(request)
    refuse_options(machine, request.dtype, None, None, request.compile, request.gpus)
    origin = models.locate(request)
    with models.quiet(), _quiet_diffusers():
        components = read_components(origin)
        count = count_parameters(origin, components)
    refuse_size(machine, origin.name, count, request.dtype, request.gpus)
    return origin, components, count


def denoiser(pipeline: Any) -> Any:
    """Return the network that is run once a step: a U-Net or a transformer.

    Raises
    ------
    ModelError
        If the pipeline has neither.
    """
    for name in ("unet", "transformer"):
        if getattr(pipeline, name, None) is not None:
            return getattr(pipeline, name)
    raise ModelError(f"pipeline {type(pipeline).__name__} has neither a U-Net nor a transformer; it cannot be measured")


def read_components(origin: models.Origin) -> dict[str, Component]:
    """Return the parts of a pipeline by name, from its architecture or from the configuration files of a folder.

    Raises
    ------
    ModelError
        If there is no pipeline, or one of its parts is of an unknown class.
    """
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
    """Count the weights of every part on the meta device.

    Raises
    ------
    ModelError
        If a configuration is not one its class can build.
    """
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
