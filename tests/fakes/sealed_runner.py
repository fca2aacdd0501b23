"""The image of the sealed runner that all tests with Docker share: built once, without any image registry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from energylab_portal.sealed import docker

RUNNER = "energylab-closed-test"


def build() -> str:
    """Build the runner from Debian's packages and the environment these tests run in; return its name."""
    if shutil.which("debootstrap") is None and docker.call(["images", "--quiet", "energylab-base:bookworm"]) == "":
        pytest.skip("no base image, and no debootstrap to make one: apt-get install debootstrap")
    setup = Path(__file__).parents[2] / "docker/setup.sh"
    built = subprocess.run([str(setup), "--offline", "--name", RUNNER], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert built.stdout.strip() == RUNNER
    return RUNNER
