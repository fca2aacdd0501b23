"""A buyer's sum: queries a day, grid, PUE and price to kWh, cost and CO2e a year, with the energy's interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from energylab.errors import ParameterError
from energylab.publish import page, text
from energylab.publish.emissions import Grid
from energylab.release import RatedCohort, RatedModel

DAYS_A_YEAR = 365.25

#: What the sum leaves out; shown wherever the sum is.
LEFT_OUT = (
    "Left out: what the rating does not include (named on the model's page), standby of idle boards, network and "
    "clients, making and disposing of hardware, training. A rating is of the stated hardware and batch size; a service "
    "that fills its boards otherwise needs another energy a query."
)


@dataclass(frozen=True)
class Budget:
    """One model's year: each figure as value, low, high; the ends are None where no interval is known.

    Attributes
    ----------
    kwh, cost, kg_co2e : tuple of float or None
        Kilowatt-hours, in the currency of the price, kilograms of CO2 equivalent.
    """

    kwh: tuple[float | None, float | None, float | None]
    cost: tuple[float | None, float | None, float | None]
    kg_co2e: tuple[float | None, float | None, float | None]


def budget(model: RatedModel, queries_a_day: float, grid: Grid, pue: float = 1.0, price_per_kwh: float = 0.0) -> Budget:
    """Return what a year of queries takes.

    ``kWh = Wh per 1,000 queries / 1,000 x queries a day x 365.25 / 1,000 x PUE``; cost and emissions are proportional.

    Parameters
    ----------
    model : RatedModel
        With its expanded interval, where it has one.
    queries_a_day : float
    grid : Grid
        Carbon intensity to assume.
    pue : float, default 1
        Power usage effectiveness of the building, at least 1.
    price_per_kwh : float, default 0
        In any currency.

    Raises
    ------
    ParameterError
        If a number is out of its range.
    """
    checks = {"queries a day": (queries_a_day, 0.0), "PUE": (pue, 1.0), "price": (price_per_kwh, 0.0)}
    for name, (value, least) in checks.items():
        if not (math.isfinite(value) and value >= least):
            raise ParameterError(f"{name}={value!r}: give a number of at least {least:g}")
    ends = (model.expanded.low_wh, model.expanded.high_wh) if model.expanded else (None, None)
    factor = queries_a_day * DAYS_A_YEAR * pue / 1e6
    kwh = tuple(None if wh is None else wh * factor for wh in (model.energy_wh, *ends))

    def times(rate: float) -> tuple[float | None, ...]:
        return tuple(None if value is None else value * rate for value in kwh)

    return Budget(kwh, times(price_per_kwh), times(grid.g_per_kwh / 1000))


def lines(cohort: RatedCohort, model: RatedModel, made: Budget, grid: Grid) -> list[str]:
    """Return a budget in words, for the terminal."""
    facts = {
        "kWh a year": made.kwh,
        "cost a year": made.cost if made.cost[0] else None,
        "kg CO2e a year": made.kg_co2e,
    }
    shown = [f"{name:15} {_figure(values)}" for name, values in facts.items() if values]
    where = f"{text.cohort_title(cohort.task, cohort.model_class)}, {text.KIND_WORDS[cohort.energy_kind]}"
    assumed = f"grid: {grid.name}, {grid.g_per_kwh:.4g} g CO2e per kWh ({grid.source})"
    energy = f"{text.figure(model.energy_wh)} Wh per 1,000 queries ({page.interval(model)})"
    return [f"{text.one_line(model.model)} ({where})", f"  {energy}", *(f"  {line}" for line in shown), f"  {assumed}"]


def _figure(values: tuple[float | None, ...]) -> str:
    value, low, high = values
    return text.figure(value) + (f"  ({text.span(low, high, value)})" if low is not None else "  (no interval)")
