"""Yearly budget of a model: kWh, cost and CO2e from queries a day, grid, PUE and price, with the energy's interval."""

from __future__ import annotations

import math
from typing import NamedTuple

from energylab.errors import ParameterError
from energylab.publish import page, text
from energylab.publish.emissions import PUE, Grid
from energylab.release import RatedCohort, RatedModel

DAYS_A_YEAR = 365.25

#: Not included in a budget; shown with every budget.
LEFT_OUT = (
    "Not included: what the rating excludes (named on the model’s page), standby of idle boards, network and "
    "clients, production and disposal of hardware, training. A rating holds for its hardware and batch size; with "
    "another load the energy per query differs."
)

#: A value and, if its interval is known, the two ends.
Figure = tuple[float, ...]


class Budget(NamedTuple):
    """Yearly figures of one model; cost is in the currency of the price."""

    kwh: Figure
    cost: Figure
    kg_co2e: Figure


def budget(model: RatedModel, queries_a_day: float, grid: Grid, pue: float = PUE, price_per_kwh: float = 0.0) -> Budget:
    """Return the energy, cost and emissions of a year of queries.

    ``kWh = Wh per 1,000 queries / 1,000 x queries a day x 365.25 / 1,000 x PUE``; cost and emissions are proportional.
    """
    for name, value, least in (("queries a day", queries_a_day, 0), ("PUE", pue, 1), ("price", price_per_kwh, 0)):
        if not (math.isfinite(value) and value >= least):
            raise ParameterError(f"{name}={value!r}: give a number of at least {least}")
    ends = (model.expanded.low_wh, model.expanded.high_wh) if model.expanded else ()
    kwh = tuple(wh * queries_a_day * DAYS_A_YEAR * pue / 1e6 for wh in (model.energy_wh, *ends))
    return Budget(kwh, *(tuple(value * rate for value in kwh) for rate in (price_per_kwh, grid.g_per_kwh / 1000)))


def lines(cohort: RatedCohort, model: RatedModel, made: Budget) -> list[str]:
    """Return a budget as lines for the terminal."""
    title = f"{text.one_line(model.model)} ({text.cohort_title(cohort.task, cohort.model_class)})"
    figures = {"kWh a year": made.kwh, "cost a year": made.cost, "kg CO2e a year": made.kg_co2e}
    shown = [f"  {name:15} {_words(*values)}" for name, values in figures.items() if values[0] or name != "cost a year"]
    return [title, f"  {rated(cohort, model)}", *shown]


def rated(cohort: RatedCohort, model: RatedModel) -> str:
    """Return the rated energy of a budget with its kind, and the assumption of its interval."""
    span = f" ({page.interval(model)}{page.assuming(cohort, model)})" if model.expanded else ", no interval"
    return f"{text.figure(model.energy_wh)} Wh per 1,000 queries{span}, {text.KIND_WORDS[cohort.energy_kind]}"


def _words(value: float, low: float | None = None, high: float | None = None) -> str:
    return text.figure(value) + ("  (no interval)" if low is None else f"  ({text.span(low, high, value)})")
