"""The logarithmic scale that all bars of one cohort share; positions are per cent of the width."""

from __future__ import annotations

import math

from energylab.publish import page
from energylab.release import Interval, RatedCohort, RatedModel

_MARGIN = 0.03  # of the width, on either side, so that a bar's end never touches the border
_STEP = 0.5  # per cent: the smallest visible step


class Scale:
    """The scale of a cohort: where its models and the edges of its bands stand, and how many models have a rank."""

    def __init__(self, cohort: RatedCohort) -> None:
        self.cohort = cohort
        ends = [(_interval(model), model.energy_wh) for model in cohort.models]
        low = math.log(min(span.low_wh or energy / 10 for span, energy in ends))
        high = math.log(max(span.high_wh for span, _ in ends))
        pad = max(high - low, 0.1) * _MARGIN / (1 - 2 * _MARGIN)
        self.ends_wh = math.exp(low - pad), math.exp(high + pad)
        self.edges = [self.at(edge) for edge in cohort.edges_wh or ()]
        self.ranked = page.ranked(cohort)
        self.places = sorted({round(self.at(model.energy_wh) / _STEP) * _STEP for model in cohort.models})

    def at(self, energy_wh: float) -> float:
        """Return the position of an energy, held to the scale's ends."""
        low, high = self.ends_wh
        return round(100 * math.log(min(max(energy_wh, low), high) / low) / math.log(high / low), 2)

    def bar(self, model: RatedModel) -> tuple[float, float, float]:
        """Return start, length and centre of a model's interval."""
        span = _interval(model)
        start = self.at(span.low_wh)
        return start, round(self.at(span.high_wh) - start, 2), self.at(model.energy_wh)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and labels of the round numbers on the scale."""
        low, high = self.ends_wh
        decades = math.log10(high / low)
        steps = (1,) if decades > 3 else (1, 3) if decades > 1.8 else (1, 2, 5) if decades > 0.5 else range(1, 10)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [step * 10.0**power for power in powers for step in steps]
        return [(self.at(mark), f"{mark:,.10g}") for mark in marks if low <= mark <= high]


def _interval(model: RatedModel) -> Interval:
    return model.expanded or Interval(low_wh=model.energy_wh, high_wh=model.energy_wh)
