"""Records: totals from windows, decode, what is official, and a digest that stays."""

from __future__ import annotations

import hashlib

import builders
import pytest
from pydantic import ValidationError

from energylab.energy import phase_totals
from energylab.record import Record, canonical_json


@pytest.mark.parametrize(
    ("windows", "energy_j", "queries", "reasons"),
    [
        ([{"energy_j": 6.0, "replications": 3, "queries": (0, 1)}, {"block": 1, "energy_j": 5.0, "queries": (2,)}],
         6.0 / 3 + 5.0, 3, ()),
        ([{"energy_j": None}, {"attempt": 1, "energy_j": 4.0}], 4.0, 16, ()),
        ([{"energy_j": 4.0}, {"block": 1, "energy_j": None}], None, 32, ("no_tick",)),
    ],
    ids=["blocks are added, replications divided out", "a block measured again counts once",
         "a block never measured makes it unavailable, not smaller"],
)  # fmt: skip
def test_the_total_of_a_phase(windows, energy_j, queries, reasons):
    (total,) = phase_totals([builders.window(index=n, **facts) for n, facts in enumerate(windows)])
    assert (total.energy_j, total.queries, total.reasons) == (energy_j, queries, reasons)
    assert total.valid == (not reasons)
    assert (total.windows, total.invalid_windows) == (2, sum(facts["energy_j"] is None for facts in windows))


@pytest.mark.parametrize(
    ("generate_j", "generate_s", "decode_j", "decode_s"),
    [(9.0, 1.0, 6.0, 0.4), (2.0, 1.0, None, None), (9.0, 0.5, 6.0, None)],
)
def test_decode_is_generate_minus_prefill_and_never_negative(generate_j, generate_s, decode_j, decode_s):
    windows = (
        builders.window(index=0, phase="prefill", energy_j=3.0, duration_s=0.6),
        builders.window(index=1, phase="generate", energy_j=generate_j, duration_s=generate_s),
    )
    decode = next(total for total in phase_totals(windows) if total.phase == "decode")
    assert decode.energy_j == decode_j
    assert decode.reasons == (() if decode_j else ("negative_decode",))
    assert decode.duration_s == pytest.approx(decode_s) or decode_j is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: builders.window(valid=True, reasons=("counter_stuck",)), "valid windows have an energy"),
        (lambda: builders.window(valid=False, reasons=()), "invalid without a reason"),
        (lambda: builders.window(energy_j=float("inf")), "finite"),
        (lambda: setattr(builders.record(), "valid", False), "frozen"),
        (lambda: Record.model_validate({**builders.record().model_dump(), "colour": "red"}), "colour"),
    ],
)
def test_a_record_refuses_what_contradicts_itself(change, message):
    with pytest.raises(ValidationError, match=message):
        change()


def published(**changes):
    """A record that meets every condition of an official figure: two runs of 16 queries."""
    made = builders.record(energy_kind="measured")
    facts = {"model": made.model.model_copy(update={"source": "hub"})}
    facts |= {"data": made.data.model_copy(update={"source": "hub"}), **changes}
    return made.model_copy(update=facts)


def test_a_session_that_ended_early_is_not_official():
    assert published().not_official() == ()
    assert "energy is simulated, not measured" in published(energy_kind="simulated").not_official()
    windows = published().windows
    half = builders.window(run=1, index=1, queries=tuple(range(8)))
    for fewer in (windows[:1], (windows[0], half)):
        (why,) = published(windows=fewer).not_official()
        assert "before 2 runs of 16 queries" in why


def test_a_deviation_from_the_published_work_is_not_official_and_a_protocol_is():
    for name in ("steady", "published-2025-02"):
        protocol = published().protocol.model_copy(update={"name": name})
        assert published(protocol=protocol).not_official() == ()
        assert name in repr(published(protocol=protocol))
    task = published().task.model_copy(update={"deviations": ("padded to the largest picture",)})
    assert published(task=task).not_official() == ("deviation from the published work: padded to the largest picture",)


def test_a_record_says_what_it_is_in_one_line():
    text = "<Record sentence_similarity, sentence-transformers/all-MiniLM-L6-v2: {}, 2 x 16 queries, steady; {}>"
    assert repr(builders.record()) == text.format(f"{2.0 / 16 / 3.6:.4g} Wh per 1,000 queries (simulated)", "valid")
    failed = repr(builders.record(energy_j=None))
    assert failed == text.format("no energy (simulated)", "invalid: run 0: forward has no total: no_tick")


def test_files_of_a_task_count_in_the_digest_only_where_there_are_some():
    made = builders.record()
    assert Record.model_validate_json(made.model_dump_json()).digest() == made.digest()
    content = made.model_dump(mode="json")
    assert content["task"].pop("files") == {}
    del content["missing"]
    assert made.digest() == hashlib.sha256(canonical_json(content)).hexdigest()
    foreign = made.model_copy(update={"task": made.task.model_copy(update={"files": {"mine.py": "0" * 64}})})
    assert foreign.digest() != made.digest()
