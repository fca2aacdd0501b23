"""Ratings: cohorts, bands, stars, and how sure a star is."""

from __future__ import annotations

from energylab.ratings.schemes import STARS, Bands, Group, Scheme, stars_for
from energylab.ratings.stars import THIN, Rating, rate, rating

__all__ = ["STARS", "THIN", "Bands", "Group", "Rating", "Scheme", "rate", "rating", "stars_for"]
