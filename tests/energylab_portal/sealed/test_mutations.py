"""Bundles changed at random: none is accepted, none breaks the verifier. The full count: benchmarks/bundle_fuzz.py."""

from __future__ import annotations

import random

import closed_builders as builders
import forgeries as forge
import mutations
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylab_portal.sealed.verdict import Verdict


@pytest.mark.parametrize("change", [mutations.mutated_bytes, mutations.mutated_statement])
def test_no_changed_bundle_is_accepted(change, honest, judge) -> None:
    bundle, rng = builders.signed(honest), random.Random(1)
    for number in range(250):
        verdict = judge(change(bundle, rng))
        assert not verdict.accepted, number
        assert verdict.failed or not verdict.key_known


def test_statement_changed_and_signed_again_never_breaks_the_verifier(honest, judge) -> None:
    """Some changes mean nothing (another note of the meter); all get a verdict, and the most are refused."""
    bundle, rng = builders.signed(honest), random.Random(2)
    verdicts = [judge(mutations.mutated_and_signed(bundle, rng, builders.owner())) for _ in range(150)]
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert sum(not verdict.accepted for verdict in verdicts) > 100


@pytest.mark.parametrize("value", [[], {"a": 1}, "x", None, True, 1e17, -1])
def test_no_value_of_a_setting_breaks_the_verifier(honest, judge, value) -> None:
    """Settings may be anything by the schema: each is looked up, compared or counted with somewhere."""
    record = honest.record
    for part in ("task", "protocol"):
        facts = getattr(record, part)
        for name in facts.settings:
            altered = facts.model_copy(update={"settings": {**facts.settings, name: value}})
            verdict = judge(builders.signed(forge.with_record(honest, **{part: altered})))
            assert facts.settings[name] is value or not verdict.accepted, (part, name)
    for name in record.parameters:
        judge(builders.signed(forge.with_record(honest, parameters={**record.parameters, name: value})))


def test_the_fields_two_bundles_differ_in_are_named(honest) -> None:
    bundle = builders.signed(honest)
    quality = tuple(one.model_copy(update={"value": 0.1}) for one in honest.record.quality)
    other = builders.signed(forge.with_record(honest, quality=quality))
    assert mutations.changed_fields(bundle, other) == {"record.quality.[].value"}
    assert mutations.changed_fields(bundle, bundle) == set()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=400))
def test_no_bytes_break_the_verifier(judge, data) -> None:
    assert not judge(data).accepted
