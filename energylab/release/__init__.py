"""A dated rating of cohorts: made once from records, never overwritten, the only input of what is published."""

from __future__ import annotations

from energylab.release.files import FOLDER, read, write
from energylab.release.make import LARGEST, make
from energylab.release.moves import moves, since, to_rating
from energylab.release.schema import (
    NEVER_INCLUDED,
    Interval,
    Machine,
    Move,
    PhaseFigure,
    RatedCohort,
    RatedModel,
    Release,
    SessionFacts,
    WindowPoint,
    WithoutPeer,
    significant,
)

__all__ = [
    "FOLDER",
    "LARGEST",
    "NEVER_INCLUDED",
    "Interval",
    "Machine",
    "Move",
    "PhaseFigure",
    "RatedCohort",
    "RatedModel",
    "Release",
    "SessionFacts",
    "WindowPoint",
    "WithoutPeer",
    "make",
    "moves",
    "read",
    "significant",
    "since",
    "to_rating",
    "write",
]
