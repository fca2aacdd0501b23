"""From energy to emissions: the grid's carbon intensity is an assumption, stated with its source."""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass

from energylab.errors import ParameterError, unknown_name


@dataclass(frozen=True)
class Intensity:
    """Carbon intensity of electricity.

    Attributes
    ----------
    g_per_kwh : float
        Grams of CO2 equivalent a kilowatt-hour.
    where : str
        Of which grid.
    source : str
        Who says so.
    """

    g_per_kwh: float
    where: str
    source: str

    def grams(self, energy_wh: float) -> float:
        """Return the emissions of an energy in Wh, in grams of CO2 equivalent."""
        return energy_wh / 1000 * self.g_per_kwh


def intensity(country: str | None = None, g_per_kwh: float | None = None) -> Intensity:
    """Return the intensity to assume.

    Parameters
    ----------
    country : str, optional
        Three-letter code (ISO 3166-1 alpha-3); the world's average by default.
    g_per_kwh : float, optional
        A value of one's own, in place of the tabulated one.

    Returns
    -------
    Intensity

    Raises
    ------
    ParameterError
        If the value is not a number of at least 0.
    UnknownNameError
        If no intensity is tabulated for the country.

    References
    ----------
    CodeCarbon's tables ``global_energy_mix.json`` (Our World in Data) and ``carbon_intensity_per_source.json`` (IEA,
    Global energy and CO2 status report 2019).
    """
    if g_per_kwh is not None:
        if not (math.isfinite(g_per_kwh) and g_per_kwh >= 0):
            raise ParameterError(f"grid intensity {g_per_kwh!r}: must be grams of CO2e a kWh, at least 0")
        return Intensity(float(g_per_kwh), country or "place not stated", "stated by whoever made this page")
    from codecarbon.input import DataSource

    version = importlib.metadata.version("codecarbon")
    if country is None:
        world = DataSource().get_carbon_intensity_per_source_data()["world_average"]
        return Intensity(float(world), "world average", f"IEA 2019, as in CodeCarbon {version}")
    table = DataSource().get_global_energy_mix_data()
    known = {code: row for code, row in table.items() if row.get("carbon_intensity") is not None}
    if country.upper() not in known:
        raise unknown_name("country", country, known, "a three-letter code; or state --grid-intensity yourself")
    row = known[country.upper()]
    source = f"Our World in Data {row['year']}, as in CodeCarbon {version}"
    return Intensity(float(row["carbon_intensity"]), row["country_name"], source)
