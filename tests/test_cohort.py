"""What two records must share to be compared, and how a difference is said."""

from __future__ import annotations

import pytest
from release_builders import record_of

from energylab.table import cohort_key, difference, key_facts


def key(attention=None, settings=None, **facts):
    """The cohort of a record whose task's settings were overridden, and whose model took an attention."""
    made, settings = record_of(**facts), settings or {}
    all_settings = {**made.task.settings, "attention": None, **settings}
    overridden = {"settings": all_settings, "overridden": tuple(sorted(settings))}
    task, model = made.task.model_copy(update=overridden), made.model.model_copy(update={"attention": attention})
    return cohort_key(made.model_copy(update={"task": task, "model": model}))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"board": "GPU-0"}, {"board": "GPU-1"}, True),
        ({}, {"device": "NVIDIA H200"}, False),
        ({"attention": "sdpa"}, {"attention": "eager"}, True),
        ({"attention": "eager"}, {"attention": "eager", "settings": {"attention": "eager"}}, False),
        ({"settings": {"thinking": "1"}}, {"settings": {"thinking": "2"}}, False),
        ({"settings": {"new_tokens": "1"}}, {"settings": {"new_tokens": "2"}}, False),
    ],
    ids=["boards", "devices", "attention the library chose", "attention asked for", "thinking", "new tokens"],
)
def test_what_tells_cohorts_apart(one, other, alike):
    assert (key(**one) == key(**other)) is alike


def test_a_key_tells_its_facts():
    facts = key_facts(key(device="NVIDIA H200", attention="sdpa"))
    assert (facts["device"], facts["attention"]) == ("1 x NVIDIA H200", "default")


def test_a_difference_names_each_setting_once_and_is_never_empty_where_there_is_another_cohort():
    plain, batched, fewer = (key(settings=some) for some in ({}, {"batch_size": 8, "samples": 16}, {"samples": 16}))
    for mine, others, words in [
        (batched, [plain, batched], "batch=8; samples=16"),
        (batched, [fewer], "batch=8"),
        (plain, [batched], "batch=1"),
        (plain, [plain], ""),
        ("mine", ["mine", "theirs"], "mine"),
        ("", ["theirs"], "no cohort stated"),
    ]:
        assert difference(mine, others) == words
