"""One sealed container, from its start to its end: how it is closed off, the line to it, its processor time."""

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
#: Longest time from the container's start to its first word, in seconds: imports included.
START_S = 120.0
#: The user the work runs as, whoever starts it: a number that owns nothing.
NOBODY = 65532
#: Label of every sealed container, and what its name begins with; the id of the run's process follows.
LABEL, PREFIX = "energylab.sealed", "energylab-sealed"


@dataclass(frozen=True)
class Plan:
    image: str  # name or digest of the runner's image
    model: Path  # the model's folder
    data: Path | None = None  # A hub cache with the published data
    gpus: tuple[str, ...] = ()  # UUIDs of the boards it may use
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
        raise SealError(f"there is no docker command here; {HELP}") from None
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
        self._group: Path | None = None  # its control group, as the host sees it
        self._cpu_s = 0.0

    def start(self) -> Questions:
        """Start it, check its seal as the daemon tells it, and wait for its first word."""
        check_readable(self.plan.model)
        self.image, shared = describe(self.plan.image)
        self._folder = Path(tempfile.mkdtemp(prefix="energylab-"))
        self._folder.chmod(0o711)
        listener = self._listen()
        try:
            call(["create", "--label", LABEL, *self._options(shared), self.image.digest])
            call(["start", self.name])
            self._check()
            questions = self._first_word(self._accept(listener))
        finally:
            listener.close()
            (self._folder / "host.sock").unlink(missing_ok=True)  # nobody else connects
        sweep()  # only now: whoever connected was seen as a process of this machine, so others' processes are as well
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
                raise SealError(f"{source}: Docker cannot mount a path with a comma in it; rename the folder")
            sealed += ["--mount", f"type=bind,source={source},target={target},readonly"]
        return sealed + (["--gpus", f'"device={",".join(plan.gpus)}"'] if plan.gpus else [])

    def _listen(self) -> socket.socket:
        path = self._folder / "host.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)  # the work runs as another user; who connects is checked by its process
        listener.listen(1)
        listener.settimeout(1.0)
        return listener

    def _check(self) -> None:
        inspected = inspect("container", self.name)
        if inspected["Image"] != self.image.digest:
            raise SealError(f"the container runs {inspected['Image']}, not {self.image.digest}")
        try:
            self.seal = stated(inspected)
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
                    raise SealError(f"the container ended at once: {self.last_words()}") from None
                continue
            # by its process, not by its user: a daemon with user namespaces gives the user another number here
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if pid in self.processes():
                return connection
            connection.close()
        raise SealError(f"the container said nothing within {START_S:g} s: {self.last_words()}")

    def _first_word(self, connection: socket.socket) -> Questions:
        line = Line(connection)
        word = line.receive(START_S)
        if word != HELLO:
            raise SealError(f"the image's runner is another one: it said {str(word)[:100]}; build it again")
        return Questions(line, self.plan.limit_s)

    def cpu_s(self) -> float:
        """Return the processor time of everything that ran in the container so far, in seconds; 0 before its start."""
        if self._group is not None:
            self._cpu_s = group_cpu_s(self._group, self._cpu_s)
        return self._cpu_s

    def processes(self) -> set[int]:
        """Return the ids of its processes, as the host numbers them; empty before its start and after its end."""
        listing = None if self._group is None else self._group / "cgroup.procs"
        return set(map(int, listing.read_text().split())) if listing is not None and listing.is_file() else set()

    def last_words(self) -> str:
        """Return the end of what it wrote to its output: for its owner's eyes."""
        try:
            return call(["logs", "--tail", "15", self.name], timeout_s=20).strip()[-2000:] or "it wrote nothing"
        except SealError as error:
            return str(error)

    def remove(self) -> None:
        """Kill every process in it, and take it away with everything it wrote."""
        if self._folder is None:  # never started
            return
        self.cpu_s()
        self._group = None
        _take_away(self.name)
        shutil.rmtree(self._folder, ignore_errors=True)


def sweep() -> None:
    """Take away containers whose run was killed: their names tell the run's process, and nobody else does it."""
    for name in call(["ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}"]).split():
        found = re.fullmatch(rf"{PREFIX}-(\d{{1,9}})-[0-9a-f]{{8}}", name)
        if found and not _lives(int(found[1])):
            _take_away(name)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # another user's process lives, and may not be asked
    return True


def _take_away(name: str) -> None:
    """Kill every process of a container and remove it; another run may have done so already."""
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def describe(name: str) -> tuple[Image, dict[str, Path]]:
    """Describe an image; return it, and what of the host's Python is shared with it, by where it is mounted."""
    try:
        found = inspect("image", name)
    except SealError as error:
        raise SealError(f"no image {name!r} here; docker/setup.sh builds it ({error})") from None
    environment = (found["Config"]["Labels"] or {}).get("energylab.environment")
    if environment not in ("installed", "shared"):
        raise SealError(f"image {name!r} is not built on the runner: it has no energylab.environment label")
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
    """Return the sha256 over the lists of files of all installed packages: each names its files and their hashes."""
    total = hashlib.sha256()
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        total.update(f"{record.parent.name}\n".encode() + hashlib.sha256(record.read_bytes()).digest())
    return total.hexdigest()


def stated(inspected: Mapping[str, Any]) -> Seal:
    """Take from ``docker inspect`` how the container is closed off in fact."""
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
    """Refuse a model's folder that the work could not read once it is mounted."""
    for path in (folder, *sorted(folder.rglob("*"))):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise SealError(f"{path} is a link that leads out of the folder; name a copy made with `cp -rL`")
        mode = path.stat().st_mode
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if mode & needed != needed:
            raise SealError(f"the work runs as user {NOBODY}, which may not read {path}; run `chmod -R o+rX {folder}`")


def control_group(pid: int) -> Path:
    """Return the folder of the control group that counts a process's time: version 2, or ``cpuacct`` of version 1."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        raise SealError("the container's processes are not seen here: the Docker daemon runs elsewhere") from None
    groups = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    base = Path("/sys/fs/cgroup") / ("cpuacct" if "cpuacct" in groups else "")
    folder = base / groups.get("cpuacct", groups.get("", "")).lstrip("/")
    if not (folder / "cpuacct.usage").is_file() and not (folder / "cpu.stat").is_file():
        raise SealError(f"the container's control group is not at {folder}: its processor time cannot be read")
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
