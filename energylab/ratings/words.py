"""What a table of this package says, in a sentence that a reader can quote."""

from __future__ import annotations

import pandas as pd

from energylab.ratings.compare import rated_by
from energylab.ratings.moves import SURE, resolvable_ratio
from energylab.ratings.stars import THIN


def neat(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Return a table as a page shows it: tasks in words and in front, fixed decimals, empty where nothing is known."""
    shown = table.rename(columns={"model_class": "class"}).astype(object)
    for name in table.select_dtypes("float"):
        shown[name] = [f"{value:.{digits}f}" for value in table[name]]
    shown = shown.where(table.notna().to_numpy(), "")
    shown["task"] = shown["task"].str.replace("_", " ")
    return shown.set_index("task").rename_axis(index=None, columns="task")


def of_treatments(table: pd.DataFrame) -> str:
    """Say how many stars hang on how energy is counted; `table` from `compare.treatments`."""
    lines = [
        f"- **{row.treatment}**: " + (row.said or f"{row.changed} of {row.models} models get another star") + "."
        for row in table.itertuples()
    ]
    return "\n".join(lines)


def of_sureness(table: pd.DataFrame) -> str:
    """Say how sure the stars are; `table` from `moves.sureness`."""
    total = table.iloc[-1]
    return (
        f"**{total['unsure']} of {total['models']} stars** are right with less than {100 * SURE:.0f} % probability, "
        f"and {total['expected_wrong']:.1f} are expected to be wrong. The least sure is {total['least_sure']}: "
        f"its star is right with {100 * total['p_least']:.0f} %."
    )


def of_noise(swept: pd.DataFrame, own_boards: pd.DataFrame, gain: float) -> str:
    """Say what noise and boards do; both tables from `moves.under_noise`."""
    wrong = swept.groupby("noise")["p_flip"].sum()
    boards = own_boards.groupby("noise")["p_flip"].sum()
    parts = [f"{value:.1f} at {100 * noise:g} %" for noise, value in wrong.items()]
    models = len(swept) // swept["noise"].nunique()
    return (
        f"Of {models} stars, noise alone makes {', '.join(parts)} wrong. If every model had run on a board of its own, "
        f"with sensor gains within ±{100 * gain:g} %, it would be {boards.iloc[0]:.1f} even at "
        f"{100 * boards.index[0]:g} % noise: repeating on one board cannot find this. "
        f"Two figures from two such boards must differ by "
        f"{100 * (resolvable_ratio(gain) - 1):.1f} % before their order is {100 * SURE:.0f} % sure."
    )


def of_leaving(table: pd.DataFrame) -> str:
    """Say who holds up the scale; `table` from `moves.leave_one_out`."""
    moving = table[table["changed"].fillna(0) > 0]
    if moving.empty:
        return "Leaving out any one model changes no other star."
    most = moving.loc[moving["lost"].add(moving["gained"]).idxmax()]
    total = int(most["lost"] + most["gained"])
    verb = "lose" if most["lost"] >= most["gained"] else "gain"
    return (
        f"**{len(moving)} of {len(table)} models** hold up a scale: leaving one of them out changes stars of others. "
        f"Without {most['model']}, {most['changed']} of the {most['others']} others {verb} {total} stars in all. "
        f"The other {len(table) - len(moving)} could leave unnoticed."
    )


def of_joining(table: pd.DataFrame) -> str:
    """Say what a model that joins does; `table` from `moves.joins`."""
    changed = table.groupby("factor")[["changed", "models"]].sum()
    parts = [f"{row.changed} at {factor:g} ×" for factor, row in changed.iterrows()]
    return (
        f"Let one model join every group, and stars of the {changed['models'].iloc[0]} models that nobody touched "
        f"change: {', '.join(parts)} the highest energy so far."
    )


def of_drift(table: pd.DataFrame) -> str:
    """Say what moved between two releases; `table` from `drift.drift`."""
    moves = table["move"].value_counts()
    why = table.loc[table["why"] != "", "why"].value_counts()
    changed = int(moves.get("up", 0) + moves.get("down", 0))
    reasons = ", ".join(
        f"{count} by {'their ' if reason == 'own energy' else 'the '}{reason}" for reason, count in why.items()
    )
    return (
        f"{moves.get('joined', 0)} joined, {moves.get('left', 0)} left, {moves.get('same', 0)} kept their star, "
        f"{changed} changed it ({moves.get('up', 0)} up, {moves.get('down', 0)} down)"
        + (f": {reasons}." if reasons else ".")
    )


def of_schemes(table: pd.DataFrame) -> str:
    """Say how many stars hang on the scheme; `table` from `compare.by_scheme`."""
    first, *others = rated_by(table)
    parts, unrated = [], []
    for other in others:
        both, title = table.dropna(subset=[first, other]), other.replace("_", " ")
        if len(both):
            parts.append(f"{int((both[first] != both[other]).sum())} by {title}")
        else:
            unrated.append(f" The scheme {title} rates none of them.")
    start = f"Against {first.replace('_', ' ')}, {', '.join(parts)}"
    changed = f"{start} of {int(table[first].notna().sum())} models get another star, from the same energies."
    return (changed if parts else "") + "".join(unrated)


def of_thin(stars: pd.DataFrame) -> str:
    """Say which groups are thin; `stars` from `rate`."""
    rated = stars.dropna(subset=["stars"])
    sizes = rated.groupby(["task", "model_class", "cohort"], dropna=False)["model"].size().droplevel("cohort")
    thin = sizes[sizes < THIN]
    if thin.empty:
        return f"No group has fewer than {THIN} models."
    named = [
        f"{task.replace('_', ' ')}{'' if pd.isna(letter) else ' ' + letter} ({size} models)"
        for (task, letter), size in thin.items()
    ]
    return (
        f"**Thin: {', '.join(named)}.** With fewer than two models for each number of stars, bands stay "
        "empty: here a star says little more than who came first and who last."
    )
