"""Pages that are files of the repository, read where they lie: README, CONTRIBUTING, CHANGELOG, benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Page of the site to file of the repository.
COPIES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "figures.md": "benchmarks/README.md",
}


def pages() -> dict[str, str]:
    """Return the pages, with links as the site needs them."""
    return {page: adapted((ROOT / file).read_text(encoding="utf-8")) for page, file in COPIES.items()}


def adapted(text: str) -> str:
    """Turn links of a file at the root of the repository into links of the site.

    Files of ``docs/`` and of `COPIES` have a page; any other file of the repository has none, and its name stays as
    plain text. A ``<picture>`` with a light and a dark source becomes two images of which the theme shows one.
    """
    text = re.sub(r"<picture>.*?</picture>", _both, text, flags=re.DOTALL)
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)", _link, text)


def _both(match: re.Match) -> str:
    dark = re.search(r'srcset="docs/([^"]+)"', match[0])[1]
    light = re.search(r'src="docs/([^"]+)"', match[0])[1]
    alt = re.search(r'alt="([^"]+)"', match[0])[1]
    return f"![{alt}]({light}#only-light)\n![{alt}]({dark}#only-dark)"


def _link(match: re.Match) -> str:
    text, target, anchor = match[1], match[2], match[3] or ""
    if re.match(r"[a-z]+:", target):
        return match[0]
    name = target.removeprefix("../")
    pages = {file: page for page, file in COPIES.items()}
    if name in pages:
        return f"[{text}]({pages[name]}{anchor})"
    if name.startswith("docs/"):
        return f"[{text}]({name.removeprefix('docs/')}{anchor})"
    return text
