"""Does the portal hold: 50 submissions a second for a minute, none lost, none doubled, pages quick, kills survived?

Starts a portal of its own on the loopback and sends what real clients would: each submission has a key of its own and
is sent again with it until it is accepted; the status of accepted ones is asked for all the while, on a fixed schedule,
and timed from the moment it was due, so that a stall is not hidden by the requests it held back. Then the same while
the portal is killed (SIGKILL) again and again, and a worker with it. At the end the database is read and compared with
what was accepted.

    python benchmarks/portal_load.py                       # 60 s at 50 a second, then 20 s with kills
    python benchmarks/portal_load.py --seconds 5 --kill-seconds 5
    python benchmarks/portal_load.py --database postgresql://postgres@127.0.0.1/portal
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from energylab_portal.schema import Event, Submission
from energylab_portal.tokens import digest_of
from sqlalchemy import select

from energylab_portal.database import Database
from energylab_portal.settings import Settings

P95_LIMIT_MS = 50.0
_HOST = "127.0.0.1"


@dataclass
class Tally:
    """What the clients saw."""

    accepted: dict[str, str] = field(default_factory=dict)  # key -> private link
    submit_ms: list[float] = field(default_factory=list)
    status_ms: list[float] = field(default_factory=list)
    retries: int = 0
    errors: Counter = field(default_factory=Counter)


class Connection:
    """One keep-alive connection that speaks just enough HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", key: str = "") -> tuple[int, bytes]:
        """Send one request; raise OSError when the connection is gone."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(_HOST, self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: {_HOST}:{self.port}\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\n" if key else ""
        try:
            self.writer.write(head.encode() + b"\r\n" + body)
            status = int((await self.reader.readuntil(b"\r\n")).split()[1])
            headers = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
            return status, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, IndexError) as error:
            self.close()
            raise OSError("the connection broke off") from error

    def close(self) -> None:
        """Drop the connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Pool:
    """Connections that are handed out one request at a time."""

    def __init__(self, port: int, size: int) -> None:
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(size):
            self._free.put_nowait(Connection(port))

    @contextlib.asynccontextmanager
    async def one(self):
        """Lend a connection."""
        connection = await self._free.get()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            self._free.put_nowait(connection)


async def submit(pool: Pool, tally: Tally, number: int, due: float) -> None:
    """Send one submission until it is accepted; now and then send it once more, as a client does that saw no answer."""
    key = secrets.token_urlsafe(18)
    asked = {"model": f"load/model-{number}-{secrets.token_hex(3)}", "tasks": ["text_generation"],
             "contact": "load@example.org"}  # fmt: skip
    body = json.dumps(asked).encode()
    sends, answered = 2 if number % 10 == 0 else 1, False
    while sends:
        try:
            async with pool.one() as connection:
                status, answer = await connection.ask("POST", "/api/v1/submissions/open", body, key)
        except OSError:
            tally.retries += 1
            await asyncio.sleep(0.2)
            continue
        if status != 201:
            tally.errors[f"submit {status} {answer[:80]!r}"] += 1
            return
        link = json.loads(answer)["link"]
        if tally.accepted.setdefault(key, link) != link:
            tally.errors["a second link for the same key"] += 1
        if not answered:
            tally.submit_ms.append(1000 * (time.monotonic() - due))
        sends, answered = sends - 1, True


async def poll(pool: Pool, tally: Tally, due: float) -> None:
    """Ask for the status of one accepted submission."""
    if not tally.accepted:
        return
    link = random.choice(list(tally.accepted.values())[-200:])
    try:
        async with pool.one() as connection:
            status, _ = await connection.ask("GET", f"/api/v1/submissions/{link}")
    except OSError:
        tally.errors["status: no answer"] += 1
        return
    if status != 200:
        tally.errors[f"status {status}"] += 1
        return
    tally.status_ms.append(1000 * (time.monotonic() - due))


async def drive(port: int, rate: float, polls: float, seconds: float, during=None) -> Tally:
    """Send on a fixed schedule, whatever comes back, and wait for the rest at the end."""
    tally, pool, polling = Tally(), Pool(port, 64), Pool(port, 32)
    tasks: list[asyncio.Task] = []
    start = time.monotonic()
    helper = asyncio.create_task(during(start)) if during else None

    async def schedule(per_second: float, make) -> None:
        for number in range(int(per_second * seconds)):
            due = start + number / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(make(number, due)))

    await asyncio.gather(
        schedule(rate, lambda number, due: submit(pool, tally, number, due)),
        schedule(polls, lambda _, due: poll(polling, tally, due)),
    )
    if helper:
        await helper
    await asyncio.wait_for(asyncio.gather(*tasks), timeout=120)
    return tally


class Portal:
    """A portal in a process of its own, on one port, that can be killed and started again."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database, self.port = folder, database, free_port()
        self.process: subprocess.Popen | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "energylab_portal.cli",
            "serve",
            "--folder",
            str(self.folder),
            "--port",
            str(self.port),
        ]
        command += ["--submissions-per-minute", "1e6", "--requests-per-second", "1e6"]
        log = (self.folder / "portal.log").open("ab")
        environment = {**os.environ, **({"ENERGYLAB_DATABASE": self.database} if self.database else {})}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.starts += 1
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((_HOST, self.port), timeout=1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"the portal did not start; see {self.folder / 'portal.log'}")

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        return listener.getsockname()[1]


def worker(portal: Portal) -> subprocess.Popen:
    """Start a worker that takes submissions, finds no hub on the loopback, and lets them rest: leases under load."""
    program = [sys.executable, "-m", "energylab_portal.cli", "worker"]
    command = [*program, "--folder", str(portal.folder), "--devices", "cpu"]
    command += ["--protocol", "trial", "--lease", "3"]
    told = {"HF_ENDPOINT": f"http://{_HOST}:{free_port()}", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    told |= {"ENERGYLAB_DATABASE": portal.database} if portal.database else {}
    log = (portal.folder / "worker.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **told})


async def kills(portal: Portal, start: float, seconds: float, every_s: float) -> int:
    """Kill portal and worker by turns until the time is over; both are started again."""
    loop, done = asyncio.get_running_loop(), 0
    crew = worker(portal)
    while time.monotonic() - start < seconds:
        await asyncio.sleep(every_s * random.uniform(0.5, 1.5))
        await loop.run_in_executor(None, portal.kill)
        crew.kill()
        crew.wait()
        done += 1
        await loop.run_in_executor(None, portal.start)
        crew = worker(portal)
    crew.kill()
    crew.wait()
    return done


def audit(portal: Portal, tallies: list[Tally]) -> dict[str, int]:
    """Compare the database with what the clients were told."""
    database = Database(Settings(portal.folder, portal.database).database_url).open()
    with database.reading() as session:
        rows = session.execute(select(Submission.request_hash, Submission.link_hash, Submission.id)).all()
        first = Counter(session.scalars(select(Event.submission_id).where(Event.after == "received")).all())
    database.close()
    links = {row.request_hash: row.link_hash for row in rows}
    accepted = {digest_of(key): digest_of(link) for tally in tallies for key, link in tally.accepted.items()}
    return {
        "accepted": len(accepted),
        "rows": len(rows),
        "lost": sum(links.get(key) != link for key, link in accepted.items()),
        "doubled": len(rows) - len(links) + sum(first[row.id] != 1 for row in rows),
        "never acknowledged": len(set(links) - set(accepted)),
    }


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of all lie; NaN when there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def show(title: str, tally: Tally, seconds: float) -> None:
    """Print what the clients saw."""
    pace = len(tally.accepted) / max(seconds, 1e-9)
    print(f"{title}: {len(tally.accepted)} accepted in {seconds:g} s ({pace:.1f} a second), {tally.retries} sent again")
    for name, values in (("submit", tally.submit_ms), ("status", tally.status_ms)):
        figures = ", ".join(f"p{100 * share:.0f} {percentile(values, share):.1f}" for share in (0.5, 0.95, 0.99))
        print(f"  {name}: {len(values)} answers, ms: {figures}, longest {max(values, default=float('nan')):.1f}")
    for what, count in tally.errors.most_common(5):
        print(f"  {count} x {what}")


def main() -> int:
    """Run both parts and say whether the limits were held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="submissions a second")
    parser.add_argument("--polls", type=float, default=50.0, help="status requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds at the same rate that are not counted")
    parser.add_argument("--kill-seconds", type=float, default=20.0, help="0: no kills")
    parser.add_argument("--kill-every", type=float, default=4.0, help="seconds between kills, on average")
    parser.add_argument("--database", default="", help="PostgreSQL by URL; SQLite when left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portal-load-") as name:
        portal = Portal(Path(name), options.database)
        portal.start()
        try:
            return run(portal, options)
        finally:
            portal.kill()


def run(portal: Portal, options: argparse.Namespace) -> int:
    """Drive, kill, audit."""
    warm = asyncio.run(drive(portal.port, options.rate, options.polls, options.warm_up))
    show("warming up", warm, options.warm_up)
    calm = asyncio.run(drive(portal.port, options.rate, options.polls, options.seconds))
    show("undisturbed", calm, options.seconds)
    tallies, survived = [warm, calm], {}
    if options.kill_seconds:

        async def during(start: float) -> None:
            print(
                f"  {await kills(portal, start, options.kill_seconds, options.kill_every)} kills of portal and worker"
            )

        wild = asyncio.run(drive(portal.port, options.rate, options.polls, options.kill_seconds, during))
        show("with kill -9", wild, options.kill_seconds)
        tallies.append(wild)
        asked = int(options.rate * options.kill_seconds)
        broken = wild.errors.total() - wild.errors["status: no answer"]  # none while it is killed is no wrong answer
        survived = {
            f"accepted {len(wild.accepted)} of {asked} with kill -9": len(wild.accepted) == asked,
            f"wrong answers with kill -9 {broken}": not broken,
        }
    found = audit(portal, tallies)
    p95 = percentile(calm.status_ms, 0.95)
    print(", ".join(f"{name} {count}" for name, count in found.items()))
    wanted = options.rate * options.seconds
    checks = {
        f"accepted {len(calm.accepted)} of {wanted:.0f}": len(calm.accepted) == int(wanted),
        f"answers that were none {calm.errors.total()}": not calm.errors,
        f"lost {found['lost']}": found["lost"] == 0,
        f"doubled {found['doubled']}": found["doubled"] == 0,
        f"status p95 {p95:.1f} ms, limit {P95_LIMIT_MS:g}": p95 <= P95_LIMIT_MS,
        **survived,
    }
    for words, held in checks.items():
        print(f"{'held  ' if held else 'MISSED'}  {words}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
