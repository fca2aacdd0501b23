"""Size and speed of the leaderboard: 206 and 5,000 simulated models, built, and opened and sorted in Chromium.

Prints, for each count: seconds to build the pages (without and with labels), the size of what a reader loads
(index, script, style) with the tables as JSON and CSV, and, where Chromium and playwright are installed,
milliseconds from opening the page to the first painted frame and to the end of its load event, and from a click on
a heading to the next painted frame. All models stand in one table, the worst case. Nothing is measured but the pages:
the models are simulated.

    python benchmarks/leaderboard.py [--models 206 5000] [--out FOLDER]
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

GOALS = {206: {"kB": 300}, 5000: {"open_ms": 2000, "sort_ms": 300, "build_s": 60}}
REPEATS = 5


def table(models: int, seed: int = 7) -> pd.DataFrame:
    """Return a tidy table of simulated models: two sessions each, sizes, precisions and qualities."""
    rng = np.random.default_rng(seed)
    energy_j = 3600 * 10 ** rng.uniform(-0.5, 2, models)
    rows = {
        "task": "text_generation",
        "model": [f"organisation-{n % 97}/model-{n:05d}" for n in range(models)],
        "model_class": "A",
        "energy_kind": "simulated",
        "device": "Simulated accelerator",
        "queries": 1000,
        "phase": "generate",
        "run": 0,
        "output_tokens": 10_000,
        "parameters": (energy_j * 1e5).astype(int),
        "dtype": "float16",
        "quality_metric": "accuracy",
        "quality": rng.uniform(0.3, 0.9, models).round(4),
    }
    sessions = [
        pd.DataFrame({**rows, "energy_j": energy_j * rng.normal(1, 0.01, models), "session": f"s{number}"})
        for number in range(2)
    ]
    return pd.concat(sessions, ignore_index=True)


def simulated(models: int, folder: Path) -> Release:
    """Return a release of simulated models, each with phases and two sessions of twenty windows to be drawn."""
    path = folder / f"{models}.csv"
    table(models).to_csv(path, index=False)
    made = release.make([path], name=f"simulated-{models}", date="2026-01-31", draws=1000)
    cohort = made.cohorts[0]
    windows = tuple(
        WindowPoint(
            run=n // 4,
            phase="generate",
            start_s=11.0 * n,
            duration_s=10.0,
            mean_power_w=300.0 + n,
            valid=n != 3,
            reasons=() if n != 3 else ("thermal_slowdown",),
        )  # fmt: skip
        for n in range(20)
    )
    evidenced = tuple(
        model.model_copy(
            update={"sessions": tuple(_session(model, n, windows) for n in range(2)), "phases": _phases(model)}
        )
        for model in cohort.models
    )
    return made.model_copy(
        update={"cohorts": (cohort.model_copy(update={"models": evidenced}),), "machines": (_machine(),)}
    )


def _session(model, number, windows):
    return SessionFacts(
        record_id=f"{model.model.rsplit('-', 1)[1]}-{number}", digest=f"{number}" * 64, job_id="0123456789abcdef",
        repeat=number, created_utc="2026-01-30T12:00:00Z", energy_wh=model.energy_wh, queries=1000, runs=5, valid=True,
        machine=0, parameters={"task": "text_generation", "model": model.model}, windows=windows,
    )  # fmt: skip


def _phases(model):
    return tuple(
        PhaseFigure(
            phase=phase,
            scored=phase != "prefill",
            energy_wh=share * model.energy_wh,
            bound_wh=0.01 * model.energy_wh,
            mean_power_w=300.0,
            windows=10,
            invalid_windows=0,
        )  # fmt: skip
        for phase, share in (("preprocess", 0.1), ("prefill", 0.3), ("generate", 0.9))
    )


def _machine():
    return release.Machine(
        devices=("Simulated accelerator",), boards=("SIM-0",), driver=None, meters=("replay (simulated)",),
        processor="none", cores=1, memory_bytes=2**30, system="simulated", python="3.12", packages={}, git_commit=None,
        energylab_version="0", protocol_version="1",
    )  # fmt: skip


def timed(work) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sizes(folder: Path) -> dict[str, float]:
    """Return kilobytes: what a reader loads, the same with JSON and CSV, the model pages, the labels."""
    page = [folder / name for name in ("index.html", "style.css", "leaderboard.js")]
    data = [folder / name for name in ("leaderboard.json", "leaderboard.csv")]
    groups = {"page": page, "page and tables": page + data, "model pages": [*(folder / "models").glob("*.html")]}
    return {name: sum(path.stat().st_size for path in paths) / 1000 for name, paths in groups.items()}


OPENED = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const load = performance.getEntriesByType("navigation")[0];
  return [paint ? paint.startTime : NaN, load.loadEventEnd];
}"""

SORTED = """(name) => new Promise((done) => {
  const button = document.querySelector(`th[data-sort=${name}] button`);
  const start = performance.now();
  button.click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


def browse(folder: Path) -> dict[str, float]:
    """Return median milliseconds to open the page and to sort its table, in a fresh Chromium each."""
    from playwright.sync_api import sync_playwright

    opened, loaded, sort = [], [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto((folder / "index.html").as_uri())
            page.wait_for_timeout(200)
            paint_ms, load_ms = page.evaluate(OPENED)
            opened.append(paint_ms)
            loaded.append(load_ms)
            sort.append(max(page.evaluate(SORTED, name) for name in ("name", "quality", "energy", "stars")))
            page.close()
        browser.close()
    return {name: statistics.median(values) for name, values in (("paint", opened), ("load", loaded), ("sort", sort))}


def report(models: int, folder: Path) -> None:
    """Build, measure and print one count of models."""
    made = simulated(models, folder)
    site = folder / f"site-{models}"
    goals = GOALS.get(models, {})
    bare_s = timed(lambda: leaderboard.build(made, site, with_labels=False))
    kilobytes = sizes(site)
    full_s = timed(lambda: leaderboard.build(made, site))
    print(f"{models:,} models")
    print(f"  build: {bare_s:.1f} s without labels, {full_s:.1f} s with them (goal {goals.get('build_s', '-')} s)")
    listed = ", ".join(f"{name} {size:,.0f} kB" for name, size in kilobytes.items())
    print(f"  size: {listed} (goal {goals.get('kB', '-')} kB)")
    if chromium.find() is None:
        print("  no Chromium here: opening and sorting were not measured")
        return
    times = browse(site)
    print(f"  first paint {times['paint']:.0f} ms, loaded {times['load']:.0f} ms (goal {goals.get('open_ms', '-')} ms)")
    print(f"  slowest of four sorts {times['sort']:.0f} ms (goal {goals.get('sort_ms', '-')} ms); medians of {REPEATS}")


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
