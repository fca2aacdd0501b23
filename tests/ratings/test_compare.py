"""The same models in several ways: schemes, tokens, idle, batches."""

import numpy as np
import pandas as pd
import pytest

from energylab import published
from energylab.errors import DataError, ParameterError
from energylab.ratings import rate
from energylab.ratings.compare import by_scheme, per_output_token, rated_by, side_by_side, treatments, without_idle


def table(**columns):
    frame = pd.DataFrame(
        {
            "task": "summarization",
            "model": list("abc"),
            "energy_j": [3600.0, 7200.0, 36000.0],
            "queries": 1000,
            "session": list("abc"),
            "run": 0,
            "phase": "generate",
            "cohort": "here",
        }
    )
    return frame.assign(**columns)


def test_the_published_table_by_every_scheme():
    df = published.load()
    found = by_scheme(df, ("equal_width", "log_width", "quantiles"))
    assert len(found) == 166
    for scheme in ("log_width", "quantiles"):
        again = rate(df, scheme, draws=0)
        assert found[scheme].tolist() == again["stars"].tolist()
    differs = (found["log_width"] != found["equal_width"]).astype(int) + (found["quantiles"] != found["equal_width"])
    assert found["changed"].tolist() == differs.tolist()


def test_models_of_several_cohorts_are_told_apart_or_refused():
    here, there = table(), table(cohort="there", energy_j=[3600.0, 32000.0, 36000.0])
    both = by_scheme(pd.concat([here, there]), ("equal_width", "log_width"))
    for df in (here, there):
        alone = by_scheme(df, ("equal_width", "log_width"))
        found = both[both["cohort"] == df["cohort"].iloc[0]]
        assert found["log_width"].tolist() == alone["log_width"].tolist()
    assert rated_by(both) == ["equal_width", "log_width"]
    stars = pd.concat([rate(here), rate(there)])
    with pytest.raises(ParameterError, match="several cohorts"):
        side_by_side({"one": stars, "two": rate(here)})
    with pytest.raises(ParameterError, match="no rating"):
        side_by_side({})


def test_energy_per_output_token_divides_all_scored_phases_by_the_runs_tokens():
    df = pd.concat(
        [
            table(output_tokens=[1000.0, 4000.0, 5000.0]),
            table(phase="preprocess", energy_j=[360.0, 720.0, 3600.0], output_tokens=np.nan),
            table(phase="prefill", energy_j=[1.0, 2.0, 3.0], output_tokens=np.nan),
        ],
        ignore_index=True,
    ).assign(scored=[True] * 6 + [False] * 3)
    stars = rate(per_output_token(df), draws=0).set_index("model")
    assert stars["energy_wh"].to_dict() == pytest.approx({"a": 1.1, "b": 2.2 / 4, "c": 11 / 5})


def test_tasks_without_tokens_are_left_out_per_token():
    df = pd.concat([table(output_tokens=10.0), table(task="asr", output_tokens=np.nan)])
    assert set(per_output_token(df)["task"]) == {"summarization"}


def test_idle_energy_is_power_times_duration():
    stars = rate(without_idle(table(idle_power_w=10.0, duration_s=[36.0, 360.0, 3600.0])), draws=0)
    assert stars["energy_wh"].tolist()[:2] == pytest.approx([0.9, 1.0])
    assert stars["energy_wh"].isna().tolist() == [False, False, True]  # 36 kJ - 36 kJ: nothing above idle


def test_a_share_of_idle_common_to_all_moves_no_star():
    found = treatments(table(idle_power_w=10.0, duration_s=[36.0, 72.0, 360.0])).set_index("treatment")
    assert found.loc["idle energy taken off", ["models", "changed"]].tolist() == [3, 0]


def test_batches_are_compared_model_by_model():
    batched = table(batch_size=8, cohort="there", session=list("def"), energy_j=[3600.0, 30000.0, 36000.0])
    found = treatments(pd.concat([table(batch_size=1), batched])).set_index("treatment")
    assert found.loc["batch size 8 in place of 1", ["models", "changed"]].tolist() == [3, 1]


def test_a_model_that_a_treatment_drops_moves_no_star_of_the_others():
    """The heaviest is within the meter's error of its idle energy: without it all others would change stars."""
    df = pd.DataFrame(
        {
            "task": "t", "model": list("abcdef"), "energy_j": [10.0, 20.0, 30.0, 40.0, 50.0, 100.0], "queries": 1000,
            "duration_s": 1.0, "idle_power_w": [1.0] * 5 + [100.0],
        }
    )  # fmt: skip
    assert (rate(df[:5], draws=0)["stars"].to_numpy() != rate(df, draws=0)["stars"][:5].to_numpy()).any()
    row = treatments(df).set_index("treatment").loc["idle energy taken off"]
    assert (row["models"], row["changed"]) == (5, 0)


def test_what_cannot_be_said_is_said():
    found = treatments(published.load())
    assert found["said"].str.contains("output_tokens|idle_power_w|one batch size").all()
    assert (found["models"] == 0).all()


@pytest.mark.parametrize("treat", [per_output_token, without_idle])
def test_missing_columns_are_named(treat):
    with pytest.raises(DataError, match="the table has no"):
        treat(table())
