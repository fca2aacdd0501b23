"""A hostile container at the other end of the line: it cannot mislead, stall or crash the host."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, suppress

import closed_builders as builders
import pytest

from energylab.errors import BundleError, MeasurementError, SealError
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.lines import HELLO, MAX_LINE, Line, Questions
from energylab_portal.sealed.remote import Prepared


@pytest.fixture
def asked():
    """Return a function that asks a question of one that talks as told on its raw end of the line."""
    with ExitStack() as opened:

        def asked(talk, limit_s=0.5):
            host, inside = map(opened.enter_context, socket.socketpair())
            questions = Questions(Line(host), limit_s)

            def talking():
                with suppress(OSError):  # the host hangs up
                    talk(inside)

            threading.Thread(target=talking, daemon=True).start()
            with pytest.raises(SealError) as error:
                questions.ask("run", Prepared)
            with pytest.raises(SealError):  # and nothing is asked any more
                questions.ask("run", Prepared)
            assert questions.broken is not None
            return str(error.value)

        yield asked


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
    "a field more": b'{"number": 1, "energy_j": 0.0}\n',
}


def _once_asked(inside, data):
    inside.recv(1 << 16)  # what comes before its question is another broken rule
    inside.sendall(data)


@pytest.mark.parametrize("name", BAD)
def test_answer_that_breaks_a_rule_ends_the_run(name, asked):
    asked(lambda inside: _once_asked(inside, BAD[name]), limit_s=600)


def _drip(inside):
    _once_asked(inside, b" ")
    while True:  # for ever, were it not for the limit
        time.sleep(0.05)
        inside.sendall(b" ")


STALLED = {
    "silence": (lambda inside: None, "no answer within", 0.5),
    "a drip of bytes": (_drip, "no answer within", 0.5),
    "a line without end": (lambda inside: _once_asked(inside, b"x" * 2 * MAX_LINE), "without an end of line", 600),
    "the end of the line": (lambda inside: _once_asked(inside, b"") or inside.close(), "ended before its answer", 600),
}


@pytest.mark.parametrize("name", STALLED)
def test_what_stalls_the_host_ends_the_run_in_time(name, asked):
    talk, words, limit_s = STALLED[name]
    assert words in asked(talk, limit_s)


def test_an_answer_before_its_question_is_a_broken_rule():
    host, inside = socket.socketpair()
    with host, inside:
        questions = Questions(Line(host), 600)
        threading.Thread(target=_once_asked, args=(inside, b'{"number": 1}\n{"number": 2}\n')).start()
        assert questions.ask("first", Prepared) == Prepared()
        with pytest.raises(SealError, match="before a question"):
            questions.ask("second", Prepared)


# ---- whole runs against a container that lies at one point


def _liar(change):
    """Serve honestly but for what ``change(question, answer)`` makes of an answer."""

    def talk(connection, service):
        line = Line(connection)
        line.send(HELLO)
        with suppress(OSError):  # the host hangs up
            while (question := line.receive()) is not None:
                asked = dict(question)
                connection.sendall(change(asked, service.handle(question)))

    return talk


def _on(what, part=None, /, **changes):
    """Change fields of the answer to one question, or of one part of it."""

    def change(question, answer):
        if question["do"] == what:
            answer |= changes if part is None else {part: {**answer[part], **changes}}
        return json.dumps(answer).encode() + b"\n"

    return change


def _unasked(question, answer):
    return json.dumps(answer).encode() + (b'\n{"energy_j": 0.0}\n' if question["do"] == "run" else b"\n")


LIES = {
    "readings of its own": _on("run", energy_j=0.001, duration_s=0.001),
    "messages unasked": _unasked,
    "fewer batches than asked, no failure named": _on("run", done=0),
    "more batches than asked": _on("run", done=10**6),
    "fewer queries": _on("load", "data", queries=3),
    "other data": _on("load", "data", digest="0" * 64),
    "other settings": _on("load", "settings", new_tokens=1),
    "another board": _on("load", boards=["GPU-ffffffff-0000-0000-0000-000000000000"]),
    "no phases": _on("load", phases=[]),
    "negative tokens": _on("count", input=-5),
    "other queries' outputs": _on("answers", answers={"999": "x"}),
    "a quality that is no figure": _on("score", quality=[{"metric": "x", "value": "best", "queries": 1}]),
}


@pytest.mark.parametrize("name", LIES)
def test_lie_on_the_line_leaves_no_bundle(name, tmp_path):
    asked, parts = builders.simulated(tmp_path, talk=_liar(LIES[name]), runs=1)
    with pytest.raises((SealError, MeasurementError, BundleError)):
        sealed.run(asked, **parts)
    assert not (tmp_path / "out/bundle.json").exists()
    assert parts["container"].removed


def test_failing_query_is_kept_and_leaves_no_bundle(tmp_path):
    """A query that fails in the container makes its windows invalid, as anywhere; the owner is told why."""

    def fail(question, answer):
        if question["do"] == "run" and question["phase"] == "generate":
            parts["container"].service.board.board.work(0.5, 200.0)  # failing takes time too
            told = {"done": 0, "error": "OutOfMemoryError", "message": "of the model"}
            answer = {"number": answer["number"], **told}
        return json.dumps(answer).encode() + b"\n"

    asked, parts = builders.simulated(tmp_path, talk=_liar(fail), runs=1)
    with pytest.raises(MeasurementError, match="out_of_memory"):
        sealed.run(asked, **parts)
    assert (tmp_path / "out/private/record.json").exists()
    assert not (tmp_path / "out/bundle.json").exists()
