"""Zeus's log of windows: one session a window, and a GPU whose counter failed does not hide among others."""

import pytest

LOG = """\
start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy
1767225600.5,org/a,12.5,1800.0,1800.0
1767225700.5,org/b,12.5,7200.0,0.0
"""


def test_each_window_is_a_session_in_joules(imported):
    first, second = imported(("zeus.csv", LOG), task="text_generation", queries=100, model_column="window_name")
    assert (first.record.model.name, first.rated.with_wh) == ("org/a", pytest.approx(10.0))
    assert len(first.record.devices) == 2
    assert first.record.created_utc.year == 2026
    assert second.record.windows[0].reasons == ("zero_reading",)
