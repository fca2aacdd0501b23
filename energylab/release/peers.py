"""Who holds up the scale: every star without the cohort's lightest model, and without its heaviest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from energylab.ratings import Bands, Group, Scheme, stars_for
from energylab.ratings.stars import make_bands
from energylab.release.schema import WithoutPeer


def without_extremes(
    models: Sequence[str], energies_wh: np.ndarray, bands: Bands, scheme: Scheme, device: str | None = None
) -> list[tuple[WithoutPeer, ...]]:
    """Return for every model the stars it would have without the lightest and without the heaviest other one.

    Parameters
    ----------
    models : sequence of str
        Names, lightest first.
    energies_wh : ndarray, shape (models,)
        Wh per 1,000 queries, ascending.
    bands : Bands
        Of the whole cohort.
    scheme : Scheme
        Makes the bands anew.
    device : str, optional
        What the cohort ran on, for schemes that hold for one device.

    Returns
    -------
    list of tuple of WithoutPeer
        One tuple a model; empty where the cohort earns no stars.
    """
    found: list[list[WithoutPeer]] = [[] for _ in models]
    if not bands.edges_wh or len(models) < 3:
        return [() for _ in models]
    group = Group(task=bands.task, cohort=bands.cohort, model_class=bands.model_class, device=device)
    for role, left in (("lightest", 0), ("heaviest", len(models) - 1)):
        others = np.delete(np.arange(len(models)), left)
        stars = stars_for(energies_wh[others], make_bands(scheme, group, energies_wh[others]))
        for place, count in zip(others, stars, strict=True):
            known = None if count is stars.dtype.na_value else int(count)
            found[place].append(WithoutPeer(peer=models[left], role=role, stars=known))
    return [tuple(each) for each in found]
