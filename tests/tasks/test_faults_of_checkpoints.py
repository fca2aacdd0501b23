"""What checkpoints bring: no padding token, odd padding ids, offset positions, outputs that are not finite."""

import json

import pytest
import torch
import transformers

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.architectures import find_architecture
from energylab.tasks.text import longest_input
from energylab.tasks.tokenizers import local_tokenizer

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 2000,
}


def stored(folder, config, kind="AutoModelForCausalLM", **names):
    """Write a small model, its tokenizer's special tokens replaced."""
    getattr(transformers, kind).from_config(config).save_pretrained(folder)
    tokenizer = local_tokenizer(find_architecture("tiny-llama").build_config(), "llama")
    for name, token in names.items():
        setattr(tokenizer, name, token)
    tokenizer.save_pretrained(folder)
    return {"model": str(folder), "model_source": "path"}


def loaded(task, **values):
    made = load_task(Parameters(task=task, device="cpu", samples=3, **values))
    rows, _ = made.load_rows()
    made.load("cpu")
    return made, rows


def test_a_tokenizer_without_padding_or_end_is_asked_one_text_at_a_time(tmp_path):
    config = transformers.LlamaConfig(**LLAMA, pad_token_id=None, eos_token_id=None)
    given = stored(tmp_path, config, pad_token=None, eos_token=None, unk_token=None)
    task, rows = loaded("text_generation", dtype="float32", **given)
    for row in rows:
        inputs = task.prepare([row])
        assert task.count("generate", inputs, task.run("generate", inputs)).output == 10
    with pytest.raises(ModelError, match="use batch_size=1"):
        loaded("text_generation", dtype="float32", batch_size=2, **given)


def with_padding(folder, pad):
    """Store a model whose files name a padding id."""
    given = stored(folder, transformers.LlamaConfig(**LLAMA, pad_token_id=0))
    for name in ("config.json", "generation_config.json"):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, "pad_token_id": pad}))
    return given


def test_a_negative_padding_id_is_not_used(tmp_path):
    task, rows = loaded("text_generation", dtype="float32", batch_size=3, **with_padding(tmp_path, -1))
    inputs = task.prepare(rows)
    assert task.count("generate", inputs, task.run("generate", inputs)).output == 30


def test_a_padding_id_beyond_the_vocabulary_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match=r"(?i)padding"):
        loaded("text_generation", dtype="float32", **with_padding(tmp_path, 2000))


@pytest.mark.parametrize(
    "kind", ["roberta", "xlm-roberta", "xlm-roberta-xl", "data2vec-text", "xmod", "ibert", "camembert", "mpnet", "esm"]
)
def test_positions_that_begin_after_the_padding_are_not_used_up(kind):
    """The longest input runs, and one token more does not: the published runner would stop there."""
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    languages = {"languages": ["en_XX"], "default_language": "en_XX"} if kind == "xmod" else {}
    config = transformers.AutoConfig.for_model(
        kind, **small, vocab_size=100, max_position_embeddings=40, pad_token_id=1, **languages
    )
    model, longest = transformers.AutoModel.from_config(config).eval(), longest_input(config, None)
    assert longest == 38
    with torch.inference_mode():
        model(torch.full((1, longest), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), 5))


@pytest.mark.parametrize("task_name", ["text_generation", "text_classification", "sentence_similarity"])
def test_outputs_that_are_not_finite_are_noticed(task_name, tmp_path):
    model = {"text_generation": "tiny-gpt2"}.get(task_name, "tiny-bert")
    task, rows = loaded(task_name, model=model, dtype="float32")
    inputs = task.prepare(rows[:1])
    assert task.finite(inputs, task.run(task.phases[-1], inputs))
    for weight in task.model.parameters():
        weight.data.fill_(float("nan"))
    assert not task.finite(inputs, task.run(task.phases[-1], inputs))


def test_outputs_of_a_window_are_small():
    """No keys and values, no hidden states: what is kept of a pass is what scoring needs."""
    for name, model in (
        ("text_classification", "tiny-gpt2"),
        ("summarization", "tiny-bart"),
        ("object_detection", "tiny-detr"),
    ):
        task, rows = loaded(name, model=model)
        kept = task.run("forward", task.prepare(rows[:1]))
        parts = kept[0].values() if isinstance(kept, list) else [kept] if kept is not None else []
        assert sum(part.numel() for part in parts) < 3_000


def test_pegasus_is_given_the_shifted_text_and_says_so(tmp_path):
    small = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    config = transformers.PegasusConfig(**small, vocab_size=2000, encoder_ffn_dim=32, decoder_ffn_dim=32)
    task, rows = loaded("summarization", **stored(tmp_path, config, "AutoModelForSeq2SeqLM"))
    assert task.phases == ("preprocess", "forward")
    seen = []
    task.model.model.decoder.register_forward_pre_hook(lambda *_, **k: seen.append(k), with_kwargs=False)
    inputs = task.prepare(rows[:1])
    task.run("forward", inputs)
    assert seen
    assert "shifted text" in task.deviations()[0]


def test_the_second_version_samples_and_takes_the_checkpoints_precision():
    task = load_task(Parameters(task="text_generation", model="tiny-llama", protocol="published-2025-12", device="cpu"))
    asked = task.generation("generate")
    assert (asked["do_sample"], asked["temperature"], asked["top_p"], asked["top_k"]) == (True, 0.7, 0.9, 50)
    assert task.settings.dtype == "checkpoint"
    assert task.settings.version == "2025-12"
    assert (
        load_task(Parameters(task="text_generation", model="tiny-llama")).generation("generate")["do_sample"] is False
    )
    assert load_task(Parameters(task="reasoning", model="tiny-qwen3")).settings.new_tokens == 8192


def test_the_published_protocol_pins_the_attention_of_its_time():
    for name, model in (("text_classification", "tiny-t5"), ("object_detection", "tiny-detr")):
        task = load_task(Parameters(task=name, model=model, protocol="published-2025-02", device="cpu"))
        assert task.load("cpu").attention == "eager"
        assert "attention" not in task.overridden()


def test_compiled_without_a_static_cache_the_longest_batch_is_run_before_the_windows():
    """Else the first window would hold the compiler, and every longer batch another compilation."""
    task, rows = loaded("text_generation", model="tiny-llama", dtype="float32")
    lengths, longest = [], max(task.covariates(rows)["input_tokens"])
    task.model.register_forward_pre_hook(
        lambda _, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    task.warm_up_longest(rows)
    assert lengths == []
    task.parameters = task.parameters.model_copy(update={"compile": True})
    task.warm_up_longest(rows)
    assert lengths.count(longest) == 4  # prefill and generate, twice: the second call runs compiled code
    assert set(lengths) == {longest, 1}
