"""What the line into the container adds between two readings of a meter: time for one pass over a block of queries.

    python benchmarks/closed_overhead.py               # seconds; no Docker, the same line between two processes

A window holds one question and one answer for every pass over its queries, however many there are. The time that they
take is idle time of the device, charged to the model. A window of short work holds many passes, so its share is that of
a pass, not of the window: of passes over the published 1,000 queries it should be far below a thousandth.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from energylab.protocol.workload import FunctionWorkload
from energylab.record import DataFacts, ModelFacts
from energylab_portal.sealed.inside import Service
from energylab_portal.sealed.lines import Line, Questions
from energylab_portal.sealed.remote import Loaded, RemoteWorkload

#: Time of a short query, in seconds: a small classifier's on a large board.
QUERY_S = 0.005
PUBLISHED = 1000


def nothing(query: Any) -> None:
    """Do no work: what is left is the overhead."""


def serve(connection: socket.socket, queries: int) -> None:
    """Answer in a process of its own, as in a container."""
    service, line = Service(), Line(connection)
    service.workload = FunctionWorkload(nothing, range(queries))
    while (question := line.receive()) is not None:
        line.send(service.handle(question))


def remote(queries: int) -> tuple[RemoteWorkload, int]:
    """Start the other process and return the workload that drives it, and the process's id."""
    host, inside = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        host.close()
        serve(inside, queries)
        os._exit(0)
    inside.close()
    data = DataFacts(name="x", source="given", digest="0" * 64, queries=queries)
    loaded = Loaded(
        model=ModelFacts(name="x", source="path"), data=data, phases=("call",), batch_size=1, settings={}, boards=(),
        packages={}, python="3",
    )  # fmt: skip
    return RemoteWorkload(Questions(Line(host), 10), loaded, queries), pid


def pass_s(run_pass: Callable[[], Any], repeats: int) -> float:
    """Return the median time of one pass, in seconds."""
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        run_pass()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def main() -> int:
    """Print one line a block size; fail when a pass over the published queries is a thousandth longer or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    options = parser.parse_args()
    print("first: the pass of a window whose outputs are kept; again: every further one")
    share = f"of a pass at {QUERY_S * 1e3:g} ms a query"
    print(f"{'queries':>8}{'pass':>7}{'here us':>10}{'through the line us':>21}{'added us':>10}{share:>32}")
    worst = 0.0
    for queries in (1, 16, 100, PUBLISHED):
        here = FunctionWorkload(nothing, range(queries))
        there, pid = remote(queries)
        batches = [[workload.prepare("call", (query,)) for query in range(queries)] for workload in (here, there)]
        for name, keep in (("first", True), ("again", False)):
            local_s = pass_s(lambda w=here, b=batches[0], k=keep: list(w.run_all("call", b, k)), options.repeats)
            line_s = pass_s(lambda w=there, b=batches[1], k=keep: list(w.run_all("call", b, k)), options.repeats)
            added_s = line_s - local_s
            part = added_s / (queries * QUERY_S)
            worst = max(worst, part if queries == PUBLISHED else 0.0)
            shown = f"{local_s * 1e6:10.1f}{line_s * 1e6:21.1f}{added_s * 1e6:10.1f}{part:32.1e}"
            print(f"{queries:8}{name:>7}{shown}")
        there._questions._line._socket.close()  # the other process ends with the line
        os.waitpid(pid, 0)
    return 0 if worst < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
