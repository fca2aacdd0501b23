"""A served model as a workload: windows over a steady load, in which all slots are busy before the first reading."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Any

from energylab.clock import Clock
from energylab.protocol.workload import Batch, TaskWorkload, Work
from energylab.serving.client import ClosedLoop, Reply
from energylab.tasks.base import Row
from energylab.tasks.served import ServedTask


@dataclass(frozen=True)
class Stretch:
    """The replies of one window."""

    replies: tuple[Reply, ...]  # finished inside the window
    duration_s: float  # from the window's start to the last reply
    slots: int  # concurrent requests
    client_s: float = 0.0  # processor time of the client: not the model's, but included by a meter of the processor

    @property
    def balance(self) -> float:
        """Slot time of the window divided by the sum of latencies of the requests counted in it.

        In a steady state it is 1 (Little's law, https://doi.org/10.1287/opre.9.3.383): work begun before the window
        equals work left unfinished at its end. Above 1, more work was done than is counted.
        """
        latencies_s = sum(reply.latency_s for reply in self.replies)
        return self.slots * self.duration_s / latencies_s if latencies_s > 0 else float("inf")

    def figures(self) -> dict[str, Any]:
        """Return throughput and latencies of the server in this window."""
        made = sum(reply.output_tokens for reply in self.replies)
        return {
            "answered": len(self.replies),
            "output_tokens": made,
            "output_tokens_per_s": made / self.duration_s,
            "first_token_s": _spread([reply.first_token_s for reply in self.replies]),
            "latency_s": _spread([reply.latency_s for reply in self.replies]),
            "balance": self.balance,
            "client_cores": self.client_s / self.duration_s,
        }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, median and 95th percentile."""
    p95 = quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return {"mean": fmean(values), "median": median(values), "p95": p95}


class ServedWorkload(TaskWorkload):
    """Queries to a served model, `concurrency` at a time without a break.

    A window begins when each slot has answered one query on average. It ends with an answer, after whole repetitions of
    its block, once it is long enough and balanced to `tolerance`. Requests in progress at its two edges belong to it
    only in part; `Stretch.balance` says why this cancels.
    """

    continuous = True
    least_batches = 4  # so that requests cut by the edges (one per slot) are a small part of a window

    def __init__(self, task: ServedTask, rows: Sequence[Row], tolerance: float) -> None:
        super().__init__(task, rows)
        self.batch_size, self._tolerance, self._prompts = task.concurrency, tolerance, task.prompts(rows)
        self._loop = ClosedLoop(self._ask, task.client.connect, task.concurrency)
        self._replies: dict[int, Reply] = {}
        self._stretches: list[Stretch] = []

    async def _ask(self, http: Any, query: int) -> Reply:
        reply = await self._task.client.ask(http, query, self._prompts[query])
        self._task.check_reply(reply)
        return reply

    def run(self, phase: str) -> Callable[[Any], Any]:
        return self._gang

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        return Batch(queries, queries)

    def _gang(self, queries: tuple[int, ...]) -> list[Reply]:
        tally = self._loop.once(queries)
        if tally.failures:
            raise tally.failures[0][1]
        return tally.replies

    def synchronize(self) -> None:
        """Do nothing: an answer has been received when it is read."""

    def begin(self, phase: str, batches: Sequence[Batch]) -> None:
        self._loop.start([query for batch in batches for query in batch.queries])
        self._loop.wait(self._loop.slots)

    def work_through(
        self, phase: str, batches: Sequence[Batch], clock: Clock, window_s: float, keep: bool = True
    ) -> Work:
        """Keep up the load for whole repetitions of the block, for at least `window_s` and until it is balanced."""
        queries = [query for batch in batches for query in batch.queries]
        start_s, client_s, before = clock.now(), time.process_time(), len(self._loop.wait(0).replies)
        work = Work()
        while True:
            work.replications += 1
            tally = self._loop.wait(before + work.replications * len(queries))
            if tally.failures:
                for query, error in tally.failures:
                    work.fail([query], error)
                return work
            now_s = clock.now()
            inside = tuple(tally.replies[before : before + work.replications * len(queries)])
            stretch = Stretch(inside, now_s - start_s, self._loop.slots, time.process_time() - client_s)
            self._replies |= {reply.query: reply for reply in tally.replies}
            balanced = abs(stretch.balance - 1) <= self._tolerance
            if now_s - start_s >= window_s and balanced and self._replies.keys() >= set(queries):
                break
            if now_s - start_s >= window_s and len(inside) >= 2 * self._loop.slots / self._tolerance:
                work.reasons.append("not_steady")  # the edges are negligible by now, so the load itself is not steady
                break
        work.outputs = [[self._replies[query] for query in batch.queries] for batch in batches]
        if not work.reasons:
            self._stretches.append(stretch)
        return work

    def end(self) -> None:
        """Send no more requests, and wait for those in progress."""
        self._loop.stop()

    def close(self) -> None:
        self._loop.close()
        self._task.close()

    def figures(self) -> dict[str, Any]:
        """Return throughput and latencies of the server over all steady windows together, and in each."""
        if not self._stretches:
            return {}
        replies = [reply for stretch in self._stretches for reply in stretch.replies]
        seconds = sum(stretch.duration_s for stretch in self._stretches)
        client_s = sum(stretch.client_s for stretch in self._stretches)
        whole = Stretch(tuple(replies), seconds, self._loop.slots, client_s).figures()
        return {"concurrency": self._loop.slots, **whole, "windows": [one.figures() for one in self._stretches]}
