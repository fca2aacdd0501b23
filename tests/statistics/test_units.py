"""Windows to units: what is kept, what is divided by what, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from energylab.errors import CohortError, StatisticsError, UnknownNameError
from energylab.statistics.simulate import simulate
from energylab.statistics.units import complete_runs, measured_windows, run_totals


@pytest.fixture
def windows():
    return simulate(0, boards=1, sessions=2, runs=3, windows=6).windows


def test_energy_per_query_counts_replications(windows):
    doubled = windows.assign(replications=2, energy_j=2 * windows["energy_j"], duration_s=2 * windows["duration_s"])
    once, twice = measured_windows(windows), measured_windows(doubled)
    assert twice["per_query_j"].to_numpy() == pytest.approx(once["per_query_j"].to_numpy())
    assert twice["length_s"].to_numpy() == pytest.approx(once["length_s"].to_numpy())


def test_invalid_windows_are_left_out_and_their_run_has_no_total(windows):
    broken = windows.copy()
    broken.loc[4, ["valid", "energy_j"]] = [False, np.nan]
    units = measured_windows(broken)
    assert len(units) == len(windows) - 1
    assert len(run_totals(units)) == len(run_totals(measured_windows(windows))) - 1
    again = pd.concat([broken, windows.iloc[[4]].assign(attempt=1, index=999)])
    assert len(run_totals(measured_windows(again))) == 6


def test_run_totals_are_energy_per_query(windows):
    totals = run_totals(measured_windows(windows))
    first = windows[(windows["session"] == totals["session"][0]) & (windows["run"] == 0)]
    assert totals["per_query_j"][0] == pytest.approx(first["energy_j"].sum() / 60)
    assert totals["windows"].unique().tolist() == [6]


def test_the_scored_phase_with_most_energy_is_looked_at_by_default(windows):
    small = windows.assign(phase="preprocess", energy_j=windows["energy_j"] / 100)
    huge = windows.assign(phase="prefill", scored=False, energy_j=windows["energy_j"] * 100)
    both = pd.concat([windows, small, huge])
    assert measured_windows(both)["phase"].unique().tolist() == ["generate"]
    assert measured_windows(both, "preprocess")["per_query_j"].mean() < 10
    with pytest.raises(UnknownNameError, match="did you mean 'prefill'"):
        measured_windows(both, "prefil")


def test_unlike_things_are_not_mixed(windows):
    other = windows.assign(model="simulated/other")
    with pytest.raises(CohortError, match="2 values of model"):
        measured_windows(pd.concat([windows, other]))


def test_nothing_to_look_at_is_refused(windows):
    with pytest.raises(StatisticsError, match="empty"):
        measured_windows(windows.iloc[:0])
    with pytest.raises(StatisticsError, match="no valid window"):
        measured_windows(windows.assign(valid=False))
    with pytest.raises(StatisticsError, match="no run has all"):
        complete_runs(measured_windows(windows[windows["block"] == windows["run"]]))


def test_runs_that_all_lost_the_same_query_have_no_total():
    """Of a slow model every block is one query; the one that always fails must not leave totals of the others."""
    windows = simulate(0, boards=1, sessions=2, runs=2, windows=20, queries_per_window=1).windows
    lost = windows["query_ids"].map(lambda held: 7 in held)
    assert lost.sum() == 4
    with pytest.raises(StatisticsError, match="no run has all its queries"):
        run_totals(measured_windows(windows.assign(valid=~lost)))
