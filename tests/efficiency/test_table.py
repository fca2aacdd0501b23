"""One row a setting: energies, waits and parts by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from efficiency_builders import LIMITS, SHAPE, record

from energylab.efficiency.sweep import Setting, Sweep
from energylab.efficiency.table import SHARES, limits_table, missing_table, shown, table

BASE = Setting("base", "base", "as loaded", {})


def rows(*records, shape=SHAPE):
    return table(Sweep(((BASE, records),), ()), LIMITS, shape).loc["base"]


def test_energy_wait_and_parts_of_a_query():
    base = rows(record(energies_j=(4.0, 6.0), seconds=0.5))
    assert base["energy_j"] == pytest.approx(2.5)  # 5 J for two queries
    assert base["token_j"] == pytest.approx(2.5 / 4)
    assert base["latency_s"] == pytest.approx(0.25)
    assert base["tokens_per_s"] == pytest.approx(4 / 0.25)
    assert base["half_width_j"] == pytest.approx(
        12.706 * 0.5, rel=1e-3
    )  # t of one degree, spread 1 J over sqrt 2 twice
    flop, read = 2 * 100 * 6 + 2 * 20 * 4 + 16 * 21, 4 * 120 * 4 + 8 * 4 * 15
    assert base["static_j"] == pytest.approx(2.0 * 0.25)
    assert base["memory_j"] == pytest.approx(read * 2e-4)
    assert base["arithmetic_j"] == pytest.approx(flop * 1e-4)
    assert sum(base[f"{name}_j"] for name in SHARES) == pytest.approx(base["energy_j"])
    assert base["times_least"] == pytest.approx(2.5 / (read * 5e-4 + flop * 3e-4))


def test_a_batch_waits_for_all_of_it():
    assert rows(record(batch_size=2))["latency_s"] == pytest.approx(0.5)


def test_a_served_query_waits_as_its_users_saw():
    base = rows(record(extra={"serving": {"latency_s": {"mean": 1.75}}}))
    assert base["latency_s"] == 1.75


def test_sessions_give_the_interval_between_them():
    base = rows(record((4.0, 4.0)), record((6.0, 6.0)), record((5.0, 5.0)))
    assert base["sessions"] == 3
    assert base["energy_j"] == pytest.approx(2.5)
    assert base["half_width_j"] == pytest.approx(4.3027 * 0.5 / math.sqrt(3), rel=1e-3)


def test_what_is_not_known_is_not_shown_as_a_figure():
    base = rows(record(), shape=None)
    assert math.isnan(base["times_least"])
    assert math.isnan(base["static_j"])
    frame = shown(table(Sweep(((BASE, (record(),)),), ()), LIMITS, None))
    assert frame.loc["base", "times the device's least"] == ""
    assert frame.loc["base", "quality"] == "not\u00a0known"
    assert frame.loc["base", "kind"] == "simulated"


def test_limits_and_what_is_missing_are_shown():
    frame = limits_table(LIMITS)
    assert frame.loc["one byte", "pJ"] == f"{5e8:.4g}"
    assert set(frame["kind"]) == {"simulated"}
    lost = Sweep((), ((Setting("int8", "quantisation", "as loaded", {}), "needs stored weights"),))
    assert missing_table(lost).loc["int8", "why"] == "needs stored weights"
    assert missing_table(Sweep((), ())) == "Every setting was measured."
    assert isinstance(frame, pd.DataFrame)
