"""Made again from the same release, in another process, folder, time zone and on another day: the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from energylab import release

REPOSITORY = Path(__file__).parents[2]

BUILD = """
import sys
from pathlib import Path
from energylab import release
from energylab.publish import labels, leaderboard, render
made = release.read(sys.argv[1])
leaderboard.build(made, "site")
labels.write(made, *next(made.rated()), "svg", Path("label.svg"))
render.report(made, "report.html")
"""


def build(source, folder, before=(), **environment):
    """Build everything in a fresh process that works in `folder`; return each file's sha256."""
    folder.mkdir(parents=True)
    shutil.copy(source, folder / "release.json")
    search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    command = [*before, sys.executable, "-c", BUILD, str(folder / "release.json")]
    environment = {**os.environ, "PYTHONPATH": search, **environment}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def source(official, tmp_path_factory):
    return release.write(official, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def first(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp("first") / "here", PYTHONHASHSEED="1", TZ="UTC")


@pytest.fixture(scope="module")
def again(source, tmp_path_factory):
    """Built elsewhere; 400 days later where the clock can be moved."""
    later = ("faketime", "-f", "+400d") if shutil.which("faketime") else ()
    folder = tmp_path_factory.mktemp("again") / "some" / "where else"
    return build(source, folder, later, PYTHONHASHSEED="2", TZ="Pacific/Kiritimati")


def test_in_another_folder_and_time_zone(first, again):
    assert again == first
    assert len([name for name in first if name.startswith("site/models/")]) == 8


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime (Debian package of that name) is not installed")
def test_on_another_day(first, again):
    assert again["report.html"] == first["report.html"]
    assert again["site/index.html"] == first["site/index.html"]
