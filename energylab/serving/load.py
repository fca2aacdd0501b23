"""A closed loop of requests: every slot asks its next query the moment its last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from energylab.serving.client import Reply

#: Takes the connections and the index of a query, returns its answer.
Ask = Callable[[Any, int], Any]


@dataclass
class Tally:
    """What a loop has brought since it was started.

    Attributes
    ----------
    replies : list of Reply
        In the order in which they were finished.
    failures : list of (int, Exception)
        Query and what went wrong.
    in_flight : int
        Requests under way now.
    """

    replies: list[Reply] = field(default_factory=list)
    failures: list[tuple[int, Exception]] = field(default_factory=list)
    in_flight: int = 0


class ClosedLoop:
    """Keeps `slots` requests under way from `start` to `stop`, in a thread of its own.

    The thread sleeps in the kernel between two pieces of a stream: the client does not compete with the server for a
    core more than reading takes.

    Parameters
    ----------
    ask : callable
        Coroutine function of connections and query.
    connect : callable
        Returns the connections for so many slots, an asynchronous context.
    slots : int
        Requests at once.
    """

    def __init__(self, ask: Ask, connect: Callable[[int], Any], slots: int) -> None:
        self.slots = slots
        self._ask, self._connect = ask, connect
        self._changed = threading.Condition()
        self._tally = Tally()
        self._queries: Iterator[int] = iter(())
        self._stopping = True
        self._loop = asyncio.new_event_loop()
        self._http: Any = None
        self._slots: list[Any] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()

    def start(self, order: Sequence[int]) -> None:
        """Fill every slot, with the queries of `order` again and again."""
        self._tally, self._stopping = Tally(), False
        self._queries = itertools.cycle(order)
        self._slots = [asyncio.run_coroutine_threadsafe(self._slot(), self._loop) for _ in range(self.slots)]

    def once(self, order: Sequence[int]) -> Tally:
        """Ask each query of `order` once, at most `slots` at a time, and wait for all."""
        self._tally, self._stopping, self._queries = Tally(), False, iter(order)
        self._slots = [asyncio.run_coroutine_threadsafe(self._slot(), self._loop) for _ in range(self.slots)]
        return self._joined()

    def wait(self, answered: int) -> Tally:
        """Wait until so many queries have been answered since the start, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._tally.replies) >= answered or self._tally.failures)
            return self._tally

    def stop(self) -> Tally:
        """Ask no further query, and wait for those under way."""
        self._stopping = True
        return self._joined()

    def close(self) -> None:
        """Break off what is under way, and end the thread."""
        if self._loop.is_closed():
            return
        self._stopping = True
        for slot in self._slots:
            slot.cancel()
        if self._http is not None:
            asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _joined(self) -> Tally:
        for slot in self._slots:
            slot.result()
        self._slots = []
        return self._tally

    async def _slot(self) -> None:
        if self._http is None:
            self._http = self._connect(self.slots)
        while not self._stopping and not self._tally.failures:
            query = next(self._queries, None)
            if query is None:
                return
            await self._one(query)

    async def _one(self, query: int) -> None:
        self._tally.in_flight += 1
        try:
            reply = await self._ask(self._http, query)
        except Exception as error:  # noqa: BLE001 - kept with the query: whoever waits must not wait for ever
            failure = (query, error)
            self._note(lambda: self._tally.failures.append(failure))
        else:
            self._note(lambda: self._tally.replies.append(reply))
        finally:
            self._tally.in_flight -= 1

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()
