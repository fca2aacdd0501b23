"""Portal and workers are started by one command each, and say clearly when they cannot."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from energylab.errors import EnergylabError, PortalError
from energylab_portal import worker
from energylab_portal.settings import Vault


def test_a_worker_without_a_portal_says_how_to_start_one(tmp_path):
    with pytest.raises(PortalError, match="start one with `energylab-portal serve --folder"):
        worker.start(tmp_path, devices="cpu", once=True)


def test_a_worker_serves_one_device(tmp_path):
    with pytest.raises(PortalError, match="one worker serves one"):
        worker.start(tmp_path, devices="0,1", once=True)


@pytest.mark.parametrize("option", [{"measuring": "publishd"}, {"executor": "slrm"}])
def test_unknown_names_are_refused_before_anything_starts(make_portal, option):
    folder = make_portal().settings.folder
    with pytest.raises(EnergylabError, match="published|slurm"):
        worker.start(folder, **{"devices": "cpu", "once": True, **option})


def test_a_taken_port_is_one_clear_error():
    serve = pytest.importorskip("energylab_portal.serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortalError, match="choose another --port"):
            serve.listen("127.0.0.1", taken.getsockname()[1])


def test_those_that_start_at_once_share_one_secret_and_one_token(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Vault.open(tmp_path), range(16)))
    vaults, tokens = {vault for vault, _ in opened}, [token for _, token in opened if token]
    assert vaults == {Vault.open(tmp_path)[0]}
    assert [vault.is_operator(token) for vault in vaults for token in tokens] == [True]
    assert {path.name for path in tmp_path.iterdir()} - {".opening"} == {"operator", "secret"}
