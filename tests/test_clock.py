"""A process that stood still is known by its silence; one that worked without a pause is not."""

from __future__ import annotations

import pytest

from energylab.clock import Heartbeat


def beats(steps):
    """Return the seconds stopped after beats that lie (elapsed, processor time used) apart."""
    now, used = [100.0], [5.0]
    heart = Heartbeat(lambda: now[0], lambda: used[0])
    for elapsed_s, used_s in steps:
        now[0] += elapsed_s
        used[0] += used_s
        heart.beat()
    return heart.beat()


@pytest.mark.parametrize(
    ("steps", "stopped_s"),
    [
        ([(0.25, 0.0)] * 40, 0.0),  # waiting for a device: the thread beats all the same
        ([(0.25, 0.2), (3.0, 0.0), (0.25, 0.2)], 3.0),  # SIGSTOP, a frozen group, a suspended machine
        ([(0.25, 0.2), (3.0, 2.9), (0.25, 0.2)], 0.0),  # one long call that let no other thread run
        ([(1.9, 0.0)] * 3, 0.0),  # a crowded machine
    ],
)
def test_silence_without_work_is_time_stopped(steps, stopped_s):
    assert beats(steps) == pytest.approx(stopped_s)
