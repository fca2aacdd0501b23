"""What ``benchmarks/calibration.py`` and ``benchmarks/energy_to_rate.py`` share: true stars and honest intervals."""

from __future__ import annotations

import numpy as np
from scipy import stats

from energylab import published
from energylab.energy import Group
from energylab.ratings.schemes import EqualWidth, count_stars


def _published() -> dict[str, np.ndarray]:
    table = published.load()
    name = table["task"] + table["model_class"].map(lambda letter: f", class {letter}", na_action="ignore").fillna("")
    return {str(each): np.sort(part.to_numpy()) for each, part in table["energy_wh"].groupby(name)}


#: Published energies by group, ascending, Wh per 1,000 queries.
PUBLISHED = _published()


def true_stars(energies_wh: np.ndarray) -> np.ndarray:
    """Return the stars of energies of shape (..., models) by the published rule."""
    return count_stars(energies_wh, EqualWidth()(energies_wh, Group("any")))


def clustered_wilson(right: np.ndarray, cluster: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a share whose cases come in clusters, at the effective number of cases.

    The effective number is the cases over the design effect: the variance of the share between clusters over that
    of independent cases; never more than there are cases.

    References
    ----------
    Korn, Graubard (1998), Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 193-201.
    """
    right = np.asarray(right, float)
    share, cases = right.mean(), right.size
    _, codes = np.unique(cluster, return_inverse=True)
    clusters = codes.max() + 1
    deviation = np.bincount(codes, weights=right - share)
    independent = share * (1 - share) / cases
    if independent > 0 and clusters > 1:
        between = clusters / (clusters - 1) * (deviation @ deviation) / cases**2
        cases = cases / max(between / independent, 1.0)
    z = stats.norm.ppf(0.5 + level / 2)
    centre = (share + z**2 / (2 * cases)) / (1 + z**2 / cases)
    half = z * np.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2)) / (1 + z**2 / cases)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))
