"""Models and data from a hub, end to end, against a stand-in on the loopback."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stand_in_hub import StandInHub
from task_builders import PARAMS, json_lines, loaded, saved, stored

ROOT = PARAMS.parent

REMOTE_CODE = """
from transformers import GPT2Config, GPT2LMHeadModel
class OwnConfig(GPT2Config):
    model_type = "own"
class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
"""


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def hub():
    stand_in = StandInHub()
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of two small models of one shape."""
    return [files_of(stored(tmp_path_factory.mktemp("model"), "tiny-gpt2", seed=seed)) for seed in range(2)]


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

    def tell(what, model=None, task="text_generation", **parameters):
        source = {"data_source": "hub"} if what == "rows" else {"model": f"someone/{model}", "model_source": "hub"}
        order = {"what": what, "parameters": {"task": task, "dtype": "float32", **source, **parameters}}
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError(f"the child ended with {child.wait()}")

    yield tell
    child.stdin.close()
    child.wait()


def test_the_commit_behind_a_branch_is_recorded_and_stays_when_the_branch_moves(hub, ask, files):
    repository = hub.add("model", "someone/moved")
    old = repository.commit(files[0])
    first = ask("model", "moved", revision="main")
    assert (first["facts"]["revision"], first["facts"]["commit"]) == ("main", old)
    assert len(first["new_ids"][0]) == 10
    new = repository.commit(files[1])
    again = ask("model", "moved", revision=old)
    assert (again["facts"]["commit"], again["weights"]) == (old, first["weights"])
    moved = ask("model", "moved")
    assert moved["facts"]["commit"] == new
    assert moved["weights"] != first["weights"]


def test_a_branch_that_moves_while_it_is_loaded_does_not_mix_two_states(hub, ask, files):
    repository = hub.add("model", "someone/moving")
    old = repository.commit(files[0])
    hub.afterwards["config.json"] = lambda: repository.commit(files[1])
    found = ask("model", "moving")
    assert repository.branches["main"] != old
    assert found["facts"]["commit"] == old
    hub.add("model", "someone/untouched").commit(files[0])
    assert ask("model", "untouched")["weights"] == found["weights"]


def test_gated_missing_and_unknown_revisions_are_explained(hub, ask, files):
    hub.add("model", "someone/gated", gated=True).commit(files[0])
    hub.add("model", "someone/here").commit(files[0])
    assert "hf auth login" in ask("model", "gated")["message"]
    assert "not on the hub" in ask("model", "nothing")["message"]
    assert "no revision 'v2'" in ask("model", "here", revision="v2")["message"]
    assert "not a hub id" in ask("model", "b/c")["message"]
    hub.add("dataset", "EnergyStarAI/summarization", gated=True).commit({"train.jsonl": json_lines({"text": "x"})})
    gated = ask("rows", task="summarization", samples=1)
    assert gated["error"] == "DataError"
    assert "hf auth login" in gated["message"]
    assert "not on the hub" in ask("rows", task="text_classification", samples=1)["message"]


def test_a_download_that_breaks_off_is_an_error_and_goes_on_next_time(hub, ask, files):
    hub.add("model", "someone/broken").commit({**files[0], "other.json": b"{}"})
    hub.breaks["model.safetensors"] = len(files[0]["model.safetensors"]) // 2
    failed = ask("model", "broken")
    assert failed["error"] == "ModelError"
    assert "run again" in failed["message"]
    hub.breaks.clear()
    hub.requests.clear()
    assert ask("model", "broken")["facts"]["parameters"] == 122240
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
    assert "trust_remote_code=True" in ask("model", "own")["message"]
    trusted = ask("model", "own", trust_remote_code=True)
    assert trusted["facts"]["trust_remote_code"]
    assert trusted["facts"]["architecture"] == "OwnModel"


def test_a_model_of_another_task_is_refused(hub, ask, tmp_path):
    hub.add("model", "someone/encoder").commit(files_of(stored(tmp_path, "tiny-bert", "AutoModel")))
    refused = ask("model", "encoder", task="text_classification")
    assert "classifier" in refused["message"]
    assert "another task" in refused["message"]
    picture = {"config.json": json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}).encode()}
    hub.add("model", "someone/picture").commit(picture)
    assert "cannot be loaded" in ask("model", "picture")["message"]


def test_the_published_data_is_read_by_revision_and_its_commit_recorded(hub, ask):
    repository = hub.add("dataset", "EnergyStarAI/text_generation")
    digests = set()
    for age in ("old", "new"):
        rows = [{"text": f"{age} text {n}", "other": n} for n in range(20)]
        commit = repository.commit({"train.jsonl": json_lines(*rows)})
        found = ask("rows", samples=5)
        assert found["rows"] == [{"text": row["text"]} for row in rows[:5]]
        assert found["facts"]["commit"] == commit
        digests.add(found["facts"]["digest"])
    assert len(digests) == 2


# ---- pictures, sound and pipelines


def parquet(column, kind, media, **others):
    """Return a data set's file the way the hub stores pictures and sound: encoded, in a parquet file that says so."""
    files = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {column: pa.array([{"bytes": file, "path": None} for file in media], files)}
    columns |= {name: pa.array(values) for name, values in others.items()}
    features = {name: {"dtype": str(one.type), "_type": "Value"} for name, one in columns.items()}
    about = {"huggingface": json.dumps({"info": {"features": features | {column: {"_type": kind}}}})}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(about), file)
    return {"data/train-00000-of-00001.parquet": file.getvalue()}


def sample(name, column, count):
    """Return the first rows of our sample data, the files in place of their names."""
    folder = PARAMS / "samples" / name
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()[:count]]
    return [{**row, column: (folder / row[column]).read_bytes()} for row in rows]


def test_a_classifier_and_published_pictures(hub, ask, tmp_path):
    task, _ = loaded("image_classification", "tiny-vit", samples=1)
    task.processor = None
    hub.add("model", "someone/tiny-vit").commit(files_of(saved(task, tmp_path)))
    pictures = [row["image"] for row in sample("image_classification", "image", 3)]
    data = hub.add("dataset", "EnergyStarAI/image_classification")
    commit = data.commit(parquet("image", "Image", pictures, label=[3, 1, 2]))
    found = ask("answers", "tiny-vit", task="image_classification", data_source="hub", samples=3)
    assert found["facts"]["real_weights"]
    assert (found["data"]["commit"], found["rows"]) == (commit, 3)
    assert all(answer.startswith("LABEL_") for answer in found["answers"])
    assert "no reference column label" in found["quality"][0]["meaningless"]  # three sets of labels in one
    data.commit(parquet("image", "Image", [*pictures[:2], pictures[2][:500]], label=[3, 1, 2]))
    refused = ask("rows", task="image_classification", samples=3)
    assert refused["error"] == "DataError"
    assert "row 2" in refused["message"]


def test_a_recogniser_and_published_speech(hub, ask, tmp_path):
    task, _ = loaded("speech_recognition", "tiny-hubert", samples=1)
    hub.add("model", "someone/tiny-hubert").commit(files_of(saved(task, tmp_path)))
    rows = sample("speech_recognition", "audio", 2)
    clips, texts = [row["audio"] for row in rows], [row["text"] for row in rows]
    hub.add("dataset", "EnergyStarAI/ASR").commit(parquet("audio", "Audio", clips, text=texts))
    found = ask("answers", "tiny-hubert", task="speech_recognition", data_source="hub", samples=2)
    assert found["facts"]["architecture"] == "HubertForCTC"
    assert found["quality"][0]["metric"] == "wer"
    assert found["quality"][0]["value"] > 0.5  # random weights, stored as if they were real


def test_a_pipeline_is_loaded_by_commit_with_the_files_it_needs(hub, ask, tmp_path):
    quick = {"task": "image_generation", "samples": 1, "diffusion_steps": 2}
    loaded(model="tiny-stable-diffusion", **quick)[0].model.save_pretrained(tmp_path)
    unneeded = {"original.ckpt": b"weights of another program", "unet/flax_model.msgpack": b"x"}
    commit = hub.add("model", "someone/draws").commit({**files_of(tmp_path), **unneeded})
    hub.requests.clear()
    found = ask("answers", "draws", **quick)
    assert found["facts"]["commit"] == commit
    assert found["facts"]["architecture"] == "StableDiffusionPipeline"
    assert len(found["answers"]) == 1
    fetched = {path.partition(f"{commit}/")[2] for command, path, _ in hub.requests if command == "GET"}
    assert "unet/diffusion_pytorch_model.safetensors" in fetched
    assert not fetched & {*unneeded}


def test_without_a_network_the_cached_commit_is_used(hub, ask, files):
    commit = hub.add("model", "someone/cached").commit(files[0])
    online = ask("model", "cached")
    hub.close()
    assert "could not be fetched" in ask("model", "never-seen")["message"]
    offline = ask("model", "cached")
    assert "facts" in offline, offline
    assert (offline["facts"]["commit"], offline["weights"]) == (commit, online["weights"])
