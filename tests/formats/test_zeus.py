"""Zeus's log of windows: one session a window, and a GPU whose counter failed does not hide among others."""

from __future__ import annotations

import pytest

from energylab.errors import FormatError
from energylab.formats import Asked, import_files

ASKED = {"task": "text_generation", "queries": 100}
HEADER = "start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy\n"


def test_each_window_is_a_session_in_joules(write, tmp_path):
    log = write("zeus.csv", HEADER + "1767225600.5,org/a,12.5,1800.0,1800.0\n1767225700.5,org/b,12.5,7200.0,0.0\n")
    first, second = import_files([log], tmp_path, Asked(**ASKED, model_column="window_name"))
    assert (first.record.model.name, first.rated.with_wh) == ("org/a", pytest.approx(10.0))
    assert len(first.record.devices) == 2
    assert first.record.created_utc.year == 2026
    assert second.record.windows[0].reasons == ("zero_reading",)


def test_what_a_window_does_not_say_is_asked_for(write, tmp_path):
    log = write("zeus.csv", HEADER + "1.5,run,12.5,1800.0,1800.0\n")
    with pytest.raises(FormatError, match="does not name the model; name it with --model"):
        import_files([log], tmp_path, Asked(**ASKED))
    with pytest.raises(FormatError, match="only its column window_name can name the model"):
        import_files([log], tmp_path, Asked(**ASKED, model_column="name"))
