"""Two sets of records: better, worse, equivalent or undecided, with a board's gain cancelling where it is shared."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from energylab.cli import app
from energylab.errors import DataError, ParameterError
from energylab.ratings.equivalence import as_share, compare


def table(energies, board="x", model="m"):
    """One row a session, each of 100 queries."""
    facts = {"task": "qa", "model": model, "queries": 100, "board": board, "cohort": "c", "energy_kind": "measured"}
    return pd.DataFrame(
        [{**facts, "energy_j": 100 * joules, "session": f"{board}{n}-{joules}"} for n, joules in enumerate(energies)]
    )


A = (9.9, 10.0, 10.1, 10.0)


def test_interval_is_welch_with_the_pooled_spread_of_both():
    a, b = np.array(A), np.array([10.5, 10.6, 10.7, 10.6])
    found = compare(table(a), table(b))
    pooled = math.sqrt((a.var(ddof=1) / a.mean() ** 2 + b.var(ddof=1) / b.mean() ** 2) / 2)
    half = stats.t.ppf(0.95, 6) * pooled * math.sqrt(2 / 4)
    assert found.ratio == pytest.approx(b.mean() / a.mean())
    assert found.low == pytest.approx(found.ratio * math.exp(-half), rel=1e-3)
    assert found.high == pytest.approx(found.ratio * math.exp(half), rel=1e-3)
    assert (found.verdict, found.energy_kind, found.sessions) == ("worse", "measured", (4, 4))


@pytest.mark.parametrize(
    ("b", "verdict", "status"),
    [
        ((10.0, 9.9, 10.1, 10.05), "equivalent", 0),
        ((9.0, 9.1, 9.05, 8.95), "better", 0),
        ((11.0, 11.1, 11.05, 10.9), "worse", 1),
        ((9.2, 11.3, 10.9, 8.8), "undecided", 3),
    ],
)
def test_a_verdict_is_a_status_for_ci(b, verdict, status, tmp_path):
    assert compare(table(A), table(b)).verdict == verdict
    for name, energies in (("a", A), ("b", b)):
        table(energies).to_csv(tmp_path / f"{name}.csv", index=False)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--margin", "3%"])
    assert done.exit_code == status, done.output
    assert "energy is measured" in done.output


def test_the_gain_of_a_shared_board_cancels_and_that_of_two_boards_does_not():
    shared = compare(table(A), table((10.0, 9.9, 10.1, 10.05)))
    apart = compare(table(A), table((10.0, 9.9, 10.1, 10.05), board="y"))
    assert shared.verdict == "equivalent"
    assert apart.verdict == "undecided"
    half = math.log(apart.high / apart.low) / 2
    assert half > stats.norm.ppf(0.95) * 0.05 * math.sqrt(2 / 3) > math.log(shared.high / shared.low) / 2
    assert apart.sessions_wanted is None


def test_sessions_wanted_give_the_power_that_is_wanted():
    rng = np.random.default_rng(5)
    noisy = compare(table(10 * (1 + 0.03 * rng.standard_normal(6))), table(10 * (1 + 0.03 * rng.standard_normal(6))))
    count, spread = noisy.sessions_wanted, 0.03
    hits = 0
    for _ in range(300):
        means = [np.log(10 * (1 + spread * rng.standard_normal(count))) for _ in range(2)]
        half = stats.t.ppf(0.95, 2 * count - 2) * math.sqrt(sum(part.var(ddof=1) for part in means) / count)
        difference = means[1].mean() - means[0].mean()
        hits += abs(difference) + half < math.log(1.03)
    assert 10 < count < 100
    assert hits / 300 > 0.6  # the spread was learnt from six sessions


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (table(A).assign(model=["m", "m", "m", "o"]), table(A), "set A holds 2 models"),
        (table(A), table(A).assign(cohort="other"), "different cohorts"),
        (table((10.0,)), table((10.0,)), "measure each at least twice"),
    ],
)
def test_what_cannot_be_compared(a, b, words):
    with pytest.raises(DataError, match=words):
        compare(a, b)


def test_margins():
    assert as_share("3%") == as_share("0.03") == pytest.approx(0.03)
    with pytest.raises(ParameterError, match="give a relative difference such as 3% or 0.03"):
        as_share("three")
    with pytest.raises(ParameterError, match="margin=3"):
        compare(table(A), table(A), margin=3)
