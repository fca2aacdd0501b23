"""What is recorded of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from energylab.machine import git_state, host_facts, in_container, package_versions, processor_name


def test_host_facts_of_this_machine():
    facts = host_facts()
    assert facts.processor
    assert facts.cores == os.cpu_count()
    assert facts.memory_bytes > 2**28
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.packages["torch"] == version("torch")
    assert "no-such-package" not in facts.packages


def test_versions_of_absent_packages_are_left_out():
    assert package_versions(["no-such-package", "pydantic"]) == {"pydantic": version("pydantic")}


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC 7763\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 7763\n",
            "AMD EPYC 7763",
        ),
        ("processor\t: 0\nBogoMIPS\t: 108.00\nHardware\t: BCM2835\n", "BCM2835"),
    ],
)
def test_processor_names(tmp_path, cpuinfo, name):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert processor_name(tmp_path) == name


def test_a_processor_without_a_name_is_called_by_its_architecture(tmp_path):
    assert processor_name(tmp_path)


def test_containers_are_known_by_their_marks(tmp_path):
    assert in_container(tmp_path, {}) is None
    (tmp_path / "proc/1").mkdir(parents=True)
    group = tmp_path / "proc/1/cgroup"
    group.write_text("0::/init.scope\n")
    assert in_container(tmp_path, {}) is False
    group.write_text("12:cpu:/kubepods/besteffort/pod42\n")
    assert in_container(tmp_path, {}) is True
    group.write_text("0::/\n")
    assert in_container(tmp_path, {"APPTAINER_NAME": "image.sif"}) is True
    (tmp_path / ".dockerenv").touch()
    assert in_container(tmp_path, {}) is True


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_and_dirt_of_the_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("a = 1\n")
    assert git_state(program) == (None, None)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "program.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(program) == (commit, False)
    (tmp_path / "record.json").write_text("{}")  # results beside the program do not make it dirty
    assert git_state(program) == (commit, False)
    program.write_text("a = 2\n")
    assert git_state(program) == (commit, True)


def test_a_copy_inside_somebody_elses_repository_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    copy = tmp_path / "venv/energylab/machine.py"
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert git_state(copy) == (None, None)


def test_nothing_is_probed_at_import():
    code = (
        "import subprocess, builtins, io, sys\n"
        "def refuse(*a, **k): raise SystemExit('probed: %r' % (a,))\n"
        "subprocess.run = subprocess.Popen = refuse\n"
        "import energylab.machine, energylab.devices, energylab.meters\n"
        "assert not {'torch', 'pynvml', 'psutil', 'codecarbon'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
