"""Seaborn figures, one function a figure: each takes a table or a record and returns a matplotlib Figure."""

from __future__ import annotations

from energylab.figures.ratings import plot

__all__ = ["plot"]
