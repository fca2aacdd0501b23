"""The closed loop: slots stay full, and a failure ends the wait."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from energylab.errors import ServedError
from energylab.serving.client import ClosedLoop, Reply


class Model:
    """Answers query n after `times[n]` seconds, and keeps count of what is under way."""

    def __init__(self, times, fails=()):
        self.times, self.fails = times, fails
        self.under_way, self.seen = 0, []
        self.asked: list[int] = []

    def connect(self, slots):
        return self

    async def aclose(self):
        self.closed = True

    async def __call__(self, http, query):
        self.asked.append(query)
        self.under_way += 1
        self.seen.append(self.under_way)
        sent = time.monotonic()
        await asyncio.sleep(self.times[query])
        self.under_way -= 1
        if query in self.fails:
            raise ServedError("as asked")
        return Reply(query, "", 1, 1, None, 1, sent, sent, time.monotonic())


@pytest.fixture
def loop():
    with contextlib.ExitStack() as stack:

        def make(model, slots):
            made = ClosedLoop(model, model.connect, slots)
            stack.callback(made.close)
            return made

        yield make


def test_every_slot_is_full_from_the_first_answer_on(loop):
    model = Model([0.01, 0.03, 0.005, 0.02, 0.015])
    made = loop(model, 3)
    made.start(range(5))
    tally = made.wait(12)
    assert len(tally.replies) >= 12
    assert model.seen[:3] == [1, 2, 3]
    assert set(model.seen[2:]) == {3}  # refilled before anything else could happen
    assert model.asked[:10] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    made.stop()
    assert model.under_way == 0


def test_a_failure_ends_the_wait_and_the_asking(loop):
    model = Model([0.01, 0.01, 0.01], fails={2})
    made = loop(model, 1)
    made.start(range(3))
    tally = made.wait(1000)
    made.stop()
    assert [query for query, _ in tally.failures] == [2]
    assert len(tally.replies) == 2
    assert model.asked == [0, 1, 2]
