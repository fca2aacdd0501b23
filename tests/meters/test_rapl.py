"""RAPL on a powercap tree of files: turns and jumps of a counter, mirrored and dead zones, permissions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_rapl import RANGE_UJ, CountingClock, zone

from energylab.errors import CounterJumpError, CounterStuckError, MeterError, MeterPermissionError
from energylab.meters import rapl
from energylab.meters.processor_load import OtherLoad
from energylab.meters.rapl import RaplMeter, packages
from energylab.record import DeviceFacts

CPU = [DeviceFacts(name="processor", type="cpu")]


def opened(clock: CountingClock) -> RaplMeter:
    meter = RaplMeter(next(iter(clock.zones)).parent, clock=clock)
    meter.open()
    meter._refresh.stop()  # the thread lives by the machine's clock; here every look is taken by hand
    return meter


def one_package(root, power_w, energy_uj, limit_uw=None):
    """Return the one package of a machine, its clock, and the meter, which has been read."""
    path = zone(root, "intel-rapl:0", "package-0", energy_uj, limit_uw)
    clock = CountingClock({path: power_w})
    meter = opened(clock)
    meter.read()
    return path, clock, meter


@pytest.fixture
def two_packages(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000, limit_uw=225_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 2_000, limit_uw=225_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    zone(tmp_path, "intel-rapl:0:1", "dram", 500)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000)
    return CountingClock({first: 40.0, second: 60.0})


def spent_j(meter: RaplMeter, clock: CountingClock, seconds: float) -> float:
    """Return what the meter counts over some seconds, looked at every second as the thread does."""
    before = meter.read()
    for _ in range(round(seconds * 10)):
        clock.sleep(0.1)
        meter._look()
    return meter.read().energy_j - before.energy_j


def test_energy_is_the_sum_of_the_packages_and_their_parts_are_not_counted(two_packages):
    meter = opened(two_packages)
    assert [path.name for path in packages(meter.root)] == ["intel-rapl:0", "intel-rapl:1"]
    assert spent_j(meter, two_packages, 2.0) == pytest.approx(200.0, rel=1e-3)
    assert meter.power_limit_w == pytest.approx(900.0)  # the short-term limit: bursts exceed the other
    assert meter.device == "package-0+package-1"
    assert "memory not included" in meter.facts(scored=True).source


@pytest.mark.parametrize(
    ("power_w", "counters", "device", "true_w"),
    [
        (69.5, {"package-0-die-0": 7_000_000, "package-0-die-1": 7_000_000}, "package-0-die-0", 69.5),
        (50.0, {"package-0": 0, "package-1": 5_000_000}, "package-0+package-1", 100.0),
        (50.0, {"package-0": RANGE_UJ - 30_000_000}, "package-0", 50.0),
    ],
    ids=["two dies of AMD show one counter", "packages of the same power began apart", "the counter starts again"],
)
def test_every_counter_is_counted_once_and_goes_on_after_a_turn(tmp_path, power_w, counters, device, true_w):
    paths = [zone(tmp_path, f"intel-rapl:{n}", name, uj) for n, (name, uj) in enumerate(counters.items())]
    clock = CountingClock(dict.fromkeys(paths, power_w))
    meter = opened(clock)
    assert spent_j(meter, clock, 4.0) / 4.0 == pytest.approx(true_w, rel=1e-3)
    assert meter.device == device
    assert ("die-1 shows the counter of another zone" in str(meter.facts(scored=True).notes)) == ("die" in device)


@pytest.mark.parametrize(
    ("steps_j", "says"),
    [
        ((696.0, -696.0), "jumped"),  # was taken for a whole turn: 64,840 J
        ((0.0, -9_000.0), "went back"),  # the counter starts again from near zero: was 56 kJ more
    ],
)
def test_a_step_that_no_package_can_make_is_no_energy(tmp_path, steps_j, says):
    path, clock, meter = one_package(tmp_path, 68.0, 9_500_000_000, limit_uw=225_000_000)
    for step_j in steps_j:
        clock.sleep(0.5)
        clock.add(path, step_j)
        meter._look()
    with pytest.raises(CounterJumpError, match=says):
        meter.read()
    assert spent_j(meter, clock, 2.0) == pytest.approx(136.0, rel=1e-3)  # afterwards it is believed again


def test_two_counters_in_turn_are_no_counter(tmp_path):
    """A file that shows now one package, now another: was 186 kW."""
    path, clock, meter = one_package(tmp_path, 60.0, 20_000_000_000)
    for step_j in (9_000.0, -9_000.0, 9_000.0, -9_000.0):
        clock.sleep(0.2)
        clock.add(path, step_j)
        with pytest.raises(CounterJumpError):
            meter.read()


def test_where_no_limit_is_told_the_working_power_serves(tmp_path):
    path, clock, meter = one_package(tmp_path, 68.0, 1_000)
    meter.assumed_limit_w = 2 * 68.0  # the protocol sets it after the warm-up
    clock.sleep(1.0)
    clock.add(path, 696.0)
    with pytest.raises(CounterJumpError, match="more than 136 W allow"):
        meter.read()


def test_a_dead_package_does_not_hide_in_the_sum(two_packages):
    first, second = two_packages.zones
    two_packages.zones[second] = 0.0
    with pytest.raises(CounterStuckError, match="counter of package-1 does not move"):
        opened(two_packages)
    two_packages.zones[second] = 60.0
    meter = opened(two_packages)
    two_packages.zones[first] = 0.0
    meter.read()
    two_packages.sleep(0.5)
    with pytest.raises(CounterStuckError, match="counter of package-0 has not moved"):
        meter.read()


@pytest.mark.parametrize("tick_s", [1.0, 1e9])
def test_a_counter_that_stands_still_or_steps_once_a_second_is_refused(tmp_path, tick_s):
    path = zone(tmp_path, "intel-rapl:0", "package-0")
    with pytest.raises(CounterStuckError, match="does not move|stepped once"):
        opened(CountingClock({path: 50.0}, tick_s))


def test_the_thread_looks_often_and_keeps_what_it_saw(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 8_000_000_000, limit_uw=225_000_000)
    monkeypatch.setattr(rapl, "REFRESH_S", 0.002)
    clock = CountingClock({path: 50.0})
    meter = RaplMeter(tmp_path, clock=clock)
    meter.open()
    clock.add(path, 3_000.0)
    for _ in range(5_000):
        if meter._fault is not None:
            break
        meter._refresh._stop.wait(0.002)
    with pytest.raises(CounterJumpError):
        meter.read()
    meter.close()


def test_the_load_by_others_is_told_and_every_turn_is_seen():
    counters = RaplMeter(other_load=OtherLoad(own_s=lambda: 2.0)).counters()
    assert (counters.own_s, counters.warnings) == (2.0, ())
    assert rapl.REFRESH_S < RANGE_UJ / 1e6 / rapl.MOST_W / 2  # half a turn at the most power of a package


def test_a_machine_without_counters(tmp_path):
    assert "shows no processor energy counter" in RaplMeter.unavailable(CPU, tmp_path / "absent")
    with pytest.raises(MeterError, match="no processor energy counter"):
        RaplMeter(tmp_path / "absent").open()
    (zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj").write_text("")
    with pytest.raises(MeterError, match="holds '', not a number"):
        RaplMeter(tmp_path).open()


def test_a_counter_that_root_alone_may_read_names_the_command(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(os, "access", lambda *args: False)
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in RaplMeter.unavailable(CPU, tmp_path)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(MeterPermissionError, match="sudo chmod"):
        rapl._read(tmp_path / "intel-rapl:0" / "energy_uj")
