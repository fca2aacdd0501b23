"""A simulated bench: a board with its own clock, a counter over it, and work of known power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from energylab.clock import ManualClock
from energylab.meters.base import DeviceCounters, Reading
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.protocol import Settings
from energylab.protocol.session import Session, quiet_collector, run_session
from energylab.protocol.workload import FunctionWorkload

FAST = Settings(runs=2, window_s=4.0, idle_s=1.0, warm_up_min_s=2.0, warm_up_max_s=60.0)


@pytest.fixture(autouse=True, scope="module")
def light_collections() -> Iterator[None]:
    """Set aside what earlier tests of this process loaded: a session collects garbage before every window."""
    with quiet_collector():
        yield


@dataclass
class SimulatedBench:
    """One board, one meter, and a session on them.

    `fault` turns the meter's readings into what a faulty counter would say; `counters` is what the board says of
    itself; `query` is what one query does.
    """

    idle_w: float = 60.0
    work_w: float = 400.0
    query_s: float = 0.37
    queries: int = 20
    settings: Settings = FAST
    power_limit_w: float = 700.0
    fault: Callable[[Reading], Reading] | None = None
    counters: Callable[[], DeviceCounters] | None = None
    query: Callable[[int], object] | None = None
    device: str = "simulated-0"
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.board = SimulatedBoard(self.clock, self.idle_w)
        self.asked: list[int] = []

    def meter(self) -> ReplayMeter:
        """Return a counter over the board: 100 ms steps, millijoules."""
        return ReplayMeter(
            self.board,
            self.clock,
            device=self.device,
            power_limit_w=self.power_limit_w,
            fault=self.fault,
            counters=self.counters,
        )

    def work(self, query: int) -> int:
        """Draw the working power for one query."""
        self.asked.append(query)
        if self.query is not None:
            self.query(query)
        self.board.work(self.query_s, self.work_w)
        return query * 10

    def run(self, **more) -> Session:
        """Run one session of the real protocol."""
        workload = FunctionWorkload(self.work, range(self.queries))
        return run_session(lambda: workload, [self.meter()], self.settings, clock=self.clock, **more)

    def true_j(self, session: Session, window) -> float:
        """Return the exact energy between a window's readings."""
        start = session.origin_s + window.start_s
        return self.board.energy_j(start + window.duration_s) - self.board.energy_j(start)


@pytest.fixture
def bench() -> type[SimulatedBench]:
    """Return the maker of simulated benches."""
    return SimulatedBench
