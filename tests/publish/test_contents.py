"""What energies and intervals hold is said of the hardware and kind they have, on every page."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from release_builders import record_of

from energylab import release, store
from energylab.publish import carbon, contents, labels, leaderboard, statement, tables
from energylab.publish.report import Report

GRID = carbon.Intensity(100.0, "somewhere", "a table")


@pytest.fixture(scope="module")
def on_processor(tmp_path_factory):
    """The release of estimates on the machine's own processor, two sessions each."""
    root = tmp_path_factory.mktemp("processor")
    for model in range(3):
        for session in range(2):
            about = {"kind": "estimated", "device": "Example CPU", "source": "random", "data": "sample"}
            store.write(record_of(f"org/m{model}", 4.0 + model, session, **about), root / f"{model}-{session}")
    return release.make([root], name="cpu", date="2026-03-05", draws=200)


@pytest.fixture(scope="module")
def unstated(tmp_path_factory):
    """The release of a table that names no hardware."""
    path = tmp_path_factory.mktemp("unstated") / "t.csv"
    path.write_text("task,model,energy_j,queries\nqa,a,3600,1000\nqa,b,9000,1000\nqa,c,36000,1000\n")
    return release.make([path], name="csv", date="2026-03-05", draws=200, noise=0.01)


def everything_said(made, folder):
    """Return the text of the index, a model page, a label, a statement and the report's opening, by name."""
    cohort, model = next(made.rated())
    index = leaderboard.build(made, folder, with_labels=False)
    page = next((folder / "models").iterdir())
    pages = {
        "index": index.read_text(),
        "model": page.read_text(),
        "label": labels.Labels(made).svg(cohort, model),
        "statement": statement.statement(made, cohort, model, GRID).html(),
        "report": Report(made).opening()._repr_html_(),
    }
    return {name: BeautifulSoup(text, "html.parser").get_text(" ") for name, text in pages.items()}


def test_the_processors_own_energy_is_not_said_to_leave_the_processor_out(on_processor, tmp_path):
    for name, text in everything_said(on_processor, tmp_path / "site").items():
        assert "CPU and host" not in text, name
        assert contents.BESIDE_PROCESSOR in text, name
    assert "rest of host" in labels.Labels(on_processor).svg(*next(on_processor.rated()))


def test_of_hardware_not_stated_nothing_is_claimed(unstated, tmp_path):
    for name, text in everything_said(unstated, tmp_path / "site").items():
        assert "CPU and host" not in text, name
        assert contents.UNKNOWN in text, name


def test_a_board_is_as_ever(official, tmp_path):
    for name, text in everything_said(official, tmp_path / "site").items():
        assert "CPU and host (unless shown apart)" in text, name


def test_a_release_of_several_says_which(official, on_processor):
    cohort = on_processor.cohorts[0].model_copy(update={"task": "other"})
    moved = [
        model.model_copy(update={"sessions": tuple(s.model_copy(update={"machine": 3}) for s in model.sessions)})
        for model in cohort.models
    ]
    machines = (*official.machines, *[on_processor.machines[0]] * 4)
    both = official.model_copy(
        update={
            "cohorts": (*official.cohorts, cohort.model_copy(update={"models": tuple(moved)})),
            "machines": machines,
        }
    )
    said = contents.not_in_figures(both)
    assert re.search(r"on NVIDIA H100 80GB HBM3: CPU and host .*; on Example CPU: memory", said)
    assert said in tables.to_json(both).decode()


def test_an_estimates_interval_has_no_sensor(on_processor, official, tmp_path):
    said = everything_said(on_processor, tmp_path / "site")
    for name in ("index", "model", "statement"):
        assert "factor of two" in said[name], name
    assert "sensor’s error;" in said["statement"]
    assert "with the sensor’s error" not in said["statement"]
    assert "without the sensor’s own error" not in said["model"]
    assert "(95 %, power model aside)" in said["label"]
    assert not any("factor of two" in text for text in everything_said(official, tmp_path / "official").values())
