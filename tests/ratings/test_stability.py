"""What moves a star, recomputed by rating again; orders; other schemes and ways to count; from release to release."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from energylab import published
from energylab.errors import DataError, ParameterError
from energylab.ratings import rate, rate_with_bands
from energylab.ratings.stability import (
    by_scheme,
    doubtful_by_noise,
    drift,
    joining,
    joins,
    leave_one_out,
    per_output_token,
    scheme_changes,
    sureness,
    treatments,
    under_noise,
    without_idle,
)

ENERGIES = np.random.default_rng(7).lognormal(0, 1, 25)


def table(energies=ENERGIES, **columns):
    names = [f"m{number:02}" for number in range(len(energies))]
    facts = {"task": "t", "model": names, "energy_j": np.multiply(energies, 3600), "queries": 1000}
    return pd.DataFrame({**facts, **columns})


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


def test_leaving_one_of_two_leaves_no_scale_and_one_alone_has_none():
    assert leave_one_out(table([1.0, 2.0]))["changed"].isna().all()
    with pytest.raises(ParameterError, match="no group"):
        leave_one_out(table([1.0]))


def test_joining_is_rating_with_one_more():
    df = table()
    heavy = df["energy_j"].max() * 3
    after = rate(pd.concat([df, df.iloc[:1].assign(model="new", energy_j=heavy)]), draws=0).set_index("model")["stars"]
    before = rate(df, draws=0).set_index("model")["stars"]
    found = joins(df, factors=(1.0, 3.0)).set_index("factor")
    assert found.loc[3.0, "changed"] == (after.drop("new") != before).sum()
    assert found.loc[1.0, "changed"] == 0
    with pytest.raises(ParameterError, match="positive multiples"):
        joins(df, factors=(np.inf,))


def test_the_flip_is_what_the_shown_star_lacks_and_grows_with_noise():
    found = under_noise(table(), (0.0, 0.001, 0.05), draws=500)
    flips = found.groupby("noise")["p_flip"].sum()
    assert flips.is_monotonic_increasing
    assert flips[0.0] == 0
    stars = rate(table(), noise=0.05, draws=500, gain=0.0)
    shown = [row[f"p_star_{row['stars']}"] for _, row in stars.iterrows()]
    assert found.loc[found["noise"] == 0.05, "p_flip"].to_numpy() == pytest.approx(1 - np.array(shown))


def test_of_the_published_stars_eight_are_doubtful_on_one_board_and_26_on_a_board_each():
    one, own = (under_noise(published.load(), (0.01,), gain=0.05, own_boards=own, draws=4000) for own in (False, True))
    found = doubtful_by_noise(one, own).loc["1 %"]
    assert found["all on one board", "doubtful"] == pytest.approx(8, abs=1)
    assert found["every model on its own board", "doubtful"] == pytest.approx(26, abs=1)


def test_sureness_adds_up_and_needs_probabilities():
    found = sureness(rate(published.load(), noise=0.01, draws=500))
    parts, total = found.iloc[:-1], found.iloc[-1]
    assert (len(parts), total["task"]) == (12, "all")
    columns = ["models", "unsure", "expected_wrong"]
    assert parts[columns].sum().tolist() == pytest.approx(total[columns].tolist())
    assert total["p_least"] == parts["p_least"].min()
    with pytest.raises(ParameterError, match="noise"):
        sureness(rate(published.load()))


def test_a_pair_within_its_noise_is_less_sure_than_if_it_were_not_chosen_for_its_order():
    stars = rate(table([1.0, 1.02, 5.0]), noise=0.02, gain=0.0, draws=40_000)
    expected = stats.norm.cdf(np.log(1.02) / (0.02 * np.sqrt(2)))
    assert 0.6 < stars["p_next"][0] < expected
    assert stars["p_next"][1] == 1.0
    # counted group by group
    df = pd.concat([table([1.0, 1.02, 4.0, 8.0]), table([1.0, 9.0], task="two")])
    found = sureness(rate(df, noise=0.01, gain=0.0))
    assert found["unsure_pairs"].tolist() == [1, 0, 1]
    assert found["widest_rank"].tolist() == [2, 1, 2]


def test_the_published_table_by_every_scheme():
    found = by_scheme(published.load())
    for scheme in ("log_width", "quantiles"):
        assert found[scheme].tolist() == rate(published.load(), scheme, draws=0)["stars"].tolist()
    others = [found[name] != found["equal_width"] for name in ("log_width", "quantiles", "reference")]
    assert found["changed"].tolist() == sum(each.astype(int) for each in others).tolist()
    assert scheme_changes(found).loc["reference"].tolist() == [166, 0]


def tokens(**columns):
    frame = table([1.0, 2.0, 10.0], session=list("abc"), run=0, phase="generate", cohort="here", model=list("abc"))
    return frame.assign(**columns)


def test_models_of_several_cohorts_are_told_apart():
    here, there = tokens(), tokens(cohort="there", energy_j=[3600.0, 32000.0, 36000.0])
    both = by_scheme(pd.concat([here, there]), ("equal_width", "log_width"))
    for df in (here, there):
        found = both[both["cohort"] == df["cohort"].iloc[0]]
        assert found["log_width"].tolist() == by_scheme(df, ("equal_width", "log_width"))["log_width"].tolist()


def test_energy_per_output_token_divides_all_scored_phases_by_the_runs_tokens():
    parts = [
        tokens(output_tokens=[1000.0, 4000.0, 5000.0], scored=True),
        tokens(phase="preprocess", energy_j=[360.0, 720.0, 3600.0], scored=True),
        tokens(phase="prefill", energy_j=[1.0, 2.0, 3.0], scored=False),
        tokens(task="asr", scored=True),  # has no tokens
    ]
    stars = rate(per_output_token(pd.concat(parts, ignore_index=True)), draws=0).set_index("model")
    assert stars["energy_wh"].to_dict() == pytest.approx({"a": 1.1, "b": 2.2 / 4, "c": 11 / 5})


def test_rows_that_name_no_run_are_runs_of_their_own_per_token():
    """Two unnamed runs of 500 tokens each: the tokens of both must not divide the energy of one."""
    df = table([0.5, 0.5, 0.5], model=["a", "a", "b"], queries=100, output_tokens=[500, 500, 1000])
    stars = rate(per_output_token(df), draws=0).set_index("model")
    assert stars["energy_wh"].to_dict() == pytest.approx({"a": 1.0, "b": 0.5})


def test_idle_energy_is_power_times_duration():
    stars = rate(without_idle(tokens(idle_power_w=10.0, duration_s=[36.0, 360.0, 3600.0])), draws=0)
    assert stars["energy_wh"].tolist()[:2] == pytest.approx([0.9, 1.0])
    assert stars["energy_wh"].isna().tolist() == [False, False, True]  # 36 kJ - 36 kJ: nothing above idle


def test_batches_are_compared_model_by_model():
    batched = tokens(batch_size=8, cohort="there", session=list("def"), energy_j=[3600.0, 30000.0, 36000.0])
    found = treatments(pd.concat([tokens(batch_size=1), batched])).set_index("treatment")
    assert found.loc["batch size 8 instead of 1", ["models", "changed"]].tolist() == [3, 1]


def test_a_model_that_a_treatment_drops_moves_no_star_of_the_others():
    """The heaviest is within the meter's error of its idle energy: without it all others would change stars."""
    df = table([10.0, 20.0, 30.0, 40.0, 50.0, 100.0], duration_s=3600.0, idle_power_w=[1.0] * 5 + [100.0])
    assert (rate(df[:5], draws=0)["stars"].to_numpy() != rate(df, draws=0)["stars"][:5].to_numpy()).any()
    row = treatments(df).set_index("treatment").loc["idle energy taken off"]
    assert (row["models"], row["changed"]) == (5, 0)


def test_what_cannot_be_said_is_said():
    found = treatments(published.load())
    assert found["reason"].str.contains("output_tokens|idle_power_w|one batch size").all()
    assert (found["models"] == 0).all()
    for treat in (per_output_token, without_idle):
        with pytest.raises(DataError, match="the table has no"):
            treat(tokens())


def moves(before, after):
    ratings = [rate_with_bands(table(list(each.values()), model=list(each)), draws=0) for each in (before, after)]
    found = drift(*ratings).set_index("model")
    return {model: (row["move"], row["why"]) for model, row in found.iterrows()}


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (
            {"a": 1.0, "b": 2.9, "c": 6.0},
            {"a": 1.0, "b": 2.9, "c": 6.0, "new": 11.0},
            {"a": ("same", ""), "b": ("up", "scale"), "c": ("up", "scale"), "new": ("joined", "")},
        ),
        ({"a": 1.0, "b": 2.1, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 6.0}, {"b": ("up", "own energy")}),
        ({"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0, "b": 5.9}, {"b": ("down", "own energy")}),
        ({"a": 1.0, "b": 2.9, "c": 6.0}, {"a": 1.0, "b": 1.9, "c": 11.0}, {"b": ("up", "both")}),
        ({"a": 1.0, "gone": 2.0, "c": 6.0}, {"a": 1.0, "c": 6.0}, {"gone": ("left", "")}),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, {"a": ("now rated", "")}),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0}, {"a": ("no longer rated", "")}),
        ({"a": 1.0}, {"a": 1.1}, {"a": ("not rated", "")}),
    ],
)
def test_what_moved_a_star(before, after, moved):
    found = moves(before, after)
    assert {model: found[model] for model in moved} == moved


def test_one_newcomer_is_traced():
    moved = joining(table([1.0, 2.9, 6.0, 11.0])).set_index("model")["move"]
    assert moved.to_dict() == {"m00": "same", "m01": "up", "m02": "up", "m03": "joined"}


def test_a_model_in_two_cohorts_is_refused():
    df = pd.DataFrame({"task": "t", "model": "a", "energy_j": 1.0, "queries": 1, "cohort": ["one", "two"]})
    with pytest.raises(ParameterError, match="rating before"):
        drift(rate_with_bands(df), rate_with_bands(df))


def test_the_second_published_table_moves_stars_by_its_newcomers_alone():
    moved = drift(*(rate_with_bands(published.load(date), noise=0.01, draws=300) for date in published.names()))
    counts = moved["move"].value_counts()
    assert (counts["joined"], "left" in counts) == (40, False)
    changed = moved[moved["move"].isin(["up", "down"])]
    assert set(zip(changed["task"], changed["why"], strict=True)) == {("text_generation", "scale")}
    assert changed["p_after"].between(0, 1).all()
