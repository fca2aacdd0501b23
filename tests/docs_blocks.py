"""The code blocks of the documentation: where they are, what they need, and a folder in which they can run fast."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import builders
import yaml

from energylab import store
from energylab.parameters import Parameters

ROOT = Path(__file__).resolve().parents[1]

#: What a block may need that is not everywhere; its title says so, and it is then checked, not run.
NEEDS = ("needs a GPU", "needs network", "needs Slurm", "needs Docker", "needs Chromium")

#: Languages a fence may name. The last ones show text that is neither run nor parsed.
LANGUAGES = ("python", "bash", "yaml", "json", "toml", "text", "csv", "html", "markdown")

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')


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
    """Return every page that people write, README and the like included; generated pages have no code to run."""
    fixed = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return fixed + sorted((ROOT / "docs").rglob("*.md")) + sorted(ROOT.glob("*/README.md"))


def blocks(language: str | None = None) -> list[Block]:
    """Return the blocks of all pages, of one language if named."""
    found = [block for page in pages() for block in _of(page)]
    return [block for block in found if language in (None, block.language)]


def _of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, match) for match in _FENCE.finditer(text)]


def _block(page: Path, text: str, match: re.Match) -> Block:
    title = _TITLE.search(match["info"])
    line = text.count("\n", 0, match.start("code")) + 1
    name = page.relative_to(ROOT).as_posix()
    return Block(name, line, match["info"].split(" ")[0], title[1] if title else "", match["code"])


def workplace(folder: Path) -> Path:
    """Lay out a copy of the project in which blocks run fast: two small models in the quickstart, one earlier study."""
    for name in ("notebooks", "benchmarks", "docs", "tests", "constraints.txt", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params", symlinks=True)
    shutil.copytree(ROOT / "results", folder / "results")
    quickstart = folder / "params" / "studies" / "quickstart.yaml"
    quickstart.write_text(yaml.safe_dump(_fast(yaml.safe_load(quickstart.read_text()))))
    for number, model in enumerate(("small", "middle", "large")):
        record = builders.record(Parameters(model=model), energy_j=2.0 + number)
        store.write(record, folder / "results" / "earlier" / f"{number:016x}" / "attempt-0")
    return folder


def _fast(study: dict) -> dict:
    """Keep two of the quickstart's models, four queries and short windows."""
    kept = ["google/bert_uncased_L-2_H-128_A-2", "sentence-transformers/all-MiniLM-L6-v2"]
    sweep = next(each for each in study["sweeps"] if kept[1] in each["model"])
    short = {"samples": 4, "window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}
    study["parameters"] |= short
    return {**study, "sweeps": [{**sweep, **short, "model": kept}]}
