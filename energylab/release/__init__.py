"""A dated rating of cohorts: made once from records, never overwritten, the only input of what is published."""

from energylab.release.schema import (
    METHODOLOGY_VERSION,
    NEVER_INCLUDED,
    Interval,
    LeftOut,
    Machine,
    Move,
    PhaseFigure,
    PreviousRelease,
    QualityFigure,
    RatedCohort,
    RatedModel,
    Release,
    SessionFacts,
    WindowPoint,
    WithoutPeer,
)

__all__ = [
    "METHODOLOGY_VERSION",
    "NEVER_INCLUDED",
    "Interval",
    "LeftOut",
    "Machine",
    "Move",
    "PhaseFigure",
    "PreviousRelease",
    "QualityFigure",
    "RatedCohort",
    "RatedModel",
    "Release",
    "SessionFacts",
    "WindowPoint",
    "WithoutPeer",
]
