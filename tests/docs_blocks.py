"""The code blocks of the documentation: where they are, what they need, and a folder in which they can run fast."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import builders
import yaml

from energylab import store
from energylab.parameters import Parameters

ROOT = Path(__file__).resolve().parents[1]

#: What a block may need that is not everywhere; its title says so, and it is then checked, not run.
NEEDS = ("needs a GPU", "needs network", "needs Slurm", "needs Docker", "needs Chromium")

LANGUAGES = ("python", "bash", "yaml", "text")

_FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str  # path from the root of the repository
    line: int  # of its first line of code
    language: str
    title: str
    code: str

    @property
    def need(self) -> str | None:
        """What it needs beyond any machine, None where it runs anywhere."""
        return self.title if self.title in NEEDS else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page that people write, READMEs included."""
    fixed = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return fixed + sorted((ROOT / "docs").glob("*.md")) + sorted(ROOT.glob("*/README.md"))


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages, of some languages if named."""
    found = [block for page in pages() for block in _of(page)]
    return [block for block in found if not languages or block.language in languages]


def _of(page: Path) -> list[Block]:
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    return [
        Block(name, text.count("\n", 0, m.start("code")) + 1, m["language"], m["title"] or "", m["code"])
        for m in _FENCE.finditer(text)
    ]


def run(found: list[Block], folder: Path) -> None:
    """Run the blocks of a page in order; fail with what the first wrong one printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{ROOT}", "MPLBACKEND": "Agg"}
    for block in found:
        program = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable]
        command = [*program, "-c", block.code]
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=900)
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def workplace(folder: Path) -> Path:
    """Lay out a copy of the project in which blocks run fast: two small models in the quickstart, one earlier study."""
    for name in ("notebooks", "benchmarks", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params", symlinks=True)
    (folder / "results").mkdir()  # none of the reader's own studies
    quickstart = folder / "params" / "studies" / "quickstart.yaml"
    quickstart.write_text(yaml.safe_dump(_fast(yaml.safe_load(quickstart.read_text()))))
    for number, model in enumerate(("small", "middle", "large")):  # records that a reader has
        record = builders.record(Parameters(model=model), energy_j=2.0 + number)
        store.write(record, folder / "results" / "earlier" / f"{number:016x}" / "attempt-0")
    return folder


def _fast(study: dict) -> dict:
    """Keep two of the quickstart's models, four queries and short windows."""
    kept = ["google/bert_uncased_L-2_H-128_A-2", "sentence-transformers/all-MiniLM-L6-v2"]
    sweep = next(each for each in study["sweeps"] if kept[1] in each["model"])
    short = {"samples": 4, "window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}
    study["parameters"] |= short
    return {**study, "repeats": 1, "sweeps": [{**sweep, **short, "model": kept}]}
