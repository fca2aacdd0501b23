"""The machine around the device: processor, memory, system, software, commit. Probed when asked, never at import."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from energylab.record import HostFacts

#: Packages whose version can change an energy, a query or a score.
PACKAGES = (
    "energylab",
    "torch",
    "transformers",
    "diffusers",
    "accelerate",
    "tokenizers",
    "datasets",
    "bitsandbytes",
    "flash-attn",
    "triton",
    "numpy",
    "scikit-learn",
    "pillow",
    "nvidia-ml-py",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "codecarbon",
    "zeus",
    "papermill",
)


def host_facts(root: str | os.PathLike = "/") -> HostFacts:
    """Describe this machine and the software that runs on it.

    Parameters
    ----------
    root : path, default "/"
        Root of the file system that ``proc`` and the container marks are read from; a test gives its own.

    Returns
    -------
    HostFacts
        Facts that cannot be had (no git, no ``/proc``) are None.
    """
    import psutil

    commit, dirty = git_state(Path(__file__).resolve())
    return HostFacts(
        processor=processor_name(root),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=package_versions(PACKAGES),
        container=in_container(root),
        git_commit=commit,
        git_dirty=dirty,
    )


def processor_name(root: str | os.PathLike = "/") -> str:
    """Return the processor's marketing name, or its architecture where the kernel tells none (some Arm)."""
    cpuinfo = Path(root) / "proc/cpuinfo"
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    fields = dict(part.split(":", 1) for part in reversed(lines) if ":" in part)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    known = (named.get(key) for key in ("model name", "Hardware", "cpu model", "cpu"))
    return next((name for name in known if name), None) or platform.processor() or platform.machine()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of `names` that are installed; an absent package has no entry."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # absent is an answer: the entry is left out
            continue
    return found


def in_container(root: str | os.PathLike = "/", environ: Mapping[str, str] | None = None) -> bool | None:
    """Tell whether this process runs in a container; None where there is no ``/proc`` to judge by.

    Docker, Podman, Apptainer, LXC and Kubernetes each leave a mark: a file at the root, a variable, or their
    name in the control group of process 1.
    """
    root, environ = Path(root), os.environ if environ is None else environ
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv", ".singularity.d")):
        return True
    if any(name in environ for name in ("container", "KUBERNETES_SERVICE_HOST", "APPTAINER_NAME", "SINGULARITY_NAME")):
        return True
    group = root / "proc/1/cgroup"
    if not group.is_file():
        return None
    return any(word in group.read_text() for word in ("docker", "kubepods", "containerd", "lxc", "libpod"))


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Return the commit that `file` belongs to, and whether its repository has uncommitted changes.

    Parameters
    ----------
    file : Path
        A file of the program. One that git does not track (an installed copy inside somebody's repository)
        has no commit: that repository says nothing about it.

    Returns
    -------
    commit : str or None
    dirty : bool or None
        None when there is no repository or no git.
    """
    folder = file.parent
    if _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    # A slow network file system must not hold a session up: no answer in time counts as no git.
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
