"""One query at a time and eight together give the same answers and count the same tokens (float32, left padding)."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.architectures import merged

PARAMS = Path(__file__).parents[2] / "params"
IDS = {"vocab_size": 2000, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {**SHAPE, "num_key_value_heads": 2}
#: Decoder families that place and hide padding in different ways, shrunk: the first model of a file with these values.
SMALL = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gemma2": {**SHARED, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": SHAPE,
    "gpt_oss": {**SHARED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama": SHARED,
    "mixtral": {**SHARED, "num_local_experts": 4},
    "qwen3": {**SHARED, "head_dim": 8},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder laid out like params/, with every family shrunk to one small model."""
    root = tmp_path_factory.mktemp("params")
    for part in ("tasks", "samples"):
        shutil.copytree(PARAMS / part, root / part)
    (root / "architectures").mkdir()
    for family, changes in SMALL.items():
        values = yaml.safe_load((PARAMS / "architectures" / f"{family}.yaml").read_text(encoding="utf-8"))
        row = next(row for row in values["models"] if row.get("tasks"))
        config = merged(merged(values.get("config", {}), row.get("config", {})), {**changes, **IDS})
        values |= {"config": {}, "models": [{"model": f"small-{family}", "parameters": 1, "config": config}]}
        (root / "architectures" / f"{family}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(root)


@pytest.mark.parametrize("family", SMALL)
def test_generated_tokens_do_not_depend_on_the_batch(family, small):
    values = {"model": f"small-{family}", "params": small, "dtype": "float32", "samples": 8, "batch_size": 8}
    task = load_task(Parameters(task="text_generation", **values))
    rows, _ = task.load_rows()
    task.load("cpu")
    batches = [task.prepare(rows), *(task.prepare([row]) for row in rows)]
    outputs = [task.run("generate", inputs) for inputs in batches]
    assert len({inputs["input_ids"].shape[1] for inputs in batches}) > 4  # else nothing would be padded
    together, *alone = (task.new_ids(*pair) for pair in zip(batches, outputs, strict=True))
    assert torch.equal(torch.cat(alone), together)
    assert len(set(map(tuple, together.tolist()))) > 4  # the prompts do matter
    whole, *single = (task.count("generate", *pair) for pair in zip(batches, outputs, strict=True))
    assert (sum(one.input for one in single), sum(one.output for one in single)) == (whole.input, whole.output)
