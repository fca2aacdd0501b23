"""Locate a model, check that it can be measured before any weight is read, and load it."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from energylab.errors import EnergylabError, ModelError
from energylab.parameters import Parameters
from energylab.record import ModelFacts
from energylab.tasks.architectures import Architecture, find_architecture
from energylab.tasks.machine import (
    IN_CHECKPOINT,
    Machine,
    checkpoint_method,
    loading_options,
    problems_of,
    raise_all,
    refuse_options,
    refuse_size,
    stored_bytes,
)

#: All files of a model except its weights: enough to count its parameters and check it before the download.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.vocab", "*.bpe")

#: Weights, in the order in which they are looked for.
WEIGHT_FILES = ("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")

#: Exceptions of the libraries for files that are missing, broken or of another kind.
LIBRARY_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, ImportError, OSError, EOFError, RuntimeError, AssertionError,
    SafetensorError, pickle.UnpicklingError,
)  # fmt: skip

#: First bytes of the pointer file that replaces a large file which was not fetched.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: a folder (the user's, or a snapshot of the hub), or an architecture without files."""

    name: str  # the model's name in records
    folder: Path | None  # None for an architecture with random weights
    repo: str | None = None  # hub id, if the folder is a snapshot of the hub
    commit: str | None = None  # resolved commit, if the folder is a snapshot of the hub
    architecture: Architecture | None = None  # the architecture to build, if there are no files
    trust_remote_code: bool = False

    def read(self, loader: Callable[..., Any], what: str, **kwargs: Any) -> Any:
        """Call a library's ``from_pretrained`` on this origin's folder; a failure becomes a ModelError."""
        try:
            part = loader(str(self.folder), trust_remote_code=self.trust_remote_code, **kwargs)
        except EnergylabError:
            raise
        except Exception as error:  # noqa: BLE001 - on broken files the libraries raise anything
            raise ModelError(explain(self, what, error)) from error
        if what == "tokenizer" and len(part) <= len(part.all_special_ids):  # without files the library invents one
            raise ModelError(
                f"model {self.name!r}: {self.folder} holds no vocabulary (tokenizer.json, vocab.txt, …); save the "
                "model's tokenizer there: tokenizer.save_pretrained(folder)"
            )
        return part


@dataclass(frozen=True)
class Prepared:
    """A model that was located and checked against the machine; no weights have been read."""

    request: Parameters  # as `Task.request` returns them
    origin: Origin
    config: Any  # transformers.PretrainedConfig; the components of a diffusion pipeline
    count: int  # number of parameters
    auto: Any = None  # the transformers Auto class that serves the task
    plan: dict[str, str] = field(default_factory=dict)  # module name to device


# ---- finding a model


def locate(request: Parameters, architectures: Path | None = None) -> Origin:
    """Find the files of a model without loading weights; `architectures` is the task's own folder of architectures."""
    name, trusted = request.model, request.trust_remote_code
    if request.model_source == "random":
        return Origin(name, None, architecture=find_architecture(name, request.params, architectures))
    if request.model_source == "path":
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise ModelError(f"model {name!r} is not a folder; model_source='path' needs the folder of a model")
        return Origin(folder.resolve().name, folder.resolve(), trust_remote_code=trusted)
    from energylab.tasks import hub

    commit = hub.resolve_commit(name, request.revision, "model", ModelError)
    folder = hub.snapshot(name, commit, "model", SMALL_FILES, ModelError)
    return Origin(name, folder, name, commit, trust_remote_code=trusted)


def read_config(origin: Origin) -> Any:
    """Return the transformers configuration of a located model.

    Older files write ``null`` for a switch that is off (``"dilation": null`` of DETR), which current classes refuse:
    the switch is then set to its default.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if origin.architecture is not None:
        return origin.architecture.build_config()
    try:
        return origin.read(AutoConfig.from_pretrained, "configuration")
    except ModelError:
        with contextlib.suppress(*LIBRARY_ERRORS):  # the first error is the one to show
            values = json.loads((origin.folder / "config.json").read_text(encoding="utf-8"))
            kind = CONFIG_MAPPING[values["model_type"]]
            defaults = kind()
            null = [name for name, value in values.items() if value is None]
            off = {name for name in null if isinstance(getattr(defaults, name, None), bool)}
            return kind.from_dict({name: value for name, value in values.items() if name not in off})
        raise


def explain(origin: Origin, what: str, error: Exception) -> str:
    text = " ".join(re.sub(r"\x1b\[\w+", "", str(error)).split())[:300]
    if "trust_remote_code" in str(error):
        return (
            f"model {origin.name!r} contains its own code; read it and, if you trust it, set trust_remote_code=True "
            "(the record will state it)"
        )
    if absent := _not_fetched(origin.folder):
        return (
            f"model {origin.name!r}: {', '.join(absent)} in {origin.folder} is a Git LFS pointer to a file that was "
            "not fetched; run `git lfs pull` there"
        )
    if "requires the timm library" in text:
        text = "it needs timm and torchvision: pip install 'energylab[timm]'"
    elif "Weights only load failed" in text:
        text = "a weight file holds code besides tensors, which is not run; use safetensors"
    elif what == "weights" and isinstance(error, pickle.UnpicklingError | EOFError | LookupError):
        text = f"a weight file is broken ({type(error).__name__}); fetch it again"
    elif " " not in text:
        text = f"{type(error).__name__} {text}"
    return f"model {origin.name!r}: its {what} cannot be loaded: {text}"


def _not_fetched(folder: Path | None) -> list[str]:
    small = [file for file in sorted(folder.iterdir()) if file.is_file()] if folder else []
    return [file.name for file in small if file.stat().st_size < 1024 and file.read_bytes().startswith(_LFS_POINTER)]


# ---- counting its parameters and checking it


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silence notices about optional parts of the libraries while they are imported."""
    for name in ("torchao", "torch.utils._pytree"):  # notices about parts built for other machines
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are off on purpose
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's progress bars and notices about new weights inside the block."""
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
def prepare(
    request: Parameters,
    architectures: Path | None,
    auto_class: Callable[[Any], str],
    machine: Machine | None = None,
) -> Prepared:
    """Locate a model and check, before weights are read, that it can be measured with these parameters."""
    import transformers

    machine = machine or Machine.detect(request.device, request.gpus)
    refuse_options(machine, request)
    origin = locate(request, architectures)
    config = read_config(origin)
    auto = getattr(transformers, auto_class(config))
    skeleton = build_skeleton(config, auto, origin)
    count = skeleton.num_parameters()
    refuse_size(machine, origin.name, count, _weight(request, origin, config, machine), request.gpus)
    return Prepared(request, origin, config, count, auto, spread(skeleton, machine.devices(request.gpus)))


def build_skeleton(config: Any, auto: Any, origin: Origin) -> Any:
    """Build a model on the meta device, without memory or weights, to count parameters and plan devices."""
    import torch

    with torch.device("meta"), quiet():
        try:
            return auto.from_config(copy.deepcopy(config), trust_remote_code=origin.trust_remote_code)
        except LIBRARY_ERRORS as error:
            raise ModelError(explain(origin, f"model for {auto.__name__}", error)) from error


def _weight(request: Parameters, origin: Origin, config: Any, machine: Machine) -> str:
    stored, asked = checkpoint_method(config), request.quantisation
    if asked and origin.folder is None:
        raise ModelError(f"quantisation={asked!r} needs stored weights: choose model_source='hub' or 'path'")
    if stored is None or origin.folder is None:
        return asked or request.dtype
    if asked:
        raise ModelError(f"model {origin.name!r} is already quantised ({stored}); leave quantisation out")
    raise_all(problems_of(machine, IN_CHECKPOINT, stored, f"model {origin.name!r}: quantisation "))
    return stored


def spread(skeleton: Any, devices: Sequence[str]) -> dict[str, str]:
    """Assign modules to several equal devices: whole layers, as evenly as possible."""
    if len(devices) == 1:
        return {"": devices[0]}
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes, get_balanced_memory

    kept = list(skeleton._no_split_modules or [])
    ample = dict.fromkeys(range(len(devices)), 2 * compute_module_sizes(skeleton)[""])
    room = get_balanced_memory(skeleton, max_memory=ample, no_split_module_classes=kept)
    plan = infer_auto_device_map(skeleton, max_memory=room, no_split_module_classes=kept)
    used = set(plan.values())
    if used != set(range(len(devices))):
        raise ModelError(
            f"{type(skeleton).__name__} cannot be spread over gpus={len(devices)}: its layers fill only {len(used)} "
            f"of them; set gpus={len(used)}"
        )
    return {name: devices[position] for name, position in plan.items()}


# ---- loading it, with stored or random weights


def load(prepared: Prepared, optional_parts: tuple[str, ...] = ()) -> Any:
    """Load a prepared model onto its device or devices, in evaluation mode."""
    import torch

    request = prepared.request
    how = {"dtype": getattr(torch, request.dtype)}
    how |= {"attn_implementation": request.attention} if request.attention else {}
    with quiet():
        if prepared.origin.folder is None:
            model = build_random(prepared.auto, prepared.config, prepared.plan, request.seed, **how)
        else:
            fetch_weights(prepared.origin)
            model = _stored(prepared, optional_parts, how)
    model.eval()
    if request.compile:
        model.compile()
    return model


def fetch_weights(origin: Origin) -> None:
    """Download the weights of a hub model, preferably safetensors; does nothing for a folder."""
    if origin.repo is None:
        return
    from energylab.tasks import hub

    for patterns in WEIGHT_FILES:
        hub.snapshot(origin.repo, origin.commit, "model", patterns, ModelError)
        if any(next(origin.folder.glob(pattern), None) for pattern in patterns):
            return
    expected = ", ".join(pattern for patterns in WEIGHT_FILES for pattern in patterns)
    raise ModelError(f"model {origin.name!r} at {origin.commit} has no weights that transformers can read: {expected}")


def _stored(prepared: Prepared, optional_parts: tuple[str, ...], how: dict[str, Any]) -> Any:
    options = {"config": prepared.config, "device_map": prepared.plan, "output_loading_info": True, **how}
    options |= loading_options(prepared.request.quantisation)
    model, info = prepared.origin.read(prepared.auto.from_pretrained, "weights", **options)
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in optional_parts))
    if missing:
        raise ModelError(
            f"model {prepared.origin.name!r} has no weights for {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''}, which {prepared.auto.__name__} needs: it was trained for another "
            "task; choose a model of this task"
        )
    return model


def build_random(auto: Any, config: Any, plan: dict[str, str], seed: int, **how: Any) -> Any:
    """Build a model with random weights directly on its devices in its precision, without a copy on the host.

    Equal seeds give equal weights on equal devices; `plan` comes from `spread`, `how` is passed to ``from_config``.
    """
    import torch

    devices = list(dict.fromkeys(plan.values()))
    with torch.random.fork_rng(devices=[device for device in devices if device.startswith("cuda")]):
        torch.manual_seed(seed)
        if "" in plan:
            with torch.device(plan[""]):
                return auto.from_config(config, **how)
        with torch.device("meta"):
            model = auto.from_config(config, **how)
        return _materialised(model, plan, devices[0])


def _materialised(model: Any, plan: dict[str, str], first: str) -> Any:
    """Allocate and initialise the weights of a model on the meta device where the plan puts them."""
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


def moved(tensors: Mapping[str, Any], device: str, dtype: Any = None) -> dict[str, Any]:
    """Copy a batch to a device; the batch itself stays on the host, so that every repetition copies it again.

    Floating-point tensors are converted to `dtype`, if given.
    """
    return {
        name: tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }


def describe(prepared: Prepared, model: Any, classes: dict[str, float | None] | None) -> ModelFacts:
    import torch

    request, origin, config = prepared.request, prepared.origin, getattr(model, "config", None)
    parts = getattr(model, "components", {"": model}).values()
    weights = [weight for part in parts if isinstance(part, torch.nn.Module) for weight in part.parameters()]
    return ModelFacts(
        name=origin.name,
        source=request.model_source,
        revision=request.revision,
        commit=origin.commit,
        architecture=type(model).__name__,
        parameters=prepared.count,
        model_class=model_class(prepared.count, classes),
        dtype=str(getattr(model, "dtype", request.dtype)).removeprefix("torch."),
        quantisation=request.quantisation or checkpoint_method(config),
        attention=getattr(config, "_attn_implementation", None),
        compiled=request.compile,
        trust_remote_code=request.trust_remote_code,
        weights_bytes=sum(map(stored_bytes, weights)),
        real_weights=origin.folder is not None,
        settings={"gpus": request.gpus},
    )


def model_class(count: int, limits: dict[str, float | None] | None) -> str | None:
    """Return the size class of a model with `count` parameters; None where the task has no classes."""
    if limits is None:
        return None
    return next(name for name, limit in limits.items() if limit is None or count <= limit)
