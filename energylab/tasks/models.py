"""How a model gets onto its device: found, refused while that is cheap, then loaded or made with random weights."""

from __future__ import annotations

import contextlib
import copy
import importlib.resources
import json
import logging
import pickle
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from energylab.errors import EnergylabError, ModelError
from energylab.parameters import Parameters
from energylab.record import ModelFacts
from energylab.tasks import hub
from energylab.tasks.architectures import Architecture, find_architecture
from energylab.tasks.base import TaskSettings
from energylab.tasks.machine import (
    IN_CHECKPOINT,
    Machine,
    checkpoint_method,
    loading_options,
    raise_all,
    refuse_options,
    refuse_quantisation,
    refuse_size,
    stored_bytes,
)

PACKAGE_PREFIX = "package:"

#: Everything of a model but its weights: enough to count it, and to refuse it, before the large files are fetched.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.vocab", "*.bpe")

#: Weights, in the order in which they are looked for.
WEIGHT_FILES = ("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")

#: What the libraries raise for files that are missing, broken or of another kind.
LIBRARY_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, ImportError, OSError, EOFError, RuntimeError, AssertionError,
    SafetensorError, pickle.UnpicklingError,
)  # fmt: skip

#: First bytes of the text that stands for a large file which was not fetched.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

#: Loggers of optional packages that Transformers imports, and that tell of parts built for other machines.
_TALKATIVE = ("torchao", "torch.utils._pytree")


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
    architectures: Path | None = None  # where the task keeps families of its own

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
            architectures=settings.architectures,
        )


@dataclass(frozen=True)
class Origin:
    """Where the files of a model are: a folder (of the user's, or of one commit of the hub), or nowhere."""

    name: str  # the model's name in records
    folder: Path | None  # None for an architecture with random weights
    repo: str | None = None  # hub id, where the folder is a snapshot of the hub
    commit: str | None = None  # resolved, likewise
    architecture: Architecture | None = None  # the shape to build, where there are no files
    trust_remote_code: bool = False

    def read(self, loader: Callable[..., Any], what: str, **kwargs: Any) -> Any:
        """Call a library's ``from_pretrained`` on this origin's folder, and say clearly what went wrong."""
        try:
            part = loader(str(self.folder), trust_remote_code=self.trust_remote_code, **kwargs)
        except EnergylabError:
            raise
        except Exception as error:  # noqa: BLE001 - on broken files of strangers the libraries raise anything
            raise ModelError(explain(self, what, error)) from error
        if what == "tokenizer" and len(part) <= len(part.all_special_ids):  # without files the library makes it up
            raise ModelError(
                f"model {self.name!r}: {self.folder} holds no vocabulary (tokenizer.json, vocab.txt, …); save the "
                "model's own there: tokenizer.save_pretrained(folder)"
            )
        return part


@dataclass(frozen=True)
class Prepared:
    """A model that can be loaded: found, counted, and not beyond the machine; no weight has been read."""

    request: ModelRequest
    origin: Origin
    config: Any  # transformers.PretrainedConfig
    auto: Any  # the transformers Auto class that serves the task
    count: int  # number of parameters
    plan: dict[str, str]  # module name to device


@dataclass(frozen=True)
class Loaded:
    """A model on its device, and where its tokenizer or processor is to be read from."""

    model: Any
    config: Any
    origin: Origin
    facts: ModelFacts


# ---- finding a model


def locate(request: ModelRequest) -> Origin:
    """Find the files of a model, without loading any weight.

    ``package:MODULE/FOLDER`` names a folder inside an installed package, so that a study needs no absolute path.
    """
    if request.source == "random":
        found = find_architecture(request.name, request.params, request.architectures)
        return Origin(request.name, None, architecture=found)
    if request.source == "path":
        folder = _folder(request.name)
        name = request.name.removeprefix(PACKAGE_PREFIX) if request.name.startswith(PACKAGE_PREFIX) else folder.name
        return Origin(name, folder, trust_remote_code=request.trust_remote_code)
    commit = hub.resolve_commit(request.name, request.revision, "model", ModelError)
    folder = hub.snapshot(request.name, commit, "model", SMALL_FILES, ModelError)
    return Origin(request.name, folder, request.name, commit, trust_remote_code=request.trust_remote_code)


def read_config(origin: Origin) -> Any:
    """Return the transformers configuration of a located model.

    ``null`` stands in older files for a switch that is off (``"dilation": null`` of DETR), which the present classes
    refuse: the switch then has its default.
    """
    from transformers import AutoConfig

    if origin.architecture is not None:
        return origin.architecture.build_config()
    try:
        return origin.read(AutoConfig.from_pretrained, "configuration")
    except ModelError:
        values = _switches_set(origin)
        if values is None:
            raise
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(values), encoding="utf-8")
        return replace(origin, folder=Path(folder)).read(AutoConfig.from_pretrained, "configuration")


def _switches_set(origin: Origin) -> dict[str, Any] | None:
    """Return a configuration's values without the switches that are null; None where there is none."""
    from transformers import CONFIG_MAPPING

    try:
        values = json.loads((origin.folder / "config.json").read_text(encoding="utf-8"))
        defaults = CONFIG_MAPPING[values["model_type"]]()
    except LIBRARY_ERRORS:
        return None
    off = {name for name, value in values.items() if value is None and isinstance(getattr(defaults, name, None), bool)}
    return {name: value for name, value in values.items() if name not in off} if off else None


def fetch_weights(origin: Origin) -> None:
    """Download the weights of a hub model, safetensors where there are any; does nothing for a folder."""
    if origin.repo is None:
        return
    for patterns in WEIGHT_FILES:
        hub.snapshot(origin.repo, origin.commit, "model", patterns, ModelError)
        if any(next(origin.folder.glob(pattern), None) for pattern in patterns):
            return
    raise ModelError(f"model {origin.name!r} at {origin.commit} holds no weights that transformers can read")


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


def explain(origin: Origin, what: str, error: Exception) -> str:
    """Say in one sentence why a part of a model (`what`) could not be loaded."""
    text = " ".join(re.sub(r"\x1b\[\w+", "", str(error)).split())[:300]
    if "trust_remote_code" in str(error):
        return (
            f"model {origin.name!r} brings code of its own; read it, and if you trust it pass trust_remote_code=True "
            "(the record will say so)"
        )
    if origin.folder is not None and (absent := _not_fetched(origin.folder)):
        return (
            f"model {origin.name!r}: {', '.join(absent)} in {origin.folder} stands for a large file that was not "
            "fetched (a Git LFS pointer); run `git lfs pull` there"
        )
    if "requires the timm library" in text:
        text = "it is built with timm: pip install 'energylab[timm]' (timm and torchvision)"
    elif "Weights only load failed" in text:
        text = "a weight file holds more than tensors, which would run its author's code; use safetensors"
    elif what == "weights" and isinstance(error, pickle.UnpicklingError | EOFError | LookupError):
        text = f"a weight file is broken ({type(error).__name__}); fetch it again"
    elif " " not in text:
        text = f"{type(error).__name__} {text}"
    return f"model {origin.name!r}: its {what} cannot be loaded: {text}"


def _not_fetched(folder: Path) -> list[str]:
    """Return the names of files that are Git LFS pointers."""
    small = [file for file in sorted(folder.iterdir()) if file.is_file() and file.stat().st_size < 1024]
    return [file.name for file in small if file.read_bytes().startswith(_LFS_POINTER)]


# ---- loading it


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


@quiet_imports()
def prepare(request: ModelRequest, auto_class: Callable[[Any], str], machine: Machine | None = None) -> Prepared:
    """Find a model and refuse, by name and before any weight is read, what cannot be done with it."""
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
    """Load a prepared model onto its device or devices, in evaluation mode."""
    request = prepared.request
    with quiet():
        if prepared.origin.folder is None:
            devices = list(dict.fromkeys(prepared.plan.values()))
            how = _loading(request)
            model = build_random(prepared.auto, prepared.config, devices, prepared.plan, request.seed, **how)
        else:
            fetch_weights(prepared.origin)
            model = _stored(prepared, may_miss)
    model.eval()
    if request.compile:
        model.compile()
    return Loaded(model, prepared.config, prepared.origin, describe(request, prepared.origin, model, prepared.count))


def build_skeleton(config: Any, auto: Any, origin: Origin) -> Any:
    """Build a model on the meta device, to count and to plan: no memory is used, no weight is read."""
    import torch

    with torch.device("meta"), quiet():
        try:
            return auto.from_config(copy.deepcopy(config), trust_remote_code=origin.trust_remote_code)
        except LIBRARY_ERRORS as error:
            raise ModelError(explain(origin, f"model for {auto.__name__}", error)) from error


def describe(request: ModelRequest, origin: Origin, model: Any, count: int, **settings: Any) -> ModelFacts:
    """Write down which model was loaded, and in what shape."""
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
        real_weights=origin.folder is not None,
        settings={"gpus": request.gpus, **settings},
    )


def model_class(count: int, limits: dict[str, float | None] | None) -> str | None:
    """Return the size class of a model with `count` parameters; None where the task has no classes."""
    if limits is None:
        return None
    return next(name for name, limit in limits.items() if limit is None or count <= limit)


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


# ---- on one device or several


def moved(tensors: Mapping[str, Any], device: str, dtype: Any = None) -> dict[str, Any]:
    """Copy a batch to a device; the batch itself stays on the host, so that every repetition copies it again.

    (``BatchEncoding.to`` moves a batch for good: only its first call would pay for the copy.) `dtype`, where given,
    is the precision that floating-point tensors get.
    """
    return {
        name: tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }


def build_random(
    auto: Any, config: Any, devices: Sequence[str], plan: dict[str, str], seed: int, **loading: Any
) -> Any:
    """Build a model with random weights straight on its devices, in its precision: no copy on the host.

    Equal seeds give equal weights on equal devices; `plan` is that of `spread`, `loading` goes to ``from_config``.
    """
    import torch

    with torch.random.fork_rng(devices=[device for device in devices if device.startswith("cuda")]):
        torch.manual_seed(seed)
        if len(devices) == 1:
            with torch.device(devices[0]):
                return auto.from_config(config, **loading)
        with torch.device("meta"):
            model = auto.from_config(config, **loading)
        return _materialise(model, plan, devices[0])


def spread(skeleton: Any, devices: Sequence[str]) -> dict[str, str]:
    """Plan which module goes to which of several equal devices: whole layers, as even as they come."""
    if len(devices) == 1:
        return {"": devices[0]}
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes, get_balanced_memory

    whole = compute_module_sizes(skeleton)[""]
    kept = list(skeleton._no_split_modules or [])
    ample = dict.fromkeys(range(len(devices)), 2 * whole)
    room = get_balanced_memory(skeleton, max_memory=ample, no_split_module_classes=kept)
    plan = infer_auto_device_map(skeleton, max_memory=room, no_split_module_classes=kept)
    if set(plan.values()) != set(range(len(devices))):
        raise ModelError(
            f"{type(skeleton).__name__} cannot be spread over gpus={len(devices)}: its layers fill only "
            f"{len(set(plan.values()))} of them; use fewer"
        )
    return {name: devices[position] for name, position in plan.items()}


def _materialise(model: Any, plan: dict[str, str], first: str) -> Any:
    """Give a model on the meta device memory where the plan puts it, and weights there."""
    import torch
    from accelerate import dispatch_model
    from accelerate.utils import set_module_tensor_to_device

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        part = max((key for key in plan if f"{name}.".startswith(f"{key}.")), key=len)
        set_module_tensor_to_device(model, name, plan[part], value=torch.empty_like(tensor, device=plan[part]))
    model.tie_weights()
    model.initialize_weights()
    skipped = getattr(model, "_skip_keys_device_placement", None)
    return dispatch_model(model, plan, main_device=first, skip_keys=skipped, force_hooks=True)
