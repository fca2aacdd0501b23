"""Does the portal hold: 5 submissions a second for a minute while server and worker are killed four times.

Each submission is sent again with its own key until it is accepted, as clients do. At the end the database is compared
with what was accepted: none lost, none doubled.

    python benchmarks/portal_load.py                # 60 s, four kill -9
    python benchmarks/portal_load.py --database postgresql://postgres@127.0.0.1/portal
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from sqlalchemy import select

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "fakes"))

from portal_processes import RunningPortal, end, start_worker

from energylab_portal.database import Database
from energylab_portal.settings import Settings, digest_of
from energylab_portal.tables import Submission

MANY = ("--submissions-per-minute", "1000000", "--requests-per-second", "1000000", "--waiting", "1000000")


class Server:
    """A portal and a worker in processes of their own, killed and started again."""

    def __init__(self, folder: Path, database: str) -> None:
        self.told = ("--database", database) if database else ()
        self.portal = RunningPortal(folder, *MANY, *self.told)
        self.worker = self._worker()

    def _worker(self):
        return start_worker(self.portal.folder, "--measuring", "trial", *self.told, HF_HUB_OFFLINE="1")

    def start(self) -> None:
        self.portal.start()
        self.worker = self._worker()

    def kill(self) -> None:
        """End both as a power failure would."""
        self.portal.kill()
        end(self.worker)


def submit(address: str, number: int, stop: threading.Event) -> tuple[str, str, float] | None:
    """Send one submission until it is accepted; every tenth once more. Return key, link and seconds it took."""
    key, began_s, link = secrets.token_urlsafe(18), time.monotonic(), ""
    asked = {"model": f"load/model-{number}", "tasks": ["text_generation"], "contact": "load@example.org"}
    sends = 2 if number % 10 == 0 else 1
    while sends and not stop.is_set():
        try:
            answer = httpx.post(
                f"{address}/api/v1/submissions/open", json=asked, headers={"Idempotency-Key": key}, timeout=30
            )
        except httpx.HTTPError:
            time.sleep(0.3)
            continue
        if answer.status_code != 201 or (link and answer.json()["link"] != link):
            print(f"submission {number}: {answer.status_code} {answer.text[:200]}")
            return None
        link, sends = answer.json()["link"], sends - 1
    return (key, link, time.monotonic() - began_s) if link else None


def main() -> int:
    """Print what was accepted and kept; fail where one was lost, doubled or refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=float, default=5.0, help="submissions a second")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--database", default="")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "portal"
    server, stop = Server(folder, options.database), threading.Event()
    count, began_s = int(options.seconds * options.rate), time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        sent, killed = [], 0
        for number in range(count):
            time.sleep(max(0.0, began_s + number / options.rate - time.monotonic()))
            if number >= (killed + 1) * count / (options.kills + 1) and killed < options.kills:
                server.kill()
                killed += 1
                threading.Thread(target=server.start).start()
            sent.append(pool.submit(submit, server.portal.url, number, stop))
        threading.Timer(120, stop.set).start()
        accepted = [one.result() for one in sent]
    server.kill()
    found = [one for one in accepted if one is not None]
    database = Database(Settings(folder, options.database).database_url).open()
    with database.reading() as session:
        kept = [(one.request_hash, one.link_hash, one.model) for one in session.scalars(select(Submission))]
    lost = {digest_of(link) for _, link, _ in found} - {link for _, link, _ in kept}
    doubled = len(kept) - len({model for _, _, model in kept})
    slowest = sorted(seconds for _, _, seconds in found)
    print(f"{count} sent at {options.rate:g} a second with {killed} kills of server and worker: {len(found)} accepted, "
          f"{len(kept)} kept, {len(lost)} lost, {doubled} doubled; median {slowest[len(slowest) // 2]:.2f} s, "
          f"longest {slowest[-1]:.1f} s")  # fmt: skip
    return 1 if lost or doubled or len(found) != count else 0


if __name__ == "__main__":
    sys.exit(main())
