"""Ratings: bands, stars, how sure a star is, and what moves it."""

from __future__ import annotations

from energylab.ratings.rating import Rating, rate, rate_with_bands
from energylab.ratings.schemes import STARS, Bands, Scheme, stars_for

__all__ = ["STARS", "Bands", "Rating", "Scheme", "rate", "rate_with_bands", "stars_for"]
