"""What is found about a model on a hub before it is queued: in a process apart, without a weight or a line of code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from portal_processes import environment

from energylab.errors import ModelError
from energylab_portal.inspection import check_files, inspect_apart

REFUSALS = {
    ("missing", None): "not on the hub",
    ("tiny", "v9"): "no revision 'v9'",
    ("gated", None): "gated on the hub: open it",
    ("picture", None): "cannot be loaded",
    ("huge", None): "GB of weights in float16, more than the host's free memory",
    ("own-code", None): "its own code, which is not run",
    ("nested", None): "someone/nested",
    ("own-code-pickled", None): "no weights as safetensors",
}
#: Looks at all of them in one process: importing the model libraries takes longer than looking.
LOOK = """
import json, sys
from energylab_portal.inspection import inspect
print("ANSWER", json.dumps([vars(inspect(question)) for question in json.load(sys.stdin)]))
"""


def question(model, revision=None, elsewhere=False):
    asked = {"model": f"someone/{model}", "revision": revision, "tasks": ("text_generation",), "largest_gb": 1.0}
    return {**asked, "parameters": {"data_source": "sample"}, "params": None, "elsewhere": elsewhere}


@pytest.fixture(scope="module")
def told(hub, tmp_path_factory):
    """Variables that name the stand-in hub and no board."""
    hub.requests.clear()  # what other tests asked of it
    cache = str(tmp_path_factory.mktemp("cache"))
    return {"HF_ENDPOINT": hub.url, "HF_HOME": cache, "NO_PROXY": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def found(told):
    """What is found about each model and revision of `REFUSALS`, and about the huge one on a device elsewhere."""
    questions = [question(*one) for one in REFUSALS] + [question("huge", elsewhere=True)]
    done = subprocess.run(
        [sys.executable, "-c", LOOK], input=json.dumps(questions), env=environment(**told), text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout.rpartition("ANSWER")[2])
    return dict(zip([*REFUSALS, "elsewhere"], answers, strict=True))


def test_size_class_and_commit_of_one_that_fits(hub, told):
    found = inspect_apart(question("tiny"), told)
    assert found.refusal == ""
    assert found.commit == hub.repositories["model", "someone/tiny"].branches["main"]
    assert any("122 k parameters, class A; fits 1 x" in words for words in found.words)
    assert not any(path.endswith("model.safetensors") for _, path, _ in hub.requests)  # no weight was read


@pytest.mark.parametrize("asked", REFUSALS)
def test_what_cannot_be_measured_is_refused_in_words(found, asked):
    assert REFUSALS[asked] in found[asked]["refusal"]


def test_for_a_device_of_another_machine_only_the_size_is_said(found):
    assert found["elsewhere"]["refusal"] == ""
    assert any("174 B parameters, class C; its fit on the device" in words for words in found["elsewhere"]["words"])


def test_no_code_is_run_and_where_it_could_lie_in_weights_nothing_is_fetched(found, hub):
    asked = [path.rpartition("/")[2] for _, path, _ in hub.requests if "someone/own-code-pickled" in path]
    assert asked
    assert not {"own.py", "pytorch_model.bin"} & set(asked)
    assert not Path("/tmp/energylab-was-here").exists()


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("no weights as safetensors", {"config.json": 10, "pytorch_model.bin": 10}),
        ("no weights as safetensors", {"a_name_the_loader_would_not_read.safetensors": 10, "pytorch_model.bin": 10}),
        ("2.0 GB of weights; this portal measures at most 1 GB", {"model.safetensors": 2_000_000_000}),
        ("400 MB of configuration", {"model.safetensors": 5, "vocab.json": 400_000_000}),
        (None, {"model.safetensors": 5, "pytorch_model.bin": 5}),
        (None, {"model-00001-of-00002.safetensors": 5, "model-00002-of-00002.safetensors": 5}),
        (None, {"model_index.json": 1, "unet/diffusion_pytorch_model.safetensors": 5}),
    ],
)
def test_only_what_the_loaders_read_safely_passes(words, files):
    if words is None:
        assert "safetensors" in check_files("a/b", files, 1)[0]
    else:
        with pytest.raises(ModelError, match=words):
            check_files("a/b", files, 1)
