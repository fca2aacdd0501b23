"""The estimate: exactly its stated model, and loudly an estimate."""

from __future__ import annotations

import pytest

from energylab.clock import ManualClock
from energylab.devices import cpu_facts
from energylab.meters.estimate import EstimateMeter
from energylab.parameters import Parameters


@pytest.mark.parametrize(
    ("cores", "busy_s", "energy_j"),
    [
        (4, 6.0, 3 * (2 * 10 + 2 * 3)),  # two busy cores at 10 W and two resting ones at 3 W, for 3 s
        (8, 24.0, 3 * 80),  # a fully busy machine draws its design power
        (1, 6.0, 3 * 10),  # two threads of a core draw no more than the core
    ],
)
def test_energy_is_processor_time_under_the_model(cores, busy_s, energy_j):
    clock, busy = ManualClock(5.0), [2.0]
    with EstimateMeter(10.0, static_share=0.3, cores=cores, clock=clock, cpu_time=lambda: busy[0]) as meter:
        before = meter.read()
        clock.sleep(3.0)
        busy[0] += busy_s
        after = meter.read()
    assert after.energy_j - before.energy_j == pytest.approx(energy_j)
    assert after.time_s - before.time_s == pytest.approx(3.0)


def test_new_children_are_told(monkeypatch):
    meter = EstimateMeter()
    monkeypatch.setattr(meter._other_load.ours, "look", lambda: True)
    assert meter.counters().warnings == ("children_missed",)


def test_the_real_clock_of_this_process_moves_it():
    (meter,) = EstimateMeter.for_devices([cpu_facts()], Parameters(cpu_core_w=3.5))
    assert (meter.facts(scored=True).kind, "cannot be official" in meter.notes[0]) == ("estimated", True)
    with meter:
        before = meter.read()
        sum(range(2_000_000))
        after = meter.read()
    seconds = after.time_s - before.time_s
    assert 0 < after.energy_j - before.energy_j <= 1.001 * 3.5 * seconds * meter._cores
