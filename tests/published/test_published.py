"""The shipped tables are the published ones, their stars follow from their energies; own figures beside them."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import energylab
from energylab import published
from energylab.errors import UnknownNameError
from energylab.published import rank_correlation

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference.py"


def test_every_published_star_follows_from_its_energy():
    table = published.load()
    found = published.agreement(energylab.rate(table, draws=0)).iloc[-1]
    assert found[["models", "published", "equal", "first"]].tolist() == [166, 156, 156, 10]
    assert table["task"].nunique() == 10
    assert (table["energy_kind"] == "imported").all()


def test_units_are_joules_for_the_stated_queries():
    row = published.load().set_index("model").loc["distilbert/distilgpt2"]
    assert row["energy_j"] / row["queries"] == pytest.approx(1.313333 * 3.6)


def test_a_model_listed_twice_keeps_both_entries_and_image_captioning_has_no_hub_ids():
    table = published.load()
    assert not table.duplicated(["task", "model"]).any()
    assert table["model"].str.endswith("(entry 2)").sum() == 2
    assert table["session"].is_unique
    assert table["hub_id"].isna().equals(pd.Series(table["task"] == "image_captioning"))


def test_unknown_study_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="2025-02"):
        published.load("2025-03")


def table(**tasks):
    rows = [(task, p, m) for task, pairs in tasks.items() for p, m in pairs]
    return pd.DataFrame(rows, columns=["task", "published_wh", "own_wh"])


def test_one_task_is_spearmans_correlation():
    rng = np.random.default_rng(1)
    pairs = list(zip(rng.random(12), rng.random(12), strict=True))
    value, low, high = rank_correlation(table(a=pairs))
    assert value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert low < value < high


def test_a_spread_between_tasks_feigns_no_agreement():
    cheap = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    both = table(a=cheap, b=[(1000 * a, 1000 * b) for a, b in cheap])
    assert spearmanr(both["published_wh"], both["own_wh"]).statistic > 0.5
    assert rank_correlation(both)[0] == pytest.approx(-1)


def test_equal_orders_agree_wholly_and_single_models_take_no_part():
    assert rank_correlation(table(a=[(1, 10), (2, 20), (5, 21)], b=[(7, 1), (8, 2)])) == pytest.approx((1, 1, 1))
    few = rank_correlation(table(a=[(1, 2), (2, 4)], b=[(1, 1)]))
    assert few[0] == pytest.approx(1)
    assert np.isnan(few[1:]).all()
    assert np.isnan(rank_correlation(table(b=[(1, 1)]))).all()


def test_the_reference_records_beside_published_figures(monkeypatch, capsys):
    main = runpy.run_path(str(REFERENCE))["main"]
    everything = published.load()
    own = everything[everything["task"] == "summarization"].assign(energy_j=lambda t: 2 * t["energy_j"])
    monkeypatch.setattr(published, "own_records", lambda folder: own)
    main()
    printed = capsys.readouterr().out
    assert "facebook/bart-large-cnn" in printed
    assert "pooled within tasks: 1.00" in printed
    assert published.beside(energylab.rate(own))["ratio"].to_numpy() == pytest.approx(2)
    monkeypatch.setattr(published, "own_records", lambda folder: own.iloc[:0])
    main()
    assert "No record" in capsys.readouterr().out
