"""What two records must share to be compared, and how a difference is said."""

from __future__ import annotations

import builders
import pytest
from release_builders import record_of

from energylab.table import cohort, cohort_key, difference, key_facts


def with_settings(record, **settings):
    """The same record, its task's settings overridden."""
    task = record.task.model_copy(
        update={"settings": {**record.task.settings, **settings}, "overridden": tuple(sorted(settings))}
    )
    return record.model_copy(update={"task": task})


def test_the_board_is_no_part_of_the_key_and_the_device_is():
    assert cohort_key(record_of(board="GPU-0")) == cohort_key(record_of(board="GPU-1"))
    assert cohort_key(record_of()) != cohort_key(record_of(device="NVIDIA H200"))
    assert key_facts(cohort_key(record_of(device="NVIDIA H200")))["device"] == "1 x NVIDIA H200"


def test_a_difference_names_each_setting_once():
    plain = cohort_key(record_of())
    batched = cohort_key(with_settings(record_of(), batch_size=8, samples=16))
    fewer = cohort_key(with_settings(record_of(), samples=16))
    assert difference(batched, [plain, batched]) == "batch=8; samples=16"
    assert difference(batched, [fewer]) == "batch=8"
    assert difference(plain, [batched]) == "batch=1"


def test_a_difference_is_never_empty_where_there_is_another_cohort():
    assert difference(cohort_key(record_of()), [cohort_key(record_of())]) == ""
    assert difference("mine", ["mine", "theirs"]) == "mine"
    assert difference("", ["theirs"]) == "no cohort stated"


def asked(attention=None, used="sdpa", overridden=(), **settings):
    made = builders.record()
    task = made.task.model_copy(
        update={"settings": {"batch_size": 1, "attention": attention, **settings}, "overridden": overridden}
    )
    return made.model_copy(update={"task": task, "model": made.model.model_copy(update={"attention": used})})


def test_models_for_which_the_library_chooses_another_attention_are_peers():
    assert cohort_key(asked(used="sdpa")) == cohort_key(asked(used="eager"))
    assert cohort(asked())["attention"] == "default"


def test_an_attention_that_was_asked_for_is_a_cohort_of_its_own():
    assert cohort_key(asked("eager", "eager", ("attention",))) != cohort_key(asked(used="eager"))


@pytest.mark.parametrize("name", ["thinking", "new_tokens"])
def test_a_setting_that_was_changed_is_part_of_the_cohort(name):
    first, second = (cohort_key(asked(overridden=(name,), **{name: value})) for value in ("1", "2"))
    assert first != second
