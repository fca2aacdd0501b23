"""Planted secrets: never in a bundle; honest runs are not refused for words that happen to be the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import closed_builders as builders
import pytest

from energylab.errors import BundleError
from energylab.parameters import Parameters
from energylab_portal.sealed import bundle, keys
from energylab_portal.sealed import run as sealed

NAME = "Tanager-Secret-8B"


def _run(folder: Path, service=builders.SimulatedService, **config):
    asked, parts = builders.simulated(folder, service, name=NAME, config=config, runs=1)
    return sealed.run(asked, **parts), asked.plan.model


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Leave one sealed run of a model whose name, path, configuration and outputs are secrets."""
    folder = tmp_path_factory.mktemp("owner")
    return _run(folder, _name_or_path="tanager-labs/pre-release", codename="night heron")


def _payload(left) -> bytes:
    return bundle.read(left[0].read_bytes()).payload


def test_planted_secrets_are_not_in_the_bundle(left) -> None:
    text = _payload(left).decode().lower() + left[0].read_text().lower()
    text += "".join((left[0].parent / name).read_text().lower() for name in ("official.json", "owner.pub"))
    planted = [NAME, "tanager", str(left[1]), "SecretForCausalLM", "secretlm", "51237", "night heron", "pre-release",
               "secret answer"]  # fmt: skip
    planted += [base64.b64encode(word.encode()).decode()[:-3] for word in (NAME, "SecretForCausalLM")]
    private = json.loads((left[0].parent / "opening.json").read_text())
    planted += list(private["weights"]["value"].values())
    assert [word for word in planted if word.lower() in text] == []


def test_private_files_are_the_owners_alone(left) -> None:
    folder = left[0].parent
    assert (folder / "opening.json").stat().st_mode & 0o077 == 0
    assert (folder / "private").stat().st_mode & 0o077 == 0
    assert NAME in (folder / "private/record.json").read_text()


def test_nothing_public_is_a_hash_that_a_guessed_name_would_give(left) -> None:
    run = builders.read(left[0])
    guess = Parameters.check({**builders.PARAMETERS, "runs": 1, "model": str(left[1])})
    assert guess.job_id not in _payload(left).decode()
    assert keys.commitment("model", {"salt": "", "value": NAME}) not in run.commitments.values()


def test_owner_opens_one_commitment_and_no_other(left) -> None:
    opening = json.loads((left[0].parent / "opening.json").read_text())
    commitments = builders.read(left[0]).commitments
    assert all(keys.check_opening(commitments, opening).values())
    assert opening["model"]["value"]["name"] == NAME
    assert len(opening["outputs"]["value"]) == 16
    other = {"outputs": {**opening["outputs"], "value": {}}}
    assert keys.check_opening(commitments, other) == {"outputs": False}
    for bad in ({"absent": {}}, {"outputs": {"value": 1}}, {"outputs": {"salt": "zz", "value": 1}}, []):
        with pytest.raises(BundleError):
            keys.check_opening(commitments, bad)


class ShortAnswers(builders.SimulatedService):
    """Answers whose words are words of the record too: a number of runs, a label of a clock."""

    def do_answers(self, batch, outputs):
        found = super().do_answers(batch, outputs)
        return {"answers": {query: ("10", "clock", "generate")[int(query) % 3] for query in found["answers"]}}


def test_an_answer_that_equals_a_word_of_the_record_costs_no_run(tmp_path) -> None:
    """The answer 10 is also a number of runs, and a clock is also a name of a figure: nothing of it is a leak."""
    made, _ = _run(tmp_path, ShortAnswers, vocab_size=16, hidden_act="generate")
    assert made.is_file()


class Talkative(builders.SimulatedService):
    """Puts the model's name into every text it may send."""

    def do_load(self, parameters, device):
        loaded = super().do_load(parameters, device)
        loaded["model"] |= {"architecture": NAME, "attention": NAME, "settings": {NAME: NAME}}
        return {**loaded, "python": NAME, "packages": {NAME: "1"}}

    def do_score(self):
        return {"quality": [{"metric": NAME, "value": 1.0, "queries": 16, "details": {NAME: NAME}}], "extra": {NAME: 1}}


def test_a_container_that_tells_the_name_leaves_no_bundle(tmp_path) -> None:
    with pytest.raises(BundleError, match="the model's name") as caught:
        _run(tmp_path, Talkative)
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
def test_a_name_is_found_however_it_is_written(how) -> None:
    assert sealed.holds([PLANTS[how](NAME)], NAME)
    assert not sealed.holds(["nothing"], NAME)


def test_short_names_are_found_as_words_alone() -> None:
    assert sealed.holds(["the gpt model"], "gpt")
    assert not sealed.holds(["egpto"], "gpt")
    assert not sealed.holds(["anything"], " ")
