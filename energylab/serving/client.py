"""One request to an OpenAI-compatible server: what is sent, what is read from its stream, and what is a failure."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from energylab.clock import Clock
from energylab.errors import ServedError

if TYPE_CHECKING:
    import httpx

#: Where each interface is, below the endpoint.
PATHS = {"completions": "completions", "chat": "chat/completions"}


@dataclass(frozen=True)
class Reply:
    """What one request brought back.

    Attributes
    ----------
    query : int
        Index of the query.
    text : str
        The answer; thinking that the server hands out apart is not in it.
    input_tokens, output_tokens : int
        As the server's ``usage`` counts them.
    thinking_tokens : int or None
        Tokens of the output spent thinking, where the server tells.
    pieces : int
        Pieces of text the stream had.
    sent_s, first_s, done_s : float
        Clock times: request sent, first piece of text received, stream ended.
    """

    query: int
    text: str
    input_tokens: int
    output_tokens: int
    thinking_tokens: int | None
    pieces: int
    sent_s: float
    first_s: float
    done_s: float

    @property
    def first_token_s(self) -> float:
        """Time to first token, in seconds."""
        return self.first_s - self.sent_s

    @property
    def latency_s(self) -> float:
        """Time to the whole answer, in seconds."""
        return self.done_s - self.sent_s


@dataclass(frozen=True)
class Client:
    """How one model behind one server is asked.

    Attributes
    ----------
    endpoint : str
        Address up to ``/v1``.
    model : str
        Name the server knows it by.
    api : str
        A key of `PATHS`.
    new_tokens : int
        Most tokens of an answer.
    timeout_s : float
        Longest silence of the server before a request has failed.
    more : mapping
        Further fields of the request: how this server is told to give exactly `new_tokens`, a thinking switch.
    system : str or None
        System prompt of a chat.
    """

    endpoint: str
    model: str
    api: str
    new_tokens: int
    timeout_s: float
    more: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    clock: Clock = field(default_factory=Clock)

    @property
    def headers(self) -> dict[str, str]:
        """The key of a server that asks for one, from the environment; it is never recorded."""
        key = os.environ.get("OPENAI_API_KEY")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def connect(self, slots: int) -> httpx.AsyncClient:
        """Return connections for `slots` requests at once; no proxy is asked about an address of this host."""
        import httpx

        limits = httpx.Limits(max_connections=slots, max_keepalive_connections=slots)
        timeout = httpx.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s))
        return httpx.AsyncClient(headers=self.headers, timeout=timeout, limits=limits, trust_env=False)

    def models(self) -> dict[str, str]:
        """Return the models the server names, each with its owner as the server tells it; empty where it names none.

        The list is a help in naming a model, no more: ``transformers serve`` lists its cache, not what it serves.

        Raises
        ------
        ServedError
            If it cannot be reached.
        """
        import httpx

        address = f"{self.endpoint.rstrip('/')}/models"
        try:
            answer = httpx.get(address, headers=self.headers, timeout=self.timeout_s, trust_env=False)
        except httpx.HTTPError as error:
            raise ServedError(f"{address} cannot be reached ({type(error).__name__}: {error})") from None
        try:
            return {str(one["id"]): str(one.get("owned_by", "")) for one in answer.json()["data"]}
        except (ValueError, KeyError, TypeError, AttributeError):  # no list: the first request shows what works
            return {}

    def body(self, prompt: str) -> dict[str, Any]:
        """Return the request for one prompt: greedy, streamed, with usage at its end."""
        asked: dict[str, Any] = {"model": self.model, "max_tokens": self.new_tokens, "temperature": 0, "stream": True}
        asked["stream_options"] = {"include_usage": True}
        if self.api == "completions":
            return {**asked, "prompt": prompt, **self.more}
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return {**asked, "messages": [*system, {"role": "user", "content": prompt}], **self.more}

    async def ask(self, http: httpx.AsyncClient, query: int, prompt: str) -> Reply:
        """Send one prompt and read its stream to the end.

        Raises
        ------
        ServedError
            If the server refuses, breaks off, is silent for too long, or does not count the tokens.
        """
        import httpx

        sent_s = self.clock.now()
        stream = _Stream(whole_pieces=self.api == "completions")
        address = f"{self.endpoint.rstrip('/')}/{PATHS[self.api]}"
        try:
            async with http.stream("POST", address, json=self.body(prompt)) as answer:
                if answer.status_code != 200:
                    raise ServedError(_refusal(answer.status_code, await answer.aread()), answer.status_code)
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
    """Yield the events of a stream up to its end mark."""
    async for line in answer.aiter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise ServedError(f"the stream holds what is no JSON: {data[:200]}") from None
        if not isinstance(event, dict) or event.get("error"):
            said = event.get("error") if isinstance(event, dict) else event
            raise ServedError(f"the server reports an error in its stream: {str(said)[:300]}")
        yield event


@dataclass
class _Stream:
    """What has come of one stream so far. A chat's parser may cut one token's text in two; a completion's does not."""

    whole_pieces: bool
    text: list[str] = field(default_factory=list)
    pieces: int = 0
    usage: dict[str, Any] | None = None
    finish: str | None = None
    first_s: float | None = None

    def take(self, event: dict[str, Any]) -> bool:
        """Take in one event; return whether it held text."""
        self.usage = event.get("usage") or self.usage
        held = False
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            said = choice.get("text") or delta.get("content") or ""
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            self.finish = choice.get("finish_reason") or self.finish
            self.text.append(said)
            if said or thought:
                held = True
        self.pieces += held
        return held

    def reply(self, query: int, sent_s: float, done_s: float) -> Reply:
        """Return the whole answer, or say what is missing of it."""
        if self.finish is None:
            raise ServedError(f"the stream ended after {self.pieces} pieces without saying that it was finished")
        if self.usage is None:
            raise ServedError(
                "the server does not count tokens in its stream (no usage, though stream_options.include_usage was "
                "asked for), so energy per token would be a guess; use a version of it that does",
                usage=False,
            )
        given, made = self._counted("prompt_tokens"), self._counted("completion_tokens")
        if self.whole_pieces and self.pieces > made:
            raise ServedError(f"the server counts {made} tokens, but sent {self.pieces} pieces of text")
        details = self.usage.get("completion_tokens_details") or {}
        first_s = done_s if self.first_s is None else self.first_s
        thinking = details.get("reasoning_tokens")
        return Reply(query, "".join(self.text), given, made, thinking, self.pieces, sent_s, first_s, done_s)

    def _counted(self, name: str) -> int:
        value = self.usage.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ServedError(f"the server's usage has {name}={value!r}, which is no number of tokens", usage=False)
        return value


def _refusal(status: int, body: bytes) -> str:
    return f"the server answered with status {status}: {body[:300].decode(errors='replace').strip() or 'no text'}"
