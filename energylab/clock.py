"""Time as the protocol sees it: monotonic, and replaceable by a clock that a test moves."""

from __future__ import annotations

import time


class Clock:
    """The machine's monotonic clock. Subclasses give simulated boards a clock of their own."""

    def now(self) -> float:
        """Return seconds on a monotonic scale."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait without using the processor."""
        if seconds > 0:
            time.sleep(seconds)


class ManualClock(Clock):
    """A clock that moves only when told, for simulated boards and tests."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = float(start_s)

    def now(self) -> float:
        """Return the simulated time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds`; negative steps are ignored, as by the real clock."""
        self._now += max(float(seconds), 0.0)
