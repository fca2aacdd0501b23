"""Portal and workers are started by one command each, and say clearly when they cannot."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from energylab.errors import EnergylabError, PortalError
from energylab_portal import serve, worker
from energylab_portal.settings import Settings, Vault

WRONG = {
    "no portal in the folder": ({"folder": "none"}, "start one with `energylab-portal serve --folder"),
    "two devices": ({"devices": "0,1"}, "a worker uses one"),
    "no such way of measuring": ({"measuring": "publishd"}, "did you mean 'published'"),
    "no such executor": ({"executor": "slrm"}, "did you mean 'slurm'"),
}


@pytest.mark.parametrize("situation", WRONG)
def test_a_worker_says_why_it_does_not_start(make_portal, tmp_path, situation):
    given, words = WRONG[situation]
    asked = {"folder": make_portal().settings.folder.name, "devices": "cpu", "once": True, **given}
    with pytest.raises(EnergylabError, match=words):
        worker.start(**{**asked, "folder": tmp_path / asked["folder"]})


def test_a_taken_port_and_a_folder_that_is_a_file_are_one_clear_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortalError, match="choose another --port"):
            serve.listen("127.0.0.1", taken.getsockname()[1])
    (tmp_path / "file").touch()
    with pytest.raises(PortalError, match="name another --folder"):
        serve.run(Settings(tmp_path / "file"), "127.0.0.1", 0, print)


def test_those_that_start_at_once_share_one_secret_and_one_token(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Vault.open(tmp_path), range(16)))
    vaults, tokens = {vault for vault, _ in opened}, [token for _, token in opened if token]
    assert vaults == {Vault.open(tmp_path)[0]}
    assert [vault.is_operator(token) for vault in vaults for token in tokens] == [True]
    assert {path.name for path in tmp_path.iterdir()} - {".opening"} == {"operator", "secret"}
    (tmp_path / "secret").write_text("half of it")
    with pytest.raises(PortalError, match="restore them"):
        Vault.open(tmp_path)
