"""From one release to the next: what joined, what left, which star changed, which energy differs, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from energylab.ratings.chances import gain_variance
from energylab.ratings.rating import PROBABILITIES, Rating
from energylab.ratings.schemes import Bands
from energylab.ratings.stability import drift
from energylab.release.schema import Move, PreviousRelease, RatedCohort, RatedModel, Release
from energylab.table import difference

_LEVEL = 0.95


def since(before: Release, now: Release) -> PreviousRelease:
    """Return an earlier release and what moved from it to this one."""
    return PreviousRelease(name=before.name, date=before.date, digest=before.digest(), moves=moves(before, now))


def moves(before: Release, now: Release) -> tuple[Move, ...]:
    """Return one move a model that joined, left, changed star or needs another energy, by task and class."""
    table = drift(to_rating(before), to_rating(now)).astype(object)
    pair = Pair(before, now)
    found = (pair.move(row) for row in table.where(table.notna(), None).to_dict("records"))
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
            **dict(zip(PROBABILITIES, model.probabilities or [np.nan] * len(PROBABILITIES), strict=True)),
        }
        for cohort, model in release.rated()
    ]
    stars = pd.DataFrame(rows).astype({"model_class": "string", "stars": "Int64"})
    return Rating(stars, tuple(_bands(release, cohort) for cohort in release.cohorts))


def _bands(release: Release, cohort: RatedCohort) -> Bands:
    key = (release.scheme, release.scheme_version, cohort.cohort, cohort.task, cohort.model_class)
    return Bands(*key, cohort.edges_wh or (), cohort.edges_reason)


@dataclass(frozen=True)
class Pair:
    """Two releases that are set side by side."""

    before: Release
    now: Release

    def move(self, row: dict) -> Move | None:
        """Return what became of one model; None where nothing did."""
        key = row["task"] if row["model_class"] is None else f"{row['task']}-{row['model_class']}"
        old, new = (
            next((cohort for cohort in release.cohorts if cohort.key == key), None)
            for release in (self.before, self.now)
        )
        if row["move"] in ("joined", "left"):
            what, why = row["move"], self._whereabouts(row, old)
        elif row["stars_before"] != row["stars_after"]:
            what, why = "changed star", _other_cohort(old, new) + self._why(row, old, new)
        elif self._differs(row["model"], old, new):
            what, why = "same star", f"{_other_cohort(old, new)}{_energy(row)}, more than both figures' uncertainty"
        else:
            return None
        return Move(
            task=row["task"],
            model_class=row["model_class"],
            model=row["model"],
            what=what,
            stars_before=row["stars_before"],
            stars_now=row["stars_after"],
            energy_before_wh=row["energy_before_wh"],
            energy_now_wh=row["energy_after_wh"],
            why=why,
        )

    def _whereabouts(self, row: dict, old: RatedCohort | None) -> str:
        """Return why a model is in one release alone, as far as they tell."""
        if row["move"] == "left":
            left = next((left.why for left in self.now.left_out if left.model == row["model"]), None)
            return left or "not among the sessions that were rated now"
        return "rated for the first time" if old else "the task and class are rated for the first time"

    def _differs(self, name: str, old: RatedCohort, new: RatedCohort) -> bool:
        """Say whether two energies of a model differ by more than a 95 % interval of their ratio.

        A gain that both share, of one board, cancels; else each has its own.
        """
        models = [next(model for model in cohort.models if model.model == name) for cohort in (old, new)]
        if any(model.repeatability is None for model in models):
            return False
        releases = (self.before, self.now)
        boards = [_boards(release, model) for release, model in zip(releases, models, strict=True)]
        gains = [0.0 if boards[0] and boards[0] == boards[1] else each.options.get("gain", 0.05) for each in releases]
        variances, dfs = zip(*map(_relative_variance, models), strict=True)
        variance = sum(variances)
        doubt = sum(v**2 / df for v, df in zip(variances, dfs, strict=True))  # Welch and Satterthwaite
        df = min(variance**2 / doubt, 1e6) if doubt else 1e6
        known = stats.t.ppf(0.5 + _LEVEL / 2, df) * np.sqrt(variance)
        half = np.hypot(known, stats.norm.ppf(0.5 + _LEVEL / 2) * np.sqrt(sum(map(gain_variance, gains))))
        return bool(abs(np.log(models[1].energy_wh / models[0].energy_wh)) > max(half, 1e-9))

    def _why(self, row: dict, old: RatedCohort, new: RatedCohort) -> str:
        if None in (row["stars_before"], row["stars_after"]):
            return new.edges_reason or old.edges_reason or "the model earns stars in one of the two releases alone"
        scale = self._scale(old, new)
        return {
            "own energy": f"{_energy(row)}; the old bands would have changed its star too",
            "scale": f"its own energy would not have changed it; {scale}",
            "both": f"{_energy(row)}, and {scale}; each alone would have changed it",
            "either": f"{_energy(row)}, and {scale}; only together they changed it",
        }[row["why"]]

    def _scale(self, old: RatedCohort, new: RatedCohort) -> str:
        """Return what moved the bands: another scheme, or other models at the ends."""
        was, now = ((release.scheme, release.scheme_version) for release in (self.before, self.now))
        if was != now:
            return f"the scheme changed from {' '.join(was)} to {' '.join(now)}"
        ends = [
            f"the {role} model is now {new.models[end].model} with {new.models[end].energy_wh:.3g} Wh, "
            f"before {old.models[end].model} with {old.models[end].energy_wh:.3g} Wh"
            for role, end in (("lightest", 0), ("heaviest", -1))
            if (old.models[end].model, old.models[end].energy_wh) != (new.models[end].model, new.models[end].energy_wh)
        ]
        return "the bands moved: " + ("; ".join(ends) or "the models between the ends changed")


def _boards(release: Release, model: RatedModel) -> set[str]:
    return {board for session in model.sessions for board in release.machines[session.machine].boards}


def _relative_variance(model: RatedModel) -> tuple[float, float]:
    """Return the relative variance of a model's energy and its degrees of freedom, from its repeatability interval."""
    sessions = sum(session.valid for session in model.sessions)  # releases of schema 1 do not state `df`
    df = model.df or (sessions - 1 if sessions > 1 else np.inf)
    half = model.repeatability.high_wh / model.energy_wh - 1
    return (half / stats.t.ppf(0.5 + _LEVEL / 2, min(df, 1e6))) ** 2, df


def _other_cohort(old: RatedCohort, new: RatedCohort) -> str:
    """Say first that two cohorts are set side by side: energy of which kind, on what, or what else differs."""
    if old.cohort == new.cohort:
        return ""
    was, now = (f"{each.energy_kind} on {each.device or 'a device not stated'}" for each in (old, new))
    differs = f"{now}, before {was}" if was != now else difference(new.cohort, [old.cohort])
    return f"another cohort ({differs}): "


def _energy(row: dict) -> str:
    before, after = row["energy_before_wh"], row["energy_after_wh"]
    return f"its energy went from {before:.3g} to {after:.3g} Wh ({100 * (after / before - 1):+.3g} %)"
