"""Planted secrets: never in a bundle; honest runs are not refused for words that happen to be the same."""

from __future__ import annotations

import base64
import json

import closed_builders as builders
import pytest

from energylab.errors import BundleError
from energylab.parameters import Parameters
from energylab_portal.sealed import bundle, keys
from energylab_portal.sealed import run as sealed

NAME = "Tanager-Secret-8B"


def _run(folder, service=builders.SimulatedService, **config):
    """Leave a sealed run of a model whose name is a secret; return the bundle's file."""
    asked, parts = builders.simulated(folder, service, name=NAME, config=config, runs=1)
    return sealed.run(asked, **parts)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Files of a sealed run of a model whose name, path, configuration and outputs are secrets."""
    made = _run(tmp_path_factory.mktemp("owner"), _name_or_path="tanager-labs/pre-release", codename="night heron")
    return made.parent


def test_planted_secrets_are_not_in_the_bundle(left):
    text = bundle.read((left / "bundle.json").read_bytes()).payload.decode()
    text += "".join((left / name).read_text() for name in ("bundle.json", "official.json", "owner.pub"))
    path = left.parent / NAME
    planted = [NAME, "tanager", str(path), "SecretForCausalLM", "secretlm", "51237", "night heron", "pre-release",
               "secret answer"]  # fmt: skip
    planted += [base64.b64encode(word.encode()).decode()[:-3] for word in (NAME, "SecretForCausalLM")]
    planted += json.loads((left / "opening.json").read_text())["weights"]["value"].values()
    planted += [Parameters.check({**builders.PARAMETERS, "runs": 1, "model": str(path)}).job_id]  # by a guessed name
    assert path.is_dir()
    assert [word for word in planted if word.lower() in text.lower()] == []


def test_private_files_are_the_owners_alone(left):
    for name in ("opening.json", "private"):
        assert (left / name).stat().st_mode & 0o077 == 0
    assert NAME in (left / "private/record.json").read_text()


def test_owner_opens_one_commitment_and_no_other(left):
    opening, commitments = (
        json.loads((left / "opening.json").read_text()),
        builders.read(left / "bundle.json").commitments,
    )
    assert all(keys.check_opening(commitments, opening).values())
    assert opening["model"]["value"]["name"] == NAME
    assert len(opening["outputs"]["value"]) == 16
    assert keys.commitment("model", {"salt": "", "value": NAME}) not in commitments.values()
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


def test_an_answer_that_equals_a_word_of_the_record_costs_no_run(tmp_path):
    """The answer 10 is also a number of runs, and a clock is also a name of a figure: nothing of it is a leak."""
    assert _run(tmp_path, ShortAnswers, vocab_size=16, hidden_act="generate").is_file()


class Talkative(builders.SimulatedService):
    """Puts the model's name into every text it may send."""

    def do_load(self, parameters, device):
        loaded = super().do_load(parameters, device)
        loaded["model"] |= {"architecture": NAME, "attention": NAME, "settings": {NAME: NAME}}
        return {**loaded, "python": NAME, "packages": {NAME: "1"}}

    def do_score(self):
        return {"quality": [{"metric": NAME, "value": 1.0, "queries": 16, "details": {NAME: NAME}}], "extra": {NAME: 1}}


def test_a_container_that_tells_the_name_leaves_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="the model's name") as caught:
        _run(tmp_path, Talkative)
    assert NAME.lower() not in str(caught.value).lower()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["private"]


FOUND = {
    "plain": (f"made by {NAME} today", NAME),
    "other case": (NAME.upper(), NAME),
    "other separators": (NAME.replace("-", " _ "), NAME),
    "base64": (base64.b64encode(f"x{NAME}yz".encode()).decode(), NAME),
    "base64, shifted": (base64.b64encode(f"xy{NAME}z".encode()).decode(), NAME),
    "hex": (NAME.encode().hex(), NAME),
    "URL": (f"https://example.org/{NAME}", NAME),
    "short, as a word": ("the gpt model", "gpt"),
}


@pytest.mark.parametrize("how", FOUND)
def test_a_name_is_found_however_it_is_written(how):
    assert sealed.holds([FOUND[how][0]], FOUND[how][1])


@pytest.mark.parametrize(("text", "name"), [("nothing", NAME), ("egpto", "gpt"), ("anything", " ")])
def test_a_name_that_is_not_there_is_not_found(text, name):
    assert not sealed.holds([text], name)
