"""What changes a star: noise, boards, models that leave or join, another scheme or way of counting, a new release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from energylab.energy import check_options, model_energies
from energylab.errors import DataError, ParameterError, unknown_name
from energylab.ratings.chances import Uncertainty, chances
from energylab.ratings.rating import PROBABILITIES, SURE, RatedGroup, Rating, rate, rate_with_bands, rated_groups
from energylab.ratings.schemes import Bands, Scheme, count_stars, get_scheme, stars_for
from energylab.statistics.uncertainty import GAIN_ERROR

KEYS = ["task", "model_class", "model"]


def neat(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Return a table for display: tasks in words as the first column, fixed decimals, empty for missing values."""
    shown = table.rename(columns={"model_class": "class"}).astype(object)
    for name in table.select_dtypes("float"):
        shown[name] = [f"{value:.{digits}f}" for value in table[name]]
    shown = shown.where(table.notna().to_numpy(), "")
    shown["task"] = shown["task"].str.replace("_", " ")
    return shown.set_index("task").rename_axis(index=None, columns="task")


def shown_probability(stars: pd.DataFrame) -> np.ndarray:
    """Return the probability of each model's star; NaN if it is unknown or there is no star."""
    shown = stars["stars"].fillna(1).to_numpy(dtype=int) - 1
    return stars[list(PROBABILITIES)].to_numpy()[np.arange(len(stars)), shown]


def with_probability(stars: pd.DataFrame) -> pd.DataFrame:
    """Return the models whose star has a probability, in column ``p_shown``; a ParameterError if there are none."""
    shown = stars.dropna(subset=["stars", "p_star_1"])
    if shown.empty:
        raise ParameterError("no star has a probability; repeat the sessions, or rate with noise=0.01 for 1 %")
    return shown.assign(p_shown=shown_probability(shown))


def sureness(stars: pd.DataFrame) -> pd.DataFrame:
    """Count uncertain stars and uncertain orders of neighbours, in each group of `rate` and in total.

    Returns
    -------
    pandas.DataFrame
        ``task, model_class, models`` (with a star), ``unsure`` (shown star below a probability of `SURE`),
        ``expected_wrong`` (sum of the probabilities that the shown star is not the true one), ``least_sure, p_least``,
        ``unsure_pairs`` (neighbours whose order is below `SURE`), ``widest_rank`` (width of the widest range of ranks).
    """
    shown = with_probability(stars)
    rows = [_sureness_of(part) for _, part in shown.groupby(["cohort", *KEYS[:2]], dropna=False, sort=False)]
    total = {**_sureness_of(shown), "task": "all", "model_class": pd.NA}
    return pd.DataFrame([*rows, total]).astype({"model_class": "string"})


def _sureness_of(part: pd.DataFrame) -> dict[str, object]:
    least = part.loc[part["p_shown"].idxmin()]
    return {
        "task": part["task"].iloc[0],
        "model_class": part["model_class"].iloc[0],
        "models": len(part),
        "unsure": int((part["p_shown"] < SURE).sum()),
        "expected_wrong": float((1 - part["p_shown"]).sum()),
        "least_sure": least["model"],
        "p_least": float(least["p_shown"]),
        "unsure_pairs": int((part["p_next"] < SURE).sum()),
        "widest_rank": int((part["rank_high"] - part["rank_low"]).fillna(0).max()) + 1,
    }


def under_noise(
    df: pd.DataFrame,
    noises: Sequence[float] = (0.001, 0.01, 0.02, 0.05),
    scheme: str | Scheme = "equal_width",
    *,
    gain: float = 0.0,
    own_boards: bool = False,
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the probabilities of stars for assumed relative standard errors of all figures.

    With `own_boards` every model has its own board; otherwise all share one, whose gain changes no star of a relative
    scheme. Repeats in the table are ignored. Other options as in `rate_with_bands`.

    Returns
    -------
    pandas.DataFrame
        One row per noise and model: ``noise, task, model_class, model, cohort, stars``, the probabilities, and
        ``p_flip``, the probability that the shown star is not the true one.
    """
    check_options(gain=gain, draws=draws)
    scheme, parts = get_scheme(scheme), []
    for rated, stars in _rated(df, scheme):
        for noise in noises:
            check_options(noise=noise)
            uncertainty = Uncertainty.stated(rated.rows.size, noise, gain, own_boards)
            p, _ = chances(rated.energies_wh, uncertainty, scheme, rated.group, draws, rated.rng(seed))
            part = _keys(rated).assign(stars=stars, **dict(zip(PROBABILITIES, p.T, strict=True)))
            parts.append(part.assign(noise=noise, p_flip=1 - p[np.arange(len(p)), stars - 1]))
    table = pd.concat(parts, ignore_index=True)
    return table[["noise", *(name for name in table if name != "noise")]]


def most_doubtful(swept: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """Return the models with the largest ``p_flip`` of `under_noise`, one column per noise."""
    keys = [*KEYS, "cohort", "stars"]
    wide = swept.assign(model_class=swept["model_class"].fillna("")).pivot(index=keys, columns="noise", values="p_flip")
    top = wide.loc[wide.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]].droplevel("cohort")
    top.columns = [f"{100 * noise:g} %" for noise in top.columns]
    return top.reset_index()


def doubtful_by_noise(one_board: pd.DataFrame, own_boards: pd.DataFrame) -> pd.DataFrame:
    """Count for each noise the uncertain and the expected wrong stars; both tables come from `under_noise`."""
    flips = {"all on one board": one_board, "every model on its own board": own_boards}
    counted = {
        title: swept.groupby("noise")["p_flip"].agg(doubtful=lambda p: int((p > 1 - SURE).sum()), wrong="sum").round(1)
        for title, swept in flips.items()
    }
    table = pd.concat(counted, axis=1)
    return table.set_axis([f"{100 * noise:g} %" for noise in table.index]).rename_axis("noise of each figure")


def leave_one_out(df: pd.DataFrame, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Leave out each model in turn, and count whose stars change.

    Returns
    -------
    pandas.DataFrame
        One row per model left out: ``task, model_class, model, cohort, energy_wh, stars, others`` (remaining models),
        ``changed`` (number of these with another star), ``gained, lost`` (total stars); missing if the others alone
        earn no stars.
    """
    scheme, parts = get_scheme(scheme), []
    for rated, stars in _rated(df, scheme):
        counts = pd.DataFrame([_without(rated, scheme, stars, left) for left in range(len(stars))], dtype="Int64")
        part = _keys(rated).assign(energy_wh=rated.energies_wh, stars=stars, others=len(stars) - 1)
        parts.append(part.join(counts))
    return pd.concat(parts, ignore_index=True)


def _without(rated: RatedGroup, scheme: Scheme, stars: np.ndarray, left: int) -> dict[str, object]:
    energies_wh = np.delete(rated.energies_wh, left)
    if scheme.refusal(energies_wh, rated.group):
        return dict.fromkeys(("changed", "gained", "lost"), pd.NA)
    change = count_stars(energies_wh, scheme(energies_wh, rated.group)) - np.delete(stars, left)
    return {"changed": np.count_nonzero(change), "gained": change[change > 0].sum(), "lost": -change[change < 0].sum()}


def joins(
    df: pd.DataFrame, factors: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 5.0, 10.0), scheme: str | Scheme = "equal_width"
) -> pd.DataFrame:
    """Add one model to each group, and count the stars of other models that change.

    Returns
    -------
    pandas.DataFrame
        One row per factor (energy of the joining model, as a multiple of the group's highest) and group: ``factor,
        task, model_class, cohort, models, changed, share``.
    """
    scheme, rows = get_scheme(scheme), []
    if not all(np.isfinite(factor) and factor > 0 for factor in factors):
        raise ParameterError(f"factors={factors!r}: give positive multiples of the highest energy")
    for rated, stars in _rated(df, scheme):
        key = _keys(rated).iloc[0].drop("model").to_dict()
        for factor in factors:
            joined = np.append(rated.energies_wh, factor * rated.energies_wh.max())
            changed = int(np.count_nonzero(count_stars(joined, scheme(joined, rated.group))[:-1] != stars))
            rows.append({"factor": factor, **key, "models": len(stars), "changed": changed})
    table = pd.DataFrame(rows).astype({"model_class": "string"})
    return table.assign(share=table["changed"] / table["models"])


def _rated(df: pd.DataFrame, scheme: Scheme) -> list[tuple[RatedGroup, np.ndarray]]:
    """Return every group that earns stars, with its models' stars."""
    nonempty = [rated for rated in rated_groups(model_energies(df), GAIN_ERROR) if rated.rows.size]
    starred = [rated for rated in nonempty if not scheme.refusal(rated.energies_wh, rated.group)]
    if not starred:
        raise ParameterError(f"no group of this table earns stars by {scheme.name}; see the column note of `rate`")
    return [
        (rated, count_stars(rated.energies_wh, scheme(rated.energies_wh, rated.group)).astype(np.int64))
        for rated in starred
    ]


def _keys(rated: RatedGroup) -> pd.DataFrame:
    group = rated.group
    keys = {"task": group.task, "model_class": group.model_class or pd.NA, "model": rated.names, "cohort": group.cohort}
    return pd.DataFrame(keys).astype({"task": "string", "model_class": "string", "cohort": "string"})


def by_scheme(
    df: pd.DataFrame, schemes: Sequence[str | Scheme] = ("equal_width", "log_width", "quantiles", "reference")
) -> pd.DataFrame:
    """Rate a table by several schemes; the others are compared with the first.

    Returns
    -------
    pandas.DataFrame
        One row per model: ``task, model_class, model, cohort``, one column of stars per scheme (Int64, missing if not
        rated), and ``changed``: how many other schemes give another number of stars than the first.
    """
    rated = {scheme if isinstance(scheme, str) else scheme.name: rate(df, scheme, draws=0) for scheme in schemes}
    keys = [*KEYS, "cohort"]
    table = pd.concat([stars.set_index(keys)["stars"].rename(name) for name, stars in rated.items()], axis=1)
    differs = table.iloc[:, 1:].ne(table.iloc[:, 0], axis=0).fillna(False)
    return table.assign(changed=differs.sum(axis=1).astype(int)).reset_index()


def rated_by(table: pd.DataFrame) -> list[str]:
    """Return the names of the schemes in a table of `by_scheme`, in order."""
    return [name for name in table.columns if name not in (*KEYS, "cohort", "changed")]


def scheme_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Count commonly rated models and changed stars, for each scheme of `by_scheme` after the first."""
    first, *others = rated_by(table)
    both = {other: table.dropna(subset=[first, other]) for other in others}
    counts = {other: (len(part), int((part[first] != part[other]).sum())) for other, part in both.items()}
    return pd.DataFrame.from_dict(counts, orient="index", columns=["models", "changed"])


def per_output_token(df: pd.DataFrame) -> pd.DataFrame:
    """Return the table with output tokens instead of queries, so that `rate` gives Wh per 1,000 output tokens.

    The energy of a run is divided by the tokens of its scored phases. A row with neither run nor phase is a separate
    run. Only models that generate tokens are kept.
    """
    tokens = _column(df, "output_tokens", "rate records of a task that generates text")
    scored = df["scored"].astype(bool) if "scored" in df.columns else pd.Series(True, index=df.index)
    named = [df[name].notna() for name in ("run", "phase") if name in df.columns]
    alone = ~pd.concat(named, axis=1).any(axis=1) if named else pd.Series(True, index=df.index)
    own_run = pd.Series(np.where(alone, np.arange(len(df)), -1), index=df.index)
    run = [df[name] for name in (*KEYS, "cohort", "session", "run") if name in df.columns]
    total = tokens.where(scored).groupby([*run, own_run], dropna=False).transform("sum")
    return df.assign(queries=total)[total > 0]


def without_idle(df: pd.DataFrame) -> pd.DataFrame:
    """Return the table without idle energy: energy minus idle power times duration.

    NaN if the difference is not above 0, since it is then within the meter's error.
    """
    idle_w = _column(df, "idle_power_w", "rate records of sessions that measured their idle levels")
    duration_s = _column(df, "duration_s", "rate records, which hold durations")
    above = df["energy_j"].astype(float) - idle_w * duration_s
    return df.assign(energy_j=above.where(above > 0))


def _column(df: pd.DataFrame, name: str, instead: str) -> pd.Series:
    if name not in df.columns or df[name].isna().all():
        raise DataError(f"the table has no {name}; {instead}")
    return df[name].astype(float)


def treatments(df: pd.DataFrame, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Count the stars that depend on how energy is counted: per token, without idle, in batches.

    Returns
    -------
    pandas.DataFrame
        One row per treatment: ``treatment, models`` (rated both ways), ``changed`` (stars that differ), ``reason``
        (why it could not be computed, or empty).
    """
    rows = []
    for name, treat in (("energy per output token", per_output_token), ("idle energy taken off", without_idle)):
        try:
            rows.append(_changed(name, df, treat(df), scheme, [*KEYS, "cohort"]))
        except DataError as error:
            rows.append({"treatment": name, "models": 0, "changed": 0, "reason": str(error)})
    sizes = sorted(df["batch_size"].dropna().unique()) if "batch_size" in df.columns else []
    if len(sizes) < 2:
        reason = "all models were measured at one batch size; also measure them at another"
        rows.append({"treatment": "batch size", "models": 0, "changed": 0, "reason": reason})
    for size in sizes[1:]:
        parts = (df[df["batch_size"] == each] for each in (sizes[0], size))
        rows.append(_changed(f"batch size {size:g} instead of {sizes[0]:g}", *parts, scheme, KEYS))
    return pd.DataFrame(rows)


def _changed(
    name: str, before: pd.DataFrame, after: pd.DataFrame, scheme: str | Scheme, keys: list[str]
) -> dict[str, object]:
    """Compare the stars of the models that have both energies, since others would change the scale."""
    known = [rate(part, scheme, draws=0).dropna(subset=["energy_wh"]) for part in (before, after)]
    if any(part.duplicated(keys).any() for part in known):
        raise ParameterError(f"{name}: a model occurs in several cohorts; compare one cohort at a time")
    common = known[0].merge(known[1], on=keys)[keys]
    if common.empty:
        return {"treatment": name, "models": 0, "changed": 0, "reason": "no model has both energies"}
    on = [key for key in keys if key in before]
    parts = [part.merge(common[on].drop_duplicates(), on=on) for part in (before, after)]
    first, second = (rate(part, scheme, draws=0).set_index(keys)["stars"] for part in parts)
    both = pd.concat([first, second], axis=1, keys=["before", "after"]).dropna()
    return {
        "treatment": name,
        "models": len(both),
        "changed": int((both["before"] != both["after"]).sum()),
        "reason": "",
    }


def drift(before: Rating, after: Rating) -> pd.DataFrame:
    """Compare two ratings star by star; each has one cohort per task and size class (devices may differ).

    The cause of a changed star is ``own energy`` if the new energy changes it within the old bands, ``scale`` if the
    new bands change it at the old energy, ``both`` if each alone would do so, ``either`` if only together they do.

    Returns
    -------
    pandas.DataFrame
        One row per task, class and model of either: ``task, model_class, model, energy_before_wh, energy_after_wh,
        stars_before, stars_after, move`` (``joined``, ``left``, ``same``, ``up``, ``down``, ``now rated``, ``no
        longer rated``, ``not rated``), ``why`` (for ``up`` and ``down``) and ``p_after``, the probability of the new
        star.
    """
    parts = [_side(one, suffix) for one, suffix in ((before, "before"), (after, "after"))]
    both = parts[0].merge(parts[1], on=KEYS, how="outer", indicator="side")
    both["move"] = [_move(row) for row in both.itertuples()]
    bands = tuple({(part.task, part.model_class): part for part in one.bands} for one in (before, after))
    both["why"] = [_why(row, *bands) if row.move in ("up", "down") else "" for row in both.itertuples()]
    order = ["energy_before_wh", "energy_after_wh", "stars_before", "stars_after", "move", "why", "p_after"]
    return both.sort_values([*KEYS[:2], "energy_after_wh", "model"], ignore_index=True)[[*KEYS, *order]]


def _side(rated: Rating, suffix: str) -> pd.DataFrame:
    stars = rated.stars
    if stars.duplicated(KEYS).any():
        model = stars.loc[stars.duplicated(KEYS), "model"].iloc[0]
        raise ParameterError(f"the rating {suffix} holds {model!r} in several cohorts; rate one cohort at a time")
    named = {"energy_wh": f"energy_{suffix}_wh", "stars": f"stars_{suffix}", "p": f"p_{suffix}"}
    return stars[[*KEYS, "energy_wh", "stars"]].assign(p=shown_probability(stars)).rename(columns=named)


def _move(row) -> str:
    if row.side != "both":
        return "left" if row.side == "left_only" else "joined"
    rated = pd.notna(row.stars_before), pd.notna(row.stars_after)
    if all(rated):
        difference = row.stars_after - row.stars_before
        return "up" if difference > 0 else "down" if difference < 0 else "same"
    return {(True, False): "no longer rated", (False, True): "now rated"}.get(rated, "not rated")


def _why(row, before: dict[tuple, Bands], after: dict[tuple, Bands]) -> str:
    group = (row.task, None if pd.isna(row.model_class) else row.model_class)
    own = stars_for(row.energy_after_wh, before[group])[0] != row.stars_before
    scale = stars_for(row.energy_before_wh, after[group])[0] != row.stars_before
    reasons = {(True, False): "own energy", (False, True): "scale", (True, True): "both", (False, False): "either"}
    return reasons[own, scale]


def drift_summary(moved: pd.DataFrame) -> pd.DataFrame:
    """Count the moves of `drift` in each task and class, and the stars changed by the scale alone."""
    counts = moved.assign(by_scale=moved["why"] == "scale")
    kinds = ["joined", "left", "same", "up", "down"]
    for kind in kinds:
        counts[kind] = counts["move"] == kind
    table = counts.groupby(KEYS[:2], dropna=False)[[*kinds, "by_scale"]].sum().reset_index()
    total = {**table[[*kinds, "by_scale"]].sum().to_dict(), "task": "all", "model_class": pd.NA}
    return pd.concat([table, pd.DataFrame([total]).astype({"model_class": "string"})], ignore_index=True)


def joining(df: pd.DataFrame, model: str | None = None, scheme: str | Scheme = "equal_width") -> pd.DataFrame:
    """Return the drift that one model causes, as if it had joined last; by default the one with the highest energy.

    That is the model of highest energy in the largest group. The table is that of `drift` for the model's group; of
    several cohorts, the one with most models is used.
    """
    if model is not None and model not in set(df["model"]):
        raise unknown_name("model", model, df["model"].unique())
    rated = rate(df, scheme, draws=0).dropna(subset=["stars"])
    size = rated.groupby(["cohort", *KEYS[:2]], dropna=False)["model"].transform("size")
    own = rated if model is None else rated[rated["model"] == model]
    own = own[size.loc[own.index] == size.loc[own.index].max()]
    if own.empty:
        raise ParameterError(f"{model or 'no model'} earns no star by this scheme; see the column note of `rate`")
    newest = own.loc[own["energy_wh"].idxmax()]
    df = df[df["cohort"] == newest["cohort"]] if "cohort" in df else df
    moved = drift(
        rate_with_bands(df[df["model"] != newest["model"]], scheme, draws=0), rate_with_bands(df, scheme, draws=0)
    )
    newcomer = moved[moved["model"] == newest["model"]]
    return moved.merge(newcomer[KEYS[:2]].drop_duplicates(), on=KEYS[:2])
