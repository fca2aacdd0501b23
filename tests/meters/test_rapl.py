"""RAPL on a powercap tree of files: unwrapping, packages, permissions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from energylab.clock import ManualClock
from energylab.errors import MeterError, MeterPermissionError
from energylab.meters import rapl
from energylab.meters.rapl import RaplMeter, packages
from energylab.record import DeviceFacts

RANGE_UJ = 65_532_610_987
CPU = [DeviceFacts(name="processor", type="cpu")]


def zone(root: Path, folder: str, name: str, energy_uj: int = 0, limit_uw: int | None = None) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    if limit_uw is not None:
        (path / "constraint_0_power_limit_uw").write_text(f"{limit_uw}\n")
        (path / "constraint_1_power_limit_uw").write_text(f"{limit_uw * 2}\n")
    return path


class CountingClock(ManualClock):
    """Moves the counter of a zone by its power, as time passes."""

    def __init__(self, zones: dict[Path, float]) -> None:
        super().__init__()
        self.zones = zones

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        for path, power_w in self.zones.items():
            file = path / "energy_uj"
            file.write_text(str((int(file.read_text()) + round(power_w * seconds * 1e6)) % RANGE_UJ))


@pytest.fixture
def two_packages(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000, limit_uw=225_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 2_000, limit_uw=225_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    zone(tmp_path, "intel-rapl:0:1", "dram", 500)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000)
    return tmp_path, CountingClock({first: 40.0, second: 60.0})


def test_packages_are_counted_once_and_their_parts_not_at_all(two_packages):
    root, _ = two_packages
    assert [path.name for path in packages(root)] == ["intel-rapl:0", "intel-rapl:1"]


def test_energy_is_the_sum_of_the_packages_in_joules(two_packages):
    root, clock = two_packages
    with RaplMeter(root, clock=clock) as meter:
        before = meter.read()
        clock.sleep(2.0)
        after = meter.read()
        assert after.energy_j - before.energy_j == pytest.approx(200.0)
        assert meter.power_limit_w == pytest.approx(900.0)  # the short-term limit: bursts exceed the other
        assert meter.device == "package-0+package-1"
        assert meter.kind == "measured"
        assert "memory not included" in meter.facts(scored=True).source


def test_a_counter_that_starts_again_goes_on_counting(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 30_000_000)
    clock = CountingClock({path: 50.0})
    with RaplMeter(tmp_path, clock=clock) as meter:
        start = meter.read()
        total = 0.0
        for seconds in (0.5, 1.0, 600.0, 700.0):  # twice round: 65 kJ at 50 W take 1,310 s
            clock.sleep(seconds)
            total += seconds
            last = meter.read()
        assert last.energy_j - start.energy_j == pytest.approx(50.0 * total)


def test_the_counter_is_read_often_enough_to_see_every_turn():
    assert rapl.REFRESH_S < RANGE_UJ / 1e6 / 1000 / 2  # half a turn at one kilowatt


def test_reading_at_a_steady_pace_is_a_thread_of_its_own(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0")
    monkeypatch.setattr(rapl, "REFRESH_S", 0.005)
    meter = RaplMeter(tmp_path, clock=CountingClock({path: 50.0}))
    meter.open()
    deadline = 200
    (tmp_path / "next").write_text(str(RANGE_UJ - 1))
    (tmp_path / "next").replace(path / "energy_uj")  # whole at once, as the kernel shows it
    while meter._zones[0].last_uj != RANGE_UJ - 1 and deadline:
        deadline -= 1
        meter._refresh._stop.wait(0.01)
    assert deadline, "the thread never read the counter"
    meter.close()


def test_a_machine_without_counters(tmp_path):
    assert "shows no processor energy counter" in RaplMeter.unavailable(CPU, tmp_path / "absent")
    with pytest.raises(MeterError, match="no package zone"):
        RaplMeter(tmp_path / "absent").open()


def test_dead_counters_are_refused(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    with pytest.raises(MeterError, match="do not move"):
        RaplMeter(tmp_path, clock=ManualClock()).open()


def test_a_counter_that_root_alone_may_read_names_the_command(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(os, "access", lambda *args: False)
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in RaplMeter.unavailable(CPU, tmp_path)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(MeterPermissionError, match="sudo chmod"):
        rapl._read(tmp_path / "intel-rapl:0" / "energy_uj")


def test_a_counter_that_holds_no_number_is_an_error_of_the_meter(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0")
    (path / "energy_uj").write_text("")
    with pytest.raises(MeterError, match="holds '', not a number"):
        RaplMeter(tmp_path).open()


def test_boards_are_not_seen(tmp_path):
    assert "does not see the energy of a cuda device" in RaplMeter.unavailable([DeviceFacts(name="H200", type="cuda")])


def test_reading_a_closed_meter_is_an_error(tmp_path):
    with pytest.raises(MeterError, match="not open"):
        RaplMeter(tmp_path).read()
