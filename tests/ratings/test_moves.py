"""What moves a star, recomputed by rating again."""

import numpy as np
import pandas as pd
import pytest

from energylab import published
from energylab.errors import ParameterError
from energylab.ratings import rate
from energylab.ratings.moves import joins, leave_one_out, margins, resolvable_ratio, sureness, under_noise

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


def test_the_resolvable_ratio_is_right_that_often():
    ratio = resolvable_ratio(0.05, 0.95)
    gains = 1 + np.random.default_rng(8).uniform(-0.05, 0.05, (2, 400_000))
    assert np.mean(gains[1] / gains[0] < ratio) == pytest.approx(0.95, abs=0.002)
    assert resolvable_ratio(0.0) == 1.0


def test_half_a_chance_needs_no_difference():
    with pytest.raises(ParameterError, match="level=0.5"):
        resolvable_ratio(0.05, 0.5)


def test_a_table_that_earns_no_stars_is_refused():
    with pytest.raises(ParameterError, match="no group"):
        leave_one_out(table(np.array([1.0])))
