"""One sealed container from start to end: its isolation, the connection to it, its processor time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from energylab.errors import SealError
from energylab_portal.sealed.lines import HELLO, Line, Questions
from energylab_portal.sealed.statement import Image, Seal

HELP = "docker/setup.sh installs what is missing and starts a daemon"
#: Longest time from the container's start to its greeting, in seconds; this includes its imports.
START_S = 120.0
#: Id of the user that the container's processes run as; it owns no files.
NOBODY = 65532
#: Label of every sealed container, and the prefix of its name; the id of the run's process follows.
LABEL, PREFIX = "energylab.sealed", "energylab-sealed"


@dataclass(frozen=True)
class Plan:
    image: str  # name or digest of the runner's image
    model: Path  # the model's folder
    data: Path | None = None  # a hub cache with the published data
    gpus: tuple[str, ...] = ()  # UUIDs of the boards that it may use
    memory_mb: int = 8192
    processes: int = 512
    scratch_mb: int = 512
    shared_mb: int = 256
    limit_s: float = 3600.0  # longest time for one answer, in seconds


def call(arguments: Sequence[str], timeout_s: float = 120) -> str:
    kept: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "errors": "replace"}
    try:
        done = subprocess.run(["docker", *arguments], timeout=timeout_s, **kept)
    except FileNotFoundError:
        raise SealError(f"no docker command found; {HELP}") from None
    except subprocess.TimeoutExpired:
        raise SealError(f"docker {arguments[0]} took longer than {timeout_s:g} s") from None
    if done.returncode != 0:
        raise SealError(f"docker {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def inspect(kind: str, name: str) -> dict[str, Any]:
    return json.loads(call([kind, "inspect", name]))[0]


class Container:
    """A sealed container. Creating this object starts nothing; `start` does."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(4)}"
        self.image: Image | None = None
        self.seal: Seal | None = None
        self._folder: Path | None = None
        self._group: Path | None = None  # folder of its control group on the host
        self._cpu_s = 0.0

    def start(self) -> Questions:
        """Start the container, check its isolation by ``docker inspect``, and wait for the runner's greeting."""
        check_readable(self.plan.model)
        self.image, shared = describe(self.plan.image)
        self._folder = Path(tempfile.mkdtemp(prefix="energylab-"))
        self._folder.chmod(0o711)
        listener = self._listen()
        try:
            call(["create", "--label", LABEL, *self._options(shared), self.image.digest])
            call(["start", self.name])
            self._check()
            questions = self._greeted(self._accept(listener))
        finally:
            listener.close()
            (self._folder / "host.sock").unlink(missing_ok=True)  # no second process can connect
        sweep()  # after the connection, which shows that the daemon's process ids are those of this machine
        return questions

    def _options(self, shared: Mapping[str, Path]) -> list[str]:
        plan, memory = self.plan, f"{self.plan.memory_mb}m"
        sealed = [
            "--name", self.name, "--network", "none", "--read-only", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--pids-limit", str(plan.processes),
            "--memory", memory, "--memory-swap", memory, "--user", f"{NOBODY}:{NOBODY}",
            "--ipc", "private", "--shm-size", f"{plan.shared_mb}m", "--hostname", "sealed", "--log-driver", "local",
            "--log-opt", "max-size=1m", "--log-opt", "max-file=1", "--log-opt", "compress=false",
            "--tmpfs", f"/tmp:rw,nosuid,nodev,size={plan.scratch_mb}m,mode=1777",
        ]  # fmt: skip
        bound = {"/run/energylab": self._folder, "/model": plan.model, "/data": plan.data, **shared}
        for target, source in bound.items():
            if source is None:
                continue
            if "," in str(source):
                raise SealError(f"{source}: Docker cannot mount a path with a comma; rename the folder")
            sealed += ["--mount", f"type=bind,source={source},target={target},readonly"]
        return sealed + (["--gpus", f'"device={",".join(plan.gpus)}"'] if plan.gpus else [])

    def _listen(self) -> socket.socket:
        path = self._folder / "host.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)  # the container runs as another user; `_accept` checks the process that connects
        listener.listen(1)
        listener.settimeout(1.0)
        return listener

    def _check(self) -> None:
        inspected = inspect("container", self.name)
        if inspected["Image"] != self.image.digest:
            raise SealError(
                f"the container runs image {inspected['Image']} instead of {self.image.digest}; start again"
            )
        try:
            self.seal = seal_of(inspected)
        except ValidationError as error:
            gaps = [f"{one['loc'][0]} is {one['input']!r}" for one in error.errors()]
            raise SealError(f"the container is not sealed: {'; '.join(gaps)}") from None
        if inspected["State"]["Running"]:
            self._group = control_group(int(inspected["State"]["Pid"]))

    def _accept(self, listener: socket.socket) -> socket.socket:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if not inspect("container", self.name)["State"]["Running"]:
                    raise SealError(f"the container ended before its greeting: {self.output_tail()}") from None
                continue
            # checked by process id: with user namespaces the daemon changes the user id
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if pid in self.processes():
                return connection
            connection.close()
        raise SealError(f"the container sent no greeting within {START_S:g} s: {self.output_tail()}")

    def _greeted(self, connection: socket.socket) -> Questions:
        line = Line(connection)
        greeting = line.receive(START_S)
        if greeting != HELLO:
            sent = str(greeting)[:100]
            raise SealError(f"the runner in the image has another version: it sent {sent}; build the image again")
        return Questions(line, self.plan.limit_s)

    def cpu_s(self) -> float:
        """Return the processor time of all processes of the container so far, in seconds; 0 before its start."""
        if self._group is not None:
            self._cpu_s = group_cpu_s(self._group, self._cpu_s)
        return self._cpu_s

    def processes(self) -> set[int]:
        """Return the host's ids of the container's processes; empty before its start and after its end."""
        listing = None if self._group is None else self._group / "cgroup.procs"
        return set(map(int, listing.read_text().split())) if listing is not None and listing.is_file() else set()

    def output_tail(self) -> str:
        """Return the end of the container's output; only its owner may see it."""
        try:
            return call(["logs", "--tail", "15", self.name], timeout_s=20).strip()[-2000:] or "no output"
        except SealError as error:
            return str(error)

    def remove(self) -> None:
        """Kill all its processes, and remove the container and everything it wrote."""
        if self._folder is None:  # never started
            return
        self.cpu_s()
        self._group = None
        _remove(self.name)
        shutil.rmtree(self._folder, ignore_errors=True)


def sweep() -> None:
    """Remove containers whose run was killed, found by the id of the run's process in their names."""
    for name in call(["ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}"]).split():
        found = re.fullmatch(rf"{PREFIX}-(\d{{1,9}})-[0-9a-f]{{8}}", name)
        if found and not _is_running(int(found[1])):
            _remove(name)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # no permission: a process of another user
    return True


def _remove(name: str) -> None:
    """Kill all processes of a container and remove it; another run may have done so already."""
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def describe(name: str) -> tuple[Image, dict[str, Path]]:
    """Describe an image; return it with the host's Python folders that it shares, by their path in the container."""
    try:
        found = inspect("image", name)
    except SealError as error:
        raise SealError(f"no image {name!r} on this machine; build it with docker/setup.sh ({error})") from None
    environment = (found["Config"]["Labels"] or {}).get("energylab.environment")
    if environment not in ("installed", "shared"):
        raise SealError(f"image {name!r} has no energylab.environment label; build it from the runner's image")
    packages = Path(sysconfig.get_paths()["purelib"])
    image = Image(
        digest=found["Id"],
        layers=tuple(found["RootFS"]["Layers"]),
        environment=environment,
        environment_digest=environment_digest(packages) if environment == "shared" else None,
        docker=call(["version", "--format", "{{.Server.Version}}"]).strip(),
    )
    shared = {} if environment == "installed" else {"/opt/site-packages": packages}
    if shared and sys.base_prefix != "/usr":
        shared["/opt/python"] = Path(sys.base_prefix)
    return image, shared


def environment_digest(packages: Path) -> str:
    """Return the sha256 of the RECORD files of all installed packages, which list their files and hashes."""
    total = hashlib.sha256()
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        total.update(f"{record.parent.name}\n".encode() + hashlib.sha256(record.read_bytes()).digest())
    return total.hexdigest()


def seal_of(inspected: Mapping[str, Any]) -> Seal:
    """Return the isolation of a container from the output of ``docker inspect``."""
    host = inspected["HostConfig"]
    writable = [str(mount["Destination"]) for mount in inspected["Mounts"] if mount["RW"]]
    return Seal(
        network=host["NetworkMode"],
        read_only_root=bool(host["ReadonlyRootfs"]),
        dropped=tuple(sorted(host["CapDrop"] or ())),
        added=tuple(sorted(host["CapAdd"] or ())),
        no_new_privileges=any(option.startswith("no-new-privileges") for option in host["SecurityOpt"] or ()),
        privileged=bool(host["Privileged"]),
        user=str(inspected["Config"]["User"]),
        pids_limit=int(host["PidsLimit"] or 0),
        memory_bytes=int(host["Memory"]),
        writable=tuple(sorted([*writable, *(host["Tmpfs"] or {})])),
    )


def check_readable(folder: Path) -> None:
    """Raise SealError if the container could not read a model's folder."""
    for path in (folder, *sorted(folder.rglob("*"))):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise SealError(f"{path} is a link out of the folder; copy the folder with `cp -rL` and name the copy")
        mode = path.stat().st_mode
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if mode & needed != needed:
            raise SealError(f"user {NOBODY} of the container may not read {path}; run `chmod -R o+rX {folder}`")


def control_group(pid: int) -> Path:
    """Return the folder of a process's control group with its time: version 2, or ``cpuacct`` of version 1."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        raise SealError("no such process here: the Docker daemon is on another machine; use a local one") from None
    groups = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    base = Path("/sys/fs/cgroup") / ("cpuacct" if "cpuacct" in groups else "")
    folder = base / groups.get("cpuacct", groups.get("", "")).lstrip("/")
    if not (folder / "cpuacct.usage").is_file() and not (folder / "cpu.stat").is_file():
        raise SealError(f"no control group of the container at {folder}, so its processor time cannot be read")
    return folder


def group_cpu_s(folder: Path, before_s: float) -> float:
    """Return the processor time of a control group in seconds; `before_s` once the group is gone."""
    try:
        if (folder / "cpuacct.usage").is_file():
            return int((folder / "cpuacct.usage").read_text()) * 1e-9
        fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) * 1e-6
    except FileNotFoundError:
        return before_s
