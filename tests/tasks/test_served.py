"""Served models and the prompt cache of their servers: defeated, read where it is told, and part of the cohort."""

from __future__ import annotations

import pytest
from fake_openai import Behaviour, FakeServer

import energylab
from energylab.energy import totals
from energylab.errors import ServedError
from energylab.meters.base import Meter, Reading
from energylab.parameters import Parameters
from energylab.serving.asking import cache_state
from energylab.serving.client import Reply
from energylab.table import cohort
from energylab.tasks import load_task

QUICK = {"samples": 8, "runs": 2, "window_s": 0.3, "idle_s": 0.02, "warm_up_min_s": 0.05, "warm_up_max_s": 0.2}
NEW_TOKENS = 5
FAST = Behaviour(first_s=0.0, token_s=0.0)


class ServerMeter(Meter):
    """A counter of what the stand-in server's work cost: it computes what its cache does not hold."""

    name, kind, device, source, power_limit_w = "server", "simulated", "board-0", "work of the server", 1e9

    def __init__(self, server):
        super().__init__()
        self._server = server

    def open(self):
        """Nothing to connect to."""

    def read(self):
        """Return the joules spent so far, and a trickle so that no stretch is without power."""
        now = self.clock.now()
        return Reading(self._server.energy_j + 1e-3 * now, now)


@pytest.fixture
def start():
    servers = []

    def started(**options):
        servers.append(FakeServer(**{"behave": lambda number, body: FAST, **options}))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def values(server, **more):
    asked = {"task": "text_generation", "model": "tiny", "model_source": "endpoint", "endpoint": server.endpoint}
    return {**asked, "new_tokens": NEW_TOKENS, "request_timeout_s": 5.0, **QUICK, **more}


def measured(server, **more):
    record = energylab.measure(meters=[ServerMeter(server)], **values(server, **more))
    assert record.valid, record.reasons
    parts = totals(record)
    return record, sum(part.energy_j for part in parts) / sum(part.queries for part in parts)


def right_j(server, salt_words=0):
    """Return what a query costs without a cache: every word of its prompt, and its new tokens."""
    rows, _ = load_task(Parameters(task="text_generation", model="tiny-llama", samples=8)).load_rows()
    words = sum(len(row["text"].split()) + salt_words for row in rows) / len(rows)
    return words * server.prompt_token_j + NEW_TOKENS * server.new_token_j


@pytest.mark.parametrize("tells", [True, False])
def test_a_cache_that_a_field_keeps_away_costs_every_prompt_its_prefill(start, tells):
    behave = Behaviour(first_s=0.0, token_s=0.0, tells_cached=tells)
    server = start(behave=lambda number, body: behave, caches=True, honours=("cache_salt", "cache_prompt"))
    record, found_j = measured(server)
    assert found_j == pytest.approx(right_j(server), rel=0.1)  # with the cache it would be a fifth of it
    assert record.model.settings["salt"] == "fields" or not tells
    assert not tells or record.model.settings["prompt_cache_known_by"] == "cached_tokens"


@pytest.mark.parametrize("refuses", [(), ("cache_salt",)])
def test_a_cache_that_no_field_keeps_away_is_defeated_by_the_prompt_and_said(start, refuses):
    told = Behaviour(first_s=0.0, token_s=0.0, tells_cached=True)
    server = start(behave=lambda number, body: told, caches=True, refuses=refuses)
    record, found_j = measured(server)
    assert found_j == pytest.approx(right_j(server, salt_words=1), rel=0.1)
    assert record.model.settings["prompt_cache"] == "off"
    assert "prompt_salt" in record.task.overridden
    bodies = [body["prompt"] for body in server.bodies[-20:]]
    assert len(set(bodies)) == len(bodies)  # no prompt is ever sent twice


def test_a_server_without_a_cache_is_asked_the_prompts_as_they_are(start):
    told = Behaviour(first_s=0.0, token_s=0.0, tells_cached=True)
    server = start(behave=lambda number, body: told, refuses=("cache_salt", "ignore_eos"))
    record, found_j = measured(server)
    assert found_j == pytest.approx(right_j(server), rel=0.1)
    assert (record.model.settings["prompt_cache"], record.model.settings["salt"]) == ("off", "none")
    assert "prompt_salt" not in record.task.overridden


def test_an_answer_from_the_cache_is_a_failed_query_where_the_cache_counts_as_off(start):
    server = start()
    task = load_task(Parameters.check(values(server)))
    task.load("cpu")
    task.close()
    task.prompt_cache = "off"
    task.check_reply(reply(cached=10))
    with pytest.raises(ServedError, match="90 of 100 prompt tokens from its cache"):
        task.check_reply(reply(cached=90))
    task.prompt_cache = "on"
    task.check_reply(reply(cached=90))


def test_cached_and_uncached_and_another_engine_are_other_cohorts(start):
    record, _ = measured(start())
    here = cohort(record)
    assert here["server"] == "vllm 0.11"
    for change, field in (({"prompt_cache": "on"}, "prompt cache"), ({"server_version": "0.12.0"}, "server")):
        settings = record.model.settings | change
        there = cohort(record.model_copy(update={"model": record.model.model_copy(update={"settings": settings})}))
        assert {name for name in here if here[name] != there[name]} == {field}


def reply(first_s=0.1, cached=None):
    return Reply(0, "", 100, NEW_TOKENS, None, NEW_TOKENS, 0.0, first_s, 1.0, cached)


@pytest.mark.parametrize(
    ("again", "state"),
    [
        (reply(cached=0), "off"),
        (reply(cached=4), "off"),  # the head of a chat template
        (reply(cached=96), "on"),
        (reply(first_s=0.001, cached=0), "off"),  # what is told counts before what is timed
        (reply(first_s=0.01), "on"),
        (reply(first_s=0.095), "off"),
        (reply(first_s=0.06), "unknown"),
    ],
)
def test_a_cache_shows_in_its_counts_or_in_the_time_to_the_first_token(again, state):
    assert cache_state([reply()] * 3, [again] * 3)[0] == state
