"""See what happens while a phase runs: calls that are not the model's work, and calls of the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from energylab.taskcheck.bench import own_files

#: Functions of the interpreter that are no model's work, by module and qualified name.
BUILTINS = {
    ("io", "open"): "opens a file",
    ("_io", "open"): "opens a file",  # its name since Python 3.13
    ("io", "open_code"): "opens a file",
    ("posix", "open"): "opens a file",
    ("builtins", "print"): "prints",
    (None, "TextIOWrapper.write"): "prints or writes text",
    ("time", "sleep"): "sleeps",
    ("gc", "collect"): "collects garbage",
    ("_posixsubprocess", "fork_exec"): "starts a process",
    ("posix", "fork"): "starts a process",
    ("posix", "system"): "starts a process",
    (None, "socket.connect"): "talks to the network",
    ("_warnings", "warn"): "warns",
}


@dataclass
class Seen:
    """What was seen of one phase.

    Attributes
    ----------
    foreign : list of str
        Work that is not the model's, each with the line that asked for it.
    model_calls : int
        How often a whole module was called from outside any other: the passes of the model.
    """

    foreign: list[str] = field(default_factory=list)
    model_calls: int = 0


@contextmanager
def watched(family: type, methods: dict[CodeType, str]) -> Iterator[Seen]:
    """Watch this thread and the models it calls.

    Parameters
    ----------
    family : type
        The task's class: the lines that are named are those of its file, where there are some.
    methods : dict of code to str
        Python functions whose call is to be reported, and in which words.
    """
    seen = Seen()
    files = own_files(family)
    python = {logging.Logger.handle.__code__: "writes a log", **methods}

    def note(frame: FrameType | None, what: str) -> None:
        seen.foreign.append(f"{what}{_where(frame, files)}")

    def look(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            what = BUILTINS.get((getattr(function, "__module__", None), getattr(function, "__qualname__", "")))
            if what is not None:
                note(frame, what)
        elif event == "call" and frame.f_code in python:
            note(frame.f_back, python[frame.f_code])

    before = sys.getprofile()
    with _counted(seen):
        sys.setprofile(look)
        try:
            yield seen
        finally:
            sys.setprofile(before)


@contextmanager
def _counted(seen: Seen) -> Iterator[None]:
    """Count calls of modules from outside any other module."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        seen.model_calls += depth == 0
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _where(frame: FrameType | None, files: set[str]) -> str:
    """Name the nearest line of the task's own files on the way to a call."""
    while frame is not None:
        if frame.f_code.co_filename in files:
            return f" at {Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
        frame = frame.f_back
    return ""
