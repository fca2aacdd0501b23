"""How a model gets onto its device: refused while that is cheap, then loaded or made with random weights."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from energylab.errors import ModelError
from energylab.record import ModelFacts
from energylab.tasks.machine import Machine, raise_all, refuse_options, refuse_quantisation, refuse_size
from energylab.tasks.origin import (
    LIBRARY_ERRORS,
    SMALL_FILES,
    ModelRequest,
    Origin,
    explain,
    fetch_weights,
    locate,
    read_config,
)
from energylab.tasks.placement import build_random, spread
from energylab.tasks.quantisation import IN_CHECKPOINT, checkpoint_method, loading_options, stored_bytes

__all__ = [
    "LIBRARY_ERRORS",
    "SMALL_FILES",
    "Loaded",
    "ModelRequest",
    "Origin",
    "Prepared",
    "build_skeleton",
    "describe",
    "load_model",
    "load_prepared",
    "locate",
    "model_class",
    "prepare",
    "quiet",
    "quiet_imports",
    "read_config",
]


@dataclass(frozen=True)
class Loaded:
    """A model on its device, and where its tokenizer or processor is to be read from."""

    model: Any
    config: Any
    origin: Origin
    facts: ModelFacts


@dataclass(frozen=True)
class Prepared:
    """A model that can be loaded: found, counted, and not beyond the machine; no weight has been read.

    Attributes
    ----------
    request : ModelRequest
        What was asked for.
    origin : Origin
        Where its files are.
    config : transformers.PretrainedConfig
        Its configuration.
    auto : type
        The transformers Auto class that serves the task.
    count : int
        Number of parameters.
    plan : dict of str to str
        Module name to device.
    """

    request: ModelRequest
    origin: Origin
    config: Any
    auto: Any
    count: int
    plan: dict[str, str]


#: Loggers of optional packages that Transformers imports, and that tell of parts built for other machines.
_TALKATIVE = ("torchao", "torch.utils._pytree")


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep notices of the library's optional parts, given while they are imported, out of a notebook's first cell."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bar is shown on purpose
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@quiet_imports()
def prepare(request: ModelRequest, auto_class: Callable[[Any], str], machine: Machine | None = None) -> Prepared:
    """Find a model and refuse, by name and before any weight is read, what cannot be done with it.

    Parameters
    ----------
    request : ModelRequest
        Which model, in what shape, and where to.
    auto_class : callable
        Takes the configuration, returns the name of the transformers Auto class that serves the task.
    machine : Machine, optional
        What the machine can do; looked up when not given.

    Returns
    -------
    Prepared
        Ready for `load_prepared`.

    Raises
    ------
    ModelError
        If it is missing, gated, of another task, or beyond the machine.
    """
    import transformers

    machine = machine or Machine.detect(request.device, request.gpus)
    refuse_options(machine, request.dtype, request.quantisation, request.attention, request.compile, request.gpus)
    origin = locate(request)
    config = read_config(origin)
    auto = getattr(transformers, auto_class(config))
    skeleton = build_skeleton(config, auto, origin)
    count = skeleton.num_parameters()
    refuse_size(machine, origin.name, count, _weight(request, origin, config, machine), request.gpus)
    return Prepared(request, origin, config, auto, count, spread(skeleton, machine.devices(request.gpus)))


def load_prepared(prepared: Prepared, may_miss: tuple[str, ...] = ()) -> Loaded:
    """Load a prepared model onto its device or devices.

    Parameters
    ----------
    prepared : Prepared
        The model.
    may_miss : tuple of str
        Parts of the architecture that the checkpoint may lack because the task does not use them.

    Returns
    -------
    Loaded
        Model in evaluation mode, its configuration, origin and facts.

    Raises
    ------
    ModelError
        If its weights are missing, broken, or those of another task.
    """
    request, origin = prepared.request, prepared.origin
    with quiet():
        if origin.folder is None:
            model = _random(prepared)
        else:
            fetch_weights(origin)
            model = _stored(prepared, may_miss)
    model.eval()
    if request.compile:
        model.compile()
    return Loaded(model, prepared.config, origin, describe(request, origin, model, prepared.count))


def load_model(
    request: ModelRequest,
    auto_class: Callable[[Any], str],
    may_miss: tuple[str, ...] = (),
    machine: Machine | None = None,
) -> Loaded:
    """Prepare a model and load it; see `prepare` and `load_prepared`."""
    return load_prepared(prepare(request, auto_class, machine), may_miss)


def build_skeleton(config: Any, auto: Any, origin: Origin) -> Any:
    """Build a model on the meta device, to count and to plan: no memory is used, no weight is read.

    Raises
    ------
    ModelError
        If the configuration is not one the task's Auto class can build.
    """
    import torch

    with torch.device("meta"), quiet():
        try:
            return auto.from_config(copy.deepcopy(config), trust_remote_code=origin.trust_remote_code)
        except LIBRARY_ERRORS as error:
            raise ModelError(explain(origin, f"model for {auto.__name__}", error)) from error


def describe(request: ModelRequest, origin: Origin, model: Any, count: int, **settings: Any) -> ModelFacts:
    """Write down which model was loaded, and in what shape."""
    stored = origin.folder is not None
    dtype = getattr(model, "dtype", None)
    return ModelFacts(
        name=origin.name,
        source=request.source,
        revision=request.revision,
        commit=origin.commit,
        architecture=type(model).__name__,
        parameters=count,
        model_class=model_class(count, request.model_classes),
        dtype=str(dtype).removeprefix("torch.") if dtype is not None else request.dtype,
        quantisation=request.quantisation or checkpoint_method(getattr(model, "config", None)),
        attention=getattr(getattr(model, "config", None), "_attn_implementation", None),
        compiled=request.compile,
        trust_remote_code=request.trust_remote_code,
        weights_bytes=sum(stored_bytes(tensor) for tensor in model.parameters()),
        real_weights=stored,
        settings={"gpus": request.gpus, **settings},
    )


def model_class(count: int, limits: dict[str, float | None] | None) -> str | None:
    """Return the size class of a model with `count` parameters; None where the task has no classes."""
    if limits is None:
        return None
    return next(name for name, limit in limits.items() if limit is None or count <= limit)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's progress bars and notices about fresh weights out of a notebook, and only here."""
    from transformers.utils import logging as notices

    level, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        yield
    finally:
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()


def _loading(request: ModelRequest) -> dict[str, Any]:
    """Return what both ways of making a model are told: precision, and attention where it is asked for."""
    import torch

    attention = {"attn_implementation": request.attention} if request.attention else {}
    return {"dtype": getattr(torch, request.dtype), **attention}


def _weight(request: ModelRequest, origin: Origin, config: Any, machine: Machine) -> str:
    """Return what one weight is stored as, and refuse what this machine or this model cannot store it as."""
    stored, asked = checkpoint_method(config), request.quantisation
    if asked and origin.folder is None:
        raise ModelError(f"quantisation={asked!r} needs stored weights: choose model_source='hub' or 'path'")
    if stored is None or origin.folder is None:
        return asked or request.dtype
    if asked:
        raise ModelError(f"model {origin.name!r} is already quantised ({stored}); leave quantisation out")
    raise_all(refuse_quantisation(machine, stored, IN_CHECKPOINT, f"model {origin.name!r}: quantisation "))
    return stored


def _random(prepared: Prepared) -> Any:
    devices = list(dict.fromkeys(prepared.plan.values()))
    loading = _loading(prepared.request)
    return build_random(
        prepared.auto, prepared.config, devices=devices, plan=prepared.plan, seed=prepared.request.seed, **loading
    )


def _stored(prepared: Prepared, may_miss: tuple[str, ...]) -> Any:
    """Load weights from a folder, and refuse a checkpoint that lacks what the task needs."""
    name, auto = prepared.origin.name, prepared.auto
    model, info = prepared.origin.read(
        auto.from_pretrained,
        "weights",
        config=prepared.config,
        device_map=prepared.plan,
        output_loading_info=True,
        **_loading(prepared.request),
        **loading_options(prepared.request.quantisation),
    )
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in may_miss))
    if missing:
        raise ModelError(
            f"model {name!r} has no weights for {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}: it was "
            f"trained for another task than {auto.__name__} serves; choose a model of this task"
        )
    return model
