"""What would change a model's star, in words: its distance to the bands' edges, and who holds up the scale."""

from __future__ import annotations

from energylab.publish.units import figure, percent, plural
from energylab.release import RatedCohort, RatedModel

_LEVELS = 5


def what_would_change(cohort: RatedCohort, model: RatedModel) -> list[str]:
    """Return one sentence for each thing that would move a model's star.

    Parameters
    ----------
    cohort : RatedCohort
    model : RatedModel
        One of its models.

    Returns
    -------
    list of str
        Empty only where nothing at all could be said; a cohort without stars is explained.
    """
    if model.stars is None or cohort.edges_wh is None:
        return [f"No star was given: {model.note or cohort.edges_reason}."]
    sentences = [*_better(cohort, model), *_worse(cohort, model), *_doubt(model)]
    return sentences + [_without(model, peer.peer, peer.role, peer.stars) for peer in model.without]


def _better(cohort: RatedCohort, model: RatedModel) -> list[str]:
    if model.stars == _LEVELS:
        return []
    edge = cohort.edges_wh[_LEVELS - 1 - model.stars]
    saved = 1 - edge / model.energy_wh
    return [
        f"With {100 * saved:.3g} % less energy, at most {figure(edge)} Wh per 1,000 queries, it would have "
        f"{plural(model.stars + 1, 'star')}, the other models unchanged."
    ]


def _worse(cohort: RatedCohort, model: RatedModel) -> list[str]:
    if model.stars == 1:
        return []
    edge = cohort.edges_wh[_LEVELS - model.stars]
    more = edge / model.energy_wh - 1
    return [
        f"With {100 * more:.3g} % more, above {figure(edge)} Wh per 1,000 queries, it would fall to "
        f"{plural(model.stars - 1, 'star')}."
    ]


def _doubt(model: RatedModel) -> list[str]:
    """Say how often the star would change: the sum over all other stars, so that it adds up with the star's own."""
    if model.star_probability is None:
        return []
    if model.star_probability > 0.99:  # where `percent` too gives up counting
        return ["Measuring the whole table again would change its star in less than 1 of 100 cases."]
    others = [(share, n) for n, share in enumerate(model.probabilities, start=1) if n != model.stars and share > 0]
    likely = "; ".join(f"{plural(n, 'star')}: {percent(share)}" for share, n in sorted(others, reverse=True))
    changes = percent(1 - model.star_probability)
    return [f"Measuring the whole table again could alone change its star, in {changes} of cases ({likely})."]


def _without(model: RatedModel, peer: str, role: str, stars: int | None) -> str:
    if stars is None:
        outcome = "no star could be given"
    elif stars == model.stars:
        outcome = "its star would stay"
    else:
        outcome = f"it would have {plural(stars, 'star')}"
    return f"Without the {role} model of the table, {peer}, {outcome}."
