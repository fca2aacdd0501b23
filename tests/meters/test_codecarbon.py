"""CodeCarbon as a counter: scripted for boards, the real tracker for this machine's processor."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from energylab.clock import ManualClock
from energylab.errors import MeterError
from energylab.meters.codecarbon import CodecarbonMeter
from energylab.record import DeviceFacts

UUIDS = ("GPU-a", "GPU-b")


class GPU(SimpleNamespace):
    """What CodeCarbon calls its boards."""


class CPU(SimpleNamespace):
    """What CodeCarbon calls its processor."""


class ScriptedTracker:
    """CodeCarbon's tracker over a board of constant power whose counter ticks every 0.1 s."""

    def __init__(self, clock, hardware, power_w=360.0, **settings):
        self.clock, self._hardware, self.power_w, self.settings = clock, hardware, power_w, settings
        self.start_j = None
        self.stopped = False

    def _joules(self):
        return int(self.clock.now() * 10 + 1e-9) / 10 * self.power_w

    def start_task(self):
        assert self.start_j is None, "a task is already running"
        self.start_j = self._joules()

    def stop_task(self):
        kwh = (self._joules() - self.start_j) / 3.6e6
        self.start_j = None
        return SimpleNamespace(gpu_energy=kwh, cpu_energy=kwh / 10)

    def stop(self):
        self.stopped = True


def scripted(hardware, boards=UUIDS):
    clock, made = ManualClock(), []

    def make(**settings):
        made.append(ScriptedTracker(clock, hardware, **settings))
        return made[-1]

    return clock, made, CodecarbonMeter(boards, tracker=make, clock=clock)


def test_boards_are_summed_in_joules():
    clock, made, meter = scripted([CPU(_mode="cpu_load"), GPU(gpu_ids=[0, 1])])
    devices = [DeviceFacts(name="H200", type="cuda", index=i, uuid=uuid) for i, uuid in enumerate(UUIDS)]
    assert [one.boards for one in CodecarbonMeter.for_devices(devices, None)] == [UUIDS]
    meter.open()
    before = meter.read()
    clock.sleep(10.0)
    after = meter.read()
    assert after.energy_j - before.energy_j == pytest.approx(3600.0)
    assert (meter.kind, meter.source, meter.device) == ("measured", "CodeCarbon, NVML", "GPU-a+GPU-b")
    assert meter.update_period_s == pytest.approx(0.1, abs=0.006)
    meter.close()
    assert made[0].stopped


def test_it_writes_nothing_sends_nothing_and_takes_no_setting_from_elsewhere():
    clock, made, meter = scripted([CPU(_mode="cpu_load"), GPU(gpu_ids=[0, 1])])
    meter.open()
    pinned = {"output_methods": [], "emissions_endpoint": None, "gpu_ids": list(UUIDS), "pue": 1.0}
    pinned |= {"rapl_prefer_psys": False, "rapl_include_dram": False, "allow_multiple_runs": True}
    assert pinned.items() <= made[0].settings.items()


@pytest.mark.parametrize(
    ("mode", "kind"), [("intel_rapl", "measured"), ("cpu_load", "estimated"), ("constant", "estimated")]
)
def test_the_kind_is_that_of_the_source(mode, kind):
    clock, made, meter = scripted([CPU(_mode=mode)], boards=())
    meter.open()
    before = meter.read()
    clock.sleep(1.0)
    assert meter.read().energy_j - before.energy_j == pytest.approx(36.0)
    assert meter.kind == kind
    assert mode in meter.facts(scored=False).source
    assert bool(meter.notes) == (kind == "estimated")


def test_a_board_codecarbon_does_not_see_is_an_error_not_a_zero():
    clock, made, meter = scripted([CPU(_mode="cpu_load"), GPU(gpu_ids=[0])])
    with pytest.raises(MeterError, match="cannot measure GPU-a\\+GPU-b: it found CPU, GPU, and 1 of 2 boards"):
        meter.open()
    assert made[0].stopped


def test_a_task_without_energy_is_an_error_not_a_zero():
    clock, made, meter = scripted([CPU(_mode="intel_rapl")], boards=())
    meter.open()
    finish = made[0].stop_task
    made[0].stop_task = lambda: finish() and None
    with pytest.raises(MeterError, match="returned no energy"):
        meter.read()


def test_the_real_tracker_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PUE", "RAPL_PREFER_PSYS", "RAPL_INCLUDE_DRAM"):  # a user's settings must not change an energy
        monkeypatch.setenv(f"CODECARBON_{name}", "9")
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: pytest.fail(f"it called {address}"))
    watched, percent = [], psutil.cpu_percent
    monkeypatch.setattr(
        psutil, "cpu_percent", lambda interval=None, **more: watched.append(interval) or percent(**more)
    )
    with CodecarbonMeter() as meter:
        before = meter.read()
        sum(range(3_000_000))
        after = meter.read()
        assert after.energy_j > before.energy_j
        assert after.time_s > before.time_s
        assert meter._tracker._pue == 1.0
        assert not any(watched)  # it does not watch the processor for half a second at every read
    assert list(tmp_path.iterdir()) == []
