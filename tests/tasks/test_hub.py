"""Models and data from a hub, end to end, against a stand-in on the loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stand_in_hub import StandInHub

from energylab.tasks.architectures import find_architecture
from energylab.tasks.tokenizers import local_tokenizer

ROOT = Path(__file__).parents[2]

REMOTE_CODE = """
from transformers import GPT2Config, GPT2LMHeadModel
class OwnConfig(GPT2Config):
    model_type = "own"
class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
"""


def gpt2(folder, seed, auto="AutoModelForCausalLM", architecture="tiny-gpt2", kind="gpt"):
    """Return the files of a small model with weights of its own."""
    import transformers

    torch.manual_seed(seed)
    config = find_architecture(architecture).build_config()
    getattr(transformers, auto).from_config(config).save_pretrained(folder)
    local_tokenizer(config, kind).save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def hub():
    stand_in = StandInHub()
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return [gpt2(tmp_path_factory.mktemp(f"model{seed}"), seed) for seed in range(2)]


@pytest.fixture(scope="module")
def ask(hub, tmp_path_factory):
    """Return a function that loads in another process, whose hub is the stand-in."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("hub_child.py"))],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def tell(what="model", task="text_generation", dtype="float32", **parameters):
        order = {"what": what, "parameters": {"task": task, "dtype": dtype, **parameters}}
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError(f"the child ended with {child.wait()}")

    yield tell
    child.stdin.close()
    child.wait()


def of_hub(model, **more):
    return {"model": model, "model_source": "hub", **more}


def test_the_commit_behind_a_branch_is_recorded_and_stays_when_the_branch_moves(hub, ask, files):
    repository = hub.add("model", "someone/moved")
    old = repository.commit(files[0])
    first = ask(**of_hub("someone/moved", revision="main"))
    assert (first["facts"]["revision"], first["facts"]["commit"]) == ("main", old)
    assert len(first["new_ids"][0]) == 10
    new = repository.commit(files[1])
    again = ask(**of_hub("someone/moved", revision=old))
    assert again["facts"]["commit"] == old
    assert again["weights"] == first["weights"]
    moved = ask(**of_hub("someone/moved"))
    assert moved["facts"]["commit"] == new
    assert moved["weights"] != first["weights"]


def test_a_branch_that_moves_while_it_is_loaded_does_not_mix_two_states(hub, ask, files):
    repository = hub.add("model", "someone/moving")
    old = repository.commit(files[0])
    hub.afterwards["config.json"] = lambda: repository.commit(files[1])
    loaded = ask(**of_hub("someone/moving"))
    assert repository.branches["main"] != old
    assert loaded["facts"]["commit"] == old
    untouched = hub.add("model", "someone/untouched")
    untouched.commit(files[0])
    assert ask(**of_hub("someone/untouched"))["weights"] == loaded["weights"]


def test_gated_missing_and_unknown_revisions_are_explained(hub, ask, files):
    hub.add("model", "someone/gated", gated=True).commit(files[0])
    assert "hf auth login" in ask(**of_hub("someone/gated"))["message"]
    assert "not on the hub" in ask(**of_hub("someone/nothing"))["message"]
    hub.add("model", "someone/here").commit(files[0])
    assert "no revision 'v2'" in ask(**of_hub("someone/here", revision="v2"))["message"]
    assert "not a hub id" in ask(**of_hub("a/b/c"))["message"]


def test_a_download_that_breaks_off_is_an_error_and_goes_on_next_time(hub, ask, files):
    hub.add("model", "someone/broken").commit({**files[0], "other.json": b"{}"})
    hub.breaks["model.safetensors"] = len(files[0]["model.safetensors"]) // 2
    failed = ask(**of_hub("someone/broken"))
    assert failed["error"] == "ModelError"
    assert "run again" in failed["message"]
    hub.breaks.clear()
    hub.requests.clear()
    assert ask(**of_hub("someone/broken"))["facts"]["parameters"] == 122240
    fetched = [path.rpartition("/")[2] for command, path, _ in hub.requests if command == "GET"]
    assert "model.safetensors" in fetched
    assert "tokenizer.json" not in fetched  # it had arrived


def test_code_of_a_model_runs_only_when_trusted(hub, ask, files):
    config = json.loads(files[0]["config.json"]) | {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    own = {**files[0], "config.json": json.dumps(config).encode(), "own.py": REMOTE_CODE.encode()}
    hub.add("model", "someone/own").commit(own)
    assert "trust_remote_code=True" in ask(**of_hub("someone/own"))["message"]
    trusted = ask(**of_hub("someone/own", trust_remote_code=True))
    assert trusted["facts"]["trust_remote_code"]
    assert trusted["facts"]["architecture"] == "OwnModel"


def test_a_model_of_another_task_is_refused(hub, ask, tmp_path_factory):
    plain = gpt2(tmp_path_factory.mktemp("bert"), 0, "AutoModel", "tiny-bert", "wordpiece")
    hub.add("model", "someone/encoder").commit(plain)
    refused = ask(task="text_classification", **of_hub("someone/encoder"))
    assert "classifier" in refused["message"]
    assert "another task" in refused["message"]
    picture = {"config.json": json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}).encode()}
    hub.add("model", "someone/picture").commit(picture)
    assert "cannot be loaded" in ask(**of_hub("someone/picture"))["message"]


def test_the_published_data_is_read_by_revision_and_its_commit_recorded(hub, ask):
    repository = hub.add("dataset", "EnergyStarAI/text_generation")
    old = repository.commit({"train.jsonl": lines({"text": f"old text {n}", "other": n} for n in range(20))})
    first = ask("rows", data_source="hub", samples=5)
    assert first["rows"] == [{"text": f"old text {n}"} for n in range(5)]
    assert first["facts"]["commit"] == old
    new = repository.commit({"train.jsonl": lines({"text": f"new text {n}"} for n in range(20))})
    second = ask("rows", data_source="hub", samples=5)
    assert second["facts"]["commit"] == new
    assert second["facts"]["digest"] != first["facts"]["digest"]


def test_rows_with_an_empty_text_are_dropped_before_they_are_counted(hub, ask):
    texts = ["a", "", "b", "", " ", "d"]  # a blank one counts, as in the published runner
    hub.add("dataset", "EnergyStarAI/text_generation").commit({"train.jsonl": lines({"text": t} for t in texts)})
    assert ask("rows", data_source="hub", samples=3)["rows"] == [{"text": "a"}, {"text": "b"}, {"text": " "}]


def test_gated_and_missing_data_sets_are_explained(hub, ask):
    hub.add("dataset", "EnergyStarAI/summarization", gated=True).commit({"train.jsonl": lines([{"text": "x"}])})
    gated = ask("rows", task="summarization", data_source="hub", samples=1)
    assert gated["error"] == "DataError"
    assert "hf auth login" in gated["message"]
    missing = ask("rows", task="text_classification", data_source="hub", samples=1)
    assert "not on the hub" in missing["message"]


def test_without_a_network_the_cached_commit_is_used(hub, ask, files):
    commit = hub.add("model", "someone/cached").commit(files[0])
    online = ask(**of_hub("someone/cached"))
    hub.close()
    assert "could not be fetched" in ask(**of_hub("someone/never-seen"))["message"]
    offline = ask(**of_hub("someone/cached"))
    assert "facts" in offline, offline
    assert offline["facts"]["commit"] == commit
    assert offline["weights"] == online["weights"]
