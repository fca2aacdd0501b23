"""A real Slurm on this machine for tests: munged, slurmctld and slurmd without systemd, one node, two fake GPUs.

Run it by itself to try things out: it prints the variable to export, and stops everything on Ctrl-C::

    python tests/one_node_slurm.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")

_CONF = """\
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=5
KillWait=3
MinJobAge=300
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> list[str]:
    """Return the names of Slurm's programs that are not installed, or why they cannot run here."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return absent or ([] if os.geteuid() == 0 else ["root, which the daemons need"])


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class OneNode:
    """The daemons of one cluster in one temporary folder; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="one-node-"))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}
        self._mark = f"SLURM_CONF={self.folder}/".encode()
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> OneNode:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait until the node is idle."""
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        for index in range(2):
            os.mknod(self.folder / f"gpu{index}", stat.S_IFCHR | 0o666, os.makedev(1, 3))  # null devices stand for GPUs
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        text = _CONF.format(host=host, folder=self.folder, cpus=os.cpu_count(), **ports)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.folder}/gpu[0-1]\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self._start_munge()
        self._start("slurmctld", "-D", "-c")
        self.start_node()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / value}" for name, value in {**files, "log-file": "munge.log"}.items()]
        self._start("munged", "--foreground", "--force", *options)
        _wait(lambda: (self.folder / "munge.socket").exists(), "munged")

    def _start(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        self._daemons[name] = subprocess.Popen(
            [name, *arguments], env=self.environment, stdout=log, stderr=log, start_new_session=True
        )

    def start_node(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._start("slurmd", "-D")
        _wait(lambda: self.node_state() in ("idle", "mixed", "allocated"), "the node", self._logs)

    def kill_node(self) -> None:
        """Let the node die as by a power cut: slurmd, every step's daemon, and the jobs."""
        self._kill_all(spared={self._daemons[name].pid for name in ("munged", "slurmctld")})
        self._daemons.pop("slurmd").wait()

    def node_state(self) -> str:
        """Return the node's state as ``sinfo`` says it, without flags."""
        shown = self.run("sinfo", "-h", "-o", "%t", check=False).stdout.split()
        return shown[0].rstrip("*~#!%$@^-") if shown else ""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run one of Slurm's commands against this cluster."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=check)

    def stop(self) -> None:
        """Cancel every job, end the daemons and what they started, and remove the folder."""
        if "slurmctld" in self._daemons and self._daemons["slurmctld"].poll() is None:
            self.run("scancel", "--user=root", check=False)
        for process in self._daemons.values():
            process.terminate()
        for process in self._daemons.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self._kill_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_all(self, spared: Collection[int] = ()) -> None:
        """Kill what belongs to the cluster: processes in whose environment its configuration's path stands."""
        for environ in Path("/proc").glob("[0-9]*/environ"):
            pid = int(environ.parent.name)
            with contextlib.suppress(OSError):  # ended meanwhile
                if pid not in {os.getpid(), *spared} and self._mark in environ.read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def _logs(self) -> str:
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(condition, what: str, explain=lambda: "", timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not get ready within {timeout_s:g} s\n{explain()}")
        time.sleep(0.1)


if __name__ == "__main__":
    if missing():
        sys.exit(f"not here: {', '.join(missing())}; on Debian: apt-get install slurm-wlm munge")
    with OneNode() as cluster:
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
