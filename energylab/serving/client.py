"""Client of an OpenAI-compatible server: one request with its stream, and a closed loop of concurrent requests."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from energylab.clock import Clock
from energylab.errors import ServedError

if TYPE_CHECKING:
    import httpx

#: Path of each interface below the endpoint.
PATHS = {"completions": "completions", "chat": "chat/completions"}

#: Paths and keys of a server's version: vLLM, llama.cpp, SGLang.
_VERSIONS = {"version": "version", "props": "build_info", "get_server_info": "version"}


@dataclass(frozen=True)
class Reply:
    """The reply to one request; times are those of the client's clock."""

    query: int  # index of the query
    text: str  # the answer, without thinking that the server reports separately
    input_tokens: int  # from the server's ``usage``
    output_tokens: int  # from the server's ``usage``
    thinking_tokens: int | None  # part of the output; None: not reported
    pieces: int  # pieces of text in the stream
    sent_s: float  # request sent
    first_s: float  # first piece of text received
    done_s: float  # stream ended
    cached_tokens: int | None = None  # of the input, taken from a cache; None: not reported

    @property
    def first_token_s(self) -> float:
        return self.first_s - self.sent_s

    @property
    def latency_s(self) -> float:
        return self.done_s - self.sent_s


@dataclass(frozen=True)
class Client:
    """Client of one model on one server.

    Servers cache prompts and reuse the work for later prompts with the same beginning. A measurement sends the same
    prompts many times, so every request carries a salt, in one of two ways: ``fields`` sends ``cache_salt`` (vLLM,
    SGLang) and ``cache_prompt: false`` (llama.cpp), ``prompt`` puts a random number in front of the prompt.
    """

    endpoint: str  # address up to ``/v1``
    model: str  # the model's name on the server
    api: str  # a key of `PATHS`
    new_tokens: int  # longest answer in tokens
    timeout_s: float  # a request fails after this many seconds of silence
    more: Mapping[str, Any] = field(default_factory=dict)  # further fields: a fixed length, a thinking switch
    system: str | None = None  # system prompt of a chat
    salt: Literal["none", "fields", "prompt"] = "none"  # the way of sending a salt
    clock: Clock = field(default_factory=Clock)

    @property
    def _options(self) -> dict[str, Any]:
        """Options of a connection: no proxy; the API key of a server that needs one, which is never recorded."""
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return {"headers": headers, "timeout": self.timeout_s, "trust_env": False}

    def connect(self, slots: int) -> httpx.AsyncClient:
        """Return connections for `slots` requests at once."""
        import httpx

        limits = httpx.Limits(max_connections=slots, max_keepalive_connections=slots)
        return httpx.AsyncClient(limits=limits, **self._options)

    def models(self) -> dict[str, str]:
        """Return the models that the server lists, with their owners; empty if it lists none.

        Used only in messages: ``transformers serve`` lists its cache, not the models it serves.
        """
        try:
            return {str(one["id"]): str(one.get("owned_by", "")) for one in self._get("models")["data"]}
        except (ValueError, KeyError, TypeError, AttributeError):  # no list
            return {}

    def version(self) -> str | None:
        """Return the server's version; None if it states none."""
        for path, name in _VERSIONS.items():
            try:
                return str(self._get(f"../{path}")[name])
            except (ServedError, ValueError, KeyError, TypeError):  # not this kind of server
                continue
        return None

    def _get(self, path: str) -> Any:
        import httpx

        address = str(httpx.URL(f"{self.endpoint.rstrip('/')}/").join(path))
        try:
            return httpx.get(address, **self._options).json()
        except httpx.HTTPError as error:
            raise ServedError(f"{address} is unreachable ({type(error).__name__}: {error}); start the server") from None

    def body(self, prompt: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": self.model, "max_tokens": self.new_tokens, "temperature": 0, "stream": True}
        asked["stream_options"] = {"include_usage": True}
        if self.salt == "fields":
            asked |= {"cache_salt": secrets.token_hex(16), "cache_prompt": False}
        if self.salt == "prompt":
            prompt = f"{secrets.randbelow(10**8):08d} {prompt}"
        if self.api == "completions":
            return {**asked, "prompt": prompt, **self.more}
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return {**asked, "messages": [*system, {"role": "user", "content": prompt}], **self.more}

    async def ask(self, http: httpx.AsyncClient, query: int, prompt: str) -> Reply:
        """Send one prompt and read its stream to the end."""
        import httpx

        sent_s = self.clock.now()
        stream = _Stream(whole_pieces=self.api == "completions")
        address = f"{self.endpoint.rstrip('/')}/{PATHS[self.api]}"
        try:
            async with http.stream("POST", address, json=self.body(prompt)) as answer:
                if answer.status_code != 200:
                    text = (await answer.aread())[:300].decode(errors="replace").strip() or "no text"
                    raise ServedError(
                        f"the server answered with status {answer.status_code}: {text}", answer.status_code
                    )
                async for event in _events(answer):
                    if stream.take(event) and stream.first_s is None:
                        stream.first_s = self.clock.now()
        except httpx.TimeoutException as error:
            silent = f"the server was silent for {self.timeout_s:g} s ({type(error).__name__})"
            raise ServedError(f"{silent}; see request_timeout_s", silent=True) from None
        except httpx.HTTPError as error:
            raise ServedError(f"the stream broke off after {stream.pieces} pieces: {error}") from None
        return stream.reply(query, sent_s, self.clock.now())


async def _events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise ServedError(f"the stream contains a line that is not JSON: {data[:200]}") from None
        if not isinstance(event, dict) or event.get("error"):
            problem = event.get("error") if isinstance(event, dict) else event
            raise ServedError(f"the server reports an error in its stream: {str(problem)[:300]}")
        yield event


@dataclass
class _Stream:
    """State of one response stream so far. In a chat, the text of one token may be split; in a completion it is not."""

    whole_pieces: bool
    text: list[str] = field(default_factory=list)
    pieces: int = 0
    usage: dict[str, Any] | None = None
    cached: int | None = None  # cached tokens, which llama.cpp reports outside the usage
    finish: str | None = None
    first_s: float | None = None

    def take(self, event: dict[str, Any]) -> bool:
        """Process one event; return whether it contained text."""
        self.usage = event.get("usage") or self.usage
        self.cached = (event.get("timings") or {}).get("cache_n", self.cached)
        held = False
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text = choice.get("text") or delta.get("content") or ""
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            self.finish = choice.get("finish_reason") or self.finish
            self.text.append(text)
            held = held or bool(text or thought)
        self.pieces += held
        return held

    def reply(self, query: int, sent_s: float, done_s: float) -> Reply:
        """Return the complete reply; a ServedError names what is missing."""
        if self.finish is None:
            raise ServedError(f"the stream ended after {self.pieces} pieces without a finish_reason")
        if self.usage is None:
            raise ServedError(
                "the server does not count tokens in its stream (no usage despite stream_options.include_usage), so "
                "energy per token is unknown; use a version of the server that counts them",
                usage=False,
            )
        given, made = self._counted("prompt_tokens"), self._counted("completion_tokens")
        if self.whole_pieces and self.pieces > made:
            raise ServedError(f"the server counts {made} tokens, but sent {self.pieces} pieces of text")
        thinking = (self.usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
        cached = (self.usage.get("prompt_tokens_details") or {}).get("cached_tokens", self.cached)
        first_s = done_s if self.first_s is None else self.first_s
        return Reply(query, "".join(self.text), given, made, thinking, self.pieces, sent_s, first_s, done_s, cached)

    def _counted(self, name: str) -> int:
        value = self.usage.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ServedError(f"the server's usage has {name}={value!r}; it must be a number of tokens", usage=False)
        return value


@dataclass
class Tally:
    """Replies and failures of a loop since it was started."""

    replies: list[Reply] = field(default_factory=list)  # in the order in which they were finished
    failures: list[tuple[int, Exception]] = field(default_factory=list)  # query and error


class ClosedLoop:
    """Keeps `slots` requests in progress from `start` to `stop`, in a separate thread.

    Every slot sends its next query as soon as its last one is answered. The thread sleeps between two pieces of a
    stream, so that the client uses little of the server's processor time.
    """

    def __init__(self, ask: Callable[[Any, int], Any], connect: Callable[[int], Any], slots: int) -> None:
        self.slots = slots
        self._ask, self._connect = ask, connect
        self._changed = threading.Condition()
        self._tally = Tally()
        self._queries: Iterator[int] = iter(())
        self._stopping = True
        self._loop = asyncio.new_event_loop()
        self._http: Any = None
        self._slots: list[Any] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()

    def start(self, order: Sequence[int]) -> None:
        self._fill(itertools.cycle(order))

    def once(self, order: Sequence[int]) -> Tally:
        """Send each query of `order` once, at most `slots` at a time, and wait for all."""
        self._fill(iter(order))
        return self._joined()

    def wait(self, answered: int) -> Tally:
        """Wait until `answered` queries have been answered since the start, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._tally.replies) >= answered or self._tally.failures)
            return self._tally

    def stop(self) -> Tally:
        """Send no further query, and wait for those in progress."""
        self._stopping = True
        return self._joined()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._stopping = True
        for slot in self._slots:
            slot.cancel()
        if self._http is not None:
            asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _fill(self, queries: Iterator[int]) -> None:
        self._tally, self._stopping, self._queries = Tally(), False, queries
        self._slots = [asyncio.run_coroutine_threadsafe(self._slot(), self._loop) for _ in range(self.slots)]

    def _joined(self) -> Tally:
        for slot in self._slots:
            slot.result()
        self._slots = []
        return self._tally

    async def _slot(self) -> None:
        if self._http is None:
            self._http = self._connect(self.slots)
        while not self._stopping and not self._tally.failures:
            query = next(self._queries, None)
            if query is None:
                return
            try:
                kept, result = self._tally.replies, await self._ask(self._http, query)
            except Exception as error:  # noqa: BLE001 - recorded with the query, so that `wait` ends
                kept, result = self._tally.failures, (query, error)
            with self._changed:
                kept.append(result)
                self._changed.notify_all()
