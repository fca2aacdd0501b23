"""Print pages and labels as PDF, and labels as PNG, by the system's Chromium without window or network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from energylab.errors import MissingExtraError, ReleaseError

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FIXED = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_LIMIT_S = 120
_SCALE = 4  # pixels of a PNG for one of the label's units


def find() -> str | None:
    """Return Chromium's path: ``ENERGYLAB_CHROMIUM``, or the first of its usual names; None if there is none."""
    return os.environ.get("ENERGYLAB_CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)


def print_pdf(page: Path, output: Path) -> Path:
    """Print a local HTML page as PDF."""
    return _run(page, output, "--no-pdf-header-footer", f"--print-to-pdf={output.resolve()}")


def label(svg: str, output: Path, width: int, height: int, pdf: bool) -> Path:
    """Draw a label as PDF of its own size, or as PNG with four pixels per unit."""
    style = f"@page {{ size: {width}px {height}px; margin: 0 }} body {{ margin: 0 }} svg {{ display: block }}"
    with tempfile.TemporaryDirectory(prefix="energylab-label-") as folder:
        page = Path(folder) / "label.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><style>{style}</style>{svg}', encoding="utf-8")
        if pdf:
            return print_pdf(page, output)
        return _run(
            page, output, f"--window-size={width},{height}", f"--force-device-scale-factor={_SCALE}",
            "--hide-scrollbars", "--default-background-color=00000000", f"--screenshot={output.resolve()}",
        )  # fmt: skip


def _run(page: Path, output: Path, *options: str) -> Path:
    program = find()
    if program is None:
        raise MissingExtraError(
            "PNG and PDF need Chromium, which is not installed; install it (Debian: apt-get install chromium), "
            "give its path in ENERGYLAB_CHROMIUM, or choose SVG or HTML"
        )
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium's sandbox refuses to run as root
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="energylab-chromium-") as profile:
        command = [program, *_FIXED, f"--user-data-dir={profile}", *root, *options, page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReleaseError(f"{program} could not make {output}: {error}") from error
    if done.returncode != 0 or not output.is_file():
        raise ReleaseError(f"{program} could not make {output}: {done.stderr.strip()[-500:] or 'no reason given'}")
    return output
