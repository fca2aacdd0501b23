"""One sealed container, from its start to its end: the line to it, its processor time, its results."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from energylab.errors import SealError
from energylab_portal.sealed import docker, leftovers
from energylab_portal.sealed.lines import Line, Questions
from energylab_portal.sealed.seal import NOBODY, Limits, Mounts, gaps, options, stated
from energylab_portal.sealed.statement import Image, Seal

#: Longest time from the container's start to its first word, in seconds: imports included.
START_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is to be started.

    Attributes
    ----------
    image : str
        Name or digest of the runner's image.
    model : Path
        The model's folder.
    data : Path or None
        A hub cache with the published data.
    gpus : tuple of str
        UUIDs of the boards it may use.
    limits : Limits
    limit_s : float
        Longest time for one answer, in seconds.
    """

    image: str
    model: Path
    data: Path | None = None
    gpus: tuple[str, ...] = ()
    limits: Limits = Limits()
    limit_s: float = 3600.0


class Container:
    """A sealed container. Creating this object starts nothing; `start` does.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = f"energylab-closed-{os.getpid()}-{secrets.token_hex(4)}"  # whose it is
        self.image: Image | None = None
        self.seal: Seal | None = None
        self.user = os.getuid() or NOBODY
        self._folder: Path | None = None
        self._group: Path | None = None  # its control group, as the host sees it
        self._cpu_s = 0.0

    def start(self) -> Questions:
        """Start it, check its seal as the daemon tells it, and wait for its first word.

        Raises
        ------
        SealError
            If the image is missing, the seal has a gap, or nothing is heard.
        """
        check_readable(self.plan.model, self.user)
        shared = self.describe()
        self._folder = Path(tempfile.mkdtemp(prefix="energylab-"))
        self._folder.chmod(0o711)
        listener = self._listen()
        try:
            mounts = Mounts(self._folder, self.plan.model, self.plan.data, *(shared or (None, None)))
            sealed = options(self.name, self.user, self.plan.limits, mounts, self.plan.gpus)
            docker.call(["create", *leftovers.mark(), *sealed, self.image.digest])
            docker.call(["start", self.name])
            self._check()
            return self._first_word(self._accept(listener))
        finally:
            listener.close()
            (self._folder / "host.sock").unlink(missing_ok=True)  # nobody else connects

    def describe(self) -> tuple[Path | None, Path] | None:
        """Describe the image; return the Python and the packages to share with it, None where it has its own."""
        try:
            found = docker.inspect("image", self.plan.image)
        except SealError as error:
            raise SealError(f"no image {self.plan.image!r} here; docker/setup.sh builds it ({error})") from None
        environment = (found["Config"]["Labels"] or {}).get("energylab.environment")
        if environment not in ("installed", "shared"):
            raise SealError(
                f"image {self.plan.image!r} is not built on the runner: it has no energylab.environment label"
            )
        packages = Path(sysconfig.get_paths()["purelib"])
        self.image = Image(
            digest=found["Id"],
            layers=tuple(found["RootFS"]["Layers"]),
            environment=environment,
            environment_digest=environment_digest(packages) if environment == "shared" else None,
            docker=docker.call(["version", "--format", "{{.Server.Version}}"]).strip(),
        )
        if environment == "installed":
            return None
        return (None if sys.base_prefix == "/usr" else Path(sys.base_prefix)), packages

    def _listen(self) -> socket.socket:
        path = self._folder / "host.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)  # the work runs as another user; who connects is checked by its process
        listener.listen(1)
        listener.settimeout(1.0)
        return listener

    def _check(self) -> None:
        inspected = docker.inspect("container", self.name)
        if inspected["Image"] != self.image.digest:
            raise SealError(f"the container runs {inspected['Image']}, not {self.image.digest}")
        self.seal = stated(inspected)
        open_gaps = gaps(self.seal)
        if open_gaps:
            raise SealError(f"the container is not sealed: {'; '.join(open_gaps)}")
        if inspected["State"]["Running"]:
            self._group = control_group(int(inspected["State"]["Pid"]))

    def _accept(self, listener: socket.socket) -> socket.socket:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if not docker.inspect("container", self.name)["State"]["Running"]:
                    raise SealError(f"the container ended at once: {self.last_words()}") from None
                continue
            peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if peer[1] == self.user:
                return connection
            connection.close()
        raise SealError(f"the container said nothing within {START_S:g} s: {self.last_words()}")

    def _first_word(self, connection: socket.socket) -> Questions:
        line = Line(connection)
        word = line.receive(START_S)
        if word != {"hello": "energylab-closed", "version": 1}:
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
        done = subprocess.run(
            ["docker", "logs", "--tail", "15", self.name], capture_output=True, text=True, check=False, errors="replace"
        )
        return (done.stdout + done.stderr).strip()[-2000:] or "it wrote nothing"

    def fetch_results(self, folder: Path) -> list[str]:
        """Copy plain files out of ``/results``, while it still runs; returns their names.

        Nothing but plain files with plain relative names is taken, and no more than the folder may hold.
        """
        most = self.plan.limits.results_mb * 2**20 + 2**20
        command = ["docker", "exec", self.name, "tar", "-C", "/results", "--format=ustar", "-cf", "-", "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            data = process.stdout.read(most + 1)
            process.kill() if len(data) > most else process.wait(60)
        if len(data) > most:
            raise SealError("the results are larger than their folder may hold; they were left in the container")
        return unpack(data, folder) if data else []

    def remove(self) -> None:
        """Kill every process in it, and take it away with everything it wrote."""
        if self._folder is None:  # never started
            return
        self.cpu_s()
        self._group = None
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def check_readable(folder: Path, user: int) -> None:
    """Refuse a model's folder that the work could not read once it is mounted.

    Parameters
    ----------
    folder : Path
        The model's folder.
    user : int
        The user the work runs as.

    Raises
    ------
    SealError
        If a link in it leads out of it (as in a hub's cache), or its rights keep that user out.
    """
    for path in (folder, *sorted(folder.rglob("*"))):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise SealError(
                f"{path} is a link that leads out of the folder; copy the model with `cp -rL` and name the copy"
            )
        facts = path.stat()
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if facts.st_uid != user and facts.st_mode & needed != needed:
            raise SealError(f"the work runs as user {user}, which may not read {path}; run `chmod -R o+rX {folder}`")


def unpack(data: bytes, folder: Path) -> list[str]:
    """Write the plain files of a tar archive from the container; links, devices and odd names are left out."""
    taken = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isreg() or path.is_absolute() or ".." in path.parts or not path.parts:
                    continue
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(archive.extractfile(member), file)
                taken.append(str(path))
    except (tarfile.TarError, OSError) as error:
        raise SealError(f"the results cannot be unpacked: {error}") from error
    return taken


def control_group(pid: int, root: Path = Path("/")) -> Path:
    """Return the folder of the control group that counts a process's time: version 2, or ``cpuacct`` of version 1.

    Parameters
    ----------
    pid : int
        The container's first process, as the host numbers it.
    root : Path
        Where ``proc`` and ``sys`` lie; a test gives its own.

    Raises
    ------
    SealError
        If the process is not seen here (a daemon on another machine), or its group is not mounted.
    """
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        raise SealError("the container's processes are not seen here: the Docker daemon runs elsewhere") from None
    groups = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if "cpuacct" in groups:
        bases = [root / "sys/fs/cgroup/cpuacct", root / "sys/fs/cgroup/cpu,cpuacct"]
        folders = [base / groups["cpuacct"].lstrip("/") for base in bases]
    else:
        folders = [root / "sys/fs/cgroup" / groups.get("", "").lstrip("/")]
    for folder in folders:
        if (folder / "cpuacct.usage").is_file() or (folder / "cpu.stat").is_file():
            return folder
    raise SealError(f"the container's control group is not at {folders[0]}: its processor time cannot be read")


def group_cpu_s(folder: Path, before_s: float) -> float:
    """Return the processor time of a control group in seconds; `before_s` once the group is gone."""
    try:
        if (folder / "cpuacct.usage").is_file():
            return int((folder / "cpuacct.usage").read_text()) * 1e-9
        fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) * 1e-6
    except FileNotFoundError:
        return before_s


def environment_digest(packages: Path) -> str:
    """Return the sha256 over the lists of files of all installed packages: each names its files and their hashes."""
    total = hashlib.sha256()
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        total.update(f"{record.parent.name}\n".encode() + hashlib.sha256(record.read_bytes()).digest())
    return total.hexdigest()
