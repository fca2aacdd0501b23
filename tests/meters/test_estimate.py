"""The estimate: exactly its stated model, and loudly an estimate."""

from __future__ import annotations

import pytest

from energylab.clock import ManualClock
from energylab.devices import cpu_facts
from energylab.errors import MeterError
from energylab.meters.estimate import EstimateMeter, PowerModel
from energylab.meters.processor import Company
from energylab.parameters import Parameters


def test_energy_is_processor_time_under_the_model():
    clock, busy = ManualClock(5.0), [2.0]
    meter = EstimateMeter(PowerModel(core_w=10.0, static_share=0.3), cores=4, clock=clock, cpu_time=lambda: busy[0])
    meter.open()
    before = meter.read()
    clock.sleep(3.0)
    busy[0] += 6.0  # two of four cores busy for three seconds
    after = meter.read()
    # two busy cores at 10 W and two resting ones at 3 W, for 3 s
    assert after.energy_j - before.energy_j == pytest.approx(3 * (2 * 10 + 2 * 3))
    assert after.time_s - before.time_s == pytest.approx(3.0)


def test_two_threads_of_a_core_draw_no_more_than_the_core():
    clock, busy = ManualClock(), [0.0]
    meter = EstimateMeter(PowerModel(core_w=12.0), cores=1, clock=clock, cpu_time=lambda: busy[0])
    meter.open()
    before = meter.read()
    clock.sleep(5.0)
    busy[0] += 10.0
    assert meter.read().energy_j - before.energy_j == pytest.approx(60.0)


def test_new_children_are_told(monkeypatch):
    meter = EstimateMeter(company=Company(lambda: 1.0, switches=lambda: 0))
    monkeypatch.setattr(meter._ours, "look", lambda: True)
    assert meter.counters().marks == ("children_missed",)


def test_a_fully_busy_machine_draws_its_design_power():
    assert PowerModel(core_w=12.0, static_share=0.2).energy_j(cpu_s=8.0, wall_s=1.0, cores=8) == pytest.approx(96.0)


def test_it_says_that_it_estimates():
    facts = EstimateMeter().facts(scored=True)
    assert facts.kind == "estimated"
    assert facts.source == "processor time x 12 W a core, 20% of it at rest"
    assert "ESTIMATED, not measured" in facts.notes[0]
    assert "cannot be official" in facts.notes[0]


def test_the_real_clock_of_this_process_moves_it():
    with EstimateMeter() as meter:
        before = meter.read()
        sum(range(2_000_000))
        after = meter.read()
    seconds = after.time_s - before.time_s
    assert 0 < after.energy_j - before.energy_j <= 1.5 * 12.0 * seconds * meter._cores


def test_the_power_of_a_core_is_a_parameter():
    meters = EstimateMeter.for_devices([cpu_facts()], Parameters(cpu_core_w=3.5))
    assert [meter.model.core_w for meter in meters] == [3.5]


@pytest.mark.parametrize("model", [{"core_w": 0.0}, {"core_w": -1.0}, {"static_share": 1.1}, {"static_share": -0.1}])
def test_impossible_models_are_refused(model):
    with pytest.raises(MeterError, match="is no power model"):
        PowerModel(**model)
