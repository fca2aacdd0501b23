"""A hostile container at the other end of the line: it cannot mislead, stall or crash the host."""

from __future__ import annotations

import json
import socket
import threading
import time

import closed_builders as builders
import pytest

from energylab.errors import BundleError, EnergylabError, MeasurementError, SealError
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.lines import HELLO, MAX_LINE, Line, Questions
from energylab_portal.sealed.remote import Prepared


@pytest.fixture
def pair():
    """Return a host's questions with a short limit, and the raw socket at the other end."""
    host, inside = socket.socketpair()
    yield Questions(Line(host), 0.5), inside
    host.close()
    inside.close()


def _answer(inside: socket.socket, data: bytes) -> None:
    """Read one question and send raw bytes."""

    def talk() -> None:
        inside.recv(1 << 16)
        inside.sendall(data)

    threading.Thread(target=talk, daemon=True).start()


BAD = {
    "not JSON": b"hello\n",
    "not an object": b"[1]\n",
    "another number": b'{"number": 7}\n',
    "no number": b"{}\n",
    "a number that is a text": b'{"number": "1"}\n',
    "duplicate keys": b'{"number": 1, "number": 1}\n',
    "deep nesting": b"[" * 50_000 + b"\n",
    "not a number": b'{"number": 1, "x": NaN}\n',
    "not UTF-8": b"\xff\xfe\n",
}


@pytest.mark.parametrize("name", BAD)
def test_answer_that_breaks_a_rule_ends_the_run(name, pair) -> None:
    questions, inside = pair
    _answer(inside, BAD[name])
    with pytest.raises(SealError):
        questions.ask("run", Prepared)
    with pytest.raises(SealError):  # and nothing is asked any more
        questions.ask("run", Prepared)
    assert questions.broken is not None


def test_silence_ends_the_run_in_time(pair) -> None:
    questions, _ = pair
    with pytest.raises(SealError, match="no answer within"):
        questions.ask("run", Prepared)


def test_a_drip_of_bytes_does_not_stretch_the_limit(pair) -> None:
    questions, inside = pair

    def drip() -> None:
        inside.recv(1 << 16)  # what comes before its question is another broken rule
        try:
            while True:  # for ever, were it not for the limit
                inside.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            return

    threading.Thread(target=drip, daemon=True).start()
    with pytest.raises(SealError, match="no answer within"):
        questions.ask("run", Prepared)


def test_line_without_end_is_cut_off(pair) -> None:
    questions, inside = pair

    def flood() -> None:
        inside.recv(1 << 16)
        try:
            for _ in range(2 * MAX_LINE // 65536):
                inside.sendall(b"x" * 65536)
        except OSError:
            return

    questions._limit_s = 600
    threading.Thread(target=flood, daemon=True).start()
    with pytest.raises(SealError, match="without an end of line"):
        questions.ask("run", Prepared)


def test_answer_before_its_question_is_a_broken_rule(pair) -> None:
    questions, inside = pair
    inside.sendall(b'{"number": 1, "done": 1}\n')
    with pytest.raises(SealError, match="before it was asked"):
        questions.ask("run", Prepared)


def test_second_answer_is_a_broken_rule(pair) -> None:
    questions, inside = pair
    questions._limit_s = 600
    _answer(inside, b'{"number": 1}\n{"number": 2}\n')
    assert questions.ask("first", Prepared) == Prepared()
    with pytest.raises(SealError, match="before it was asked"):
        questions.ask("second", Prepared)


def test_end_of_the_line_is_said(pair) -> None:
    questions, inside = pair
    inside.close()
    with pytest.raises(SealError):
        questions.ask("run", Prepared)


# ---- whole runs against a container that lies at one point


def _liar(change):
    """Serve honestly but for what ``change(question, answer)`` makes of an answer."""

    def talk(connection, service) -> None:
        line = Line(connection)
        line.send(HELLO)
        while (question := line.receive()) is not None:
            asked = dict(question)
            answer = change(asked, service.handle(question))
            try:
                connection.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
            except OSError:
                return

    return talk


def _on(what, **changes):
    return lambda question, answer: {**answer, **changes} if question["do"] == what else answer


def _unasked(question, answer):
    return json.dumps(answer).encode() + (b'\n{"energy_j": 0.0}\n' if question["do"] == "run" else b"\n")


LIES = {
    "readings of its own": _on("run", energy_j=0.001, duration_s=0.001),
    "messages unasked": _unasked,
    "fewer batches than asked, no failure named": _on("run", done=0),
    "more batches than asked": _on("run", done=10**6),
    "fewer queries": lambda q, a: a if q["do"] != "load" else {**a, "data": {**a["data"], "queries": 3}},
    "other data": lambda q, a: a if q["do"] != "load" else {**a, "data": {**a["data"], "digest": "0" * 64}},
    "other settings": lambda q, a: a if q["do"] != "load" else {**a, "settings": {**a["settings"], "new_tokens": 1}},
    "another board": _on("load", boards=["GPU-ffffffff-0000-0000-0000-000000000000"]),
    "no phases": _on("load", phases=[]),
    "negative tokens": _on("count", input=-5),
    "other queries' outputs": lambda q, a: {**a, "answers": {"999": "x"}} if q["do"] == "answers" else a,
    "a quality that is no figure": _on("score", quality=[{"metric": "x", "value": "best", "queries": 1}]),
}


@pytest.mark.parametrize("name", LIES)
def test_lie_on_the_line_leaves_no_bundle(name, tmp_path) -> None:
    asked, parts = builders.simulated(tmp_path, talk=_liar(LIES[name]), runs=1)
    with pytest.raises(EnergylabError) as caught:
        sealed.run(asked, **parts)
    assert isinstance(caught.value, SealError | MeasurementError | BundleError)
    assert not (tmp_path / "out/bundle.json").exists()
    assert parts["container"].removed


def test_failing_query_is_kept_and_leaves_no_bundle(tmp_path) -> None:
    """A query that fails in the container makes its windows invalid, as anywhere; the owner is told why."""

    def fail(question, answer):
        if question["do"] == "run" and question["phase"] == "generate":
            parts["container"].service._board.board.work(0.5, 200.0)  # failing takes time too
            return {"number": answer["number"], "done": 0, "error": "OutOfMemoryError", "message": "of the model"}
        return answer

    asked, parts = builders.simulated(tmp_path, talk=_liar(fail), runs=1)
    with pytest.raises(MeasurementError, match="out_of_memory"):
        sealed.run(asked, **parts)
    assert (tmp_path / "out/private/record.json").exists()
    assert not (tmp_path / "out/bundle.json").exists()
