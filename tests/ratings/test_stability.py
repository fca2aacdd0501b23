"""What moves a star, recomputed by rating again; orders; the same models in several ways; from release to release."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab import published
from energylab.errors import DataError, ParameterError
from energylab.ratings import rate, rating
from energylab.ratings.stability import (
    by_scheme,
    doubtful_by_noise,
    drift,
    joining,
    joins,
    leave_one_out,
    margins,
    orders,
    per_output_token,
    rated_by,
    scheme_changes,
    sureness,
    treatments,
    under_noise,
    without_idle,
)  # fmt: skip

ENERGIES = np.random.default_rng(7).lognormal(0, 1, 25)


def table(energies=ENERGIES):
    names = [f"m{number:02}" for number in range(len(energies))]
    return pd.DataFrame({"task": "t", "model": names, "energy_j": energies * 3600, "queries": 1000})


@pytest.mark.parametrize("scheme", ["equal_width", "log_width", "quantiles"])
def test_leaving_out_a_model_is_rating_without_it(scheme):
    df = table()
    found = leave_one_out(df, scheme).set_index("model")
    before = rate(df, scheme, draws=0).set_index("model")["stars"]
    for left in ["m00", df.loc[df["energy_j"].idxmax(), "model"], df.loc[df["energy_j"].idxmin(), "model"]]:
        after = rate(df[df["model"] != left], scheme, draws=0).set_index("model")["stars"]
        change = after - before.drop(left)
        assert found.loc[left, "changed"] == (change != 0).sum()
        assert found.loc[left, "gained"] - found.loc[left, "lost"] == change.sum()


def test_only_the_extremes_hold_up_an_equal_width_scale():
    found = leave_one_out(table()).set_index("model")
    inner = found.sort_values("energy_wh").iloc[1:-1]
    assert (inner["changed"] == 0).all()
    assert found["changed"].max() > 0


def test_leaving_one_of_two_leaves_no_scale():
    assert leave_one_out(table(np.array([1.0, 2.0])))["changed"].isna().all()


def test_joining_is_rating_with_one_more():
    df = table()
    heavy = df["energy_j"].max() * 3
    after = rate(pd.concat([df, df.iloc[:1].assign(model="new", energy_j=heavy)]), draws=0).set_index("model")["stars"]
    before = rate(df, draws=0).set_index("model")["stars"]
    found = joins(df, factors=(1.0, 3.0)).set_index("factor")
    assert found.loc[3.0, "changed"] == (after.drop("new") != before).sum()
    assert found.loc[1.0, "changed"] == 0


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_a_joining_model_uses_energy(factor):
    with pytest.raises(ParameterError, match="positive multiples"):
        joins(table(), factors=(factor,))


def test_a_change_beyond_the_margin_reaches_the_edge():
    df = table()
    found = margins(df).set_index("model")
    row = found.drop([df.loc[df["energy_j"].idxmax(), "model"], df.loc[df["energy_j"].idxmin(), "model"]])
    row = row.loc[row["margin"].abs().idxmin()]
    for excess, moved in ((0.9, False), (1.1, True)):
        changed = df.assign(
            energy_j=df["energy_j"].where(df["model"] != row.name, df["energy_j"] * (1 + excess * row["margin"]))
        )
        assert (rate(changed, draws=0).set_index("model").loc[row.name, "stars"] != row["stars"]) == moved


def test_noise_moves_more_stars_the_larger_it_is():
    found = under_noise(table(), (0.001, 0.01, 0.1), draws=500)
    wrong = found.groupby("noise")["p_flip"].sum()
    assert wrong.is_monotonic_increasing
    assert len(found) == 3 * len(ENERGIES)


def test_the_flip_is_what_the_shown_star_lacks():
    found = under_noise(table(), (0.05,), draws=500)
    stars = rate(table(), noise=0.05, draws=500, gain=0.0)
    shown = [row[f"p_star_{row['stars']}"] for _, row in stars.iterrows()]
    assert found["p_flip"].to_numpy() == pytest.approx(1 - np.array(shown))


def test_a_shared_board_moves_nothing_and_own_boards_do():
    shared = under_noise(table(), (0.0,), gain=0.05, draws=500)["p_flip"]
    own = under_noise(table(), (0.0,), gain=0.05, own_boards=True, draws=500)["p_flip"]
    assert shared.sum() == 0
    assert own.sum() > 0.1


def test_of_the_published_stars_eight_are_doubtful_on_one_board_and_26_on_a_board_each():
    one, own = (under_noise(published.load(), (0.01,), gain=0.05, own_boards=own, draws=4000) for own in (False, True))
    found = doubtful_by_noise(one, own).loc["1 %"]
    assert found["all on one board", "doubtful"] == pytest.approx(8, abs=1)
    assert found["every model on its own board", "doubtful"] == pytest.approx(26, abs=1)


def test_sureness_adds_up():
    stars = rate(published.load(), noise=0.01, draws=500)
    found = sureness(stars)
    parts, total = found.iloc[:-1], found.iloc[-1]
    assert len(parts) == 12
    assert total["task"] == "all"
    for column in ("models", "unsure", "expected_wrong"):
        assert parts[column].sum() == pytest.approx(total[column])
    assert total["p_least"] == parts["p_least"].min()


def test_sureness_needs_probabilities():
    with pytest.raises(ParameterError, match="noise"):
        sureness(rate(published.load()))


def test_a_table_that_earns_no_stars_is_refused():
    with pytest.raises(ParameterError, match="no group"):
        leave_one_out(table(np.array([1.0])))


def listed(energies):
    names = [f"m{number}" for number in range(len(energies))]
    return pd.DataFrame({"task": "t", "model": names, "energy_j": energies, "queries": 1000})


def test_a_pair_within_its_noise_is_less_sure_than_if_it_were_not_chosen_for_its_order():
    order = orders(listed([1.0, 1.02, 5.0]), noise=0.02, gain=0.0, draws=40_000)[0]
    expected = stats.norm.cdf(np.log(1.02) / (0.02 * np.sqrt(2)))
    assert 0.6 < order.pairwise.loc["m0", "m1"] < expected
    assert order.table["p_next"].iloc[0] == order.pairwise.loc["m0", "m1"]
    assert order.table["p_next"].iloc[1] == 1.0
    assert np.isnan(order.table["p_next"].iloc[2])


def test_pairs_are_complementary():
    pairwise = orders(listed([1.0, 1.1, 1.15, 1.3]), noise=0.1, draws=500)[0].pairwise.to_numpy()
    off = ~np.eye(4, dtype=bool)
    assert (pairwise + pairwise.T)[off] == pytest.approx(np.ones(12))
    assert np.isnan(np.diagonal(pairwise)).all()


def test_a_sure_list_has_sharp_ranks_and_tau_one():
    order = orders(listed([1.0, 2.0, 4.0, 8.0]), noise=0.001)[0]
    assert order.table["rank_low"].tolist() == order.table["rank_high"].tolist() == [1, 2, 3, 4]
    assert order.tau == 1.0


def test_unknown_uncertainty_is_refused_with_the_way_out():
    with pytest.raises(ParameterError, match="state a noise"):
        orders(listed([1.0, 2.0]))


def test_groups_too_small_to_order_are_left_out():
    df = pd.concat([listed([1.0, 2.0]), listed([1.0]).assign(task="alone")])
    assert [order.group.task for order in orders(df, noise=0.01, draws=10)] == ["t"]


def tokens(**columns):
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


def test_models_of_several_cohorts_are_told_apart():
    here, there = tokens(), tokens(cohort="there", energy_j=[3600.0, 32000.0, 36000.0])
    both = by_scheme(pd.concat([here, there]), ("equal_width", "log_width"))
    for df in (here, there):
        alone = by_scheme(df, ("equal_width", "log_width"))
        found = both[both["cohort"] == df["cohort"].iloc[0]]
        assert found["log_width"].tolist() == alone["log_width"].tolist()
    assert rated_by(both) == ["equal_width", "log_width"]


def test_energy_per_output_token_divides_all_scored_phases_by_the_runs_tokens():
    df = pd.concat(
        [
            tokens(output_tokens=[1000.0, 4000.0, 5000.0]),
            tokens(phase="preprocess", energy_j=[360.0, 720.0, 3600.0], output_tokens=np.nan),
            tokens(phase="prefill", energy_j=[1.0, 2.0, 3.0], output_tokens=np.nan),
        ],
        ignore_index=True,
    ).assign(scored=[True] * 6 + [False] * 3)
    stars = rate(per_output_token(df), draws=0).set_index("model")
    assert stars["energy_wh"].to_dict() == pytest.approx({"a": 1.1, "b": 2.2 / 4, "c": 11 / 5})


def test_tasks_without_tokens_are_left_out_per_token():
    df = pd.concat([tokens(output_tokens=10.0), tokens(task="asr", output_tokens=np.nan)])
    assert set(per_output_token(df)["task"]) == {"summarization"}


def test_idle_energy_is_power_times_duration():
    stars = rate(without_idle(tokens(idle_power_w=10.0, duration_s=[36.0, 360.0, 3600.0])), draws=0)
    assert stars["energy_wh"].tolist()[:2] == pytest.approx([0.9, 1.0])
    assert stars["energy_wh"].isna().tolist() == [False, False, True]  # 36 kJ - 36 kJ: nothing above idle


def test_a_share_of_idle_common_to_all_moves_no_star():
    found = treatments(tokens(idle_power_w=10.0, duration_s=[36.0, 72.0, 360.0])).set_index("treatment")
    assert found.loc["idle energy taken off", ["models", "changed"]].tolist() == [3, 0]


def test_batches_are_compared_model_by_model():
    batched = tokens(batch_size=8, cohort="there", session=list("def"), energy_j=[3600.0, 30000.0, 36000.0])
    found = treatments(pd.concat([tokens(batch_size=1), batched])).set_index("treatment")
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
    assert found["reason"].str.contains("output_tokens|idle_power_w|one batch size").all()
    assert (found["models"] == 0).all()


@pytest.mark.parametrize("treat", [per_output_token, without_idle])
def test_missing_columns_are_named(treat):
    with pytest.raises(DataError, match="the table has no"):
        treat(tokens())


def rated(energies, **columns):
    df = pd.DataFrame({"task": "t", "model": list(energies), "energy_j": list(energies.values()), "queries": 1})
    return rating(df.assign(**columns), draws=0)


def moves(before, after):
    found = drift(rated(before), rated(after)).set_index("model")
    return {model: (row["move"], row["why"]) for model, row in found.iterrows()}


def test_a_model_that_joins_moves_others_by_the_scale():
    assert moves({"a": 1.0, "b": 2.9, "c": 6.0}, {"a": 1.0, "b": 2.9, "c": 6.0, "new": 11.0}) == {
        "a": ("same", ""),
        "b": ("up", "scale"),
        "c": ("up", "scale"),
        "new": ("joined", ""),
    }


def test_a_model_measured_anew_moves_by_itself():
    found = moves({"a": 1.0, "b": 2.1, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 6.0})
    assert found["b"] == ("up", "own energy")


def test_a_model_that_moves_the_scale_it_stands_on():
    found = moves({"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0, "b": 5.9})
    assert found["b"] == ("down", "own energy")
    found = moves({"a": 1.0, "b": 2.9, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 11.0})
    assert found["b"] == ("up", "both")
    found = moves({"a": 1.0, "b": 3.05, "c": 6.0}, {"a": 1.0, "b": 2.98, "c": 6.05})
    assert found["b"] == ("up", "either") or found["b"] == ("up", "own energy")


def test_leaving_and_rating_are_told():
    found = moves({"a": 1.0, "gone": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0})
    assert found["gone"] == ("left", "")
    assert moves({"a": 1.0}, {"a": 1.0, "b": 2.0})["a"] == ("now rated", "")
    assert moves({"a": 1.0, "b": 2.0}, {"a": 1.0})["a"] == ("no longer rated", "")
    assert moves({"a": 1.0}, {"a": 1.1})["a"] == ("not rated", "")


def test_a_model_in_two_cohorts_is_refused():
    df = pd.DataFrame({"task": "t", "model": "a", "energy_j": 1.0, "queries": 1, "cohort": ["one", "two"]})
    with pytest.raises(ParameterError, match="rating before"):
        drift(rating(df), rating(df))


def test_rows_that_name_no_run_are_runs_of_their_own_per_token():
    """Two unnamed runs of 500 tokens each: the tokens of both must not divide the energy of one."""
    df = pd.DataFrame(
        {"task": "t", "model": ["a", "a", "b"], "energy_j": 1800.0, "queries": 100, "output_tokens": [500, 500, 1000]}
    )
    stars = rate(per_output_token(df), draws=0).set_index("model")
    assert stars["energy_wh"].to_dict() == pytest.approx({"a": 1.0, "b": 0.5})


def test_the_second_published_table_moves_stars_by_its_newcomers_alone():
    ratings = [rating(published.load(date), noise=0.01, draws=300) for date in published.names()]
    moved = drift(*ratings)
    assert (moved["move"] == "joined").sum() == 40
    assert (moved["move"] == "left").sum() == 0
    changed = moved[moved["move"].isin(["up", "down"])]
    assert len(changed)
    assert (changed["why"] == "scale").all()
    assert set(changed["task"]) == {"text_generation"}
    assert changed["p_after"].between(0, 1).all()


def test_one_newcomer_is_traced():
    df = table(np.array([1.0, 2.9, 6.0, 11.0]))
    moved = joining(df).set_index("model")["move"]
    assert moved.to_dict() == {"m00": "same", "m01": "up", "m02": "up", "m03": "joined"}


def test_changes_by_scheme_are_counted():
    counts = scheme_changes(by_scheme(published.load()))
    assert counts.loc["reference"].tolist() == [166, 0]
    assert (counts["changed"] <= counts["models"]).all()
