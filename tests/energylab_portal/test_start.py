"""Portal and workers are started by one command each, and say clearly when they cannot."""

from __future__ import annotations

import socket

import pytest

from energylab.errors import EnergylabError, PortalError
from energylab_portal import settings, worker


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


def test_two_that_start_at_once_share_one_secret_and_one_token(tmp_path, monkeypatch):
    """The second one looks after the first has looked, and before it has written."""
    write, first = settings.write_private, []

    def slowly(path, data):
        if path.name.startswith(".secret") and not first:
            first.append(True)
            first.append(settings.Vault.open(tmp_path))
        return write(path, data)

    monkeypatch.setattr(settings, "write_private", slowly)
    (mine, token), (theirs, their_token) = settings.Vault.open(tmp_path), first[1]
    assert mine == theirs == settings.Vault.open(tmp_path)[0]
    assert (token, theirs.is_operator(their_token)) == (None, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["operator", "secret"]
