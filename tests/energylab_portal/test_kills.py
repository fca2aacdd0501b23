"""kill -9 of portal or worker at any moment loses and doubles nothing that was accepted; secrets stay secret."""

from __future__ import annotations

import os
import random
import re
import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from portal_processes import ROOT, RunningPortal, end, environment, expire
from sqlalchemy import select

from energylab_portal.database import Database
from energylab_portal.settings import Settings, digest_of
from energylab_portal.tables import Event, Submission

pytestmark = pytest.mark.timeout(1800)  # for hangs alone

FREE = ("--submissions-per-minute", "1000000", "--requests-per-second", "1000000", "--waiting", "1000000")
HTTP = httpx.Client(timeout=300, verify=False, trust_env=False)


def send(url, key, model, stop):
    """Submit until it is accepted, as the command line does; return the private link."""
    asked = {"model": model, "tasks": ["text_generation"], "contact": "someone@example.org"}
    while not stop.is_set():
        try:
            answer = HTTP.post(f"{url}/api/v1/submissions/open", json=asked, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return answer.raise_for_status().json()["link"]  # a refusal no second try changes
    return None


def test_a_portal_that_is_killed_again_and_again(tmp_path):
    portal, stop, accepted = RunningPortal(tmp_path / "portal", *FREE), threading.Event(), {}

    def client(number):
        while not stop.is_set():
            key = secrets.token_urlsafe(20)
            link = send(portal.url, key, f"org/m{number}-{secrets.token_hex(8)}", stop)
            if link:
                accepted[key] = link

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for one in clients:
        one.start()
    chance = random.Random(8)
    for _ in range(2):
        time.sleep(chance.uniform(0.2, 1.0))
        portal.kill()
        portal.start()
    while len(accepted) <= 20:  # however slow the machine is
        assert all(one.is_alive() for one in clients), "a submission was refused"
        time.sleep(0.1)
    stop.set()
    for one in clients:
        one.join()
    portal.kill()
    database = Database(Settings(portal.folder).database_url).open()
    with database.reading() as session:
        rows = session.execute(select(Submission.request_hash, Submission.link_hash, Submission.id)).all()
        received = session.scalars(select(Event.submission_id).where(Event.after == "received")).all()
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()
    kept = {row.request_hash: row.link_hash for row in rows}
    assert {digest_of(key): digest_of(link) for key, link in accepted.items()}.items() <= kept.items()  # none lost
    assert len(rows) == len(kept)  # none doubled
    assert sorted(received) == sorted(row.id for row in rows)  # each with its first line of the log


WORKER = """
import sys, time
from pathlib import Path
from release_builders import record_of
from energylab_portal.database import Database
from energylab_portal.inspection import Finding
from energylab_portal.leases import Leases
from energylab_portal.worker import Measuring, Worker

class Bench:
    measuring, params, work = Measuring(title="test"), None, Path("/nowhere")
    def measure(self, submission):
        time.sleep(float(sys.argv[2]))
        return [record_of(submission.model, 10.0)]

database = Database(sys.argv[1]).open()
Worker(database, Bench(), "cpu", inspect=lambda *_: Finding("c" * 40, ("exists",)),
       leases=Leases(database, lease_s=3600.0)).run()
"""


def start_fake_worker(url, takes_s):
    """Start a worker whose bench takes so many seconds; its lease runs out when the test says so."""
    told = environment()
    told["PYTHONPATH"] = f"{told['PYTHONPATH']}:{ROOT / 'tests'}"
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(takes_s)], env=told, stderr=subprocess.DEVNULL)


def test_workers_that_are_killed_again_and_again(portal, submit, now):
    """One worker is killed while it measures, one of two others at work at any moment: each submission is measured
    once, and its log says so.
    """
    names = [submit(f"org/m{number}").name for number in range(8)]
    url, crew = portal.settings.database_url, []

    def wait_for(state, number):
        while [now(name)[0].state for name in names].count(state) < number:
            assert crew[-1].poll() is None, "a worker ended by itself"
            time.sleep(0.05)

    def kill(worker):
        end(worker)
        return expire(portal.database, worker.pid)

    try:
        crew.append(start_fake_worker(url, 3600))
        wait_for("measuring", 1)
        taken_over = kill(crew[0])
        assert taken_over == 1
        crew += [start_fake_worker(url, 0.3) for _ in range(2)]
        wait_for("measured", 2)
        taken_over += kill(crew[1])
        wait_for("measured", len(names))
    finally:
        for worker in crew:
            end(worker)
    histories = [now(name)[2] for name in names]
    for lines in histories:
        ways = [line.after for line in lines if line.after]
        assert (ways.count("measured"), ways[-1]) == (1, "measured"), [line.words for line in lines]
    words = [line.words for lines in histories for line in lines]
    assert sum("stopped answering; this one continues" in one for one in words) == taken_over


def peak_mib(process):
    """Return the largest memory a process ever had, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def upload(url, size):
    """Send a body of unstated length, as long as the portal takes it; return the status."""
    headers = {"Content-Type": "multipart/form-data; boundary=edge", "Idempotency-Key": secrets.token_hex(16)}
    try:
        answer = HTTP.post(f"{url}/api/v1/submissions/closed", content=body(size), headers=headers)
    except httpx.TransportError:  # it was told to stop while it sent
        return 413
    return answer.status_code


def body(size):
    """Yield a form with a file of `size` MiB."""
    for field in ("public", "integrity", "representative"):
        yield f'--edge\r\nContent-Disposition: form-data; name="attested"\r\n\r\n{field}\r\n'.encode()
    yield b'--edge\r\nContent-Disposition: form-data; name="contact"\r\n\r\na@example.org\r\n'
    yield b'--edge\r\nContent-Disposition: form-data; name="bundle"; filename="b"\r\n\r\n'
    for _ in range(size):
        yield os.urandom(1 << 20)
    yield b"\r\n--edge--\r\n"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    running = RunningPortal(tmp_path_factory.mktemp("place") / "portal", *FREE)
    yield running
    running.kill()


def test_large_uploads_do_not_fill_the_memory(used):
    """Six bundles of 20 MiB at once are kept, two of 300 MiB cut off; the process grows by less than two of them."""
    assert upload(used.url, 1) == 201
    before = peak_mib(used.process)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda size: upload(used.url, size), [20] * 6 + [300] * 2))
    grown = peak_mib(used.process) - before
    assert statuses == [201] * 6 + [413] * 2
    assert grown < 40
    assert len(list((used.folder / "bundles").glob("*.bundle"))) == 7
    assert list((used.folder / "bundles").glob(".upload-*")) == []


def test_no_secret_is_in_database_log_or_pages(used):
    """Tokens, links and keys of a portal that was used, also wrongly, are nowhere but where they belong."""
    token, key = used.token, secrets.token_urlsafe(20)
    link = send(used.url, key, "org/model", threading.Event())
    paths = (f"/s/{link}", f"/api/v1/submissions/{link}", f"/s/{link}x", "/", "/operator", f"/no-such/{token}")
    bearer = {"Authorization": f"Bearer {token}"}
    pages = "".join(HTTP.get(used.url + path, headers=bearer, follow_redirects=True).text for path in paths)
    used.kill()
    printed, secret = used.log.read_text(), (used.folder / "secret").read_text()
    kept = b"".join(path.read_bytes() for path in used.folder.rglob("*") if path.is_file())
    assert printed.count(token) == 1  # the one line that is for the operator
    assert [one for one in (link, key, secret, "someone@example.org") if one in printed] == []
    assert [one for one in (token, key, secret) if one in pages] == []
    assert [one for one in (token, link, key) if one.encode() in kept] == []
    for path in (used.folder / "secret", used.folder / "operator", used.folder):
        assert path.stat().st_mode & 0o077 == 0
    used.start()  # a second start prints no token
    assert used.log.read_text().count("operator    ") == 1
