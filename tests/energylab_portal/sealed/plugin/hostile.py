"""A task plug-in that tries to get out of its container. Every query is one attempt; its answer says how it ended.

An attempt ends as ``denied: …`` where the system refused it, or as ``SUCCEEDED: …`` where it did not.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from energylab.record import DataFacts, ModelFacts
from energylab.tasks.base import Task

LIBC = ctypes.CDLL(None, use_errno=True)


def denied(error: object) -> str:
    return f"denied: {error}"


def connect(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError as error:
        return denied(error)
    return f"SUCCEEDED: connected to {address}"


def resolve() -> str:
    try:
        return f"SUCCEEDED: {socket.gethostbyname('deb.debian.org')}"
    except OSError as error:
        return denied(error)


def interfaces() -> str:
    found = sorted(name for _, name in socket.if_nameindex())
    return denied("only the loopback") if found == ["lo"] else f"SUCCEEDED: interfaces {found}"


def write(path: str) -> str:
    try:
        Path(path).write_text("out", encoding="utf-8")
    except OSError as error:
        return denied(error)
    return f"SUCCEEDED: wrote {path}"


def read(path: str) -> str:
    try:
        return f"SUCCEEDED: {Path(path).read_bytes()[:20]!r}"
    except OSError as error:
        return denied(error)


def call(name: str, *arguments: object) -> str:
    if getattr(LIBC, name)(*arguments) != -1:
        return f"SUCCEEDED: {name}"
    return denied(os.strerror(ctypes.get_errno()))


def capabilities() -> str:
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    held = {name: int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")}
    gain = lines.get("NoNewPrivs", "0").strip()
    if any(held.values()) or gain != "1" or os.getuid() == 0:
        return f"SUCCEEDED: {held}, NoNewPrivs {gain}, uid {os.getuid()}"
    return denied("no capability, no new privileges, no root")


def setuid_root() -> str:
    try:
        os.setuid(0)
    except OSError as error:
        return denied(error)
    return "SUCCEEDED: root"


def fork_many() -> str:
    """Start processes until the system refuses; more than the limit would be a success."""
    children = []
    try:
        for _ in range(2000):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
        return f"SUCCEEDED: {len(children)} processes"
    except OSError as error:
        return denied(f"after {len(children)} processes: {error}")
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def take_memory() -> str:
    """Take memory in a child until it is killed; 16 GB would be a success."""
    code = (
        "import sys\nheld = []\n"
        "for _ in range(512):\n    held.append(b'x' * 2**25)\n    print(len(held) * 32, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    got = done.stdout.split()[-1] if done.stdout else "0"
    return f"SUCCEEDED: {got} MB" if done.returncode == 0 else denied(f"killed ({done.returncode}) at {got} MB")


def fill(folder: str) -> str:
    path, written = Path(folder) / "fill", 0
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(4096):
                written += file.write(bytes(2**20))
        return f"SUCCEEDED: {written / 2**20:.0f} MB"
    except OSError as error:
        return denied(f"after {written / 2**20:.0f} MB: {error}")
    finally:
        path.unlink(missing_ok=True)


def leave_process() -> str:
    """Start a process of its own session that outlives its parent; whether it outlives the run is the host's to see."""
    code = "import time; time.sleep(3600)"
    subprocess.Popen([sys.executable, "-c", code, "energylab-left-behind"], start_new_session=True)
    return "started"


def fake_time() -> str:
    """Replace every clock and meter in this process: whoever measured here would now be wrong."""
    import energylab.clock
    import energylab.meters.estimate

    time.process_time = time.monotonic = lambda: 0.0
    energylab.clock.Clock.now = lambda self: 0.0
    energylab.meters.estimate.EstimateMeter.read = lambda self: None
    return "replaced"


def raise_limits() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2**30, 2**30))
    except (OSError, ValueError) as error:
        return denied(error)
    return "SUCCEEDED: raised a limit"


def leave_results() -> str:
    """Leave a plain file, and things that are none, in the results folder."""
    (Path("/results") / "notes.txt").write_text("from inside", encoding="utf-8")
    (Path("/results") / "link").symlink_to("/etc/passwd")
    os.mkfifo("/results/pipe")
    return "left"


def attempts() -> dict:
    """Return every attempt by its name; what the host set up is in the model's folder."""
    host = dict(line.split("=", 1) for line in Path("/model/host.txt").read_text().splitlines())
    return {
        "network: the internet": lambda: connect("1.1.1.1", 53),
        "network: the host's loopback": lambda: connect("127.0.0.1", int(host["port"])),
        "network: names": resolve,
        "network: interfaces": interfaces,
        "write: /etc": lambda: write("/etc/energylab"),
        "write: the runner": lambda: write("/opt/energylab/energylab/record.py"),
        "write: the model": lambda: write("/model/config.json"),
        "write: the socket's folder": lambda: write("/run/energylab/other"),
        "write: the system's settings": lambda: write("/proc/sys/kernel/core_pattern"),
        "write: control groups": lambda: write("/sys/fs/cgroup/cpuacct/cpuacct.usage"),
        "write: the packages": lambda: write("/opt/site-packages/energylab-escaped.pth"),
        "read: a file of the host": lambda: read(host["secret"]),
        "read: the Docker socket": lambda: read("/var/run/docker.sock"),
        "read: the host's disks": lambda: read("/dev/vda"),
        "read: the host's password hashes": lambda: read("/etc/shadow"),
        "read: the kernel's memory": lambda: read("/proc/kcore"),
        "system: mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "system: a device node": lambda: call("mknod", b"/tmp/disk", 0o060666, 0xFE00),
        "system: chroot": lambda: call("chroot", b"/tmp"),
        "system: become root": setuid_root,
        "system: capabilities": capabilities,
        "system: limits": raise_limits,
        "processes": fork_many,
        "memory": take_memory,
        "disk: scratch": lambda: fill("/tmp"),
        "disk: results": lambda: fill("/results"),
        "disk: shared memory": lambda: fill("/dev/shm"),
        "meter: read-only counters": lambda: write("/sys/class/powercap/intel-rapl:0/energy_uj"),
        "results": leave_results,
        "process left behind": leave_process,
        "clocks replaced": fake_time,
    }


class Hostile(Task):
    """Rows are attempts."""

    phases = ("call",)
    columns = ("attempt",)

    def load_rows(self):
        """Name the attempts."""
        rows = [{"attempt": name} for name in attempts()][: self.parameters.samples]
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()
        return rows, DataFacts(name="attempts", source="given", digest=digest, queries=len(rows))

    def load(self, device):
        """There is no model."""
        self._done: dict[str, str] = {}
        return ModelFacts(name="hostile", source="path", parameters=500, dtype="float16", weights_bytes=1000)

    def preprocess(self, rows):
        """Rows are the inputs."""
        return rows

    def call(self, rows):
        """Try each attempt once; a second time its end is known."""
        for row in rows:
            name = row["attempt"]
            if name not in self._done:
                self._done[name] = attempts()[name]()
        return [self._done[row["attempt"]] for row in rows]

    def answers(self, inputs, outputs):
        """How each attempt ended."""
        return [f"{row['attempt']} = {said}" for row, said in zip(inputs, outputs, strict=True)]

    def score(self, answers, rows):
        """Nothing to score."""
        return ()
