"""What a rating cost, and what a model costs while it waits."""

from __future__ import annotations

import pytest
from release_builders import QUERIES, record_of

from energylab.energy import session_energy_j
from energylab.overheads import spent, standby


def test_everything_that_was_metered_is_counted():
    record = record_of("org/a", 10.0)
    found = spent([record, record])
    joules = sum(window.energy_j for window in record.windows) + 700.0 + 900.0  # one idle level, the warm-up
    seconds = sum(window.duration_s for window in record.windows) + 10.0 + 3.0
    assert found.wh == pytest.approx(2 * joules / 3600)
    assert found.minutes == pytest.approx(2 * seconds / 60)
    assert found.published_wh == pytest.approx(10 * session_energy_j(record) * QUERIES / 3600)


def test_what_no_meter_saw_is_said_and_not_summed():
    record = record_of("org/a", 10.0, broken=True)
    assert spent([record]).unmetered == 1


def test_a_waiting_board_adds_its_rest_to_every_query():
    record = record_of("org/a", 10.0, spread=0.0)
    found = standby([record], 12.0)  # the rated energy, over more records than this one
    assert found.power_w == 70.0
    busy = {(w.run, w.phase): 0.0 for w in record.windows if w.phase != "prefill"}
    for window in record.windows:
        if window.phase != "prefill":
            busy[window.run, window.phase] += window.duration_s
    seconds = sum(busy.values()) / 2 / QUERIES  # two runs; prefill is inside generate
    at_1, at_10, at_100 = found.wh_at_load
    assert at_100 == pytest.approx(12.0)
    assert at_10 == pytest.approx(12.0 + 70.0 * seconds * 9 * 1000 / 3600)
    assert at_1 == pytest.approx(12.0 + 70.0 * seconds * 99 * 1000 / 3600)


def test_without_a_resting_power_nothing_is_claimed():
    assert standby([record_of("org/a", 10.0).model_copy(update={"idle": ()})], 10.0) is None
