"""Meter against meter: known bias and limits, devices summed, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from energylab.errors import StatisticsError, UnknownNameError
from energylab.statistics.agreement import agreement
from energylab.statistics.simulate import simulate


def test_bias_and_limits_are_those_of_the_simulation():
    study = simulate(0)
    found = agreement(study.meters, "first", "second")
    bias = -0.03 / (1 - 0.015)  # relative to the mean of the two
    assert found.bias.low <= bias <= found.bias.high
    assert found.bias.kind == "repeatability"
    inside = found.table["difference"].between(*found.limits).mean()
    assert inside == pytest.approx(0.95, abs=0.02)


def test_one_session_gives_a_within_session_interval():
    found = agreement(simulate(0, boards=1, sessions=1).meters, "first", "second")
    assert found.bias.kind == "within-session"


def test_devices_of_one_meter_are_summed_and_failed_windows_left_out():
    readings = pd.DataFrame(
        [("s", i, meter, device, energy) for i in range(4)
         for meter, device, energy in [("a", "0", 10.0), ("a", "1", 12.0), ("b", "0", 22.0)]],
        columns=["session", "index", "meter", "device", "energy_j"],
    )  # fmt: skip
    readings.loc[2, "energy_j"] = np.nan
    found = agreement(readings, "a", "b")
    assert len(found.table) == 3
    assert found.bias.mean == 0


def test_meters_that_are_not_there_are_refused():
    meters = simulate(0).meters
    with pytest.raises(UnknownNameError, match="did you mean 'second'"):
        agreement(meters, "first", "secnd")
    with pytest.raises(StatisticsError, match="itself"):
        agreement(meters, "first", "first")
    with pytest.raises(StatisticsError, match="here is second"):
        agreement(meters[meters["meter"] == "second"])
    assert agreement(meters).bias == agreement(meters, "first", "second").bias
    alone = meters[(meters["meter"] == "first") | (meters["index"] < 0)]
    with pytest.raises(UnknownNameError):
        agreement(alone, "first", "second")
