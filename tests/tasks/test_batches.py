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
#: Every decoder family, shrunk: the first model of its file with these values changed.
SMALL = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "cohere": SHARED,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gemma": {**SHARED, "head_dim": 8},
    "gemma2": {**SHARED, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": SHAPE,
    "gpt_oss": {**SHARED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama": SHARED,
    "mistral": SHARED,
    "mixtral": {**SHARED, "num_local_experts": 4},
    "olmo": SHARED,
    "openai_gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "phi": SHAPE,
    "phi3": SHARED,
    "qwen2": SHARED,
    "qwen3": {**SHARED, "head_dim": 8},
    "qwen3_moe": {**SHARED, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "smollm3": SHARED,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder laid out like params/, with every decoder family shrunk to one small model."""
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


def loaded(task, model, params=None, new_tokens=None):
    values = {"task": task, "model": model, "params": params, "new_tokens": new_tokens}
    made = load_task(Parameters(dtype="float32", samples=8, batch_size=8, **values))
    rows, _ = made.load_rows()
    made.load("cpu")
    return made, rows


@pytest.mark.parametrize("family", SMALL)
def test_generated_tokens_do_not_depend_on_the_batch(family, small):
    task, rows = loaded("text_generation", f"small-{family}", small)
    alone = [task.prepare([row]) for row in rows]
    together = task.prepare(rows)
    assert len({inputs["input_ids"].shape[1] for inputs in alone}) > 4  # else nothing would be padded
    single = [task.run("generate", inputs) for inputs in alone]
    batch = task.run("generate", together)
    new = task.new_ids(together, batch)
    assert torch.equal(torch.cat([task.new_ids(i, o) for i, o in zip(alone, single, strict=True)]), new)
    assert len(set(map(tuple, new.tolist()))) > 4  # the prompts do matter
    counts = [task.count("generate", i, o) for i, o in zip(alone, single, strict=True)]
    whole = task.count("generate", together, batch)
    assert (sum(c.input for c in counts), sum(c.output for c in counts)) == (whole.input, whole.output)
