"""How the container is closed off: the options, and every gap seen in what the daemon says."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from energylab.errors import SealError
from energylab_portal.sealed import container
from energylab_portal.sealed.seal import Limits, Mounts, gaps, options, stated

MOUNTS = Mounts(Path("/run/x"), Path("/models/a"), Path("/data"), Path("/usr/lib/py"), Path("/site"))


def test_options_seal_the_container() -> None:
    said = options("name", 65532, Limits(memory_mb=1000, processes=40, results_mb=3), MOUNTS, ())
    pairs = set(zip(said, said[1:], strict=False))
    assert {("--network", "none"), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges")} <= pairs
    assert {("--pids-limit", "40"), ("--memory", "1000m"), ("--memory-swap", "1000m")} <= pairs
    assert "--read-only" in said
    assert ("--user", "65532:65532") in pairs
    mounts = [value for flag, value in zip(said, said[1:], strict=False) if flag == "--mount"]
    assert len(mounts) == 5
    assert all(mount.endswith(",readonly") for mount in mounts)
    writable = [value for flag, value in zip(said, said[1:], strict=False) if flag == "--tmpfs"]
    assert [value.split(":")[0] for value in writable] == ["/tmp", "/results"]
    assert "size=3m" in writable[1]
    assert "--privileged" not in said
    assert "--gpus" not in said


def test_boards_are_named_by_uuid() -> None:
    said = options("name", 1, Limits(), Mounts(Path("/a"), Path("/b")), ("GPU-1", "GPU-2"))
    assert said[-2:] == ["--gpus", '"device=GPU-1,GPU-2"']


def test_path_with_a_comma_is_refused() -> None:
    with pytest.raises(SealError, match="comma"):
        options("name", 1, Limits(), Mounts(Path("/a"), Path("/b,readonly=false")), ())


def _inspected(**host) -> dict:
    config = {
        "NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"], "CapAdd": None, "Privileged": False,
        "SecurityOpt": ["no-new-privileges"], "PidsLimit": 10, "Memory": 100, "Tmpfs": {"/tmp": "", "/results": ""},
    }  # fmt: skip
    mounts = host.pop("Mounts", [{"Destination": "/model", "RW": False}])
    user = host.pop("User", "65532:65532")
    return {"HostConfig": {**config, **host}, "Mounts": mounts, "Config": {"User": user}}


def test_sealed_container_has_no_gap() -> None:
    assert gaps(stated(_inspected())) == []


GAPS = {
    "network": {"NetworkMode": "bridge"},
    "can be written": {"ReadonlyRootfs": False},
    "not all dropped": {"CapDrop": None},
    "were added": {"CapAdd": ["SYS_ADMIN"]},
    "new privileges": {"SecurityOpt": None},
    "privileged": {"Privileged": True},
    "as user": {"User": ""},
    "user '0'": {"User": "0:0"},
    "processes has no limit": {"PidsLimit": 0},
    "memory has no limit": {"Memory": 0},
    "may write to /model": {"Mounts": [{"Destination": "/model", "RW": True}]},
}


@pytest.mark.parametrize("words", GAPS)
def test_every_gap_is_named(words) -> None:
    found = gaps(stated(_inspected(**GAPS[words])))
    assert any(words in gap for gap in found)


def _tar(*members: tuple[str, bytes, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_results_are_plain_files_within_their_folder(tmp_path) -> None:
    data = _tar(
        ("./notes/a.txt", tarfile.REGTYPE, b"a"),
        ("../escaped.txt", tarfile.REGTYPE, b"x"),
        ("/absolute.txt", tarfile.REGTYPE, b"x"),
        ("notes/../../escaped.txt", tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, b""),
        ("hard", tarfile.LNKTYPE, b""),
        ("device", tarfile.CHRTYPE, b""),
        ("pipe", tarfile.FIFOTYPE, b""),
    )
    assert container.unpack(data, tmp_path / "results") == ["notes/a.txt"]
    assert not (tmp_path / "escaped.txt").exists()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["notes"]


def test_results_that_follow_a_name_twice_are_refused(tmp_path) -> None:
    data = _tar(("a", tarfile.REGTYPE, b"1"), ("a", tarfile.REGTYPE, b"2"))
    with pytest.raises(SealError, match="unpacked"):
        container.unpack(data, tmp_path / "results")


@pytest.mark.parametrize(
    ("lines", "folder", "file", "text", "seconds"),
    [
        ("0::/docker/abc\n", "sys/fs/cgroup/docker/abc", "cpu.stat", "usage_usec 2500000\nuser_usec 1\n", 2.5),
        ("4:cpu,cpuacct:/d/abc\n0::/\n", "sys/fs/cgroup/cpu,cpuacct/d/abc", "cpuacct.usage", "7000000000\n", 7),
        ("2:cpuacct:/docker/abc\n1:cpu:/x\n", "sys/fs/cgroup/cpuacct/docker/abc", "cpuacct.usage", "1\n", 1e-9),
    ],
)  # fmt: skip
def test_processor_time_is_the_control_groups(lines, folder, file, text, seconds, tmp_path) -> None:
    (tmp_path / "proc/42").mkdir(parents=True)
    (tmp_path / "proc/42/cgroup").write_text(lines)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / file).write_text(text)
    group = container.control_group(42, tmp_path)
    assert group == tmp_path / folder
    assert container.group_cpu_s(group, 0.0) == pytest.approx(seconds)
    (group / file).unlink()
    assert container.group_cpu_s(group, 3.5) == 3.5  # the container is gone: the last value stays


def test_daemon_elsewhere_is_said(tmp_path) -> None:
    with pytest.raises(SealError, match="elsewhere"):
        container.control_group(1, tmp_path)


def test_environment_digest_follows_its_packages(tmp_path) -> None:
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info/RECORD").write_text("a.py,sha256=x,1\n")
    before = container.environment_digest(tmp_path)
    assert container.environment_digest(tmp_path) == before
    (tmp_path / "a-1.dist-info/RECORD").write_text("a.py,sha256=y,1\n")
    assert container.environment_digest(tmp_path) != before


def test_model_that_the_work_could_not_read_is_refused(tmp_path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    container.check_readable(model, 65532)
    (model / "config.json").chmod(0o600)
    with pytest.raises(SealError, match="chmod -R o"):
        container.check_readable(model, 65532)
    container.check_readable(model, (model / "config.json").stat().st_uid)
    (model / "config.json").unlink()
    (tmp_path / "blob").write_text("{}")
    (model / "config.json").symlink_to(tmp_path / "blob")
    with pytest.raises(SealError, match="cp -rL"):
        container.check_readable(model, 65532)


def test_container_that_was_never_started_is_removed_without_a_daemon(tmp_path) -> None:
    container.Container(container.Plan("runner", tmp_path)).remove()
