"""An OpenAI-compatible server on the loopback that does what it is told: slow, broken, wrong or refusing."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How one request is answered."""

    tokens: int | None = None  # to give; None: as many as were asked for
    token_s: float = 0.002
    first_s: float = 0.01  # time of the prompt
    counted: int | None = None  # what usage says; None: the truth
    usage: bool = True  # whether there is any
    status: int = 200  # anything else is a refusal
    break_after: int | None = None  # tokens after which the connection is cut
    error_after: int | None = None  # tokens after which the stream reports an error
    finish: bool = True  # whether the stream says that it is finished
    tells_cached: bool = True  # whether usage says how much of the prompt came from the cache


WELL = Behaviour()


@dataclass
class FakeServer:
    """The server: `behave` says how request number n is answered; `refuses` are fields it does not take.

    With `caches` it keeps every prompt and computes a prompt that begins like an earlier one from there on, as vLLM
    does: `honours` are the fields that keep it from that. `energy_j` is what all of its work cost, by tokens.
    """

    behave: Callable[[int], Behaviour]
    refuses: tuple[str, ...] = ()
    bodies: list[dict] = field(default_factory=list)
    load: list[tuple[float, int]] = field(default_factory=list)  # time, requests under way from then on
    caches: bool = False
    honours: tuple[str, ...] = ()
    prompt_token_j: float = 0.01
    new_token_j: float = 0.01
    energy_j: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._under_way = 0
        self._kept: list[list[str]] = []
        handler = type("Bound", (_Handler,), {"fake": self})
        self.server = _Quiet(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def change(self, by: int) -> None:
        """Note that a request came or went."""
        with self._lock:
            self._under_way += by
            self.load.append((time.monotonic(), self._under_way))

    def compute(self, body: dict) -> tuple[int, int]:
        """Spend the work of a request; return its prompt's tokens, one a word, and how many of them were kept."""
        text = body.get("prompt") or " ".join(message["content"] for message in body["messages"])
        words = text.split()
        with self._lock:
            use = self.caches and not any(name in body for name in self.honours)
            cached = max((_common(words, kept) for kept in self._kept), default=0) if use else 0
            cached = min(cached, max(len(words) - 1, 0))  # the last token is always computed
            if use and words not in self._kept:
                self._kept.append(words)
            self.energy_j += self.prompt_token_j * (len(words) - cached) + self.new_token_j * body["max_tokens"]
        return len(words), cached

    def number(self, body: dict) -> int:
        """Number a request."""
        with self._lock:
            self.bodies.append(body)
            return next(self._numbers)


def _common(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/version":
            self._json(200, {"version": "0.11.2"})
            return
        self._json(200, {"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = [name for name in self.fake.refuses if name in body]
        if refused or body["model"] != "tiny":
            self._json(422, {"detail": f"not taken: {refused or body['model']}"})
            return
        number = self.fake.number(body)
        self._under_way = True
        self.fake.change(+1)
        try:
            self._answer(body, self.fake.behave(number))
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            self._over()

    def _over(self) -> None:
        """Note that the request is answered, before its last piece goes out: the next one may follow at once."""
        if self._under_way:
            self._under_way = False
            self.fake.change(-1)

    def _answer(self, body: dict, how: Behaviour) -> None:
        if how.status != 200:
            self._json(how.status, {"error": "as scripted"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chat = self.path.endswith("chat/completions")
        if chat:
            self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        time.sleep(how.first_s)
        self._prompt = self.fake.compute(body)
        count = body["max_tokens"] if how.tokens is None else how.tokens
        for token in range(count):
            if token == how.break_after:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if token == how.error_after:
                self._event({"error": "out of blocks"})
                break
            text = f" {token}"
            self._event({"choices": [{"delta": {"content": text}} if chat else {"text": text}]})
            time.sleep(how.token_s)
        self._end(count, how)

    def _end(self, count: int, how: Behaviour) -> None:
        if how.finish:
            self._event({"choices": [{"text": "", "finish_reason": "length"}]})
        if how.usage:
            made = count if how.counted is None else how.counted
            given, cached = self._prompt
            usage = {"prompt_tokens": given, "completion_tokens": made}
            if how.tells_cached:
                usage["prompt_tokens_details"] = {"cached_tokens": cached}
            self._event({"choices": [], "usage": usage})
        self._over()
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
