"""Checks of an open model before it is queued: it exists, it fits, and it needs no code or pickles of its own."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from energylab.errors import EnergylabError, ModelError
from energylab.parameters import Parameters
from energylab.publish import text
from energylab.tasks import hub
from energylab.tasks.models import SMALL_FILES
from energylab_portal import child

#: Reading the configuration of the largest models takes a few GB of address space (torch alone takes two).
BOUNDS = child.Bounds(memory_bytes=24 << 30, cpu_s=900, wall_s=1800.0, file_bytes=1 << 30)

#: Largest total size of configuration and tokenizer.
SMALL_LIMIT_BYTES = 300_000_000
MOST_FILES = 5_000

#: Weights of transformers and diffusers; formats that can contain code are refused.
_SAFE = ("model.safetensors", "model-*.safetensors")
_SAFE_PIPELINE = "*/*.safetensors"


@dataclass(frozen=True)
class Finding:
    commit: str | None  # current commit of the revision
    words: Sequence[str]  # results for people, one per line
    refusal: str = ""  # why it cannot be measured, and what to do; empty if it can
    again: bool = False  # whether a retry may succeed, since the hub did not answer


def inspect_apart(question: Mapping[str, Any], environment: Mapping[str, str]) -> Finding:
    """Check a model in a process with limits that sees only one worker's devices; see `inspect`."""
    return Finding(**child.ask("energylab_portal.inspection", question, BOUNDS, environment))


def inspect(question: Mapping[str, Any]) -> Finding:
    """Check a model without reading its weights or running its code."""
    words: list[str] = []
    commit = None
    try:
        commit = hub.resolve_commit(question["model"], question["revision"], "model", ModelError)
        words.append(f"exists at commit {commit}")
        files = list_files(question["model"], commit)
        words += check_files(question["model"], files, question["largest_gb"])
        words += [fits(question, task, commit) for task in question["tasks"]]
    except EnergylabError as error:
        return Finding(commit, words, in_the_portal(str(error)), is_passing(str(error)))
    return Finding(commit, words)


def is_passing(text: str) -> bool:
    """Whether a refusal is a network error, see `energylab.tasks.hub.explained`, so that a retry may succeed."""
    return "could not be fetched from the hub" in text


def list_files(model: str, commit: str) -> dict[str, int]:
    """Return a repository's files at one commit with their sizes in bytes."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    found: dict[str, int] = {}
    with hub.explained(model, commit, "model", ModelError):
        for entry in HfApi().list_repo_tree(model, revision=commit, recursive=True):
            if isinstance(entry, RepoFile):
                found[entry.path] = entry.size
            if len(found) > MOST_FILES:
                raise ModelError(f"more than {MOST_FILES:,} files; submit a repository with only one model")
    return found


def check_files(model: str, files: Mapping[str, int], largest_gb: float) -> list[str]:
    pipeline = "model_index.json" in files
    safe = [name for name in files if _is_safe(name, pipeline)]
    if not safe:
        raise ModelError(
            f"{model} has no weights as safetensors; other formats can contain code and are not loaded. "
            "Convert them (save_pretrained writes safetensors), push, and submit again"
        )
    small = sum(size for name, size in files.items() if any(fnmatch.fnmatch(name, p) for p in SMALL_FILES))
    if small > SMALL_LIMIT_BYTES:
        raise ModelError(f"{small / 1e6:.0f} MB of configuration and text; at most {SMALL_LIMIT_BYTES / 1e6:.0f} MB")
    weights = sum(files[name] for name in safe)
    if weights > largest_gb * 1e9:
        raise ModelError(f"{weights / 1e9:.1f} GB of weights; this portal measures at most {largest_gb:g} GB")
    return [f"weights as safetensors, {weights / 1e6:,.3g} MB", "no code from the repository is run"]


def _is_safe(name: str, pipeline: bool) -> bool:
    if pipeline:
        return fnmatch.fnmatch(name, _SAFE_PIPELINE)
    return any(fnmatch.fnmatch(name, pattern) for pattern in _SAFE)


def fits(question: Mapping[str, Any], task: str, commit: str) -> str:
    """Check that a model fits a task and this process's devices; return its size and class as text."""
    from energylab import devices, tasks
    from energylab.tasks.models import model_class

    values = {**question["parameters"], "task": task, "model": question["model"], "model_source": "hub"}
    parameters = Parameters.check({**values, "revision": commit, "params": question["params"]})
    asked = tasks.load_task(parameters)
    if question["elsewhere"]:
        count, where = _count(asked), "its fit on the device is checked when it is measured"
    else:
        found = devices.resolve_devices(parameters.device, parameters.gpus)
        count = asked.check(devices.torch_name(found[0]), found)
        where = f"fits {len(found)} x {found[0].name}"
    if count is None:
        return f"{task}: {where}"
    size_class = model_class(count, asked.settings.model_classes)
    told = f", class {size_class}" if size_class else ""
    return f"{task}: {text.count(count)} parameters{told}; {where}"


def _count(task: Any) -> int | None:
    """Count a model's parameters for a device of another machine, assuming unlimited memory."""
    from energylab.tasks.machine import WEIGHT_BYTES, Machine

    if not hasattr(task, "find"):  # a task with its own loading
        return None
    everything = frozenset(WEIGHT_BYTES) | {"torchao", "bitsandbytes", "flash_attn", "flash_attn_interface"}
    machine = Machine("cuda:0", (2**62,) * max(1, task.parameters.gpus), (99, 0), everything, compiler=True)
    return task.find(task.request("cuda:0"), machine).count


def in_the_portal(text: str) -> str:
    """Return a task's error message for a submitter, who has no command line here."""
    if "trust_remote_code" in text:
        return (
            "the model has its own code, which is not run here. Submit a model whose architecture is part of "
            "transformers or diffusers, or measure it yourself in the sealed container as a closed model"
        )
    if "is gated" in text:
        return "the model is gated on the hub: open it, or grant the operator's account access, and submit again"
    if "is not on the hub" in text:
        return f"{text.partition(';')[0]}; a private model is measured by its owner, as a closed model"
    if is_passing(text):
        return f"{text.partition(';')[0]}; submit it again when the hub answers"
    return text[:1500]


if __name__ == "__main__":
    child.answer(lambda question: vars(inspect(question)))
