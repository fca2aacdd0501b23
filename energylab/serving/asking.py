"""Find request options that make a server generate an exact number of tokens without using its prompt cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any

from energylab.errors import ModelError, ServedError
from energylab.serving.client import Client, Reply

PROBES = 3  # number of prompts sent twice, to see whether the second time is faster
LARGEST_CACHED = 0.1  # up to this share of cached input (the start of a chat template), the cache counts as off


def fixed_length(new_tokens: int) -> dict[str, dict[str, Any]]:
    """Return request fields that ask a server for an exact number of tokens, by name, best first.

    vLLM, SGLang and llama.cpp accept ``ignore_eos`` (vLLM and SGLang also ``min_tokens``); ``transformers serve``
    refuses both and accepts a generation configuration. ``plain`` only limits the length: a shorter answer is then a
    failed query.

    References
    ----------
    vLLM, *OpenAI-Compatible Server*, "Extra Parameters"; llama.cpp, ``tools/server/README.md``; transformers 5,
    ``cli/serving/completion.py``.
    """
    exactly = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens, "do_sample": False, "num_beams": 1}
    return {
        "ignore_eos": {"ignore_eos": True, "min_tokens": new_tokens},
        "generation_config": {"generation_config": json.dumps(exactly)},
        "plain": {},
    }


def asked_together(client: Client, prompts: Sequence[str]) -> list[Reply]:
    """Send prompts at the same time and return the replies; in a thread, since a notebook already runs a loop."""

    async def ask() -> list[Reply]:
        async with client.connect(len(prompts)) as http:
            return await asyncio.gather(*(client.ask(http, at, prompt) for at, prompt in enumerate(prompts)))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ask()).result()


def without_cache(client: Client, short: Client, prompts: Sequence[str]) -> tuple[str, Client, str]:
    """Find a client whose requests miss the server's prompt cache; return the cache's state, the client, the evidence.

    The longest prompts are sent twice each, for one token, with one salt after the other until the second time takes as
    long as a prompt that is new to the server. Requests without salt are tried only if the server counts cached tokens.
    """
    longest = sorted(prompts, key=len)[-PROBES:]
    asked_together(short, longest[-1:])  # a server's first request includes start-up work
    cold = [asked_together(replace(short, salt="prompt"), [prompt])[0] for prompt in longest]
    reported = cold[0].cached_tokens is not None
    found = []
    for salt in ("fields", "none", "prompt") if reported else ("fields", "prompt"):
        again = []
        try:
            for prompt in longest:
                asked_together(replace(short, salt=salt), [prompt])
                again += asked_together(replace(short, salt=salt), [prompt])
        except ServedError as error:
            if error.status is None:
                raise ModelError(f"{client.endpoint}: {error}") from None
            continue  # the server refuses unknown fields
        state, known_by = cache_state(cold, again)
        found.append((state, replace(client, salt=salt), known_by))
        if state == "off":
            break
    return min(found, key=lambda one: ("off", "unknown", "on").index(one[0]))


def cache_state(cold: Sequence[Reply], again: Sequence[Reply]) -> tuple[str, str]:
    """Return whether repeated prompts came from a cache, and the evidence: the server's counts, else times."""
    reported = [reply for reply in again if reply.cached_tokens is not None]
    if reported:
        share = sum(reply.cached_tokens for reply in reported) / max(sum(reply.input_tokens for reply in reported), 1)
        return ("on" if share > LARGEST_CACHED else "off"), "cached_tokens"
    first_s, again_s = (median(reply.first_token_s for reply in replies) for replies in (cold, again))
    known_by = f"time to first token: {1e3 * first_s:.1f} ms new, {1e3 * again_s:.1f} ms repeated"
    return ("on" if again_s < 0.5 * first_s else "off" if again_s > 0.8 * first_s else "unknown"), known_by
