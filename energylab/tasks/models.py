"""Where a model comes from, and how it gets onto its device: hub, folder, or an architecture with random weights."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.record import ModelFacts
from energylab.tasks import hub
from energylab.tasks.architectures import Architecture, find_architecture
from energylab.tasks.base import TaskSettings
from energylab.tasks.machine import Machine, refuse_options, refuse_size

PACKAGE_PREFIX = "package:"

#: Everything of a model but its weights: enough to count it, and to refuse it, before the large files are fetched.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.vocab", "*.bpe")

#: What the libraries raise for files that are missing, broken or of another kind.
LIBRARY_ERRORS = (ValueError, KeyError, TypeError, AttributeError, ImportError, OSError, RuntimeError)


@dataclass(frozen=True)
class ModelRequest:
    """Everything that says which model, in what shape, and where to."""

    name: str
    source: str
    device: str
    dtype: str
    revision: str | None = None
    quantisation: str | None = None
    attention: str | None = None
    compile: bool = False
    trust_remote_code: bool = False
    gpus: int = 1
    seed: int = 0
    params: str | None = None
    model_classes: dict[str, float | None] | None = None

    @classmethod
    def of(cls, parameters: Parameters, settings: TaskSettings, device: str) -> ModelRequest:
        """Join the session's parameters with the task's settings; a parameter that is given wins."""
        return cls(
            name=parameters.model,
            source=parameters.model_source,
            device="cuda:0" if device == "cuda" else device,
            dtype=parameters.dtype or settings.dtype,
            revision=parameters.revision,
            quantisation=parameters.quantisation or settings.quantisation,
            attention=parameters.attention or settings.attention,
            compile=parameters.compile or settings.compile,
            trust_remote_code=parameters.trust_remote_code,
            gpus=parameters.gpus,
            seed=parameters.seed,
            params=parameters.params,
            model_classes=settings.model_classes,
        )


@dataclass(frozen=True)
class Origin:
    """Where the files of a model are: a folder (of the user's, or of one commit of the hub), or nowhere.

    Attributes
    ----------
    name : str
        The model's name in records.
    folder : pathlib.Path or None
        None for an architecture with random weights.
    repo, commit : str or None
        Hub id and resolved commit, where the folder is a snapshot of the hub.
    architecture : Architecture or None
        The shape to build, where there are no files.
    """

    name: str
    folder: Path | None
    repo: str | None = None
    commit: str | None = None
    architecture: Architecture | None = None
    trust_remote_code: bool = False

    def read(self, loader: Callable[..., Any], what: str, **kwargs: Any) -> Any:
        """Call a library's ``from_pretrained`` on this origin's folder, and say clearly what went wrong.

        Parameters
        ----------
        loader : callable
            For example ``AutoTokenizer.from_pretrained``.
        what : str
            What is being loaded, for the message: ``"tokenizer"``.
        **kwargs
            Passed on.

        Raises
        ------
        ModelError
            If the files are missing, broken or not what the loader expects.
        """
        try:
            return loader(str(self.folder), trust_remote_code=self.trust_remote_code, **kwargs)
        except LIBRARY_ERRORS as error:
            raise ModelError(_explain(self, what, error)) from error


@dataclass(frozen=True)
class Loaded:
    """A model on its device, and where its tokenizer or processor is to be read from."""

    model: Any
    config: Any
    origin: Origin
    facts: ModelFacts


def locate(request: ModelRequest) -> Origin:
    """Find the files of a model, without loading any weight.

    ``package:MODULE/FOLDER`` names a folder inside an installed package, so that a study needs no absolute path.

    Raises
    ------
    UnknownNameError
        If a random model's architecture is not known; names the nearest.
    ModelError
        If the folder or the hub repository is missing, gated or not reachable.
    """
    if request.source == "random":
        return Origin(request.name, None, architecture=find_architecture(request.name, request.params))
    if request.source == "path":
        folder = _folder(request.name)
        name = request.name.removeprefix(PACKAGE_PREFIX) if request.name.startswith(PACKAGE_PREFIX) else folder.name
        return Origin(name, folder, trust_remote_code=request.trust_remote_code)
    commit = hub.resolve_commit(request.name, request.revision, "model", ModelError)
    folder = hub.snapshot(request.name, commit, "model", SMALL_FILES, ModelError)
    return Origin(request.name, folder, request.name, commit, trust_remote_code=request.trust_remote_code)


def read_config(origin: Origin) -> Any:
    """Return the transformers configuration of a located model.

    Raises
    ------
    ModelError
        If it cannot be read, or asks for code of its own that was not allowed.
    """
    from transformers import AutoConfig

    if origin.architecture is not None:
        return origin.architecture.build_config()
    return origin.read(AutoConfig.from_pretrained, "configuration")


def load_model(
    request: ModelRequest,
    auto_class: Callable[[Any], str],
    may_miss: tuple[str, ...] = (),
    machine: Machine | None = None,
) -> Loaded:
    """Load a transformers model onto its device or devices.

    Everything that can be refused is refused first: options the machine lacks, then a model that is too large,
    before a single weight is read.

    Parameters
    ----------
    request : ModelRequest
        Which model, in what shape, and where to.
    auto_class : callable
        Takes the configuration, returns the name of the transformers Auto class that serves the task.
    may_miss : tuple of str
        Parts of the architecture that the checkpoint may lack because the task does not use them.
    machine : Machine, optional
        What the machine can do; looked up when not given.

    Returns
    -------
    Loaded
        Model in evaluation mode, its configuration, origin and facts.

    Raises
    ------
    ModelError
        If it is missing, gated, of another task, or beyond the machine.
    """
    import transformers

    machine = machine or Machine.detect(request.device)
    refuse_options(machine, request.dtype, request.quantisation, request.attention, request.compile, request.gpus)
    origin = locate(request)
    config = read_config(origin)
    auto = getattr(transformers, auto_class(config))
    count = count_parameters(config, auto, origin)
    refuse_size(machine, origin.name, count, request.quantisation or request.dtype, request.gpus)
    model = (
        _random(request, config, auto) if origin.folder is None else _stored(request, origin, config, auto, may_miss)
    )
    model.eval()
    if request.compile:
        model.compile()
    return Loaded(model, config, origin, describe(request, origin, model, count))


def fetch_weights(origin: Origin) -> None:
    """Download the weights of a hub model, safetensors where there are any; does nothing for a folder.

    Raises
    ------
    ModelError
        If the repository holds no weights, or the download breaks off.
    """
    if origin.repo is None:
        return
    wanted = ("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")
    for patterns in wanted:
        hub.snapshot(origin.repo, origin.commit, "model", patterns, ModelError)
        if any(next(origin.folder.glob(pattern), None) for pattern in patterns):
            return
    raise ModelError(f"model {origin.name!r} at {origin.commit} holds no weights that transformers can read")


def count_parameters(config: Any, auto: Any, origin: Origin) -> int:
    """Count a model's parameters on the meta device: no memory is used, no weight is read.

    Raises
    ------
    ModelError
        If the configuration is not one the task's Auto class can build.
    """
    import copy

    import torch

    with torch.device("meta"), quiet():
        try:
            model = auto.from_config(copy.deepcopy(config), trust_remote_code=origin.trust_remote_code)
        except (ValueError, KeyError, TypeError, ImportError) as error:
            raise ModelError(_explain(origin, f"model for {auto.__name__}", error)) from error
    return model.num_parameters()


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
        quantisation=request.quantisation or _checkpoint_quantisation(model),
        attention=getattr(getattr(model, "config", None), "_attn_implementation", None),
        compiled=request.compile,
        trust_remote_code=request.trust_remote_code,
        weights_bytes=sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()),
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
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _folder(name: str) -> Path:
    if not name.startswith(PACKAGE_PREFIX):
        folder = Path(name).expanduser()
    else:
        module, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
        try:
            folder = Path(str(importlib.resources.files(module).joinpath(inside)))
        except ModuleNotFoundError as error:
            raise ModelError(f"model {name!r}: package {module!r} is not installed; pip install {module}") from error
    if not folder.is_dir():
        raise ModelError(f"model {name!r}: {folder} is not a folder; with model_source='path' name a folder of a model")
    return folder.resolve()


def _random(request: ModelRequest, config: Any, auto: Any) -> Any:
    """Build with random weights straight on the device in the task's precision: no float32 copy on the host."""
    import torch

    if request.quantisation:
        raise ModelError(
            f"quantisation={request.quantisation!r} needs stored weights; model_source='random' has none: "
            "choose model_source='hub' or 'path'"
        )
    shape = {"attn_implementation": request.attention} if request.attention else {}
    devices = [request.device] if request.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.device(request.device), quiet():
        torch.manual_seed(request.seed)
        return auto.from_config(config, dtype=getattr(torch, request.dtype), **shape)


def _stored(request: ModelRequest, origin: Origin, config: Any, auto: Any, may_miss: tuple[str, ...]) -> Any:
    """Load weights from a folder or the hub, and refuse a checkpoint that lacks what the task needs."""
    import torch

    shape = {"attn_implementation": request.attention} if request.attention else {}
    fetch_weights(origin)
    with quiet():
        model, info = origin.read(
            auto.from_pretrained,
            "weights",
            config=config,
            dtype=getattr(torch, request.dtype),
            device_map={"": request.device},
            output_loading_info=True,
            **shape,
        )
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in may_miss))
    if missing:
        raise ModelError(
            f"model {origin.name!r} has no weights for {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}: it "
            f"was trained for another task than {auto.__name__} serves; choose a model of this task"
        )
    return model


def _checkpoint_quantisation(model: Any) -> str | None:
    stored = getattr(getattr(model, "config", None), "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
    return str(getattr(method, "value", method))


def _explain(origin: Origin, what: str, error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return (
            f"model {origin.name!r} brings code of its own; read it, and if you trust it pass trust_remote_code=True "
            "(the record will say so)"
        )
    return f"model {origin.name!r}: its {what} cannot be loaded: {text}"
