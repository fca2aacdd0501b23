"""One request: what a stream gives, and every way in which it can fail."""

from __future__ import annotations

import asyncio

import pytest
from fake_openai import WELL, Behaviour

from energylab.errors import ServedError
from energylab.serving.client import Client


@pytest.fixture
def ask(serve):
    """Ask a server with one behaviour, and return the reply."""

    def asked(behaviour=WELL, api="completions", new_tokens=5, **more):
        server = serve(behaviour)
        client = Client(server.endpoint, "tiny", api, new_tokens, **{"timeout_s": 60.0, **more})

        async def one():
            async with client.connect(1) as http:
                return await client.ask(http, 3, "How far?")

        return asyncio.run(one()), server

    return asked


def test_a_reply_holds_text_counts_and_times(ask):
    reply, server = ask(Behaviour(first_s=0.05, token_s=0.02), new_tokens=6)
    assert (reply.query, reply.text) == (3, " 0 1 2 3 4 5")
    assert (reply.input_tokens, reply.output_tokens, reply.pieces) == (2, 6, 6)
    assert 0.05 <= reply.first_token_s <= reply.latency_s
    assert reply.latency_s >= 0.05 + 6 * 0.02
    body = server.bodies[0]
    assert body["prompt"] == "How far?"
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 6, True)
    assert body["stream_options"] == {"include_usage": True}


def test_a_chat_sends_messages_and_reads_deltas(ask):
    reply, server = ask(api="chat", system="Think.", more={"chat_template_kwargs": {"enable_thinking": True}})
    assert reply.text == " 0 1 2 3 4"
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(finish=False), "without a finish_reason"),
        (Behaviour(counted=3), "counts 3 tokens, but sent 5 pieces"),
        (Behaviour(counted=-1), "completion_tokens=-1"),
    ],
)
def test_what_is_not_a_whole_counted_answer_is_a_failure(ask, behaviour, said):
    with pytest.raises(ServedError, match=said):
        ask(behaviour)


def test_a_server_that_is_not_there_cannot_be_asked_for_its_models():
    with pytest.raises(ServedError, match="is unreachable"):
        Client("http://127.0.0.1:9/v1", "tiny", "completions", 5, 1.0).models()
