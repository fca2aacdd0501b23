"""Who else is on the board, on the host and in containers that do or do not translate process ids."""

from __future__ import annotations

import os
import subprocess
import sys

from energylab.meters import tenants
from energylab.meters.tenants import Tenants, cotenants, family


def test_nobody():
    assert cotenants([], own={10}) == ()


def test_on_the_host_every_other_process_counts():
    assert cotenants([10, 77, 5], own={10, 11}, host_ids=True) == (5, 77)
    assert cotenants([10, 11], own={10, 11}, host_ids=True) == ()
    assert cotenants([77], own={10}, host_ids=True) == (77,)


def test_in_a_container_with_untranslated_ids_one_unknown_process_is_this_one():
    assert cotenants([90210], own={10}, host_ids=False) == ()
    assert cotenants([90210, 90211], own={10}, host_ids=False) == (90210, 90211)


def test_in_a_container_with_translated_ids_the_others_count():
    assert cotenants([10, 90211], own={10}, host_ids=False) == (90211,)


def test_kin_are_parents_children_and_threads():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        kin = family()
        assert {os.getpid(), os.getppid(), child.pid} <= kin
        assert cotenants([os.getpid(), child.pid, os.getppid()]) == ()
    finally:
        child.kill()
        child.wait()


def test_kin_are_looked_up_when_the_processes_change_and_only_then(monkeypatch):
    asked = []
    monkeypatch.setattr(tenants, "cotenants", lambda pids: asked.append(pids) or tuple(sorted(pids)))
    board = Tenants()
    assert board.others([]) == ()
    assert board.others([os.getpid()]) == ()
    assert asked == []
    assert board.others([7, 8]) == (7, 8)
    assert board.others([8, 7]) == (7, 8)
    assert asked == [{7, 8}]
    assert board.others([7]) == (7,)
    assert len(asked) == 2


def test_a_server_that_is_measured_is_no_co_tenant(monkeypatch):
    monkeypatch.setattr(tenants, "in_host_namespace", lambda: True)
    assert Tenants().others([4001, 4002]) == (4001, 4002)
    assert Tenants(served=lambda: {4001}).others([4001, 4002]) == (4002,)
