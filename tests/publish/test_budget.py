"""A year of queries: the sum in Python and in the terminal; the page's script has its test in a browser."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from energylab import release
from energylab.cli import app
from energylab.errors import ParameterError
from energylab.publish import budget, emissions, page


def test_a_year(official):
    cohort, model = page.find(official, "org/model-3")
    grid = emissions.Grid("", "somewhere", 400.0, "a table")
    made = budget.budget(model, 10_000, grid, pue=1.5, price_per_kwh=0.2)
    kwh = model.energy_wh * 10 * 365.25 * 1.5 / 1000  # ten thousand queries are ten times a thousand
    assert made.kwh[0] == pytest.approx(kwh)
    assert made.cost[0] == pytest.approx(0.2 * kwh)
    assert made.kg_co2e[0] == pytest.approx(0.4 * kwh)
    assert made.kwh[1] / made.kwh[0] == pytest.approx(model.expanded.low_wh / model.energy_wh)
    bare = model.model_copy(update={"expanded": None})
    assert "no interval" in " ".join(budget.lines(cohort, bare, budget.budget(bare, 1000, grid)))


@pytest.mark.parametrize(("name", "value"), [("queries_a_day", -1), ("pue", 0.9), ("price_per_kwh", float("nan"))])
def test_impossible_numbers(official, name, value):
    _, model = page.find(official, "org/model-3")
    with pytest.raises(ParameterError, match="give a number of at least"):
        budget.budget(model, **{"queries_a_day": 1, "grid": emissions.grid_of(), name: value})


def test_command_sets_two_beside_each_other(official, tmp_path):
    path = release.write(official, tmp_path)
    words = f"budget {path} org/model-1 org/model-2 --queries 1e6 --country FRA --price 0.2".split()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.count("kWh a year") == 2
    assert done.output.count("Not included") == 1
    assert "1,000,000 queries a day, PUE 1.2" in done.output
    assert "measured by a hardware counter" in done.output
