"""Served models: windows that are steady, full and counted; prompt caches defeated; no fault makes energy smaller."""

from __future__ import annotations

import pytest
from fake_openai import WELL, Behaviour
from plug import Plug

import energylab
from energylab.energy import totals
from energylab.errors import EnergylabError, ServedError
from energylab.parameters import Parameters
from energylab.protocol.served import Stretch
from energylab.serving.asking import cache_state
from energylab.serving.client import Reply
from energylab.table import cohort
from energylab.tasks import load_task

AGREED = 12  # requests by which the client and the server agree, and the cache is tried
NEW_TOKENS = 5
QUICK = {"samples": 8, "runs": 1, "window_s": 0.3, "idle_s": 0.02, "warm_up_min_s": 0.05, "warm_up_max_s": 0.2}
SLOW = Behaviour(first_s=0.05, token_s=0.01)
AT_ONCE = Behaviour(first_s=0.0, token_s=0.0)
SILENT = Behaviour(first_s=0.0, token_s=0.0, tells_cached=False)


def values(server, **more):
    asked = {"task": "text_generation", "model": "tiny", "model_source": "endpoint", "endpoint": server.endpoint}
    return {**asked, "new_tokens": NEW_TOKENS, "request_timeout_s": 60.0, **QUICK, **more}


@pytest.fixture
def measure(serve):
    def measured(behave=WELL, refuses=(), **more):
        server = serve(behave, refuses=refuses)
        return energylab.measure(
            meters=[Plug(lambda now_s: 100.0 * now_s)], **values(server, **{"concurrency": 2, **more})
        ), server

    return measured


def texts():
    rows, _ = load_task(Parameters(task="text_generation", model="tiny-llama", samples=8)).load_rows()
    return [row["text"] for row in rows]


# ---- windows


def test_a_served_model_is_measured_under_its_load(measure):
    record, server = measure(SLOW)
    assert record.valid, record.reasons
    assert record.phases == ("generate",)
    (total,) = totals(record)
    facts = record.extra["serving"]
    # 100 W all the time: what the window credits lies inside its two readings, and fills them but for the machine's lag
    window = record.windows[-1]  # an earlier one may not have been steady
    assert window.energy_j == pytest.approx(100 * window.duration_s)
    assert total.energy_j == pytest.approx(window.energy_j / window.replications)
    answered_s = facts["answered"] / (facts["output_tokens_per_s"] / NEW_TOKENS)
    assert window.duration_s / 2 < answered_s <= window.duration_s
    assert facts["answered"] == 8 * window.replications
    prompt_tokens = sum(len(text.split()) for text in texts())
    assert (total.queries, total.input_tokens, total.output_tokens) == (8, prompt_tokens, 8 * NEW_TOKENS)
    assert facts["concurrency"] == 2
    assert facts["balance"] == pytest.approx(1, abs=0.05)
    assert 0.05 <= facts["first_token_s"]["median"] <= facts["latency_s"]["median"]
    assert record.model.source == "endpoint"
    assert (record.model.settings["fixed_length"], record.model.settings["server"]) == ("ignore_eos", "vllm")
    assert record.idle[0].reasons == ("server_running",)
    assert server.load[-1][1] == 0  # nothing is under way when it is over
    assert any("endpoint, not hub" in why for why in record.not_official())


def test_every_slot_is_full_for_the_whole_of_every_window(measure):
    """Answers of unlike length: asked three by three, the server would have two thirds of the load on average."""

    def behave(number):
        return AT_ONCE if number < AGREED else Behaviour(first_s=0.12, token_s=(0.02, 0.06, 0.12)[number % 3])

    record, server = measure(behave, concurrency=3, window_s=1.2)
    assert record.valid, record.reasons
    assert max(count for _, count in server.load) == 3
    stop = max(at for at, count in server.load if count == 3)  # the last slot filled: the window is about to end
    start = stop - record.windows[0].duration_s
    counts = [count for at, count in server.load if start <= at <= stop]
    after_an_end = [
        later > now for before, now, later in zip(counts, counts[1:], counts[2:], strict=False) if now < before
    ]
    assert sum(after_an_end) > len(after_an_end) / 2  # the slot is filled again; three by three, one end in three is
    assert record.windows[0].duration_s >= 1.2
    for figures in record.extra["serving"]["windows"]:
        assert figures["answered"] >= 8
        assert figures["balance"] == pytest.approx(1, abs=0.05)


def test_more_requests_at_once_cost_less_each_and_are_another_cohort(measure):
    one, four = (measure(lambda n: AT_ONCE if n < AGREED else SLOW, concurrency=slots)[0] for slots in (1, 4))
    # the fake answers any number of requests in the same time, at the same power
    assert totals(four)[0].energy_j < 0.6 * totals(one)[0].energy_j
    first, second = cohort(one), cohort(four)
    assert {name for name in first if first[name] != second[name]} == {"concurrency"}
    assert first["server"] == "vllm 0.11"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(status=500), "status 500"),
        (Behaviour(break_after=2), "broke off after 2 pieces"),
        (Behaviour(error_after=1), "reports an error"),
        (Behaviour(tokens=4), "counts 4 new token(s) instead of exactly 5"),
        (Behaviour(counted=6), "counts 6 new token(s) instead of exactly 5"),
        (Behaviour(first_s=5.0), "silent for 0.8 s"),
    ],
)
def test_a_server_that_fails_leaves_no_figure(measure, behaviour, message):
    """The first requests, by which the client and the server agree, are answered well."""
    silent_s = 0.8 if "silent" in message else 60.0
    record, _ = measure(lambda n: Behaviour() if n < AGREED else behaviour, request_timeout_s=silent_s, max_attempts=2)
    assert not record.valid
    assert [total.energy_j for total in totals(record)] == [None]
    assert message in record.reasons[0]
    assert [window.reasons for window in record.windows] == [("query_failed",)] * 2


def test_a_load_that_is_never_steady_leaves_no_figure(measure, monkeypatch):
    monkeypatch.setattr(Stretch, "balance", 0.5)
    record, _ = measure(AT_ONCE, max_attempts=1)
    assert not record.valid
    assert [window.reasons for window in record.windows] == [("not_steady",)]


def test_one_failure_costs_its_window_and_no_energy(measure):
    failed_once = []

    def behave(number):
        if number < 40 or failed_once:
            return Behaviour()
        failed_once.append(number)
        return Behaviour(status=503)

    record, _ = measure(behave, runs=2, window_s=0.4)
    assert record.valid, record.reasons
    assert sum(not window.valid for window in record.windows) <= 1  # it may have met the requests between two windows
    assert all(total.energy_j > 0 for total in totals(record))
    clean = [window for window in record.windows if window.valid]
    # what the windows are credited with was answered in them, and nothing else was
    assert [one["answered"] for one in record.extra["serving"]["windows"]] == [8 * one.replications for one in clean]
    assert all(one["balance"] == pytest.approx(1, abs=0.05) for one in record.extra["serving"]["windows"])


@pytest.mark.parametrize(
    ("refuses", "way"),
    [(("ignore_eos",), "generation_config"), (("ignore_eos", "generation_config"), "plain")],
)
def test_the_way_to_a_fixed_length_is_found_out(measure, refuses, way):
    record, server = measure(refuses=refuses)
    assert record.model.settings["fixed_length"] == way
    assert ('"min_new_tokens": 5' in str(server.bodies[-1].get("generation_config"))) == (way == "generation_config")


@pytest.mark.parametrize(
    ("behaviour", "more", "message"),
    [
        (Behaviour(usage=False), {}, "does not count tokens"),
        (Behaviour(tokens=3), {}, "counts 3 new token"),
        (Behaviour(first_s=1.0), {"request_timeout_s": 0.2}, "silent for 0.2 s"),
        (Behaviour(status=500), {}, "status 500"),
        (Behaviour(), {"model": "tinny"}, "did you mean 'tiny'"),
        (Behaviour(), {"task": "sentence_similarity", "new_tokens": None}, "choose text_generation or reasoning"),
        (Behaviour(), {"task": "reasoning", "endpoint_api": "completions"}, "chat template"),
        (Behaviour(), {"thinking": "on"}, "only by task='reasoning'"),
    ],
)
def test_what_can_never_be_counted_or_asked_is_refused_before_anything_is_measured(measure, behaviour, more, message):
    with pytest.raises(EnergylabError, match=message):
        measure(behaviour, **more)


def test_reasoning_is_asked_as_a_chat_and_scored(measure):
    record, server = measure(Behaviour(tokens=3), task="reasoning", new_tokens=50, samples=4)
    assert record.valid, record.reasons
    assert totals(record)[0].output_tokens == 4 * 3
    assert all(body["messages"][-1]["role"] == "user" for body in server.bodies)
    assert not any("ignore_eos" in body for body in server.bodies)  # it ends by itself
    (quality,) = record.quality
    rows, _ = load_task(Parameters(task="reasoning", model="tiny-qwen3", samples=4)).load_rows()
    assert quality.value == sum(float(row["reference"]) == 2 for row in rows) / 4  # every answer is " 0 1 2"


def reply(sent_s=0.0, first_s=0.1, done_s=1.0, cached=None):
    return Reply(0, "", 100, NEW_TOKENS, None, NEW_TOKENS, sent_s, first_s, done_s, cached)


def test_balance_is_slot_time_over_credited_latency():
    # two slots, answers of 1 s each, staggered by half a second: four answers in two seconds
    steady = Stretch(tuple(reply(t - 1, t - 0.9, t) for t in (0.5, 1.0, 1.5, 2.0)), 2.0, 2)
    assert steady.balance == pytest.approx(1.0)
    # in lockstep, from just after the first of a pair to a pair's end: one answer too many is credited
    lopsided = Stretch(tuple(reply(t - 1, t - 0.9, t) for t in (0.0, 1.0, 1.0, 2.0, 2.0)), 2.0, 2)
    assert lopsided.balance == pytest.approx(4 / 5)
    assert steady.figures()["output_tokens_per_s"] == pytest.approx(4 * NEW_TOKENS / 2)


def test_a_served_task_can_be_asked_by_itself(serve):
    task = load_task(Parameters.check(values(serve(), samples=2)))
    task.load("cpu")
    rows, _ = task.load_rows()
    assert task.answers(None, task.run("generate", task.prepare(rows))) == [" 0 1 2 3 4"] * 2
    task.close()


# ---- prompt caches: defeated, read where they are told, and part of the cohort


@pytest.mark.parametrize(
    ("behaviour", "server", "salt"),
    [
        (AT_ONCE, {"caches": True, "honours": ("cache_salt", "cache_prompt")}, "fields"),
        (SILENT, {"caches": True, "honours": ("cache_salt", "cache_prompt")}, "fields"),
        (AT_ONCE, {"caches": True}, "prompt"),
        (AT_ONCE, {"caches": True, "refuses": ("cache_salt",)}, "prompt"),
        (AT_ONCE, {"refuses": ("cache_salt", "ignore_eos")}, "none"),
    ],
    ids=["a field keeps it away", "it does not tell", "no field does", "the field is refused", "no cache"],
)
def test_every_prompt_costs_its_prefill_whatever_the_server_caches(serve, behaviour, server, salt):
    started = serve(behaviour, **server)
    # it computes what its cache does not hold; a trickle more, so that no stretch is without power
    work = Plug(lambda now_s: started.energy_j + 1e-3 * now_s)
    record = energylab.measure(meters=[work], **values(started, runs=2))
    assert record.valid, record.reasons
    parts = totals(record)
    found_j = sum(part.energy_j for part in parts) / sum(part.queries for part in parts)
    words = sum(len(text.split()) + (salt == "prompt") for text in texts()) / 8  # the salt is one word more
    right_j = words * started.prompt_token_j + NEW_TOKENS * started.new_token_j
    assert found_j == pytest.approx(right_j, rel=0.1)  # with the cache it would be a fifth of it
    settings = record.model.settings
    if behaviour.tells_cached:
        found = (settings["salt"], settings["prompt_cache"], settings["prompt_cache_known_by"])
        assert found == (salt, "off", "cached_tokens")
    assert ("prompt_salt" in record.task.overridden) == (settings["salt"] == "prompt")
    prompts = [body["prompt"] for body in started.bodies[-20:]]
    assert salt != "prompt" or len(set(prompts)) == len(prompts)  # no prompt is ever sent twice


def test_an_answer_from_the_cache_is_a_failed_query_where_the_cache_counts_as_off(serve):
    task = load_task(Parameters.check(values(serve(AT_ONCE))))
    task.load("cpu")
    task.close()
    task.prompt_cache = "off"
    task.check_reply(reply(cached=10))
    with pytest.raises(ServedError, match="90 of 100 prompt tokens from its cache"):
        task.check_reply(reply(cached=90))
    task.prompt_cache = "on"
    task.check_reply(reply(cached=90))


def test_cached_and_uncached_and_another_engine_are_other_cohorts(measure):
    record, _ = measure(AT_ONCE)
    here = cohort(record)
    for change, field in (({"prompt_cache": "on"}, "prompt cache"), ({"server_version": "0.12.0"}, "server")):
        settings = record.model.settings | change
        there = cohort(record.model_copy(update={"model": record.model.model_copy(update={"settings": settings})}))
        assert {name for name in here if here[name] != there[name]} == {field}


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
