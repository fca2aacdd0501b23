"""Splitting windows from their queries: against a direct likelihood, and where it is impossible."""

import numpy as np
import pytest
from scipy import optimize, stats

from energylab.statistics import queries
from energylab.statistics.queries import reml_split, split_queries, within_run_spectrum
from energylab.statistics.simulate import simulate
from energylab.statistics.units import measured_windows


@pytest.fixture(scope="module")
def small():
    return measured_windows(simulate(2, boards=1, sessions=2, runs=3, windows=8, warm_up=0.0).windows)


def test_spectrum_gives_the_covariance_it_is_made_for(small):
    spectrum = within_run_spectrum(small)
    shares = np.zeros((len(small), 80))
    for row, ids in enumerate(small["query_ids"]):
        shares[row, list(ids)] = 1 / len(ids)
    rotated = spectrum.vectors.T @ shares @ shares.T @ spectrum.vectors
    assert rotated == pytest.approx(np.diag(spectrum.values), abs=1e-10)
    assert spectrum.vectors.T @ spectrum.vectors == pytest.approx(np.eye(len(small) - 6), abs=1e-10)
    run = small["session"] + small["run"].astype(str)
    for name in run.unique():
        assert spectrum.vectors[(run == name).to_numpy()].sum(axis=0) == pytest.approx(0, abs=1e-10)


def test_estimate_maximises_the_likelihood_found_by_a_general_optimiser():
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 0.3, 120)
    contrasts = np.sqrt(0.01 + 0.5 * values) * rng.standard_normal(120)

    def loss(log):
        return -stats.norm.logpdf(contrasts, scale=np.sqrt(np.exp(log[0]) + np.exp(log[1]) * values)).sum()

    best = optimize.minimize(loss, [-4, -1], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    split = reml_split(contrasts, values)
    assert [split.window_variance, split.query_variance] == pytest.approx(np.exp(best.x), rel=0.02)


def test_interval_is_where_the_profile_likelihood_has_fallen_enough():
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 0.3, 120)
    contrasts = np.sqrt(0.01 + 0.5 * values) * rng.standard_normal(120)

    def profile(query):
        def loss(log):
            return -stats.norm.logpdf(contrasts, scale=np.sqrt(np.exp(log) + query * values)).sum()

        return optimize.minimize_scalar(loss, bounds=(-12, 2), method="bounded").fun

    split = reml_split(contrasts, values)
    fall = stats.chi2.ppf(0.95, 1) / 2
    for end in split.query_interval:
        assert profile(end) - profile(split.query_variance) == pytest.approx(fall, abs=0.02)


def test_a_tiny_noise_of_windows_does_not_hide_the_queries():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.uniform(0.01, 0.3, 60), np.zeros(60)])
    contrasts = np.sqrt(1e-8 + 0.1 * values) * rng.standard_normal(120)
    split = reml_split(contrasts, values)
    assert split.query_interval[0] <= 0.1 <= split.query_interval[1]
    assert split.window_variance == pytest.approx(1e-8, rel=0.4)


def test_queries_asked_once_cannot_be_split(small):
    split = split_queries(small[(small["run"] == 0)].drop_duplicates("block"))
    assert np.isnan(split.query_variance)
    assert "no query was asked twice" in split.note


def test_large_studies_are_cut_to_whole_sessions(small, monkeypatch):
    monkeypatch.setattr(queries, "MOST_WINDOWS", 30)
    assert split_queries(small).note == "from 1 of 2 sessions"
