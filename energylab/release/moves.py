"""From one release to the next: what joined, what left, which star changed, which energy differs, and why."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from energylab.ratings.rating import PROBABILITIES, Rating
from energylab.ratings.schemes import Bands
from energylab.ratings.stability import drift
from energylab.release.schema import Move, PreviousRelease, RatedCohort, RatedModel, Release
from energylab.statistics.uncertainty import gain_variance
from energylab.table import difference

_LEVEL = 0.95


def since(before: Release, now: Release) -> PreviousRelease:
    """Return an earlier release and what moved from it to this one."""
    return PreviousRelease(name=before.name, date=before.date, digest=before.digest(), moves=moves(before, now))


def moves(before: Release, now: Release) -> tuple[Move, ...]:
    """Return one move per model that joined, left, or changed its star or energy, by task and class."""
    table = drift(to_rating(before), to_rating(now)).astype(object)
    rows = table.where(table.notna(), None).to_dict("records")
    found = [(row, _what_and_why(row, before, now)) for row in rows]
    return tuple(
        Move(
            **{name: row[name] for name in ("task", "model_class", "model", "stars_before", "energy_before_wh")},
            what=told[0],
            stars_now=row["stars_after"],
            energy_now_wh=row["energy_after_wh"],
            why=told[1],
        )
        for row, told in found
        if told
    )


def to_rating(release: Release) -> Rating:
    """Return a release as its table of stars and its bands."""
    rows = [
        {
            "task": cohort.task,
            "model_class": cohort.model_class,
            "model": model.model,
            "cohort": cohort.cohort,
            "energy_wh": model.energy_wh,
            "stars": model.stars,
            **dict(zip(PROBABILITIES, model.probabilities or [np.nan] * len(PROBABILITIES), strict=True)),
        }
        for cohort, model in release.rated()
    ]
    scheme = (release.scheme, release.scheme_version)
    bands = (
        Bands(*scheme, each.cohort, each.task, each.model_class, each.edges_wh or (), each.edges_reason)
        for each in release.cohorts
    )
    return Rating(pd.DataFrame(rows).astype({"model_class": "string", "stars": "Int64"}), tuple(bands))


def _what_and_why(row: dict, before: Release, now: Release) -> tuple[str, str] | None:
    """Return the change of one model of `drift`, and its reason; None if nothing changed."""
    key = (row["task"], row["model_class"])
    old, new = (
        next((cohort for cohort in release.cohorts if (cohort.task, cohort.model_class) == key), None)
        for release in (before, now)
    )
    if row["move"] == "left":
        left = next((left.why for left in now.left_out if left.model == row["model"]), None)
        return "left", left or "not among the sessions that were rated now"
    if row["move"] == "joined":
        return "joined", "rated for the first time" if old else "the task and class are rated for the first time"
    if row["stars_before"] != row["stars_after"]:
        return "changed star", _other_cohort(old, new) + _why(row, _scale(before, now, old, new), old, new)
    if _differs(row["model"], (before, now), (old, new)):
        return "same star", f"{_other_cohort(old, new)}{_energy(row)}, more than both figures' uncertainty"
    return None


def _differs(name: str, releases: tuple[Release, Release], cohorts: tuple[RatedCohort, RatedCohort]) -> bool:
    """Whether two energies of a model differ by more than a 95 % interval of their ratio.

    The gain cancels if both ran on the same boards; otherwise each has its own.
    """
    models = [next(model for model in cohort.models if model.model == name) for cohort in cohorts]
    if any(model.repeatability is None for model in models):
        return False
    boards = [_boards(release, model) for release, model in zip(releases, models, strict=True)]
    gains = [0.0 if boards[0] and boards[0] == boards[1] else each.options.get("gain", 0.05) for each in releases]
    variances, dfs = zip(*map(_relative_variance, models), strict=True)
    variance = sum(variances)
    doubt = sum(v**2 / df for v, df in zip(variances, dfs, strict=True))  # Welch and Satterthwaite
    df = min(variance**2 / doubt, 1e6) if doubt else 1e6
    known = stats.t.ppf(0.5 + _LEVEL / 2, df) * np.sqrt(variance)
    half = np.hypot(known, stats.norm.ppf(0.5 + _LEVEL / 2) * np.sqrt(sum(map(gain_variance, gains))))
    return bool(abs(np.log(models[1].energy_wh / models[0].energy_wh)) > max(half, 1e-9))


def _boards(release: Release, model: RatedModel) -> set[str]:
    return {board for session in model.sessions for board in release.machines[session.machine].boards}


def _relative_variance(model: RatedModel) -> tuple[float, float]:
    """Return the relative variance of a model's energy and its degrees of freedom, from its repeatability interval."""
    sessions = sum(session.valid for session in model.sessions)  # releases of schema 1 do not state `df`
    df = model.df or (sessions - 1 if sessions > 1 else np.inf)
    half = model.repeatability.high_wh / model.energy_wh - 1
    return (half / stats.t.ppf(0.5 + _LEVEL / 2, min(df, 1e6))) ** 2, df


def _why(row: dict, scale: str, old: RatedCohort, new: RatedCohort) -> str:
    """Return why a star changed; `scale` is the reason why the bands changed."""
    if None in (row["stars_before"], row["stars_after"]):
        return new.edges_reason or old.edges_reason or "the model earns stars in one of the two releases alone"
    return {
        "own energy": f"{_energy(row)}; the old bands would have changed its star too",
        "scale": f"its own energy would not have changed it; {scale}",
        "both": f"{_energy(row)}, and {scale}; each alone would have changed it",
        "either": f"{_energy(row)}, and {scale}; only together they changed it",
    }[row["why"]]


def _scale(before: Release, now: Release, old: RatedCohort, new: RatedCohort) -> str:
    """Return why the bands changed: another scheme, or other models at the ends."""
    was, then = (f"{release.scheme} {release.scheme_version}" for release in (before, now))
    if was != then:
        return f"the scheme changed from {was} to {then}"
    ends = [
        f"the {role} model is now {new.models[end].model} with {new.models[end].energy_wh:.3g} Wh, "
        f"before {old.models[end].model} with {old.models[end].energy_wh:.3g} Wh"
        for role, end in (("lightest", 0), ("heaviest", -1))
        if (old.models[end].model, old.models[end].energy_wh) != (new.models[end].model, new.models[end].energy_wh)
    ]
    return "the bands moved: " + ("; ".join(ends) or "the models between the ends changed")


def _other_cohort(old: RatedCohort, new: RatedCohort) -> str:
    """Return a remark that the two cohorts differ (in kind of energy, device or other facts); empty if they agree."""
    if old.cohort == new.cohort:
        return ""
    was, now = (f"{each.energy_kind} on {each.device or 'a device not stated'}" for each in (old, new))
    differs = f"{now}, before {was}" if was != now else difference(new.cohort, [old.cohort])
    return f"another cohort ({differs}): "


def _energy(row: dict) -> str:
    before, after = row["energy_before_wh"], row["energy_after_wh"]
    return f"its energy went from {before:.3g} to {after:.3g} Wh ({100 * (after / before - 1):+.3g} %)"
