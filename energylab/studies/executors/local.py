"""Jobs on this machine: one a device, each in a process of its own."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from energylab.studies import devices as device_names
from energylab.studies.executors.base import Ended, Executor, Work, died, overdue
from energylab.studies.folder import Attempt, Outcome, StudyFolder
from energylab.studies.forge_client import RUNTIME, ForgedProcess, ForgeServer, Order
from energylab.studies.plan import Job, StudyFile
from energylab.studies.processes import MARKER, kill_marked, private_folder


@dataclass
class _Running:
    work: Work
    attempt: Attempt
    devices: tuple[str, ...]
    process: subprocess.Popen | ForgedProcess
    ends: int  # a descriptor that becomes readable when the process ends
    started_s: float = field(default_factory=time.monotonic)

    def overdue(self) -> bool:
        limit = self.work.time_limit_s
        return limit is not None and time.monotonic() - self.started_s > limit


class LocalExecutor(Executor):
    """Run jobs here.

    Parameters
    ----------
    devices : str
        As `energylab.studies.devices.available` takes them.
    cold : bool
        Start every job and kernel from nothing, rather than by a fork of a warm process.
    forge : ForgeServer, optional
        A warm process that outlives this run; by default the run has one of its own.
    """

    name = "local"
    program = "energylab.studies.job"  # what an attempt runs, where it starts from nothing

    def __init__(self, devices: str = "auto", cold: bool = False, forge: ForgeServer | None = None) -> None:
        self.devices = device_names.available(devices)
        self.parallel = len(self.devices)
        self.cold = cold
        self._free = list(self.devices)
        self._running: list[_Running] = []
        self._shared = forge
        self._forge = forge
        self._folder: Path | None = None
        self._runtime: Path | None = None
        self._environment: dict[str, str] = {}

    @classmethod
    def from_study(cls, study: StudyFile, devices: str, cold: bool) -> LocalExecutor:
        return cls(devices, cold)

    def open(self, folder: StudyFolder, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._folder = folder.path.resolve()
        self._runtime = private_folder(self._folder)
        if not self.cold and self._shared is None:
            self._forge = ForgeServer(self._runtime, str(self._folder), environment)

    def close(self) -> None:
        if self._forge is not None and self._shared is None:
            self._forge.close()
            kill_marked(self._folder, spare=list(self._folder.iterdir()))  # what its forks forked without a session
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)

    def refuses(self, job: Job) -> str:
        wanted = job.parameters.gpus
        if wanted > len(self.devices):
            return f"needs {wanted} devices, {len(self.devices)} here ({', '.join(self.devices)})"
        return ""

    def offer(self, work: Sequence[Work]) -> int:
        taken = 0
        for piece in work:
            if piece.job.parameters.gpus > len(self._free):
                break  # in order: a job that waits for several devices is not overtaken for ever
            self._start(piece)
            taken += 1
        return taken

    def _start(self, work: Work) -> None:
        lease = tuple(self._free[: work.job.parameters.gpus])
        shown = {**self._environment, **device_names.environment(lease)}
        attempt = work.begin(self.name, lease, shown)
        environment = {**os.environ, **shown, MARKER: str(attempt.path.resolve()), RUNTIME: str(self._runtime)}
        with attempt.log.open("wb") as log:
            process = self._process(attempt, environment, log.fileno())
        ends = os.pidfd_open(process.pid) if isinstance(process, subprocess.Popen) else process.fileno()
        self._free = [name for name in self._free if name not in lease]
        self._running.append(_Running(work, attempt, lease, process, ends))

    def _process(self, attempt: Attempt, environment: dict[str, str], log: int) -> subprocess.Popen | ForgedProcess:
        arguments = [str(attempt.path)]
        if self._forge is not None:
            order = Order("energylab.studies.job:main", arguments, "energylab-job", environment, str(Path.cwd()))
            return self._forge.start(order, log)
        return subprocess.Popen(
            [sys.executable, "-m", self.program, *arguments, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def wait(self, timeout_s: float) -> list[Ended]:
        if self._running:
            select.select([item.ends for item in self._running], [], [], timeout_s)
        ended = []
        for item in list(self._running):
            if item.process.poll() is not None:
                ended.append(self._finish(item, died(item.process.returncode, item.attempt)))
            elif item.overdue():
                ended.append(self._finish(item, overdue(item.work.time_limit_s)))
        return ended

    def _finish(self, item: _Running, otherwise: Outcome) -> Ended:
        """Leave no process behind, then close the attempt and hand its devices back."""
        if item.process.poll() is None:
            item.process.kill()
        item.process.wait()
        kill_marked(item.attempt.path)
        if isinstance(item.process, ForgedProcess):
            item.process.close()
        else:
            os.close(item.ends)
        if item.attempt.outcome is None:
            item.attempt.close(otherwise)
        self._running.remove(item)
        self._free = [name for name in self.devices if name in {*self._free, *item.devices}]
        return Ended(item.work, item.attempt, item.attempt.outcome)

    def running(self) -> list[Work]:
        return [item.work for item in self._running]

    def cancel(self, reason: str) -> list[Ended]:
        now = time.monotonic()
        return [
            self._finish(item, Outcome.now("interrupted", reason, now - item.started_s)) for item in list(self._running)
        ]
