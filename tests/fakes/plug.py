"""A meter of somebody's own: it reads what a function of the time says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from energylab.meters.base import Meter, Reading


class Plug(Meter):
    """A counter without steps, on the machine's own clock."""

    name, kind, device, source, watches = "plug", "simulated", "wall", "a plug", ("cpu",)
    power_limit_w = 1e9

    def __init__(self, joules: Callable[[float], float] | None = None, reading: Callable[[float], Any] | None = None):
        super().__init__()
        self.reading = reading or (lambda now_s: Reading(joules(now_s), now_s))

    def open(self) -> None:
        """Touch nothing."""

    def read(self) -> Reading:
        """Return what the function says."""
        return self.reading(self.clock.now())
