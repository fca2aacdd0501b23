"""From energy to emissions, by an assumed carbon intensity of the grid, which is stated with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from energylab.errors import ParameterError, unknown_name

#: Default power usage effectiveness (PUE) of a building; shown with every budget.
PUE = 1.2


@dataclass(frozen=True)
class Grid:
    """Carbon intensity of one electricity grid, in grams of CO2 equivalent per kilowatt-hour, and its source."""

    code: str  # ISO 3166-1 alpha-3, WORLD, or empty for a given value
    name: str
    g_per_kwh: float
    source: str

    def grams(self, energy_wh: float) -> float:
        """Return the emissions of an energy in Wh, in grams of CO2 equivalent."""
        return energy_wh / 1000 * self.g_per_kwh


@cache
def grids() -> tuple[Grid, ...]:
    """Return the world's average (IEA, Global energy and CO2 status report 2019), then every country of CodeCarbon."""
    from codecarbon.input import DataSource

    tables, by = DataSource(), f"as in CodeCarbon {version('codecarbon')}"
    average = float(tables.get_carbon_intensity_per_source_data()["world_average"])
    countries = [
        Grid(code, row["country_name"], float(row["carbon_intensity"]), f"Our World in Data {row['year']}, {by}")
        for code, row in tables.get_global_energy_mix_data().items()
        if row.get("carbon_intensity") is not None
    ]
    return (Grid("WORLD", "World average", average, f"IEA 2019, {by}"), *sorted(countries, key=lambda grid: grid.name))


def grid_of(country: str | None = None, g_per_kwh: float | None = None) -> Grid:
    """Return the grid: a given value, else a country by name or code, else the world's average."""
    if g_per_kwh is not None:
        if not (math.isfinite(g_per_kwh) and g_per_kwh >= 0):
            raise ParameterError(f"grid intensity {g_per_kwh!r}: give grams of CO2e per kWh, at least 0")
        return Grid("", country or "place not stated", float(g_per_kwh), "stated by the publisher of this page")
    asked = (country or "WORLD").casefold()
    found = next((grid for grid in grids() if asked in (grid.code.casefold(), grid.name.casefold())), None)
    if found is None:
        known = {name: None for grid in grids() for name in (grid.code, grid.name)}
        raise unknown_name("country", country, known, "give a name or three-letter code, or --grid-intensity")
    return found
