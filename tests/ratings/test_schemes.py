"""Bands of every scheme, ties at an edge, and stars within given bands."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from energylab import published
from energylab.energy import Group
from energylab.errors import DataError, ParameterError
from energylab.ratings import rate, rate_with_bands
from energylab.ratings.schemes import TIE, Bands, Reference, count_stars, get_scheme, stars_for

GROUP = Group("summarization")
FILE = Path(__file__).parents[2] / "params" / "ratings" / "reference-2025-02.yaml"


def published_rule(energy, lowest, highest):
    """The rule as the published leaderboard computes it, one model at a time."""
    return 5 - min(math.floor(5 * (energy - lowest) / (highest - lowest)), 4)


def stars(energies, scheme):
    energies = np.asarray(energies, dtype=float)
    return count_stars(energies, get_scheme(scheme)(energies, GROUP)).tolist()


@pytest.mark.parametrize(("scheme", "of"), [("equal_width", float), ("log_width", math.log)])
def test_equal_width_is_the_published_rule_and_log_width_that_of_logarithms(scheme, of):
    energies = np.random.default_rng(1).lognormal(0, 1, 300)
    values = [of(energy) for energy in energies]
    assert stars(energies, scheme) == [published_rule(value, min(values), max(values)) for value in values]


def test_quantiles_give_every_fifth_of_the_models_one_star_less():
    energies = np.random.default_rng(3).lognormal(0, 1, 100)
    found = pd.Series(stars(energies, "quantiles"))
    assert found.value_counts().to_dict() == {5: 20, 4: 20, 3: 20, 2: 20, 1: 20}
    assert found[np.argsort(energies)].is_monotonic_decreasing


def test_schemes_work_on_many_redraws_at_once():
    energies = np.random.default_rng(4).lognormal(0, 1, (7, 20))
    for name in ("equal_width", "log_width", "quantiles"):
        scheme = get_scheme(name)
        together = count_stars(energies, scheme(energies, GROUP))
        assert together.tolist() == [count_stars(row, scheme(row, GROUP)).tolist() for row in energies]


def test_a_tie_at_an_edge_earns_the_higher_star():
    edges = np.array([2.0, 3.0, 4.0, 5.0])
    energies = np.array([2.0, 2.0 * (1 + TIE / 2), 2.0 * (1 + 3 * TIE), 5.0, 5.1])
    assert count_stars(energies, edges).tolist() == [5, 5, 4, 2, 1]


def test_stars_within_given_bands_keep_unknown_energies_unknown_and_refuse_what_is_none():
    bands = Bands("equal_width", "1", "summarization", "here", None, (2.0, 3.0, 4.0, 5.0))
    assert stars_for([0.5, np.nan, 2.5, 99.0], bands).fillna(0).tolist() == [5, 0, 4, 1]
    assert stars_for([1.0, 2.0], replace(bands, edges_wh=(), reason="not rated")).isna().all()
    for energy in (0.0, -1.0, np.inf):
        with pytest.raises(DataError, match="zero or negative"):
            stars_for([1.0, energy], bands)


def test_reference_bands_are_those_of_the_published_table():
    file = Reference(FILE).file
    made = {(band.task, band.model_class): band.edges_wh for band in rate_with_bands(published.load(), draws=0).bands}
    assert {(band.task, band.model_class): pytest.approx(band.edges_wh, rel=1e-11) for band in file.bands} == made
    assert file.device == published.source()["device"]


def test_a_model_that_joins_or_leaves_moves_nobody():
    df = published.load()
    whole = rate(df, Reference(FILE), draws=0).set_index(["task", "model"])["stars"]
    part = rate(df.iloc[::3], Reference(FILE), draws=0).set_index(["task", "model"])["stars"]
    assert part.equals(whole.reindex(part.index))


def test_a_gain_shared_by_all_moves_stars_of_fixed_bands():
    df = pd.DataFrame({"task": ["summarization"], "model": "x", "energy_j": 7.6 * 3600, "queries": 1000})
    p = rate(df, Reference(FILE), noise=1e-6, gain=0.05)
    assert 0.4 < p["p_star_5"][0] < 0.6


def test_another_device_or_an_unknown_task_is_not_rated():
    df = pd.DataFrame(
        {"task": ["summarization", "reasoning"], "model": "x", "energy_j": 1.0, "queries": 1, "device": ["CPU", None]}
    )
    notes = rate(df, Reference(FILE)).set_index("task")["note"]
    assert "are for NVIDIA H100 80GB HBM3, this cohort ran on CPU" in notes["summarization"]
    assert "has no bands for reasoning" in notes["reasoning"]


FACTS = "version: x\nsource: y\ndevice: z\nbands: "


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{FACTS}[{{task: t, edges_wh: [4, 3, 2, 1]}}]", "bands.0.edges_wh edges must be positive and ascend"),
        (f"{FACTS}[{{task: t, edges_wh: [1, 2, 3]}}]", "bands.0.edges_wh"),
        ("version: x\nsource: y\nbands: []", "device"),
        ("a: [", "not a file of reference bands"),
        ("- 1", "not a file of reference bands"),
        (None, "nowhere.yaml"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path, text, fault):
    path = tmp_path / ("bands.yaml" if text else "nowhere.yaml")
    if text:
        path.write_text(text)
    with pytest.raises(ParameterError, match=fault):
        rate(published.load(), Reference(path))


def test_a_scheme_of_ones_own_is_named_by_its_file(tmp_path):
    (tmp_path / "own.py").write_text(
        "from energylab.ratings.schemes import EqualWidth\n"
        "class Half(EqualWidth):\n"
        "    name = 'half'\n"
        "    def __call__(self, energies_wh, group):\n"
        "        return super().__call__(energies_wh, group) / 2\n"
    )
    df = pd.DataFrame({"task": "t", "model": list("abc"), "energy_j": [3600.0, 7000.0, 21600.0], "queries": 1000})
    assert rate(df, f"{tmp_path / 'own.py'}:Half")["stars"].tolist() == [5, 3, 1]
