"""A simulated bench: a board with its own clock, a counter over it, and work of known power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from energylab.clock import ManualClock
from energylab.meters.base import DeviceCounters, Reading
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.parameters import Parameters
from energylab.protocol.session import Session, quiet_collector, run_session
from energylab.protocol.settings import Settings
from energylab.protocol.workload import FunctionWorkload, Workload

FAST = Settings.of(Parameters(runs=2, window_s=4.0, idle_s=1.0, warm_up_min_s=2.0, warm_up_max_s=60.0))


@pytest.fixture(autouse=True, scope="module")
def light_collections() -> Iterator[None]:
    """Set aside what earlier tests of this process loaded: a session collects garbage before every window."""
    with quiet_collector():
        yield


@dataclass
class SimulatedBench:
    """One board, one meter, and a session on them."""

    idle_w: float = 60.0
    work_w: float = 400.0
    query_s: float = 0.37
    queries: int = 20
    settings: Settings = FAST
    power_limit_w: float | None = 700.0
    fault: Callable[[Reading], Reading] | None = None  # turns readings into what a faulty counter would say
    counters: Callable[[float], DeviceCounters] | None = None  # what the board says of itself, at a time
    query: Callable[[int], object] | None = None  # what one query does beside drawing power
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.board = SimulatedBoard(self.clock, self.idle_w)

    def meter(self, kind: type[ReplayMeter] = ReplayMeter) -> ReplayMeter:
        """Return a counter over the board: 100 ms steps, millijoules."""
        told = self.counters and (lambda: self.counters(self.clock.now()))
        return kind(self.board, self.clock, power_limit_w=self.power_limit_w, fault=self.fault, counters=told)

    def work(self, query: int) -> int:
        """Draw the working power for one query."""
        if self.query is not None:
            self.query(query)
        self.board.work(self.query_s, self.work_w)
        return query * 10

    def run(self, workload: Workload | None = None, meter: ReplayMeter | None = None) -> Session:
        """Run one session of the real protocol."""
        workload = workload or FunctionWorkload(self.work, range(self.queries))
        return run_session(lambda: workload, [meter or self.meter()], self.settings, clock=self.clock)

    def true_j(self, session: Session, window) -> float:
        """Return the exact energy between a window's readings."""
        start = session.origin_s + window.start_s
        return self.board.energy_j(start + window.duration_s) - self.board.energy_j(start)


@pytest.fixture(scope="session")
def bench() -> type[SimulatedBench]:
    """Return the maker of simulated benches."""
    return SimulatedBench
