"""The device's limits: exact on a simulated board, and plausible on this machine."""

from __future__ import annotations

import json
import time

import pytest
from efficiency_builders import record

from energylab.clock import Clock
from energylab.efficiency.limits import Limits, calibrate, cost, measure_limits
from energylab.errors import MeasurementError
from energylab.meters.base import Meter, Reading


class Steady(Meter):
    """10 W while idle and at work, without steps."""

    name, kind, device, source = "steady", "simulated", "board-0", "10 W"

    def open(self):
        """Nothing to connect to."""

    def read(self):
        """Return 10 J a second."""
        now = Clock().now()
        return Reading(10.0 * now, now)


def test_the_cost_of_one_is_the_share_of_all_and_of_what_is_above_rest():
    found = cost(record(energies_j=(4.0, 6.0), seconds=0.5), amount=1000, rest_w=2.0)
    assert found.per_s == pytest.approx(2000)
    assert found.j == pytest.approx(5.0 / 1000)
    assert found.above_rest_j == pytest.approx((5.0 - 2.0 * 0.5) / 1000)
    assert cost(record(energies_j=(0.5,), seconds=0.5), 1000, 2.0).above_rest_j == 0.0


def _seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_limits_follow_from_power_and_speed():
    limits = measure_limits(["float32"], meters=[Steady()], window_s=0.05, size={"side": 64, "bytes": 1 << 20})
    assert limits.rest_w == pytest.approx(10.0, rel=0.01)
    for found in (limits.flop["float32"], limits.byte):
        assert found.j * found.per_s == pytest.approx(10.0, rel=0.05)  # watts
        assert found.above_rest_j < 0.1 * found.j
    import torch

    left = torch.randn(64, 64)
    torch.mm(left, left)
    fastest_s = min(_seconds(lambda: torch.mm(left, left)) for _ in range(200))
    # a wrong unit or count is a factor of a thousand; a busy machine slows the calibration, never speeds it up
    assert 0.01 < limits.flop["float32"].per_s / (2 * 64**3 / fastest_s) < 3


def test_a_calibration_is_read_from_its_file_when_it_has_every_precision(tmp_path):
    known = measure_limits(["float32"], meters=[Steady()], window_s=0.02, size={"side": 16, "bytes": 1 << 12})
    file = tmp_path / "limits.json"
    file.write_text(known.model_dump_json())
    assert calibrate(file, ["float32"], "cpu") == known


def test_a_calibration_that_fails_says_why(tmp_path):
    with pytest.raises(MeasurementError, match="float13"):
        calibrate(tmp_path / "limits.json", ["float13"], "cpu", 0.02)


@pytest.mark.slow
def test_a_calibration_runs_in_a_process_of_its_own(tmp_path):
    limits = calibrate(tmp_path / "limits.json", ["float32"], "cpu", 0.05)
    assert limits == Limits.model_validate(json.loads((tmp_path / "limits.json").read_text()))
    assert limits.flop["float32"].j < limits.byte.j  # a byte from memory costs more than a multiplication
