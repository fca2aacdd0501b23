"""Make a release: choose one cohort a task and model class, rate it, and keep the evidence."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pydantic

from energylab import published, store
from energylab.errors import ReleaseError
from energylab.ratings import Bands, Rating, rating
from energylab.ratings.schemes import Scheme, get_scheme
from energylab.record import Record
from energylab.release import evidence
from energylab.release.choose import choose
from energylab.release.compare import since
from energylab.release.peers import without_extremes
from energylab.release.schema import (
    Interval,
    LeftOut,
    QualityFigure,
    RatedCohort,
    RatedModel,
    Release,
    significant,
)
from energylab.release.shelf import Key, Shelf

if TYPE_CHECKING:
    import pandas as pd

_PUBLISHED = "published:"
_ASSUMED = " assumed"  # how `energylab.ratings` ends the note on noise that was stated, not learnt

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
    shelf = Shelf.of(kept)
    cohorts, unrated = _cohorts(rated, _facts(kept), shelf, get_scheme(scheme))
    if not cohorts:
        raise ReleaseError("no model has an energy: nothing can be rated; see `energylab.read(...)` for the reasons")
    first = rated.bands[0]
    release = _checked(
        name=name,
        date=date,
        scheme=first.scheme,
        scheme_version=first.version,
        options=options,
        address=address,
        sources=(*sources, *shelf.imported_from()),
        cohorts=cohorts,
        machines=tuple(shelf.machines),
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
        raise ReleaseError(f"cannot make this release: {where}={first['input']!r}: {first['msg']}") from None


def _read(roots: Sequence[str | os.PathLike]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the tidy table of all roots, and name the sources of published figures."""
    import pandas as pd

    if not roots:
        raise ReleaseError("nothing to rate: name a record, a folder of records, a CSV or published:2025-02")
    dates = [str(root).removeprefix(_PUBLISHED) for root in roots if str(root).startswith(_PUBLISHED)]
    own = [root for root in roots if not str(root).startswith(_PUBLISHED)]
    tables = [published.load(date) for date in dates] + ([store.read(*own)] if own else [])
    facts = [published.source(date) for date in dates]
    sources = tuple(f"{fact['title']}, {fact['origin']}: {fact['licence']}." for fact in facts)
    return pd.concat(tables, ignore_index=True), sources


def _facts(table: pd.DataFrame) -> Mapping[Key, dict[str, Any]]:
    """Return what a table says of each model beside its energy: the first value of each column that has one."""
    import pandas as pd

    keys = [table["task"], _text(table, "model_class"), table["model"]]
    known = table.reindex(columns=list(_FACTS)).astype(object)
    known["output_tokens"] = pd.to_numeric(_column(table, "output_tokens")).where(lambda tokens: tokens > 0)
    known["output_tokens"] *= 1000.0 / table["queries"]
    grouped = known.groupby(keys, dropna=False, sort=False)
    first = grouped.first().assign(output_tokens=grouped["output_tokens"].mean())
    return first.astype(object).where(first.notna(), None).to_dict("index")


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    import pandas as pd

    return table[name] if name in table else pd.Series(None, index=table.index, dtype=object)


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as text, an empty one for missing values and columns."""
    return _column(table, name).astype("string").replace("NA", "").fillna("").astype(object)


def _cohorts(
    rated: Rating, facts: Mapping[Key, dict[str, Any]], shelf: Shelf, scheme: Scheme
) -> tuple[tuple[RatedCohort, ...], list[LeftOut]]:
    """Return the rated cohorts in order of task and class, and the models without an energy."""
    stars, classes = rated.stars, _text(rated.stars, "model_class")
    cohorts, unrated = [], []
    for bands in sorted(rated.bands, key=lambda bands: (bands.task, bands.model_class or "")):
        wanted = (bands.cohort, bands.task, bands.model_class or "")
        part = stars[(stars["cohort"] == wanted[0]) & (stars["task"] == wanted[1]) & (classes == wanted[2])]
        lost = part[part["energy_wh"].isna()]
        unrated += [LeftOut(task=r.task, model=r.model, record_id=None, why=r.note) for r in lost.itertuples()]
        part = part[part["energy_wh"].notna()]
        if len(part):
            cohorts.append(_cohort(bands, part, facts, shelf, scheme))
    return tuple(cohorts), unrated


def _cohort(
    bands: Bands, part: pd.DataFrame, facts: Mapping[Key, dict[str, Any]], shelf: Shelf, scheme: Scheme
) -> RatedCohort:
    keys = [(bands.task, bands.model_class or "", model) for model in part["model"]]
    kind, device = str(part["energy_kind"].iloc[0]), _shared(facts, keys, "device")
    without = without_extremes(list(part["model"]), part["energy_wh"].to_numpy(), bands, scheme, device)
    notes = part["note"].iloc[0].split("; ")
    return RatedCohort(
        task=bands.task,
        task_version=_shared(facts, keys, "task_version"),
        model_class=bands.model_class,
        cohort=bands.cohort,
        energy_kind=kind,
        device=device,
        not_official=_not_official(kind, [shelf.behind(key) for key in keys]),
        assumption=next((note.removesuffix(_ASSUMED) for note in notes if note.endswith(_ASSUMED)), ""),
        edges_wh=tuple(map(significant, bands.edges_wh)) or None,
        edges_reason=bands.reason,
        models=tuple(
            _model(star, facts[key], shelf.behind(key), peers, shelf)
            for star, key, peers in zip(part.to_dict("records"), keys, without, strict=True)
        ),
    )


def _shared(facts: Mapping[Key, dict[str, Any]], keys: Sequence[Key], name: str) -> str | None:
    """Return what the models of a cohort share, as text; None where none of them says."""
    return next((str(facts[key][name]) for key in keys if facts[key][name] is not None), None)


def _not_official(kind: str, records: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    why = {reason for behind in records for record in behind if record.valid for reason in record.not_official()}
    if kind != "measured":
        why.add(f"energy is {kind}, not measured")
    if any(not behind for behind in records):
        why.add("figures without a record")
    return tuple(sorted(why))


def _model(
    star: dict[str, Any], facts: dict[str, Any], records: list[Record], without: tuple, shelf: Shelf
) -> RatedModel:
    latest = records[-1].model if records else None
    tokens = evidence.output_tokens(records) if records else facts["output_tokens"]
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
        probabilities=_probabilities(star),
        expected_stars=None if _missing(star["expected_stars"]) else significant(star["expected_stars"], 6),
        note=star["note"],
        without=without,
        output_tokens=None if tokens is None else significant(tokens),
        quality=evidence.quality_figures(records) if records else _quality(facts),
        phases=evidence.phase_figures(records),
        sessions=tuple(evidence.session_facts(record, shelf.machine(record)) for record in records),
    )


def _missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value))


def _whole(value: Any) -> int | None:
    return None if _missing(value) else int(value)


def _interval(low: float, high: float) -> Interval | None:
    return None if _missing(low) else Interval(low_wh=significant(low), high_wh=significant(high))


def _probabilities(star: dict[str, Any]) -> tuple[float, ...] | None:
    shares = [star[f"p_star_{count}"] for count in range(1, 6)]
    return None if any(map(_missing, shares)) else tuple(round(share, 6) for share in shares)


def _quality(facts: dict[str, Any]) -> tuple[QualityFigure, ...]:
    if facts["quality"] is None:
        return ()
    return (QualityFigure(metric=facts["quality_metric"] or "quality", value=float(facts["quality"])),)
