"""Ratings: bands, stars, their probabilities, and what changes a star."""

from __future__ import annotations

from energylab.ratings.rating import Rating, rate, rate_with_bands
from energylab.ratings.schemes import STARS, Bands, Scheme, stars_for

__all__ = ["STARS", "Bands", "Rating", "Scheme", "rate", "rate_with_bands", "stars_for"]
