"""What makes two records comparable: settings and machine, not what follows from the model itself."""

from __future__ import annotations

import builders
import pytest

from energylab.cohort import cohort, cohort_key


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
