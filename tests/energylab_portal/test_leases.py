"""Two workers never hold the same; a dead worker's work comes back; who lost a lease changes nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from energylab_portal.database import Database
from energylab_portal.leases import MOST_TRIES, Heartbeat, LeaseLost, Leases


def test_fifteen_workers_share_twelve_without_a_clash(queued, portal, clock):
    names = {queued(f"org/m{n}") for n in range(12)}
    crews = [Leases(Database(portal.settings.database_url, clock).open()) for _ in range(3)]  # as three processes do
    with ThreadPoolExecutor(15) as pool:
        taken = list(pool.map(lambda n: crews[n % 3].take_measurement(f"worker {n}"), range(15)))
    for crew in crews:
        crew.database.close()
    assert sorted(lease.name for lease in taken if lease) == sorted(names)


def test_a_silent_workers_work_is_taken_over_after_its_lease(queued, leases, clock, now):
    name = queued()
    dead = leases.take_measurement("dead")
    clock.now += 59
    assert leases.take_measurement("next") is None
    clock.now += 2
    assert leases.take_measurement("next").name == name
    assert "the previous worker stopped answering; this one continues" in [line.words for line in now(name)[2]]
    for late in (
        leases.renew,
        lambda dead: leases.give_back(dead, "x"),
        lambda dead: leases.finish(dead, "measured", "x"),
    ):
        with pytest.raises(LeaseLost):
            late(dead)
    assert now(name)[0].worker == "next"


def test_what_outlives_three_workers_is_rejected_and_the_next_is_handed_out(queued, leases, clock, now):
    """A worker that asks but once must not go home while something waits."""
    given_up, waits = queued("org/first"), queued("org/second")
    for number in range(MOST_TRIES):
        assert leases.take_measurement(f"worker {number}").name == given_up
        clock.now += 61
    assert leases.take_measurement("another").name == waits
    assert now(given_up)[0].state == "rejected"
    assert "3 workers stopped answering" in now(given_up)[0].reason


def test_after_a_failed_try_it_rests_longer_and_longer(queued, database, clock, now):
    name, leases = queued(), Leases(database, lease_s=60, pause_s=30)
    leases.give_back(leases.take_measurement("w"), "the hub does not answer.")
    for rest_s in (30, 60):
        clock.now += rest_s - 1
        assert leases.take_measurement("w") is None
        clock.now += 2
        leases.give_back(leases.take_measurement("w"), "the hub does not answer.")
    one, _, lines = now(name)
    assert one.state == "rejected"
    assert "rejected after 3 attempts; last error: the hub does not answer." in one.reason
    assert not any("stopped answering" in line.words for line in lines)


def test_the_background_renews_and_tells_when_it_cannot(queued, portal, monkeypatch, now):
    """With the real clock: the lease is prolonged again and again, until another takes it."""
    monkeypatch.setattr("energylab_portal.leases.BEATS", 3000)  # every fifth of a second: no machine is late by a lease
    database = Database(portal.settings.database_url).open()
    name, leases, lost = queued(), Leases(database, lease_s=600.0), threading.Event()
    lease = leases.take_measurement("mine")
    ends_s = now(name)[0].lease_until_s
    with Heartbeat(leases, lease, on_lost=lost.set) as heartbeat:
        while now(name)[0].lease_until_s < ends_s + 0.5:
            time.sleep(0.05)
        assert not lost.is_set()
        assert leases.take_measurement("thief") is None
        with database.writing() as session:
            session.merge(leases.held(session, lease)).lease = "stolen"
        lost.wait()
    assert heartbeat.lost
    database.close()
