"""Windows over a served model: steady, full, counted; and no fault of the server makes energy smaller."""

from __future__ import annotations

import pytest
from fake_openai import Behaviour, FakeServer

import energylab
from energylab.energy import totals
from energylab.errors import EnergylabError
from energylab.meters.base import Meter, Reading
from energylab.parameters import Parameters
from energylab.protocol.served import Stretch
from energylab.serving.client import Reply
from energylab.table import cohort
from energylab.tasks import load_task

AGREED = 12  # requests by which the client and the server agree, and the cache is tried
QUICK = {"samples": 8, "runs": 1, "window_s": 0.3, "idle_s": 0.02, "warm_up_min_s": 0.05, "warm_up_max_s": 0.2}


class Steady(Meter):
    """A counter without steps over a board that draws 100 W on the machine's own clock."""

    name, kind, device, source, power_limit_w = "steady", "simulated", "board-0", "100 W", 100.0

    def open(self):
        """Nothing to connect to."""

    def read(self):
        """Return 100 J a second."""
        now = self.clock.now()
        return Reading(100.0 * now, now)


@pytest.fixture
def measure():
    servers = []

    def measured(behave=lambda number, body: Behaviour(), refuses=(), **more):
        server = FakeServer(behave, refuses)
        servers.append(server)
        values = {"task": "text_generation", "model": "tiny", "model_source": "endpoint", "new_tokens": 5, **QUICK}
        values |= {"endpoint": server.endpoint, "concurrency": 2, "request_timeout_s": 60.0, **more}
        return energylab.measure(meters=[Steady()], **values), server

    yield measured
    for server in servers:
        server.close()


def prompt_tokens(server):
    """Return the words of all prompts of a session, each once."""
    return sum(len(prompt.split()) for prompt in {body["prompt"] for body in server.bodies[-8:]})


def test_a_served_model_is_measured_under_its_load(measure):
    record, server = measure(lambda number, body: Behaviour(first_s=0.05, token_s=0.01))
    assert record.valid, record.reasons
    assert record.phases == ("generate",)
    (total,) = totals(record)
    facts = record.extra["serving"]
    # 100 W all the time: what the window credits lies inside its two readings, and fills them but for the machine's lag
    window = record.windows[-1]  # an earlier one may not have been steady
    assert window.energy_j == pytest.approx(100 * window.duration_s)
    assert total.energy_j == pytest.approx(window.energy_j / window.replications)
    answered_s = facts["answered"] / (facts["output_tokens_per_s"] / 5)
    assert window.duration_s / 2 < answered_s <= window.duration_s
    assert facts["answered"] == 8 * window.replications
    assert (total.queries, total.input_tokens, total.output_tokens) == (8, prompt_tokens(server), 8 * 5)
    assert facts["concurrency"] == 2
    assert facts["balance"] == pytest.approx(1, abs=0.05)
    assert 0.05 <= facts["first_token_s"]["median"] <= facts["latency_s"]["median"]
    assert record.model.source == "endpoint"
    assert record.model.settings["fixed_length"] == "ignore_eos"
    assert record.model.settings["server"] == "vllm"
    assert record.idle[0].reasons == ("server_running",)
    assert any("endpoint, not hub" in why for why in record.not_official())


def test_every_slot_is_full_for_the_whole_of_every_window(measure):
    """Answers of unlike length: asked three by three, the server would have two thirds of the load on average."""
    record, server = measure(
        lambda number, body: Behaviour(first_s=0.12, token_s=(0.02, 0.06, 0.12)[number % 3]),
        concurrency=3,
        window_s=1.2,
    )
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
    slow = Behaviour(first_s=0.05, token_s=0.01)
    one, four = (measure(lambda n, b: slow, concurrency=slots)[0] for slots in (1, 4))
    # the fake answers any number of requests in the same time, at the same power
    assert totals(four)[0].energy_j < 0.6 * totals(one)[0].energy_j
    first, second = cohort(one), cohort(four)
    assert {name for name in first if first[name] != second[name]} == {"concurrency"}
    assert first["server"] == "vllm 0.11"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(status=500), "status 500"),
        (Behaviour(break_after=2), "broke off after 2 pieces"),
        (Behaviour(error_after=1), "reports an error"),
        (Behaviour(tokens=4), "counts 4 new token(s), exactly 5"),
        (Behaviour(counted=6), "counts 6 new token(s), exactly 5"),
        (Behaviour(first_s=5.0), "silent for 0.8 s"),
    ],
)
def test_a_server_that_fails_leaves_no_figure(measure, behaviour, said):
    """The first requests, by which the client and the server agree, are answered well."""
    silent_s = 0.8 if "silent" in said else 60.0
    record, _ = measure(
        lambda number, body: Behaviour() if number < AGREED else behaviour, request_timeout_s=silent_s, max_attempts=2
    )
    assert not record.valid
    assert [total.energy_j for total in totals(record)] == [None]
    assert said in record.reasons[0]
    assert all(window.reasons == ("query_failed",) for window in record.windows)
    assert len(record.windows) == 2


def test_one_failure_costs_its_window_and_no_energy(measure):
    failed_once = []

    def behave(number, body):
        if number < 40 or failed_once:
            return Behaviour()
        failed_once.append(number)
        return Behaviour(status=503)

    record, _ = measure(behave, runs=2, window_s=0.4)
    assert record.valid, record.reasons
    bad = [window for window in record.windows if not window.valid]
    assert len(bad) <= 1  # it may also have met the requests between two windows
    assert all(total.energy_j > 0 for total in totals(record))
    clean = [window for window in record.windows if window.valid]
    # what the windows are credited with was answered in them, and nothing else was
    assert [one["answered"] for one in record.extra["serving"]["windows"]] == [8 * one.replications for one in clean]
    assert all(one["balance"] == pytest.approx(1, abs=0.05) for one in record.extra["serving"]["windows"])


def test_the_way_to_a_fixed_length_is_found_out(measure):
    record, server = measure(refuses=("ignore_eos",))
    assert record.model.settings["fixed_length"] == "generation_config"
    assert '"min_new_tokens": 5' in server.bodies[-1]["generation_config"]
    record, server = measure(refuses=("ignore_eos", "generation_config"))
    assert record.model.settings["fixed_length"] == "plain"


@pytest.mark.parametrize(
    ("behaviour", "more", "said"),
    [
        (Behaviour(usage=False), {}, "does not count tokens"),
        (Behaviour(tokens=3), {}, "counts 3 new token"),
        (Behaviour(first_s=1.0), {"request_timeout_s": 0.2}, "silent for 0.2 s"),
        (Behaviour(status=500), {}, "status 500"),
        (Behaviour(), {"model": "tinny"}, "did you mean 'tiny'"),
        (Behaviour(), {"task": "sentence_similarity", "new_tokens": None}, "choose text_generation or reasoning"),
        (Behaviour(), {"task": "reasoning", "endpoint_api": "completions"}, "chat template"),
        (Behaviour(), {"thinking": "on"}, "is for task='reasoning'"),
    ],
)
def test_what_can_never_be_counted_or_asked_is_refused_before_anything_is_measured(measure, behaviour, more, said):
    with pytest.raises(EnergylabError, match=said):
        measure(lambda number, body: behaviour, **more)


def test_reasoning_is_asked_as_a_chat_and_scored(measure):
    record, server = measure(lambda n, b: Behaviour(tokens=3), task="reasoning", new_tokens=50, samples=4)
    assert record.valid, record.reasons
    assert totals(record)[0].output_tokens == 4 * 3
    assert all(body["messages"][-1]["role"] == "user" for body in server.bodies)
    assert not any("ignore_eos" in body for body in server.bodies)  # it ends by itself
    (quality,) = record.quality
    rows, _ = load_task(Parameters(task="reasoning", model="tiny-qwen3", samples=4)).load_rows()
    assert quality.value == sum(float(row["reference"]) == 2 for row in rows) / 4  # every answer is " 0 1 2"


def reply(sent_s, done_s):
    return Reply(0, "", 1, 4, None, 4, sent_s, sent_s + 0.1, done_s)


def test_balance_is_slot_time_over_credited_latency():
    # two slots, answers of 1 s each, staggered by half a second: four answers in two seconds
    steady = Stretch(tuple(reply(t - 1, t) for t in (0.5, 1.0, 1.5, 2.0)), 2.0, 2)
    assert steady.balance == pytest.approx(1.0)
    # in lockstep, from just after the first of a pair to a pair's end: one answer too many is credited
    lopsided = Stretch(tuple(reply(t - 1, t) for t in (0.0, 1.0, 1.0, 2.0, 2.0)), 2.0, 2)
    assert lopsided.balance == pytest.approx(4 / 5)
    assert steady.figures()["output_tokens_per_s"] == pytest.approx(16 / 2)


def test_a_served_task_can_be_asked_by_itself(measure):
    _, server = measure()
    values = {"task": "text_generation", "model": "tiny", "model_source": "endpoint", "endpoint": server.endpoint}
    task = load_task(Parameters.check({**values, "new_tokens": 5, "samples": 2}))
    task.load("cpu")
    rows, _ = task.load_rows()
    assert task.answers(None, task.run("generate", task.prepare(rows))) == [" 0 1 2 3 4"] * 2
    task.close()
