"""What one session measures with, and the queries of one planned window."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from energylab.clock import Clock
from energylab.meters.base import Meter, Reading
from energylab.protocol.settings import Settings
from energylab.protocol.workload import Workload

#: Two readings of one scored meter around one window.
Edge = tuple[Reading | None, Reading | None]


@dataclass
class Bench:
    """Everything one session measures with; `idle_w`, `rest_w` and `pace_s` fill as the session learns them.

    Attributes
    ----------
    workload : Workload
        What is measured.
    scored, extra : sequence of Meter
        Open meters: the scored ones give the energy (one a device), the others watch the same windows.
    settings : Settings
        The protocol's settings.
    clock : Clock
        The meters' clock.
    origin_s : float
        Time the session's times are counted from.
    idle_w : dict
        Device to idle power without context.
    rest_w : dict
        Device to power at rest with the model loaded.
    pace_s : dict
        Phase to seconds a query, from the warm-up.
    work_w : float or None
        Mean power while working, from the warm-up.
    edges : list of tuple
        For every window measured, the scored meters' two readings; None in place of one that failed.
    """

    workload: Workload
    scored: Sequence[Meter]
    extra: Sequence[Meter]
    settings: Settings
    clock: Clock
    origin_s: float
    rng: random.Random
    idle_w: dict[str, float] = field(default_factory=dict)
    rest_w: dict[str, float] = field(default_factory=dict)
    pace_s: dict[str, float] = field(default_factory=dict)
    work_w: float | None = None
    edges: list[tuple[Edge, ...]] = field(default_factory=list)

    @property
    def meters(self) -> list[Meter]:
        """Scored meters last: they are read closest to the work."""
        return [*self.extra, *self.scored]

    @property
    def step_s(self) -> float:
        """Longest time a change of power may stay unseen: step and latency of the slowest scored meter."""
        return max((meter.update_period_s or 0.0) + meter.latency_s for meter in self.scored)

    @property
    def stepped(self) -> bool:
        """Whether a scored counter moves in visible steps."""
        return any(meter.update_period_s for meter in self.scored)


@dataclass(frozen=True)
class Block:
    """The queries of one planned window."""

    run: int
    phase: str
    number: int
    queries: tuple[int, ...]
