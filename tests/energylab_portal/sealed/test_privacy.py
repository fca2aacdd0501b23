"""Planted secrets: never in a bundle, and a bundle that would hold one is not written."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import closed_builders as builders
import pytest

from energylab.errors import BundleError
from energylab.parameters import Parameters
from energylab.record import canonical_json
from energylab_portal.sealed import commitments, envelope, leaks, openings, privacy, statement
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.leaks import Secret

NAME = "Tanager-Secret-8B"


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Leave one sealed run of a model whose name, path, configuration and outputs are secrets."""
    folder = tmp_path_factory.mktemp("owner")
    model = builders.write_model(folder / NAME, _name_or_path="tanager-labs/pre-release", codename="night heron")
    _, board, instruments = builders.simulated_h100()
    request = builders.make_request(folder / "out", builders.owner(), model, runs=1)
    stand_in = builders.StandIn(builders.SimulatedService(board))
    return sealed.run(request, container=stand_in, instruments=instruments, watch=builders.stepped), model


def _payload(left) -> bytes:
    return envelope.read(left[0].bundle.read_bytes()).payload


def test_planted_secrets_are_not_in_the_bundle(left) -> None:
    text = _payload(left).decode().lower() + left[0].bundle.read_text().lower()
    planted = [NAME, "tanager", str(left[1]), "SecretForCausalLM", "secretlm", "51237", "night heron", "pre-release",
               "secret answer"]  # fmt: skip
    planted += [base64.b64encode(word.encode()).decode()[:-3] for word in (NAME, "SecretForCausalLM")]
    private = json.loads(left[0].opening.read_text())
    planted += list(private["weights"]["value"].values())
    assert [word for word in planted if word.lower() in text] == []


def test_private_files_are_the_owners_alone(left) -> None:
    assert left[0].opening.stat().st_mode & 0o077 == 0
    assert left[0].record.parent.stat().st_mode & 0o077 == 0
    assert NAME in left[0].record.read_text()


def test_public_record_holds_no_hash_that_a_guessed_name_would_give(left) -> None:
    """The job's id is a hash of few likely values: a name could be tried against it."""
    run, _ = statement.read(_payload(left))
    guess = Parameters.check({**builders.PARAMETERS, "runs": 1, "model": str(left[1])})
    assert run.record.job_id != guess.job_id
    assert guess.job_id not in _payload(left).decode()
    salted = {commitments.digest("model_name", {"salt": "", "value": NAME})}
    assert not salted & set(run.commitments.values())


def test_owner_opens_one_commitment_and_no_other(left, tmp_path) -> None:
    opening = json.loads(left[0].opening.read_text())
    shown = tmp_path / "name.json"
    shown.write_text(json.dumps({"model_name": opening["model_name"]}), encoding="utf-8")
    keys = builders.enrolled()
    assert openings.check(left[0].bundle, shown, keys) == {"model_name": True}
    other = {**opening["model_name"], "value": "Another-Model"}
    shown.write_text(json.dumps({"model_name": other}), encoding="utf-8")
    assert openings.check(left[0].bundle, shown, keys) == {"model_name": False}
    assert all(openings.check(left[0].bundle, left[0].opening, keys).values())
    with pytest.raises(BundleError, match="public key"):
        openings.check(left[0].bundle, shown, {})


def test_two_commitments_to_one_value_differ() -> None:
    first, _ = commitments.commit({"name": "x"})
    second, _ = commitments.commit({"name": "x"})
    assert first != second


@pytest.mark.parametrize(
    "alias", [NAME, "tanager secret 8b", "TANAGER_SECRET_8B", "best of Tanager-Secret-8B", "secretlm 51237"]
)
def test_alias_that_gives_the_name_away_leaves_no_bundle(alias, tmp_path) -> None:
    model = builders.write_model(tmp_path / NAME)
    _, board, instruments = builders.simulated_h100()
    request = builders.make_request(tmp_path / "out", builders.owner(), model, runs=1)
    request = replace(request, alias=alias)
    if alias == NAME:  # the owner's own choice: the name is public then, and nothing else is
        left = sealed.run(
            request, container=builders.StandIn(builders.SimulatedService(board)), instruments=instruments,
            watch=builders.stepped,
        )  # fmt: skip
        assert left.bundle.exists()
        return
    with pytest.raises(BundleError, match="no bundle was written") as caught:
        sealed.run(
            request, container=builders.StandIn(builders.SimulatedService(board)), instruments=instruments,
            watch=builders.stepped,
        )  # fmt: skip
    assert NAME.lower() not in str(caught.value).lower()
    assert not (tmp_path / "out/bundle.json").exists()
    assert not (tmp_path / "out/opening.json").exists()


PLANTS = {
    "plain": lambda secret: f"made by {secret} today",
    "other case": lambda secret: secret.upper(),
    "other separators": lambda secret: secret.replace("-", " _ "),
    "base64": lambda secret: base64.b64encode(f"x{secret}yz".encode()).decode(),
    "base64, shifted": lambda secret: base64.b64encode(f"xy{secret}z".encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
    "URL": lambda secret: f"https://example.org/{secret}",
}


@pytest.mark.parametrize("how", PLANTS)
def test_leak_check_finds_a_name_however_it_is_written(how) -> None:
    payload = canonical_json({"predicate": {"record": {"notes": [PLANTS[how](NAME)]}}})
    assert leaks.find(payload, [Secret("the model's name", NAME)]) == ["the model's name"]
    assert leaks.find(canonical_json({"predicate": {"record": {"notes": ["nothing"]}}}), [Secret("x", NAME)]) == []


def test_leak_check_finds_outputs_whole_and_sizes_by_value() -> None:
    payload = canonical_json({"predicate": {"note": "positive", "vocabulary": 51237, "record": {"windows": [99999]}}})
    assert leaks.find(payload, [Secret("an output of a query", "positive", whole=True)]) == ["an output of a query"]
    assert leaks.find(payload, [Secret("a value of config.json", "51237")]) == ["a value of config.json"]
    assert leaks.find(payload, [Secret("a value of config.json", "99999")]) == []  # a joule may equal it
    assert leaks.find(payload, [Secret("an output of a query", "posit", whole=True)]) == []


def test_messages_of_failed_queries_are_withheld(honest) -> None:
    from energylab.record import QueryFailure

    window = honest.record.windows[0].model_copy(
        update={"failures": (QueryFailure(query=1, error="ValueError", message="the text of the query"),),
                "valid": False, "reasons": ("query_failed",)}
    )  # fmt: skip
    record = honest.record.model_copy(update={"windows": (window, *honest.record.windows[1:])})
    public, private = privacy.split(record, "Closed model A")
    assert "the text of the query" not in public.model_dump_json()
    assert "the text of the query" in json.dumps(private)


@pytest.mark.parametrize("alias", ["", "ab", "x" * 61, "a/b/c", "<script>", "name\nname", "\u202eabc"])
def test_alias_must_be_plain(alias) -> None:
    with pytest.raises(BundleError, match="public name"):
        privacy.check_alias(alias)
