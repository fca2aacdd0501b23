"""What two records must share to be compared, and how a difference is said."""

from __future__ import annotations

from release_builders import record_of

from energylab.cohort import cohort_key, difference, key_facts


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
