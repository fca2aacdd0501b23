"""One logarithmic scale for all bars of a table, and where marks fall on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from energylab.release import RatedCohort, RatedModel

_MARGIN = 0.03  # of the width, on either side, so that a bar's end never touches the border


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from `low_wh` to `high_wh`; positions are per cent of the width."""

    low_wh: float
    high_wh: float

    @classmethod
    def of(cls, cohort: RatedCohort) -> Scale:
        """Return the scale that holds every interval of a cohort."""
        lows = [model.expanded.low_wh if model.expanded else model.energy_wh for model in cohort.models]
        highs = [model.expanded.high_wh if model.expanded else model.energy_wh for model in cohort.models]
        positive = [low if low > 0 else model.energy_wh / 10 for low, model in zip(lows, cohort.models, strict=True)]
        low, high = math.log(min(positive)), math.log(max(highs))
        pad = max(high - low, 0.1) * _MARGIN / (1 - 2 * _MARGIN)
        return cls(math.exp(low - pad), math.exp(high + pad))

    def at(self, energy_wh: float) -> float:
        """Return the position of an energy in per cent, held to the scale's ends."""
        inside = min(max(energy_wh, self.low_wh), self.high_wh)
        return round(100 * math.log(inside / self.low_wh) / math.log(self.high_wh / self.low_wh), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and labels of the round numbers on the scale: 1, 2 and 5 times powers of ten."""
        span = math.log10(self.high_wh / self.low_wh)
        steps = (1,) if span > 3 else (1, 3) if span > 1.8 else (1, 2, 5) if span > 0.5 else range(1, 10)
        first, last = math.floor(math.log10(self.low_wh)), math.ceil(math.log10(self.high_wh))
        marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [(self.at(mark), f"{mark:,.10g}") for mark in marks if self.low_wh <= mark <= self.high_wh]

    def bar(self, model: RatedModel) -> tuple[float, float, float]:
        """Return start, length and centre of a model's interval, in per cent."""
        centre = self.at(model.energy_wh)
        if model.expanded is None:
            return centre, 0.0, centre
        start = self.at(model.expanded.low_wh)
        return start, round(self.at(model.expanded.high_wh) - start, 2), centre


def distinct(positions: Iterable[float], step: float = 0.5) -> list[float]:
    """Return positions rounded to `step` per cent, each once: what the eye can tell apart."""
    return sorted({round(position / step) * step for position in positions})


@dataclass(frozen=True)
class Ladder:
    """What all pages and labels of one cohort share, computed once: its scale, and where its models stand on it."""

    cohort: RatedCohort

    @cached_property
    def scale(self) -> Scale:
        """The scale that holds every interval."""
        return Scale.of(self.cohort)

    @cached_property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the scale's round numbers."""
        return self.scale.ticks()

    @cached_property
    def edges(self) -> list[float]:
        """Positions of the bands' edges, in per cent."""
        return [self.scale.at(edge) for edge in self.cohort.edges_wh or ()]

    @cached_property
    def places(self) -> list[float]:
        """Positions of the models, in per cent, those that the eye cannot tell apart once."""
        return distinct(self.scale.at(model.energy_wh) for model in self.cohort.models)
