"""Make a release: choose one cohort a task and model class, rate it, and keep the evidence."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from energylab import published, store
from energylab.energy import Group
from energylab.errors import CohortError, ReleaseError, problem_text
from energylab.ratings.rating import PROBABILITIES, Rating, rating
from energylab.ratings.schemes import Bands, Scheme, get_scheme, make_bands, stars_for
from energylab.record import Record
from energylab.release import evidence
from energylab.release.evidence import Evidence, Key
from energylab.release.moves import since
from energylab.release.schema import (
    Interval,
    LeftOut,
    QualityFigure,
    RatedCohort,
    RatedModel,
    Release,
    WithoutPeer,
    significant,
)
from energylab.table import difference

#: In place of a cohort's number: the one with most models.
LARGEST = "largest"

_PUBLISHED = "published:"

#: What a release takes from a table's columns, beside the energy.
_FACTS = ("task_version", "device", "parameters", "dtype", "quality_metric", "quality")


def make(
    roots: Sequence[str | os.PathLike],
    *,
    name: str,
    date: dt.date | str,
    scheme: str | Scheme = "equal_width",
    cohort: str | None = None,
    address: str | None = None,
    noise: float | None = None,
    gain: float = 0.05,
    draws: int = 10_000,
    seed: int = 0,
    previous: Release | None = None,
) -> Release:
    """Rate what lies under some roots, one cohort a task and model class.

    Parameters
    ----------
    roots : sequence of path
        As `energylab.read` takes them; ``published:2025-02`` is the published table of that date.
    name : str
        Of the release and its file.
    date : date or str
        Of the release, ``YYYY-MM-DD``. It is stated, never today's: equal input gives equal bytes.
    scheme : str or Scheme, default "equal_width"
        As in `energylab.rate`.
    cohort : str, optional
        Which cohort to take where a task and class has several: the start of its number as the error lists it, or
        ``largest``. Others are named in the release as left out.
    address : str, optional
        Web address at which the leaderboard will be served.
    noise, gain, draws, seed
        As in `energylab.ratings.rating`.
    previous : Release, optional
        The release this one follows; what moved since is kept in this one.

    Returns
    -------
    Release

    Raises
    ------
    CohortError
        If a task and class has several cohorts and none is chosen; names what differs.
    ReleaseError
        If nothing can be rated, or a name, date or text is not allowed.
    """
    table, sources = _read(roots)
    kept, left_out = choose(table, cohort)
    options = {"noise": noise, "gain": gain, "draws": draws, "seed": seed}
    rated = rating(kept, scheme, **options)
    found = Evidence.of(kept)
    cohorts, unrated = _cohorts(rated, _facts(kept), found, get_scheme(scheme), noise)
    if not cohorts:
        raise ReleaseError("no model has an energy: nothing can be rated; see `energylab.read(...)` for the reasons")
    release = _checked(
        name=name,
        date=date,
        scheme=rated.bands[0].scheme,
        scheme_version=rated.bands[0].version,
        options=options,
        address=address,
        sources=(*sources, *found.imported_from()),
        cohorts=cohorts,
        machines=tuple(found.machines),
        left_out=(*left_out, *unrated),
    )
    return release if previous is None else release.model_copy(update={"previous": since(previous, release)})


def _checked(**fields: Any) -> Release:
    """Build the release, with one clear error for a name, date, address or text that is not allowed."""
    try:
        return Release(**fields)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "release"
        raise ReleaseError(f"cannot make this release: {where}={first['input']!r}: {problem_text(first)}") from None


def _read(roots: Sequence[str | os.PathLike]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the tidy table of all roots, and name the sources of published figures."""
    if not roots:
        raise ReleaseError("nothing to rate: name a record, a folder of records, a CSV or published:2025-02")
    dates = [str(root).removeprefix(_PUBLISHED) for root in roots if str(root).startswith(_PUBLISHED)]
    own = [root for root in roots if not str(root).startswith(_PUBLISHED)]
    tables = [published.load(date) for date in dates] + ([store.read(*own)] if own else [])
    facts = [published.source(date) for date in dates]
    sources = tuple(f"{fact['title']}, {fact['origin']}: {fact['licence']}." for fact in facts)
    return pd.concat(tables, ignore_index=True), sources


def number(key: str) -> str:
    """Return a cohort's number: eight hex digits of its key's sha256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def choose(table: pd.DataFrame, wanted: str | None) -> tuple[pd.DataFrame, list[LeftOut]]:
    """Keep one cohort of each task and model class; `wanted` as in `make`. Name what is left out."""
    if "cohort" not in table:
        return table, []
    keep, left_out = table["task"].notna() & False, []
    for (task, _), part in table.groupby([table["task"], _text(table, "model_class")], sort=True):
        sizes = part.groupby(part["cohort"].fillna(""))["model"].nunique()
        chosen = sizes.index[0] if len(sizes) == 1 else _pick(str(task), sizes, wanted)
        inside = part["cohort"].fillna("") == chosen
        keep |= inside.reindex(table.index, fill_value=False)
        left_out += _left_out(part[~inside], chosen)
    return table[keep], left_out


def _pick(task: str, sizes: pd.Series, wanted: str | None) -> str:
    if wanted == LARGEST:
        return min(sizes.index, key=lambda key: (-sizes[key], number(key)))
    matching = [key for key in sizes.index if wanted and number(key).startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    listed = "\n".join(f"  {number(key)}: {n} models, {difference(key, sizes.index)}" for key, n in sizes.items())
    problem = f"cohort {wanted!r} is not among those" if wanted else "there are several cohorts"
    raise CohortError(
        f"{problem} of {task}, and a release rates one:\n{listed}\nchoose with --cohort NUMBER or --cohort {LARGEST}"
    )


def _left_out(rows: pd.DataFrame, chosen: str) -> list[LeftOut]:
    columns = [name for name in ("task", "model", "session", "cohort") if name in rows]
    return [
        LeftOut(
            task=row["task"],
            model=row["model"],
            record_id=None if pd.isna(row.get("session")) else row["session"],
            why=f"of another cohort: {difference(row['cohort'] or '', [chosen])}",
        )
        for row in rows[columns].drop_duplicates().sort_values(columns[:3]).to_dict("records")
    ]


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name] if name in table else pd.Series(None, index=table.index, dtype=object)


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as text, an empty one for missing values and columns."""
    return _column(table, name).astype("string").replace("NA", "").fillna("").astype(object)


def _facts(table: pd.DataFrame) -> Mapping[Key, dict[str, Any]]:
    """Return what a table states of each model beside its energy: the first value of each column that has one."""
    keys = [table["task"], _text(table, "model_class"), table["model"].astype(str)]
    known = table.reindex(columns=list(_FACTS)).astype(object)
    known["output_tokens"] = pd.to_numeric(_column(table, "output_tokens")).where(lambda tokens: tokens > 0)
    known["output_tokens"] *= 1000.0 / table["queries"]
    grouped = known.groupby(keys, dropna=False, sort=False)
    first = grouped.first().assign(output_tokens=grouped["output_tokens"].mean())
    return first.astype(object).where(first.notna(), None).to_dict("index")


def _cohorts(
    rated: Rating, facts: Mapping[Key, dict[str, Any]], found: Evidence, scheme: Scheme, noise: float | None
) -> tuple[tuple[RatedCohort, ...], list[LeftOut]]:
    """Return the rated cohorts in order of task and class, and the models without an energy."""
    stars, classes = rated.stars, _text(rated.stars, "model_class")
    cohorts, unrated = [], []
    for bands in sorted(rated.bands, key=lambda bands: (bands.task, bands.model_class or "")):
        wanted = (bands.cohort, bands.task, bands.model_class or "")
        part = stars[(stars["cohort"] == wanted[0]) & (stars["task"] == wanted[1]) & (classes == wanted[2])]
        lost = part[part["energy_wh"].isna()]
        unrated += [LeftOut(task=r.task, model=str(r.model), record_id=None, why=r.note) for r in lost.itertuples()]
        part = part[part["energy_wh"].notna()]
        if len(part):
            cohorts.append(_cohort(bands, part.assign(model=part["model"].astype(str)), facts, found, scheme, noise))
    return tuple(cohorts), unrated


def _cohort(
    bands: Bands,
    part: pd.DataFrame,
    facts: Mapping[Key, dict[str, Any]],
    found: Evidence,
    scheme: Scheme,
    noise: float | None,
) -> RatedCohort:
    keys = [(bands.task, bands.model_class or "", model) for model in part["model"]]
    kind, device = str(part["energy_kind"].iloc[0]), _shared(facts, keys, "device")
    without = without_extremes(part[part["rank"].notna()], bands, scheme, device)
    models = [
        _model(star, facts[key], found.behind(key), without.get(key[2], ()), found)
        for star, key in zip(part.to_dict("records"), keys, strict=True)
    ]
    return RatedCohort(
        task=bands.task,
        task_version=_shared(facts, keys, "task_version"),
        model_class=bands.model_class,
        cohort=bands.cohort,
        energy_kind=kind,
        device=device,
        not_official=_not_official(kind, [found.behind(key) for key in keys]),
        assumption=f"noise of {100 * noise:.3g} %" if (part["spread"] == "stated").any() else "",
        edges_wh=tuple(map(significant, bands.edges_wh)) or None,
        edges_reason=bands.reason,
        models=_rated_by_right_answers(models, bands, scheme, device),
    )


def _rated_by_right_answers(
    models: list[RatedModel], bands: Bands, scheme: Scheme, device: str | None
) -> tuple[RatedModel, ...]:
    """Give stars by the energy of right answers too, among the models that have one of the same metric."""
    metrics = {model.per_right.metric for model in models if model.per_right}
    group = Group(task=bands.task, cohort=bands.cohort, model_class=bands.model_class, device=device)
    stars: dict[str, int | None] = {}
    for metric in metrics if bands.edges_wh else ():
        peers = [model for model in models if model.per_right and model.per_right.metric == metric]
        energies_wh = np.array([model.per_right.energy_wh for model in peers])
        counted = stars_for(energies_wh, make_bands(scheme, group, np.sort(energies_wh)))
        stars |= {model.model: _whole(count) for model, count in zip(peers, counted, strict=True)}
    return tuple(
        model.model_copy(update={"per_right": model.per_right.model_copy(update={"stars": stars.get(model.model)})})
        if model.per_right
        else model
        for model in models
    )


def _shared(facts: Mapping[Key, dict[str, Any]], keys: Sequence[Key], name: str) -> str | None:
    """Return what all models of a cohort state alike, as text; None where one of them does not."""
    stated = {facts[key][name] for key in keys}
    return str(stated.pop()) if len(stated) == 1 and None not in stated else None


def _not_official(kind: str, records: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    why = {reason for behind in records for record in behind if record.valid for reason in record.not_official()}
    if kind != "measured":
        why.add(f"energy is {kind}, not measured")
    if any(not behind for behind in records):
        why.add("figures without a record")
    return tuple(sorted(why))


def without_extremes(
    part: pd.DataFrame, bands: Bands, scheme: Scheme, device: str | None
) -> dict[str, tuple[WithoutPeer, ...]]:
    """Return the stars every model would have without the lightest and without the heaviest other one.

    Empty where the cohort earns no stars, or two models are all there are.
    """
    models, energies_wh = part["model"].tolist(), part["energy_wh"].to_numpy()
    if not bands.edges_wh or len(models) < 3:
        return {}
    found: dict[str, list[WithoutPeer]] = {model: [] for model in models}
    group = Group(task=bands.task, cohort=bands.cohort, model_class=bands.model_class, device=device)
    for role, left in (("lightest", 0), ("heaviest", len(models) - 1)):
        others = np.delete(np.arange(len(models)), left)
        stars = stars_for(energies_wh[others], make_bands(scheme, group, energies_wh[others]))
        for place, count in zip(others, stars, strict=True):
            found[models[place]].append(WithoutPeer(peer=models[left], role=role, stars=_whole(count)))
    return {model: tuple(each) for model, each in found.items()}


def _model(
    star: dict[str, Any], facts: dict[str, Any], records: list[Record], without: tuple, found: Evidence
) -> RatedModel:
    latest = records[-1].model if records else None
    tokens = evidence.output_tokens(records) if records else facts["output_tokens"]
    shares = [star[name] for name in PROBABILITIES]
    return RatedModel(
        model=star["model"],
        revision=latest and latest.revision,
        commit=latest and latest.commit,
        architecture=latest and latest.architecture,
        parameters=_whole(facts["parameters"]),
        dtype=facts["dtype"],
        quantisation=latest and latest.quantisation,
        energy_wh=significant(star["energy_wh"]),
        repeatability=_interval(star["repeatability_low"], star["repeatability_high"]),
        expanded=_interval(star["expanded_low"], star["expanded_high"]),
        stars=_whole(star["stars"]),
        probabilities=None if any(map(pd.isna, shares)) else tuple(round(share, 6) for share in shares),
        expected_stars=_rounded(star["expected_stars"]),
        rank=_whole(star["rank"]),
        rank_low=_whole(star["rank_low"]),
        rank_high=_whole(star["rank_high"]),
        p_next=_rounded(star["p_next"]),
        df=None if np.isinf(star["df"]) else _rounded(star["df"]),
        marks=tuple(filter(None, star["marks"].split(", "))),
        per_right=evidence.per_right_figure(records),
        standby=evidence.standby_figure(records),
        spent=evidence.spent_figure(records),
        note=star["note"],
        without=without,
        output_tokens=_rounded(tokens, 12),
        quality=evidence.quality_figures(records) if records else _quality(facts),
        phases=evidence.phase_figures(records),
        sessions=tuple(map(found.session, records)),
    )


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _rounded(value: Any, digits: int = 6) -> float | None:
    return None if pd.isna(value) else significant(float(value), digits)


def _interval(low: float, high: float) -> Interval | None:
    return None if pd.isna(low) else Interval(low_wh=significant(low), high_wh=significant(high))


def _quality(facts: dict[str, Any]) -> tuple[QualityFigure, ...]:
    if facts["quality"] is None:
        return ()
    return (QualityFigure(metric=facts["quality_metric"] or "quality", value=float(facts["quality"])),)
