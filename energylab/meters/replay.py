"""A simulated board with a known power trace, a quantised counter and its own clock.

Used in tests and teaching, and to validate the protocol: the true energy of every interval is known exactly.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from energylab.clock import Clock, ManualClock
from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading


class SimulatedBoard:
    """A board with a constant power during each piece of `work`, and `idle_w` in between. `work` advances the clock.

    A recorded power trace is replayed by ``for seconds, power_w in trace: board.work(seconds, power_w)``.
    """

    def __init__(self, clock: ManualClock, idle_w: float = 60.0) -> None:
        self.clock = clock
        self.idle_w = float(idle_w)
        self._start_s = [clock.now()]  # start of each piece
        self._power_w = [self.idle_w]
        self._energy_j = [0.0]  # energy at the start of each piece

    def work(self, seconds: float, power_w: float) -> None:
        """Draw `power_w` for `seconds` from now on, and advance the clock to the end."""
        self._piece(self.clock.now(), float(power_w))
        self.clock.sleep(seconds)
        self._piece(self.clock.now(), self.idle_w)

    def _piece(self, start_s: float, power_w: float) -> None:
        energy_j = self.energy_j(start_s)
        if start_s == self._start_s[-1]:  # nothing happened since the last piece began
            self._start_s.pop(), self._power_w.pop(), self._energy_j.pop()
        self._start_s.append(start_s)
        self._power_w.append(power_w)
        self._energy_j.append(energy_j)

    def _number(self, time_s: float) -> int:
        return max(bisect.bisect_right(self._start_s, time_s) - 1, 0)

    def energy_j(self, time_s: float) -> float:
        """Return the exact energy since the board was made, in joules."""
        i = self._number(time_s)
        return self._energy_j[i] + (time_s - self._start_s[i]) * self._power_w[i]

    def power_w(self, time_s: float) -> float:
        """Return the power at `time_s`, in watts."""
        return self._power_w[self._number(time_s)]

    def largest_power_w(self, start_s: float, stop_s: float) -> float:
        """Return the largest power drawn in [start_s, stop_s], in watts."""
        return max(self._power_w[self._number(start_s) : self._number(stop_s) + 1])


class ReplayMeter(Meter):
    """A counter over a `SimulatedBoard`, quantised in time and in energy.

    It steps every `tick_s` seconds from `phase_s` on (0.1 s as on data-centre boards), in multiples of `quantum_j`.
    With `sampled_s` the sensor sees only that part of each tick: 0.025 of 0.1 s shows the aliasing that Yang et al.
    (SC24, https://arxiv.org/abs/2312.02741) report. `fault` replaces a reading by that of a faulty counter, or raises a
    `MeterError`; `counters` returns temperature, clocks, slowdowns and other processes.
    """

    name = "replay"
    kind = "simulated"

    def __init__(
        self,
        board: SimulatedBoard,
        clock: Clock,
        *,
        device: str = "simulated-0",
        tick_s: float = 0.1,
        quantum_j: float = 0.001,
        sampled_s: float | None = None,
        phase_s: float = 0.0,
        power_limit_w: float | None = None,
        fault: Callable[[Reading], Reading] | None = None,
        counters: Callable[[], DeviceCounters] | None = None,
    ) -> None:
        super().__init__(clock)
        if not 0 < (sampled_s or tick_s) <= tick_s:
            raise MeterError(f"tick_s={tick_s:g}, sampled_s={sampled_s}: give tick_s above 0, sampled_s in (0, tick_s]")
        self.board, self.device, self.quantum_j, self.power_limit_w = board, device, quantum_j, power_limit_w
        self.source = "simulated counter" + ("" if sampled_s is None else f", sees {sampled_s:g} of {tick_s:g} s")
        self.update_period_s = float(tick_s)
        self._sampled_s, self._phase_s, self._fault, self._counters = sampled_s, phase_s, fault, counters
        self._tick: int | None = None  # the last tick added up, and the energy seen up to it (sampled mode)
        self._seen_j = 0.0

    def open(self) -> None:
        """Start counting at the present tick."""
        self._tick, self._seen_j = self._tick_number(), 0.0

    def read(self) -> Reading:
        """Return the counter as of the last tick, rounded down to the quantum."""
        if self._tick is None:
            raise MeterError(f"the replay meter of {self.device} is not open; call open() or use it in a with block")
        energy_j = self._sampled_j() if self._sampled_s else self.board.energy_j(self._tick_time(self._tick_number()))
        reading = Reading(math.floor(energy_j / self.quantum_j) * self.quantum_j, self.clock.now())
        return self._fault(reading) if self._fault else reading

    def counters(self) -> DeviceCounters:
        return self._counters() if self._counters else DeviceCounters()

    def edge_power_w(self) -> float | None:
        """Return the exact largest power during the last tick's length, in watts."""
        now = self.clock.now()
        return self.board.largest_power_w(now - self.update_period_s, now)

    def _tick_number(self) -> int:
        # the small term keeps a reading taken exactly at a tick on the tick, whatever the rounding
        return math.floor((self.clock.now() - self._phase_s) / self.update_period_s + 1e-9)

    def _tick_time(self, number: int) -> float:
        return self._phase_s + number * self.update_period_s

    def _sampled_j(self) -> float:
        number = self._tick_number()
        for tick in range(self._tick + 1, number + 1):
            end = self._tick_time(tick)
            seen = self.board.energy_j(end) - self.board.energy_j(end - self._sampled_s)
            self._seen_j += seen * self.update_period_s / self._sampled_s
        self._tick = max(self._tick, number)
        return self._seen_j
