"""Grid intensities by country, from the table that CodeCarbon ships: no network."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Grid:
    """Carbon intensity of one electricity grid.

    Attributes
    ----------
    code : str
        ISO 3166 alpha-3, or ``WORLD``.
    name : str
    intensity_g_per_kwh : float
        Grams of CO2 equivalent per kWh.
    year : int or None
        Year of the data; None for the world's average.
    """

    code: str
    name: str
    intensity_g_per_kwh: float
    year: int | None


def grids() -> list[Grid]:
    """Return the world's average, then every country of CodeCarbon's table, by name."""
    sources = _table("carbon_intensity_per_source.json")
    world = Grid("WORLD", "World average", float(sources["world_average"]), None)
    countries = [
        Grid(code, row["country_name"], float(row["carbon_intensity"]), int(row["year"]))
        for code, row in _table("global_energy_mix.json").items()
        if row.get("carbon_intensity") is not None
    ]
    return [world, *sorted(countries, key=lambda grid: grid.name)]


def source() -> str:
    """Name the table the intensities come from, with its version."""
    return f"CodeCarbon {version('codecarbon')}, table of countries"


def _table(name: str) -> dict:
    folder = importlib.resources.files("codecarbon").joinpath("data", "private_infra")
    return json.loads(folder.joinpath(name).read_text(encoding="utf-8"))
