"""Size and speed of the leaderboard: 206 and 5,000 simulated models, built, and opened and sorted in Chromium.

Prints, for each count: seconds to build the pages (with and without labels), the size of what a reader loads (index,
script, style) and of the tables as JSON and CSV, and, where Chromium and playwright are installed, milliseconds from
opening the page to the first painted frame and to the end of its load event, and from a click on a heading to the next
painted frame. All models stand in one table, the worst case. Nothing is measured but the pages.

    python benchmarks/leaderboard_speed.py [--models 206 5000] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from energylab import release
from energylab.publish import chromium, leaderboard
from energylab.release import PhaseFigure, Release, SessionFacts, WindowPoint

GOALS = {206: {"kB": 500}, 5000: {"open_ms": 2000, "sort_ms": 300, "build_s": 60}}
REPEATS = 5


def simulated(models: int, folder: Path) -> Release:
    """Return a release of simulated models with sizes, qualities, a phase and two sessions of twenty windows each."""
    rng = np.random.default_rng(7)
    energy_j = 3600 * 10 ** rng.uniform(-0.5, 2, models)
    rows = {
        "task": "text_generation", "model": [f"organisation-{n % 97}/model-{n:05d}" for n in range(models)],
        "model_class": "A", "energy_kind": "simulated", "device": "Simulated accelerator", "queries": 1000,
        "phase": "generate", "run": 0, "output_tokens": 10_000, "parameters": (energy_j * 1e5).astype(int),
        "dtype": "float16", "quality_metric": "accuracy", "quality": rng.uniform(0.3, 0.9, models).round(4),
    }  # fmt: skip
    sessions = [{**rows, "energy_j": energy_j * rng.normal(1, 0.01, models), "session": f"s{n}"} for n in range(2)]
    path = folder / f"{models}.csv"
    pd.concat(map(pd.DataFrame, sessions)).to_csv(path, index=False)
    made = release.make([path], name=f"simulated-{models}", date="2026-01-31", draws=1000)
    cohort = made.cohorts[0]
    cohort = cohort.model_copy(update={"models": tuple(map(evidenced, cohort.models))})
    return made.model_copy(update={"cohorts": (cohort,), "machines": (MACHINE,)})


def evidenced(model):
    """Return a model with what a measured one has: a phase, and sessions with their windows."""
    phase = PhaseFigure(
        phase="generate", scored=True, energy_wh=model.energy_wh, bound_wh=0.01 * model.energy_wh, mean_power_w=300.0,
        windows=10, invalid_windows=0,
    )  # fmt: skip
    name = model.model.rsplit("-", 1)[1]
    sessions = (
        SessionFacts(
            record_id=f"{name}-{n}", digest=f"{n}" * 64, job_id="0123456789abcdef", repeat=n, queries=1000, runs=5,
            created_utc="2026-01-30T12:00:00Z", energy_wh=model.energy_wh, valid=True, machine=0, windows=WINDOWS,
            parameters={"task": "text_generation", "model": model.model},
        )
        for n in range(2)
    )  # fmt: skip
    return model.model_copy(update={"phases": (phase,), "sessions": tuple(sessions)})


WINDOWS = tuple(
    WindowPoint(
        run=n // 4, phase="generate", start_s=11.0 * n, duration_s=10.0, mean_power_w=300.0 + n, valid=n != 3,
        reasons=() if n != 3 else ("thermal_slowdown",),
    )
    for n in range(20)
)  # fmt: skip
MACHINE = release.Machine(
    devices=("Simulated accelerator",), boards=("SIM-0",), driver=None, meters=("replay (simulated)",),
    processor="none", cores=1, memory_bytes=2**30, system="simulated", python="3.12", packages={}, git_commit=None,
    energylab_version="0", protocol_version="1",
)  # fmt: skip


def timed(work) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def kilobytes(folder: Path, *names: str) -> float:
    """Return the size of some of a leaderboard's files."""
    return sum((folder / name).stat().st_size for name in names) / 1000


OPENED = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [paint ? paint.startTime : NaN, performance.getEntriesByType("navigation")[0].loadEventEnd];
}"""

SORTED = """(name) => new Promise((done) => {
  const button = document.querySelector(`th[data-sort=${name}] button`);
  const start = performance.now();
  button.click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


def browse(index: Path) -> list[float]:
    """Return median milliseconds to the first paint, to the end of loading, and of the slowest of four sorts."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(index.as_uri())
            page.wait_for_timeout(200)
            sorts = [page.evaluate(SORTED, name) for name in ("name", "quality", "energy", "stars")]
            found.append([*page.evaluate(OPENED), max(sorts)])
            page.close()
        browser.close()
    return [statistics.median(values) for values in zip(*found, strict=True)]


def report(models: int, folder: Path) -> None:
    """Build, measure and print one count of models."""
    made, site, goals = simulated(models, folder), folder / f"site-{models}", GOALS.get(models, {})
    bare_s = timed(lambda: leaderboard.build(made, site, with_labels=False))
    full_s = timed(lambda: leaderboard.build(made, site))
    page = kilobytes(site, "index.html", "style.css", "leaderboard.js")
    tables = kilobytes(site, "leaderboard.json", "leaderboard.csv")
    print(f"{models:,} models")
    print(f"  build: {bare_s:.1f} s without labels, {full_s:.1f} s with them (goal {goals.get('build_s', '-')} s)")
    print(f"  size: page {page:,.0f} kB, with JSON and CSV {page + tables:,.0f} kB (goal {goals.get('kB', '-')} kB)")
    if chromium.find() is None:
        print("  no Chromium here: opening and sorting were not measured")
        return
    paint, load, sort = browse(site / "index.html")
    print(f"  first paint {paint:.0f} ms, loaded {load:.0f} ms (goal {goals.get('open_ms', '-')} ms)")
    print(f"  slowest of four sorts {sort:.0f} ms (goal {goals.get('sort_ms', '-')} ms); medians of {REPEATS}")


def main() -> None:
    """Parse the command line and report each count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--out", type=Path, help="keep the pages in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for models in options.models:
            report(models, folder)


if __name__ == "__main__":
    main()
