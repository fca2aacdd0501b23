"""The processor: cores by affinity, threads and quotas; processor time of our processes and of everybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from energylab.meters import processor_load
from energylab.meters.processor_load import OtherLoad, ProcessTime, usable_cores

V2, V1 = "0::/session.scope\n", "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


def machine(root, siblings=(), cgroup="", **files):
    """Write the parts of `proc` and `sys` that tell cores and quotas; in `files`, ``__`` stands for a folder."""
    for cpu, thread in enumerate(siblings):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{thread}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("facts", "cores"),
    [
        ({}, 4),
        ({"siblings": ("0,2", "1,3", "0,2", "1,3")}, 2),  # two hardware threads of a core are not two cores
        ({"cgroup": V2, "cpu_max": "150000 100000"}, 1.5),
        ({"cgroup": V2, "session.scope__cpu_max": "50000 100000", "cpu_max": "max 100000"}, 0.5),
        ({"cgroup": V2, "cpu_max": "max 100000"}, 4),
        ({"cgroup": V1, "cpu__cpu_cfs_quota_us": "200000", "cpu__cpu_cfs_period_us": "100000"}, 2),
        ({"cgroup": V1, "cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}, 4),
    ],
)
def test_usable_cores(tmp_path, facts, cores):
    assert usable_cores(range(4), machine(tmp_path, **facts)) == cores


def test_this_machine():
    assert 0 < usable_cores() <= os.cpu_count()


def work(seconds):
    """Return a program that uses `seconds` of processor time, prints a line, and waits to be told to end."""
    loop = f"import sys, time\nwhile time.process_time() < {seconds}: pass\nprint('done', flush=True)\nsys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_work_in_child_processes_counts_while_they_live_and_after():
    ours = ProcessTime()
    ours.look()
    before = ours()
    child = work(0.2)
    child.stdout.readline()
    assert ours.look()  # it has worked before it was seen: the window in which it began lacks that, and is marked
    living = ours()
    assert living - before >= 0.2
    child.communicate()
    assert ours() - before >= 0.2  # it has ended, and its parent has waited for it
    assert not ours.look()


def test_a_child_that_begins_and_ends_between_two_looks_counts():
    ours = ProcessTime()
    before = ours()
    work(0.1).communicate()
    assert ours() - before >= 0.1


@pytest.fixture
def other_load(monkeypatch):
    """Return the load by others on a machine whose load is set by hand: ticks busy and stolen, own time, switches."""
    load = SimpleNamespace(busy_s=3.0, steal_s=0.0, own_s=1.0, switches=0)
    monkeypatch.setattr(processor_load, "involuntary_switches", lambda: load.switches)
    fields = psutil.cpu_times()._replace(user=0.0, nice=0.0, system=0.0, irq=0.0, softirq=0.0, steal=0.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda: fields._replace(user=load.busy_s, steal=load.steal_s))
    return load, OtherLoad(own_s=lambda: load.own_s)


def test_what_others_use_is_the_machines_busy_time_and_steal_without_ours(other_load):
    load, other_load = other_load
    before = other_load.counters()
    load.own_s, load.busy_s, load.steal_s = 3.0, 5.5, 1.0
    after = other_load.counters()
    assert after.others_s - before.others_s == pytest.approx(3.5 - 2.0)
    assert after.warnings == ()
    load.busy_s = load.steal_s = 0.0  # a kernel that hides the load says nothing
    assert other_load.counters().others_s is None


def test_a_process_that_has_to_give_way_all_the_time_is_on_a_busy_machine(other_load):
    load, other_load = other_load
    other_load.counters()
    load.own_s, load.switches = 2.0, 250
    assert other_load.counters().warnings == ("busy_host",)
    load.own_s, load.switches = 3.0, 270
    assert other_load.counters().warnings == ()
