"""From one release to the next: what joined, what left, which star changed, and why."""

from __future__ import annotations

import pandas as pd

from energylab.ratings import Bands, Rating
from energylab.ratings.drift import drift
from energylab.release.choose import difference
from energylab.release.schema import Move, PreviousRelease, RatedCohort, Release


def since(before: Release, now: Release) -> PreviousRelease:
    """Return what moved from an earlier release to this one.

    Parameters
    ----------
    before, now : Release

    Returns
    -------
    PreviousRelease
        With one move a model that joined, left, changed star, or left its earlier interval.
    """
    return PreviousRelease(name=before.name, date=before.date, digest=before.digest(), moves=moves(before, now))


def moves(before: Release, now: Release) -> tuple[Move, ...]:
    """Return one move a model that joined, left, changed star or left its earlier interval, by task and class."""
    table = drift(to_rating(before), to_rating(now))
    cohorts = tuple({cohort.key: cohort for cohort in release.cohorts} for release in (before, now))
    found = (_move(row, before, now, *cohorts) for row in table.astype(object).to_dict("records"))
    return tuple(move for move in found if move is not None)


def to_rating(release: Release) -> Rating:
    """Return a release as the table of stars and the bands it was made of."""
    rows = [
        {
            "task": cohort.task,
            "model_class": cohort.model_class,
            "model": model.model,
            "cohort": cohort.cohort,
            "energy_wh": model.energy_wh,
            "stars": model.stars,
        }
        for cohort, model in release.rated()
    ]
    stars = pd.DataFrame(rows).astype({"model_class": "string", "stars": "Int64"})
    return Rating(stars, tuple(_bands(release, cohort) for cohort in release.cohorts))


def _bands(release: Release, cohort: RatedCohort) -> Bands:
    return Bands(
        scheme=release.scheme,
        version=release.scheme_version,
        cohort=cohort.cohort,
        task=cohort.task,
        model_class=cohort.model_class,
        edges_wh=cohort.edges_wh or (),
        models=len(cohort.models),
        reason=cohort.edges_reason,
    )


def _move(row: dict, before: Release, now: Release, old: dict, new: dict) -> Move | None:
    model_class = None if pd.isna(row["model_class"]) else row["model_class"]
    key = row["task"] if model_class is None else f"{row['task']}-{model_class}"
    energies = [None if pd.isna(row[f"energy_{side}_wh"]) else row[f"energy_{side}_wh"] for side in ("before", "after")]
    stars = [None if pd.isna(row[f"stars_{side}"]) else int(row[f"stars_{side}"]) for side in ("before", "after")]
    if row["move"] in ("joined", "left"):
        what, why = row["move"], _whereabouts(row["model"], row["move"], before, now, key)
    elif stars[0] != stars[1]:
        what, why = (
            "changed star",
            _other_cohort(old[key], new[key]) + _why(row, energies, old[key], new[key], before, now),
        )
    elif _left_interval(row["model"], energies[1], old[key]):
        what, why = "same star", f"{_other_cohort(old[key], new[key])}{_energy(energies)}, out of its earlier interval"
    else:
        return None
    return Move(
        task=row["task"],
        model_class=model_class,
        model=row["model"],
        what=what,
        stars_before=stars[0],
        stars_now=stars[1],
        energy_before_wh=energies[0],
        energy_now_wh=energies[1],
        why=why,
    )


def _whereabouts(model: str, move: str, before: Release, now: Release, key: str) -> str:
    """Say why a model is in one release alone, as far as they tell."""
    if move == "left":
        said = next((left.why for left in now.left_out if left.model == model), None)
        return said or "not among the sessions that were rated now"
    known = any(cohort.key == key for cohort in before.cohorts)
    return "rated for the first time" if known else "the task and class are rated for the first time"


def _left_interval(model: str, energy_wh: float, old: RatedCohort) -> bool:
    expanded = next(each.expanded for each in old.models if each.model == model)
    return expanded is not None and not expanded.low_wh <= energy_wh <= expanded.high_wh


def _other_cohort(old: RatedCohort, new: RatedCohort) -> str:
    """Say first that two cohorts are set side by side: energy of which kind, on what, or what else differs."""
    if old.cohort == new.cohort:
        return ""
    was, now = (f"{each.energy_kind} on {each.device or 'a device not stated'}" for each in (old, new))
    differs = f"{now}, before {was}" if was != now else difference(new.cohort, [old.cohort])
    return f"another cohort ({differs}): "


def _energy(energies: list[float]) -> str:
    change = 100 * (energies[1] / energies[0] - 1)
    return f"its energy went from {energies[0]:.3g} to {energies[1]:.3g} Wh ({change:+.3g} %)"


def _why(row: dict, energies: list[float], old: RatedCohort, new: RatedCohort, before: Release, now: Release) -> str:
    if None in (row["stars_before"], row["stars_after"]) or pd.isna(row["stars_before"]) or pd.isna(row["stars_after"]):
        return new.edges_reason or old.edges_reason or "the cohort earns stars in one of the two releases alone"
    scale = _scale(old, new, before, now)
    return {
        "own energy": f"{_energy(energies)}; the old bands would have changed its star too",
        "scale": f"its own energy would not have changed it; {scale}",
        "both": f"{_energy(energies)}, and {scale}; each alone would have changed it",
        "either": f"{_energy(energies)}, and {scale}; only together they changed it",
    }[row["why"]]


def _scale(old: RatedCohort, new: RatedCohort, before: Release, now: Release) -> str:
    """Say what moved the bands: another scheme, or other models at the ends."""
    if (before.scheme, before.scheme_version) != (now.scheme, now.scheme_version):
        return f"the scheme changed from {before.scheme} {before.scheme_version} to {now.scheme} {now.scheme_version}"
    ends = [
        f"the {role} model is now {new.models[end].model} with {new.models[end].energy_wh:.3g} Wh, "
        f"before {old.models[end].model} with {old.models[end].energy_wh:.3g} Wh"
        for role, end in (("lightest", 0), ("heaviest", -1))
        if (old.models[end].model, old.models[end].energy_wh) != (new.models[end].model, new.models[end].energy_wh)
    ]
    return "the bands moved: " + ("; ".join(ends) or "the models between the ends changed")
