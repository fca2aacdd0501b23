"""Labels and badges by address, for model cards: drawn from the release on show."""

from __future__ import annotations

from functools import lru_cache

from energylab.errors import EnergylabError
from energylab.publish import label as labels
from energylab.publish import page as ratings_page
from energylab.publish import text
from energylab.publish.textfit import width
from energylab.release import RatedCohort, RatedModel, Release
from energylab_portal.rendering import page

_LEFT = "energy"
_PAD = 14  # pixels on both sides of a text together
_SIZE = 11
_RATED, _UNRATED, _UNOFFICIAL = "#0a6a62", "#56636a", "#8f2412"


class Pictures:
    """Labels and badges of one release.

    Parameters
    ----------
    release : Release
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self.label = lru_cache(maxsize=512)(self._label)
        self.badge = lru_cache(maxsize=2048)(self._badge)

    def find(self, model: str, task: str | None, size_class: str | None) -> tuple[RatedCohort, RatedModel] | None:
        """Return the one rating that a model's name, task and class mean; None when there is none, or several."""
        try:
            return ratings_page.find(self.release, model, task, size_class)
        except EnergylabError:
            return None

    def _label(self, model: str, task: str | None, size_class: str | None) -> str | None:
        found = self.find(model, task, size_class)
        return None if found is None else labels.svg(self.release, *found)

    def _badge(self, model: str, task: str | None, size_class: str | None) -> str | None:
        found = self.find(model, task, size_class)
        if found is None:
            return None
        cohort, rated = found
        return badge(_words(cohort, rated), labels.describe(self.release, cohort, rated), _colour(cohort, rated))


def badge(words: str, title: str, colour: str = _UNRATED) -> str:
    """Draw a badge of one line.

    Parameters
    ----------
    words : str
        What stands on its right side.
    title : str
        The same and more, for those who hear it.
    colour : str
        Ground of the right side.

    Returns
    -------
    str
        An SVG file that refers to nothing outside it.
    """
    split = round(_SIZE * width(_LEFT)) + _PAD
    whole = split + round(_SIZE * width(words)) + _PAD
    return page("badge.svg.j2", left=_LEFT, right=words, split=split, width=whole, title=title, colour=colour)


def unrated() -> str:
    """Draw the badge of a model that is not in the release: a picture in a model card is never broken."""
    return badge("not rated", "This model is not rated on this leaderboard, or is rated in several tasks: name one.")


def _words(cohort: RatedCohort, model: RatedModel) -> str:
    stars = "no stars" if model.stars is None else "★" * model.stars + "☆" * (5 - model.stars)
    official = "" if cohort.official else ", unofficial"
    return text.one_line(f"{stars} {text.figure(model.energy_wh)} Wh per 1,000, {cohort.energy_kind}{official}")


def _colour(cohort: RatedCohort, model: RatedModel) -> str:
    if not cohort.official:
        return _UNOFFICIAL
    return _UNRATED if model.stars is None else _RATED
