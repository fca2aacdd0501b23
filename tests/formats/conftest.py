"""Files as other programs write them: genuine samples, and reports built with stated energies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from format_builders import energy, mean

from energylab.formats import Asked, import_files


@pytest.fixture
def samples():
    """The folder of genuine samples."""
    return Path(__file__).parent / "samples"


@pytest.fixture
def write(tmp_path):
    """Write one file as JSON or text under the test's folder, and return its path."""

    def write(name, content):
        path = tmp_path / "given" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def imported(samples, write, tmp_path):
    """Import files into ``out``: genuine samples by their name, others as a name and a content."""

    def imported(*files, **asked):
        paths = [samples / file if isinstance(file, str) else write(*file) for file in files]
        return import_files(paths, tmp_path / "out", Asked(**asked))

    return imported


@pytest.fixture
def repeated():
    """An optimum-benchmark report of ten runs: in runs 3 and 7 generate read zero, so decode is minus prefill."""
    prefill = [0.010 + 0.0001 * n for n in range(10)]
    generate = [0.0 if n in (3, 7) else 0.050 + 0.0002 * n for n in range(10)]
    decode = [g - p for g, p in zip(generate, prefill, strict=True)]
    report = {
        "load": energy(0.4),
        "preprocess": energy(0.001),
        "prefill": energy(mean(prefill), prefill),
        "decode": energy(mean(decode), decode),
    }
    return report, generate
