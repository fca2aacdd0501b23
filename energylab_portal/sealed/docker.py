"""The Docker daemon by its command line: bounded output, one clear error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from energylab.errors import SealError

HELP = "docker/setup.sh installs what is missing and starts a daemon"


def why_not() -> str | None:
    """Say why no container can be started here; None when one can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    done = subprocess.run(["docker", "info", "--format", "{{.ID}}"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no Docker daemon answers: {done.stderr.strip()[:200]}"


def call(arguments: Sequence[str], timeout_s: float = 120) -> str:
    """Run one docker command and return what it printed.

    Raises
    ------
    SealError
        If it fails or takes longer than `timeout_s`.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace"
        )
    except FileNotFoundError:
        raise SealError(f"there is no docker command here; {HELP}") from None
    except subprocess.TimeoutExpired:
        raise SealError(f"docker {arguments[0]} took longer than {timeout_s:g} s") from None
    if done.returncode != 0:
        raise SealError(f"docker {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def inspect(kind: str, name: str) -> dict[str, Any]:
    """Return what the daemon says of a container or an image."""
    return json.loads(call([kind, "inspect", name]))[0]
