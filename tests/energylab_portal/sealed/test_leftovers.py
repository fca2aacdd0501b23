"""Containers of dead processes are taken away; those of the living, and of others, are left."""

from __future__ import annotations

import os

from energylab_portal.sealed import leftovers


def _proc(tmp_path, processes):
    """Make a folder like ``/proc``: process id to name, state and start time."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[77]")
    for pid, (name, state, started) in processes.items():
        (tmp_path / str(pid)).mkdir()
        middle = " ".join("0" for _ in range(18))
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {middle} {started} 0")
    return tmp_path


def test_only_containers_of_dead_processes_here_are_taken_away(tmp_path):
    proc = _proc(tmp_path, {1: ("python", "S", 500), 2: ("a (b) c", "S", 900), 3: ("python", "Z", 300)})
    labels = {
        "living": "77:1:500", "another of that id": "77:2:100", "zombie": "77:3:300", "gone": "77:4:400",
        "of another namespace": "78:4:400",
    }  # fmt: skip
    calls = []

    def call(arguments):
        calls.append(list(arguments))
        return "".join(f"{name}\t{label}\n" for name, label in labels.items()) if arguments[0] == "ps" else ""

    assert leftovers.owner(2, proc) == "77:2:900"
    assert leftovers.sweep(call, proc) == ["another of that id", "zombie", "gone"]
    assert [words[-1] for words in calls[1:]] == ["another of that id", "zombie", "gone"]


def test_this_process_lives():
    _, label = leftovers.mark()
    assert label == f"{leftovers.LABEL}={leftovers.owner(os.getpid())}"
    assert label.split(":")[1] == str(os.getpid())
