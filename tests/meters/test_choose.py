"""Which meter is scored, and why."""

from __future__ import annotations

import pytest
from fake_rapl import CountingClock, zone

import energylab
from energylab.clock import ManualClock
from energylab.errors import EnergylabError, MeterError, UnknownNameError
from energylab.meters import METERS, Meter, choose
from energylab.meters.codecarbon import CodecarbonMeter
from energylab.meters.estimate import EstimateMeter
from energylab.meters.nvml import NvmlMeter
from energylab.meters.rapl import RaplMeter
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.parameters import Parameters
from energylab.record import DeviceFacts

CPU = (DeviceFacts(name="processor", type="cpu"),)
BOARDS = tuple(DeviceFacts(name="NVIDIA H200", type="cuda", index=i, uuid=f"GPU-{i}") for i in range(2))


def test_boards_get_one_meter_each_by_uuid():
    chosen = choose(Parameters(), BOARDS)
    assert [(meter.name, meter.board) for meter in chosen.rated_meters] == [("nvml", "GPU-0"), ("nvml", "GPU-1")]
    assert chosen.extra_meters == ()
    assert "best source" in chosen.why


def test_a_processor_is_estimated_when_its_counters_cannot_be_read(monkeypatch):
    monkeypatch.setattr(RaplMeter, "unavailable", classmethod(lambda cls, devices: "root alone may read them"))
    chosen = choose(Parameters(), CPU)
    assert [meter.name for meter in chosen.rated_meters] == ["estimate"]
    assert "rapl unavailable: root alone may read them" in chosen.why


@pytest.fixture
def packages_of(tmp_path, monkeypatch):
    """Let the machine show one package; `power_w` moves its counter, `tick_s` apart."""

    def made(power_w, tick_s=0.0):
        clock = CountingClock({zone(tmp_path, "intel-rapl:0", "package-0"): power_w}, tick_s)
        unavailable = RaplMeter.unavailable.__func__
        monkeypatch.setattr(RaplMeter, "unavailable", classmethod(lambda cls, found: unavailable(cls, found, tmp_path)))
        monkeypatch.setattr(
            RaplMeter, "for_devices", classmethod(lambda cls, found, parameters: [cls(tmp_path, clock=clock)])
        )

    return made


def test_a_processor_is_measured_when_its_counters_can_be_read(packages_of):
    packages_of(50.0)
    assert [meter.name for meter in choose(Parameters(), CPU).rated_meters] == ["rapl"]


@pytest.mark.parametrize(("power_w", "tick_s"), [(0.0, 0.0), (50.0, 1.0)])
def test_counters_that_stand_still_or_step_once_a_second_are_passed_over_with_the_reason(packages_of, power_w, tick_s):
    packages_of(power_w, tick_s)
    chosen = choose(Parameters(), CPU)
    assert [meter.name for meter in chosen.rated_meters] == ["estimate"]
    assert "rapl unavailable: rapl: the counter of package-0" in chosen.why
    with pytest.raises(MeterError, match="package-0"):
        choose(Parameters(meter="rapl"), CPU).rated_meters[0].open()


def test_a_meter_by_name_must_see_the_device():
    with pytest.raises(MeterError, match="meter 'estimate' cannot be used here: it cannot measure .* cuda"):
        choose(Parameters(meter="estimate"), BOARDS)
    with pytest.raises(MeterError, match="cannot measure a cpu device"):
        choose(Parameters(meter="nvml"), CPU)
    with pytest.raises(MeterError, match="cannot be"):
        choose(Parameters(meter="replay"), CPU)


def test_an_unknown_meter_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'nvml'"):
        choose(Parameters(meter="nvlm"), CPU)
    with pytest.raises(UnknownNameError, match="unknown meter 'raple'.*did you mean 'rapl'"):
        choose(Parameters(extra_meters="raple"), CPU)


def test_extra_meters_watch_beside_the_scored_one_and_never_twice():
    chosen = choose(Parameters(extra_meters="estimate, nvml,estimate"), BOARDS)
    assert [meter.name for meter in chosen.extra_meters] == ["estimate"]


@pytest.mark.parametrize("kind", [NvmlMeter, RaplMeter, CodecarbonMeter, EstimateMeter, ReplayMeter])
def test_a_meter_that_was_not_opened_gives_no_reading(kind):
    clock = ManualClock()
    arguments = {NvmlMeter: (0,), ReplayMeter: (SimulatedBoard(clock), clock)}.get(kind, ())
    with pytest.raises(MeterError, match="is not open"):
        kind(*arguments).read()


def test_a_device_nothing_sees_is_an_error():
    with pytest.raises(MeterError, match="no meter can measure a other device here"):
        choose(Parameters(), (DeviceFacts(name="abacus", type="other"),))


def test_every_name_on_offer_is_a_meter():
    assert [METERS.get(name).name for name in METERS.names()] == list(METERS.names())


class Bare(Meter):
    """Somebody's own meter, not finished."""

    name, device = "bare", "wall"

    def open(self):
        """Nothing to connect to."""

    def read(self):
        """Never reached."""

    @classmethod
    def for_devices(cls, devices, parameters):
        return [cls()]


def test_a_meter_that_is_not_finished_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setattr(METERS, "get", lambda _: Bare)
    monkeypatch.setattr(Bare, "watches", ("cpu",))
    with pytest.raises(MeterError, match="meter Bare lacks kind, source; set each on"):
        choose(Parameters(meter="bare"), CPU)
    with pytest.raises(MeterError, match="meter Bare lacks kind, source"):  # handed over, too
        energylab.measure(fn=len, queries=["a"], meters=[Bare()])
    monkeypatch.setattr(Bare, "source", "a plug", raising=False)
    monkeypatch.setattr(Bare, "kind", "guessed", raising=False)
    with pytest.raises(MeterError, match="kind 'guessed'; it must be one of measured"):
        energylab.measure(fn=len, queries=["a"], meters=[Bare()])
    monkeypatch.delattr(Bare, "source")
    monkeypatch.delattr(Bare, "device")
    with pytest.raises(MeterError, match="meter Bare lacks device, source"):
        energylab.measure(fn=len, queries=["a"], meters=[Bare()])
    monkeypatch.setattr(Bare, "__init__", lambda self: None)  # nobody called that of Meter
    with pytest.raises(MeterError, match="meter Bare lacks device, source, clock"):
        energylab.measure(fn=len, queries=["a"], meters=[Bare()])


def test_a_file_without_its_class_is_told_how_to_name_it():
    with pytest.raises(EnergylabError, match=r"is only a file; add the name of the class in it: mine/const.py:NAME"):
        choose(Parameters(meter="mine/const.py"), CPU)
