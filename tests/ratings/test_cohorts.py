"""From rows to one energy a model: what is summed, averaged, lost and refused."""

import numpy as np
import pandas as pd
import pytest

from energylab.errors import CohortError, DataError, UnknownNameError
from energylab.ratings.cohorts import summarise

WH_PER_1000 = 1000 / 3600


def table(*rows, **columns):
    frame = pd.DataFrame(rows, columns=["model", "session", "run", "phase", "energy_j"])
    return frame.assign(task="summarization", queries=10, **columns)


def energies(df):
    models = summarise(df).models
    return dict(zip(models["model"], models["energy_wh"] / WH_PER_1000 * 10, strict=True))


def test_phases_are_summed_runs_and_sessions_averaged():
    df = table(
        ("m", "s1", 0, "preprocess", 1.0), ("m", "s1", 0, "generate", 10.0), ("m", "s1", 0, "prefill", 4.0),
        ("m", "s1", 1, "preprocess", 1.0), ("m", "s1", 1, "generate", 14.0), ("m", "s1", 1, "decode", 9.0),
        ("m", "s2", 0, "preprocess", 2.0), ("m", "s2", 0, "generate", 30.0),
    )  # fmt: skip
    row = summarise(df).models.iloc[0]
    assert energies(df) == {"m": pytest.approx(((11 + 15) / 2 + 32) / 2)}
    assert (row["sessions"], row["runs"], row["lost"]) == (2, 3, 0)
    assert row["session_sd_wh"] == pytest.approx(np.std([13, 32], ddof=1) / 10 * WH_PER_1000)
    assert np.isnan(row["run_sd_wh"])


def test_a_run_without_energy_loses_its_session_not_the_model():
    df = table(
        ("m", "s1", 0, "forward", 10.0),
        ("m", "s1", 1, "forward", np.nan),
        ("m", "s2", 0, "forward", 12.0),
    )
    row = summarise(df).models.iloc[0]
    assert energies(df) == {"m": pytest.approx(12.0)}
    assert (row["sessions"], row["lost"]) == (1, 1)


def test_a_row_that_is_not_valid_is_unavailable_whatever_it_says():
    df = table(("m", "s1", 0, "forward", 10.0), ("n", "s2", 0, "forward", 12.0), valid=[True, False])
    assert np.isnan(energies(df)["n"])


def test_rows_without_session_are_runs_of_one_session():
    df = pd.DataFrame({"task": "t", "model": "m", "energy_j": [10.0, 14.0], "queries": 10})
    row = summarise(df).models.iloc[0]
    assert (row["sessions"], row["runs"]) == (1, 2)
    assert row["run_sd_wh"] == pytest.approx(np.std([10, 14], ddof=1) / 10 * WH_PER_1000)


def test_rows_of_a_csv_stand_beside_records():
    records = table(("m", "s1", 0, "forward", 10.0), ("m", "s1", 1, "forward", 12.0), cohort="here", scored=True)
    own = pd.DataFrame({"task": "summarization", "model": "x", "energy_j": [5.0], "queries": 10})
    summary = summarise(pd.concat([records, own], ignore_index=True))
    assert [group.cohort for group in summary.groups] == ["here", "not stated"]
    assert summary.models["model"].tolist() == ["m", "x"]


def test_boards_share_a_model_by_sessions():
    df = table(
        ("m", "s1", 0, "forward", 1.0), ("m", "s2", 0, "forward", 1.0), ("m", "s3", 0, "forward", 1.0),
        ("n", "s4", 0, "forward", 2.0), board=["b1", "b1", "b2", "b2"],
    )  # fmt: skip
    boards = summarise(df).boards
    shares = {(row.row, row.board): row.share for row in boards.itertuples()}
    assert shares == {(0, "b1"): pytest.approx(2 / 3), (0, "b2"): pytest.approx(1 / 3), (1, "b2"): 1.0}


def test_groups_are_cohort_task_and_class():
    df = pd.DataFrame(
        {
            "task": ["text_generation"] * 3 + ["summarization"],
            "model": list("abcd"),
            "model_class": ["B", "A", "", None],
            "energy_j": 1.0,
            "queries": 1,
        }
    )
    summary = summarise(df)
    keys = [(group.task, group.model_class) for group in summary.groups]
    assert keys == [
        ("summarization", None),
        ("text_generation", None),
        ("text_generation", "A"),
        ("text_generation", "B"),
    ]
    assert summary.models.set_index("model")["classed"].to_dict() == {"a": True, "b": True, "c": False, "d": True}


def test_single_models_keep_their_energy_whatever_the_order_of_tasks():
    df = pd.DataFrame({"task": ["z", "a", "m"], "model": ["in z", "in a", "in m"], "energy_j": [1.0, 2.0, 3.0]})
    summary = summarise(df.assign(queries=1))
    assert [group.task for group in summary.groups] == ["a", "m", "z"]
    assert summary.models["model"].tolist() == ["in a", "in m", "in z"]
    assert (summary.models["energy_wh"] / WH_PER_1000).tolist() == pytest.approx([2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("energy_kind", ["measured", "estimated"]),
        ("device", ["H100", "H200"]),
        ("gpus", [1, 2]),
        ("task_version", ["1", "2"]),
        ("data_source", ["hub", "sample"]),
        ("model_source", ["hub", "random"]),
        ("batch_size", [1, 8]),
        ("dtype", ["float16", "float32"]),
    ],
)
def test_what_may_not_be_compared_is_refused_by_name(column, values):
    df = pd.DataFrame({"task": "t", "model": ["a", "b"], "energy_j": [1.0, 2.0], "queries": 1, column: values})
    with pytest.raises(CohortError, match=f"mixes {column}: {', '.join(sorted(map(str, values)))}"):
        summarise(df)
    assert len(summarise(df.assign(cohort=["one", "two"])).groups) == 2


def test_runs_that_sum_other_phases_are_refused():
    df = table(("m", "s1", 0, "generate", 1.0), ("n", "s2", 0, "generate", 2.0), ("n", "s2", 0, "preprocess", 0.1))
    with pytest.raises(CohortError, match="mixes phases: some runs sum generate, others generate, preprocess"):
        summarise(df)


def test_the_same_run_and_phase_twice_is_refused():
    df = table(("m", "s1", 0, "forward", 1.0), ("m", "s1", 0, "forward", 1.0))
    with pytest.raises(DataError, match="'m' .* twice"):
        summarise(df)


@pytest.mark.parametrize("energy", [np.inf, -np.inf, -3.0, 0.0])
def test_what_is_no_energy_is_refused_with_its_model(energy):
    df = pd.DataFrame({"task": "t", "model": ["a", "b"], "energy_j": [1.0, energy], "queries": 1})
    with pytest.raises(DataError, match="'b'"):
        summarise(df)


@pytest.mark.parametrize("queries", [0, -1, np.nan, np.inf])
def test_queries_must_be_a_positive_number(queries):
    df = pd.DataFrame({"task": "t", "model": ["a"], "energy_j": [1.0], "queries": [queries]})
    with pytest.raises(DataError, match="queries="):
        summarise(df)


def test_text_in_a_column_of_numbers_is_refused():
    df = pd.DataFrame({"task": "t", "model": ["a"], "energy_j": ["1,5"], "queries": 1})
    with pytest.raises(DataError, match="energy_j"):
        summarise(df)


def test_unknown_class_names_the_known_ones():
    df = pd.DataFrame({"task": "t", "model": ["a"], "model_class": ["D"], "energy_j": 1.0, "queries": 1})
    with pytest.raises(UnknownNameError, match="A, B, C"):
        summarise(df)


def test_a_missing_column_names_the_nearest():
    df = pd.DataFrame({"task": ["t"], "model": ["a"], "energy": [1.0], "queries": [1]})
    with pytest.raises(DataError, match=r"'energy_j' \(is it 'energy'\?\)"):
        summarise(df)


@pytest.mark.parametrize("column", ["task", "model"])
def test_a_row_without_a_name_is_refused(column):
    df = pd.DataFrame({"task": "t", "model": ["a", "b"], "energy_j": 1.0, "queries": 1})
    df[column] = ["x", None]
    with pytest.raises(DataError, match=f"1 rows have no {column}"):
        summarise(df)


def test_a_table_without_scored_rows_is_refused():
    with pytest.raises(DataError, match="no scored row"):
        summarise(table(("m", "s1", 0, "prefill", 1.0)))
