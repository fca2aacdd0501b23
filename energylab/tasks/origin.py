"""Which model is asked for, and where its files are: the hub at one commit, a folder, or an architecture alone."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import hub
from energylab.tasks.architectures import Architecture, find_architecture
from energylab.tasks.base import TaskSettings

PACKAGE_PREFIX = "package:"

#: Everything of a model but its weights: enough to count it, and to refuse it, before the large files are fetched.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.vocab", "*.bpe")

#: What the libraries raise for files that are missing, broken or of another kind.
LIBRARY_ERRORS = (
    ValueError, KeyError, TypeError, AttributeError, ImportError, OSError, RuntimeError, SafetensorError,
)  # fmt: skip


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
            raise ModelError(explain(self, what, error)) from error


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

    Raises
    ------
    ModelError
        If it cannot be read, or asks for code of its own that was not allowed.
    """
    from transformers import AutoConfig

    if origin.architecture is not None:
        return origin.architecture.build_config()
    return origin.read(AutoConfig.from_pretrained, "configuration")


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
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return (
            f"model {origin.name!r} brings code of its own; read it, and if you trust it pass trust_remote_code=True "
            "(the record will say so)"
        )
    return f"model {origin.name!r}: its {what} cannot be loaded: {text}"
