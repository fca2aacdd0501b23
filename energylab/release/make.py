"""Make a release: choose one cohort per task and size class, rate it, and keep the evidence."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from energylab import published, store
from energylab.energy import Group
from energylab.errors import CohortError, ReleaseError, problem_text
from energylab.ratings.rating import PROBABILITIES, rate_with_bands
from energylab.ratings.schemes import Bands, Scheme, get_scheme, make_bands, stars_for
from energylab.record import Record
from energylab.release.evidence import Evidence
from energylab.release.moves import since
from energylab.release.schema import Interval, LeftOut, RatedCohort, Release, WithoutPeer, significant
from energylab.table import difference

#: Instead of a cohort's number: the cohort with most models.
LARGEST = "largest"

_PUBLISHED = "published:"

#: Columns of a table that a release keeps besides the energy.
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
    """Rate the records and tables of some roots, one cohort per task and size class.

    Parameters
    ----------
    roots : sequence of path
        As in `energylab.read`; ``published:2025-02`` is the published table of that date.
    name, date
        Name of the release (and its file) and its date, ``YYYY-MM-DD``; stated, so that equal input gives equal bytes.
    cohort : str, optional
        The cohort to rate if a task and class has several: the start of its number as listed in the error, or
        ``largest``. Others are listed in the release as left out.
    address : str, optional
        Web address at which the leaderboard will be served.
    scheme, noise, gain, draws, seed
        As in `energylab.ratings.rate_with_bands`.
    previous : Release, optional
        The previous release; changes since then are listed in the new one.

    Raises
    ------
    CohortError
        If a task and class has several cohorts and none is chosen; names what differs.
    ReleaseError
        If nothing can be rated, or a name, date or text is not allowed.
    """
    table, sources = _read(roots)
    kept, left_out = _choose(table, cohort)
    options = {"noise": noise, "gain": gain, "draws": draws, "seed": seed}
    rated = rate_with_bands(kept, scheme, **options)
    found = Evidence.of(kept)
    cohorts, unrated = _cohorts(_with_facts(rated.stars, kept, noise), rated.bands, found, get_scheme(scheme))
    if not cohorts:
        raise ReleaseError("no model has an energy, so none can be rated; see `energylab.read(...)` for the reasons")
    try:
        release = Release(
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
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "release"
        raise ReleaseError(f"cannot make this release: {where}={first['input']!r}: {problem_text(first)}") from None
    return release if previous is None else release.model_copy(update={"previous": since(previous, release)})


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


def _choose(table: pd.DataFrame, wanted: str | None) -> tuple[pd.DataFrame, list[LeftOut]]:
    """Keep one cohort of each task and size class; `wanted` as in `make`. Also return what is left out."""
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


def _with_facts(stars: pd.DataFrame, table: pd.DataFrame, noise: float | None) -> pd.DataFrame:
    """Return the rating with other facts about each model: the first value in each column of its table."""
    keys = [table["task"].astype("string"), _text(table, "model_class"), table["model"].astype(str)]
    known = table.reindex(columns=list(_FACTS)).astype(object)
    known["output_tokens"] = pd.to_numeric(_column(table, "output_tokens")).where(lambda tokens: tokens > 0)
    known["output_tokens"] *= 1000.0 / table["queries"]
    grouped = known.groupby(keys, dropna=False, sort=False)
    facts = grouped.first().assign(output_tokens=grouped["output_tokens"].mean())
    facts = facts.astype(object).where(facts.notna(), None).rename_axis(["task", "class", "model"]).reset_index()
    stars = stars.assign(model=stars["model"].astype(str), noise=noise)
    stars["class"] = _text(stars, "model_class")
    return stars.merge(facts.astype({"task": "string"}), on=["task", "class", "model"], how="left")


def _cohorts(
    stars: pd.DataFrame, every: Sequence[Bands], found: Evidence, scheme: Scheme
) -> tuple[tuple[RatedCohort, ...], list[LeftOut]]:
    """Return the rated cohorts in order of task and class, and the models without an energy."""
    cohorts, unrated = [], []
    for bands in sorted(every, key=lambda bands: (bands.task, bands.model_class or "")):
        same = (stars["cohort"] == bands.cohort) & (stars["task"] == bands.task)
        part = stars[same & (stars["class"] == (bands.model_class or ""))]
        lost, known = part[part["energy_wh"].isna()], part.dropna(subset="energy_wh")
        unrated += [LeftOut(task=r.task, model=r.model, record_id=None, why=r.note) for r in lost.itertuples()]
        if len(known):
            cohorts.append(_cohort(bands, known, found, scheme))
    return tuple(cohorts), unrated


def _cohort(bands: Bands, part: pd.DataFrame, found: Evidence, scheme: Scheme) -> RatedCohort:
    keys = [(bands.task, bands.model_class or "", model) for model in part["model"]]
    kind, device = str(part["energy_kind"].iloc[0]), _shared(part["device"])
    group = Group(task=bands.task, cohort=bands.cohort, model_class=bands.model_class, device=device)
    without = _without_extremes(part[part["rank"].notna()], group, scheme) if bands.edges_wh else {}
    fields = [
        _fields(star) | found.figures(key, star["energy_wh"]) | {"without": without.get(key[2], ())}
        for star, key in zip(part.to_dict("records"), keys, strict=True)
    ]
    if bands.edges_wh:
        _rate_by_right_answers(fields, group, scheme)
    return RatedCohort(
        task=bands.task,
        task_version=_shared(part["task_version"]),
        model_class=bands.model_class,
        cohort=bands.cohort,
        energy_kind=kind,
        device=device,
        not_official=_not_official(kind, [found.behind(key) for key in keys]),
        assumption=f"noise of {100 * part['noise'].iloc[0]:.3g} %" if (part["spread"] == "stated").any() else "",
        edges_wh=tuple(map(significant, bands.edges_wh)) or None,
        edges_reason=bands.reason,
        models=fields,
    )


def _stars(scheme: Scheme, group: Group, energies_wh: Sequence[float]) -> list[int | None]:
    """Rate some models as a separate group."""
    return [_whole(star) for star in stars_for(energies_wh, make_bands(scheme, group, np.sort(energies_wh)))]


def _rate_by_right_answers(fields: Sequence[dict[str, Any]], group: Group, scheme: Scheme) -> None:
    """Add stars by energy per right answer, among the models that have one with the same metric."""
    known = [each for each in fields if each.get("per_right")]
    for metric in {each["per_right"].metric for each in known}:
        peers = [each for each in known if each["per_right"].metric == metric]
        stars = _stars(scheme, group, [each["per_right"].energy_wh for each in peers])
        for each, star in zip(peers, stars, strict=True):
            each["per_right"] = each["per_right"].model_copy(update={"stars": star})


def _shared(stated: pd.Series) -> str | None:
    """Return the common value of all models of a cohort, as text; None if they differ or one is missing."""
    return str(stated.iloc[0]) if stated.notna().all() and stated.nunique() == 1 else None


def _not_official(kind: str, records: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    why = {reason for behind in records for record in behind if record.valid for reason in record.not_official()}
    if kind != "measured":
        why.add(f"energy is {kind}, not measured")
    if any(not behind for behind in records):
        why.add("figures without a record")
    return tuple(sorted(why))


def _without_extremes(part: pd.DataFrame, group: Group, scheme: Scheme) -> dict[str, list[WithoutPeer]]:
    """Return the stars every model would have without the lowest and without the highest other model."""
    models, energies_wh = part["model"].tolist(), part["energy_wh"].tolist()
    found: dict[str, list[WithoutPeer]] = {model: [] for model in models}
    for role, left in (("lightest", 0), ("heaviest", len(models) - 1)) if len(models) > 2 else ():
        others = models[:left] + models[left + 1 :]
        stars = _stars(scheme, group, energies_wh[:left] + energies_wh[left + 1 :])
        for model, star in zip(others, stars, strict=True):
            found[model].append(WithoutPeer(peer=models[left], role=role, stars=star))
    return found


def _fields(star: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a rated model from the rating and the other columns of its table."""
    shares = [star[name] for name in PROBABILITIES]
    metric = star["quality_metric"] or "quality"
    return {
        "model": star["model"],
        "parameters": _whole(star["parameters"]),
        "dtype": star["dtype"],
        "energy_wh": significant(star["energy_wh"]),
        "repeatability": _interval(star, "repeatability"),
        "expanded": _interval(star, "expanded"),
        "probabilities": None if any(map(pd.isna, shares)) else tuple(round(share, 6) for share in shares),
        **{name: _whole(star[name]) for name in ("stars", "rank", "rank_low", "rank_high")},
        **{name: _rounded(star[name]) for name in ("expected_stars", "p_next", "df")},
        "marks": tuple(filter(None, star["marks"].split(", "))),
        "note": star["note"],
        "output_tokens": _rounded(star["output_tokens"], 12),
        "quality": [] if star["quality"] is None else [{"metric": metric, "value": float(star["quality"])}],
    }


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _rounded(value: Any, digits: int = 6) -> float | None:
    return None if pd.isna(value) or np.isinf(value) else significant(float(value), digits)


def _interval(star: dict[str, Any], name: str) -> Interval | None:
    low, high = star[f"{name}_low"], star[f"{name}_high"]
    return None if pd.isna(low) else Interval(low_wh=significant(low), high_wh=significant(high))
