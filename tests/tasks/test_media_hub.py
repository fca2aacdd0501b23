"""Pictures, sound and pipelines from a hub, end to end, against the stand-in on the loopback."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_hub import ask, hub  # noqa: F401 - fixtures

from energylab.parameters import Parameters
from energylab.tasks import load_task

SAMPLES = Path(__file__).parents[2] / "params" / "samples"
FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def stored(task_name, model, folder):
    task = load_task(Parameters(task=task_name, model=model))
    task.load("cpu")
    task.model.save_pretrained(folder)
    for part in (getattr(task, "image_processor", None), getattr(task, "extractor", None), task.processor):
        if part is not None and task_name != "image_generation":
            part.save_pretrained(folder)
    return files_of(folder)


def parquet(media, kind, others):
    """Return a data set's file the way the hub stores pictures and sound: encoded, in a parquet file that says so."""
    (name, files), features = next(iter(media.items())), {next(iter(media)): {"_type": kind}}
    columns = {name: pa.array([{"bytes": file, "path": None} for file in files], FILE)}
    for column, values in others.items():
        columns[column] = pa.array(values)
        features[column] = {"dtype": str(columns[column].type), "_type": "Value"}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(about), file)
    return {"data/train-00000-of-00001.parquet": file.getvalue()}


def sample(name, column, count):
    lines = (SAMPLES / name / "rows.jsonl").read_text().splitlines()[:count]
    return [(SAMPLES / name / json.loads(line)[column]).read_bytes() for line in lines], [
        json.loads(line) for line in lines
    ]


def test_a_classifier_and_published_pictures(hub, ask, tmp_path):  # noqa: F811
    hub.add("model", "someone/tiny-vit").commit(stored("image_classification", "tiny-vit", tmp_path))
    pictures, _ = sample("image_classification", "image", 3)
    data = hub.add("dataset", "EnergyStarAI/image_classification")
    commit = data.commit(parquet({"image": pictures}, "Image", {"label": [3, 1, 2]}))
    said = ask(
        "answers",
        task="image_classification",
        model="someone/tiny-vit",
        model_source="hub",
        data_source="hub",
        samples=3,
    )
    assert said["facts"]["real_weights"]
    assert (said["data"]["commit"], said["rows"]) == (commit, 3)
    assert all(answer.startswith("LABEL_") for answer in said["answers"])
    assert "no reference column label" in said["quality"][0]["meaningless"]  # three sets of labels in one
    broken = parquet({"image": [*pictures[:2], pictures[2][:500]]}, "Image", {"label": [3, 1, 2]})
    data.commit(broken)
    refused = ask("rows", task="image_classification", data_source="hub", samples=3)
    assert refused["error"] == "DataError"
    assert "row 2" in refused["message"]


def test_a_recogniser_and_published_speech(hub, ask, tmp_path):  # noqa: F811
    hub.add("model", "someone/tiny-hubert").commit(stored("speech_recognition", "tiny-hubert", tmp_path))
    clips, rows = sample("speech_recognition", "audio", 2)
    text = {"text": [row["text"] for row in rows]}
    hub.add("dataset", "EnergyStarAI/ASR").commit(parquet({"audio": clips}, "Audio", text))
    said = ask(
        "answers",
        task="speech_recognition",
        model="someone/tiny-hubert",
        model_source="hub",
        data_source="hub",
        samples=2,
    )
    assert said["facts"]["architecture"] == "HubertForCTC"
    assert said["quality"][0]["metric"] == "wer"
    assert said["quality"][0]["value"] > 0.5  # random weights, stored as if they were real


@pytest.fixture(scope="module")
def pipeline_files(tmp_path_factory):
    return stored("image_generation", "tiny-stable-diffusion", tmp_path_factory.mktemp("pipeline"))


def draw(ask, model):  # noqa: F811
    return ask("answers", task="image_generation", model=model, model_source="hub", samples=1, diffusion_steps=2)


def test_a_pipeline_is_loaded_by_commit_with_the_files_it_needs(hub, ask, pipeline_files):  # noqa: F811
    whole = {**pipeline_files, "original.ckpt": b"weights of another program", "unet/flax_model.msgpack": b"x"}
    commit = hub.add("model", "someone/draws").commit(whole)
    hub.requests.clear()
    said = draw(ask, "someone/draws")
    assert said["facts"]["commit"] == commit
    assert said["facts"]["architecture"] == "StableDiffusionPipeline"
    assert len(said["answers"]) == 1
    fetched = {path.partition(f"{commit}/")[2] for command, path, _ in hub.requests if command == "GET"}
    assert "unet/diffusion_pytorch_model.safetensors" in fetched
    assert not fetched & {"original.ckpt", "unet/flax_model.msgpack"}
