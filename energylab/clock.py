"""Monotonic time, which tests can replace by a manual clock, and detection of a stopped process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from energylab.errors import MeterError

#: Seconds between two beats of the watch over this process, and the shortest gap that counts as stopped.
BEAT_S, STOPPED_S = 0.25, 2.0


class Periodic:
    """Calls a function every `period_s` seconds in a thread that sleeps in between, without using a core.

    If the function raises a `MeterError`, the thread ends; the next reading meets the same error.
    """

    def __init__(self, function: Callable[[], object], period_s: float, name: str) -> None:
        self._function, self._period_s = function, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first call comes after one period."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; does nothing if it was not started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):  # sleeps in the kernel
            try:
                self._function()
            except MeterError:
                return


class Clock:
    """The machine's monotonic clock. Subclasses are clocks of simulated boards."""

    _heart: Heartbeat | None = None

    def now(self) -> float:
        """Return seconds on a monotonic scale."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait without using the processor."""
        time.sleep(max(seconds, 0.0))

    def stopped_s(self) -> float:
        """Return the seconds for which this process was stopped since `watching` began; 0 outside of it."""
        return 0.0 if self._heart is None else self._heart.beat()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Detect inside a ``with`` block whether this process is stopped."""
        self._heart = Heartbeat()
        thread = Periodic(self._heart.beat, BEAT_S, "energylab-heartbeat")
        thread.start()
        try:
            yield
        finally:
            thread.stop()
            self._heart = None


def _with_suspend() -> float:
    """Return monotonic seconds, including suspension of the machine if the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Heartbeat:
    """Adds up the time in which this process did not run: stopped, frozen, suspended, or not scheduled.

    Processor time used in a gap is subtracted, since a long call that lets no other thread run is work. `now` returns
    the time and `used` the processor time of this process, in seconds.
    """

    def __init__(self, now: Callable[[], float] = _with_suspend, used: Callable[[], float] = time.process_time) -> None:
        self._now, self._used = now, used
        self._last = now(), used()
        self._lock = threading.Lock()
        self.stopped_s = 0.0

    def beat(self) -> float:
        """Record a beat; return all seconds stopped so far."""
        with self._lock:
            now, used = self._now(), self._used()
            silent_s = now - self._last[0] - max(used - self._last[1], 0.0)
            self._last = now, used
            if silent_s >= STOPPED_S:
                self.stopped_s += silent_s
            return self.stopped_s


class ManualClock(Clock):
    """A clock that advances only by calls, for simulated boards and tests."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = float(start_s)
        self._stopped_s = 0.0

    def now(self) -> float:
        """Return the simulated time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`; negative values are ignored, as by the real clock."""
        self._now += max(float(seconds), 0.0)

    def stop(self, seconds: float) -> None:
        """Advance by `seconds` as if the process were stopped."""
        self.sleep(seconds)
        self._stopped_s += seconds

    def stopped_s(self) -> float:
        """Return the total seconds of all calls of `stop`."""
        return self._stopped_s

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Do nothing: a simulated process is stopped by `stop`."""
        yield


def processor_s(pid: int) -> float | None:
    """Return the processor time of a process in seconds, including ended threads; None if the process has ended.

    Read from the process's own clock (``clock_getcpuclockid(3)``) in nanoseconds; ``/proc`` has hundredths of a second.
    """
    scheduler_clock = 2
    try:
        return time.clock_gettime((~pid << 3) | scheduler_clock)
    except OSError:  # no such process
        return None
