"""Fixed bands: made from the published table, read back, and refused where they do not hold."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from energylab import published
from energylab.errors import ParameterError
from energylab.ratings import rate, rating
from energylab.ratings.reference import Reference, freeze, read_reference

FILE = Path(__file__).parents[2] / "params" / "ratings" / "reference-2025-02.yaml"


def test_the_file_is_what_the_published_table_gives():
    facts = published.source()
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    bands = rating(published.load(), draws=0).bands
    assert yaml.safe_load(freeze(bands, content["version"], content["source"], facts["device"])) == content


def test_fixed_bands_give_the_published_stars():
    df = published.load()
    both = rate(df, Reference(FILE), draws=0).merge(df, on=["task", "model"]).dropna(subset=["published_stars"])
    assert (both["stars"] == both["published_stars"]).sum() == 156


def test_a_model_that_joins_or_leaves_moves_nobody():
    df = published.load()
    whole = rate(df, Reference(FILE), draws=0).set_index(["task", "model"])["stars"]
    part = rate(df.iloc[::3], Reference(FILE), draws=0).set_index(["task", "model"])["stars"]
    assert part.equals(whole.reindex(part.index))


def test_a_single_model_is_rated_by_fixed_bands():
    df = pd.DataFrame({"task": ["summarization"], "model": "x", "energy_j": 3600.0, "queries": 1000})
    assert rate(df, Reference(FILE))["stars"].tolist() == [5]


def test_a_gain_shared_by_all_moves_stars_of_fixed_bands():
    df = pd.DataFrame({"task": ["summarization"], "model": "x", "energy_j": 7.6 * 3600, "queries": 1000})
    p = rate(df, Reference(FILE), noise=1e-6, gain=0.05)
    assert 0.4 < p["p_star_5"][0] < 0.6


def test_another_device_or_an_unknown_task_is_not_rated():
    df = pd.DataFrame(
        {"task": ["summarization", "reasoning"], "model": "x", "energy_j": 1.0, "queries": 1, "device": ["CPU", None]}
    )
    notes = rate(df, Reference(FILE)).set_index("task")["note"]
    assert "hold for NVIDIA H100 80GB HBM3, this cohort ran on CPU" in notes["summarization"]
    assert "has no bands for reasoning" in notes["reasoning"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("version: x\nsource: y\ndevice: z\nbands: [{task: t, edges_wh: [4, 3, 2, 1]}]", "must be positive and ascend"),
        ("version: x\nsource: y\ndevice: z\nbands: [{task: t, edges_wh: [1, 2, 3]}]", "bands.0.edges_wh"),
        ("version: x\nsource: y\nbands: []", "device"),
        ("a: [", "not a file of reference bands"),
        ("- 1", "not a file of reference bands"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path, text, fault):
    path = tmp_path / "bands.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=fault):
        read_reference(path)


def test_a_missing_file_is_named():
    with pytest.raises(ParameterError, match="nowhere.yaml"):
        rate(published.load(), Reference("nowhere.yaml"))
