"""The logarithmic scale that all bars of one cohort share; positions are per cent of the width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from energylab.release import RatedCohort, RatedModel

_MARGIN = 0.03  # of the width, on either side, so that a bar's end never touches the border
_STEP = 0.5  # per cent: what the eye can tell apart


@dataclass(frozen=True)
class Scale:
    """The scale of a cohort, and where its models and the edges of its bands stand on it."""

    cohort: RatedCohort

    @cached_property
    def ends_wh(self) -> tuple[float, float]:
        """Energies at the scale's two ends: every interval lies between them."""
        models = self.cohort.models
        lows = [(model.expanded.low_wh if model.expanded else model.energy_wh, model.energy_wh) for model in models]
        low = math.log(min(low if low > 0 else energy / 10 for low, energy in lows))
        high = math.log(max(model.expanded.high_wh if model.expanded else model.energy_wh for model in models))
        pad = max(high - low, 0.1) * _MARGIN / (1 - 2 * _MARGIN)
        return math.exp(low - pad), math.exp(high + pad)

    def at(self, energy_wh: float) -> float:
        """Return the position of an energy, held to the scale's ends."""
        low, high = self.ends_wh
        inside = min(max(energy_wh, low), high)
        return round(100 * math.log(inside / low) / math.log(high / low), 2)

    def bar(self, model: RatedModel) -> tuple[float, float, float]:
        """Return start, length and centre of a model's interval."""
        centre = self.at(model.energy_wh)
        if model.expanded is None:
            return centre, 0.0, centre
        start = self.at(model.expanded.low_wh)
        return start, round(self.at(model.expanded.high_wh) - start, 2), centre

    @cached_property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the round numbers on the scale: 1, 2 and 5 times powers of ten."""
        low, high = self.ends_wh
        decades = math.log10(high / low)
        steps = (1,) if decades > 3 else (1, 3) if decades > 1.8 else (1, 2, 5) if decades > 0.5 else range(1, 10)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [step * 10.0**power for power in powers for step in steps]
        return [(self.at(mark), f"{mark:,.10g}") for mark in marks if low <= mark <= high]

    @cached_property
    def edges(self) -> list[float]:
        """Positions of the edges of the star bands."""
        return [self.at(edge) for edge in self.cohort.edges_wh or ()]

    @cached_property
    def places(self) -> list[float]:
        """Positions of the models, those that the eye cannot tell apart once."""
        return sorted({round(self.at(model.energy_wh) / _STEP) * _STEP for model in self.cohort.models})
