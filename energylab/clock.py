"""Time as the protocol sees it: monotonic, replaceable by a clock that a test moves, and aware of being stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from energylab.errors import MeterError

#: Time between two beats of the watch over this process, and the shortest silence that counts as stopped, in seconds.
BEAT_S, STOPPED_S = 0.25, 2.0


class Periodic:
    """Calls a function every `period_s` seconds in a thread that sleeps in between: no spinning, no core in use.

    When the function raises a `MeterError` the thread ends: whoever reads next meets it again.
    """

    def __init__(self, function: Callable[[], object], period_s: float, name: str) -> None:
        self._function, self._period_s = function, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first call comes after one period."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread at once and wait for it; a thread that was never started is left alone."""
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
    """The machine's monotonic clock. Subclasses give simulated boards a clock of their own."""

    _heart: Heartbeat | None = None

    def now(self) -> float:
        """Return seconds on a monotonic scale."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait without using the processor."""
        time.sleep(max(seconds, 0.0))

    def stopped_s(self) -> float:
        """Return for how many seconds this process stood still since `watching` began; 0 outside of it."""
        return 0.0 if self._heart is None else self._heart.beat()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch, for the length of a ``with`` block, whether this process is stopped."""
        self._heart = Heartbeat()
        thread = Periodic(self._heart.beat, BEAT_S, "energylab-heartbeat")
        thread.start()
        try:
            yield
        finally:
            thread.stop()
            self._heart = None


def _with_suspend() -> float:
    """Return monotonic seconds that go on while the machine is suspended, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Heartbeat:
    """Adds up the time in which this process did not run: stopped, frozen, suspended, or given no processor.

    A silence counts less the processor time used in it: a long call that lets no other thread run is work. `now` gives
    the time and `used` the processor time of this process, in seconds.
    """

    def __init__(self, now: Callable[[], float] = _with_suspend, used: Callable[[], float] = time.process_time) -> None:
        self._now, self._used = now, used
        self._last = now(), used()
        self._lock = threading.Lock()
        self.stopped_s = 0.0

    def beat(self) -> float:
        """Take note of being alive now; return all seconds stopped so far."""
        with self._lock:
            now, used = self._now(), self._used()
            silent_s = now - self._last[0] - max(used - self._last[1], 0.0)
            self._last = now, used
            if silent_s >= STOPPED_S:
                self.stopped_s += silent_s
            return self.stopped_s


class ManualClock(Clock):
    """A clock that moves only when told, for simulated boards and tests."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = float(start_s)
        self._stopped_s = 0.0

    def now(self) -> float:
        """Return the simulated time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds`; negative steps are ignored, as by the real clock."""
        self._now += max(float(seconds), 0.0)

    def stop(self, seconds: float) -> None:
        """Let time pass in which the process stands still."""
        self.sleep(seconds)
        self._stopped_s += seconds

    def stopped_s(self) -> float:
        """Return the seconds of all calls of `stop`."""
        return self._stopped_s

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Do nothing: a simulated process is stopped by hand."""
        yield


def processor_s(pid: int) -> float | None:
    """Return the processor time of a whole process in seconds, ended threads included; None if it has ended.

    Linux numbers a process's clock after the process (``clock_getcpuclockid(3)``): nanoseconds, where ``/proc`` gives
    hundredths of a second.
    """
    scheduler_clock = 2
    try:
        return time.clock_gettime((~pid << 3) | scheduler_clock)
    except OSError:  # no such process: the caller knows what that means for it
        return None
