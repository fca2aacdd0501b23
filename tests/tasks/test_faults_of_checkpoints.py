"""What checkpoints bring: no padding token, odd padding ids, offset positions, outputs that are not finite."""

import json

import pytest
import torch
import transformers
from task_builders import answers, loaded, stored

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.text import longest_input
from energylab.tasks.tokenizers import local_tokenizer


def test_a_tokenizer_without_padding_or_end_is_asked_one_text_at_a_time(tmp_path):
    stored(tmp_path, "tiny-llama", pad_token_id=None, eos_token_id=None)
    tokenizer = local_tokenizer(transformers.LlamaConfig(vocab_size=2000), "llama")
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.unk_token = None
    tokenizer.save_pretrained(tmp_path)
    task, rows = loaded("text_generation", tmp_path, dtype="float32", samples=3)
    for row in rows:
        inputs = task.prepare([row])
        assert task.count("generate", inputs, task.run("generate", inputs)).output == 10
    with pytest.raises(ModelError, match="use batch_size=1"):
        loaded("text_generation", tmp_path, dtype="float32", batch_size=2)


def with_padding(folder, pad):
    """Store a model whose files name a padding id."""
    stored(folder, "tiny-llama")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, "pad_token_id": pad}))
    return folder


def test_a_padding_id_that_is_negative_is_not_used_and_one_beyond_the_vocabulary_is_one_clear_error(tmp_path):
    task, rows = loaded("text_generation", with_padding(tmp_path, -1), dtype="float32", samples=3, batch_size=3)
    inputs = task.prepare(rows)
    assert task.count("generate", inputs, task.run("generate", inputs)).output == 30
    with pytest.raises(ModelError, match=r"(?i)padding"):
        loaded("text_generation", with_padding(tmp_path, 2000), dtype="float32")


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


@pytest.mark.parametrize(
    ("name", "model"),
    [("text_generation", "tiny-gpt2"), ("text_classification", "tiny-bert"), ("sentence_similarity", "tiny-bert")],
)
def test_outputs_that_are_not_finite_are_noticed(name, model):
    task, rows = loaded(name, model, dtype="float32", samples=1)
    inputs = task.prepare(rows)
    assert task.finite(inputs, task.run(task.phases[-1], inputs))
    for weight in task.model.parameters():
        weight.data.fill_(float("nan"))
    assert not task.finite(inputs, task.run(task.phases[-1], inputs))


@pytest.mark.parametrize(
    ("name", "model"),
    [("text_classification", "tiny-gpt2"), ("summarization", "tiny-bart"), ("object_detection", "tiny-detr")],
)
def test_outputs_of_a_window_are_small(name, model):
    """No keys and values, no hidden states: what is kept of a pass is what scoring needs."""
    task, rows = loaded(name, model, samples=1)
    kept = task.run("forward", task.prepare(rows))
    parts = kept[0].values() if isinstance(kept, list) else [kept] if kept is not None else []
    assert sum(part.numel() for part in parts) < 3_000


def test_pegasus_is_given_the_shifted_text_and_says_so(tmp_path):
    small = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4)
    small |= {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = transformers.PegasusConfig(**small, vocab_size=2000)
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    local_tokenizer(config, "t5").save_pretrained(tmp_path)
    task, rows = loaded("summarization", tmp_path, samples=1)
    assert task.phases == ("preprocess", "forward")
    seen = []
    task.model.model.decoder.register_forward_pre_hook(lambda *_, **k: seen.append(k))
    answers(task, rows)
    assert seen
    assert "shifted text" in task.deviations()[0]


def test_the_second_version_samples_and_takes_the_checkpoints_precision():
    task = load_task(Parameters(task="text_generation", model="tiny-llama", protocol="published-2025-12", device="cpu"))
    asked = task.generation("generate")
    assert (asked["do_sample"], asked["temperature"], asked["top_p"], asked["top_k"]) == (True, 0.7, 0.9, 50)
    assert (task.settings.dtype, task.settings.version) == ("checkpoint", "2025-12")
    first = load_task(Parameters(task="text_generation", model="tiny-llama"))
    assert first.generation("generate")["do_sample"] is False
    assert load_task(Parameters(task="reasoning", model="tiny-qwen3")).settings.new_tokens == 8192


@pytest.mark.parametrize(("name", "model"), [("text_classification", "tiny-t5"), ("object_detection", "tiny-detr")])
def test_the_published_protocol_pins_the_attention_of_its_time(name, model):
    task, _ = loaded(name, model, samples=1, protocol="published-2025-02")
    assert task.facts.attention == "eager"
    assert "attention" not in task.overridden()


def test_compiled_without_a_static_cache_the_longest_batch_is_run_before_the_windows():
    """Else the first window would hold the compiler, and every longer batch another compilation."""
    task, rows = loaded("text_generation", "tiny-llama", dtype="float32", samples=3)
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


@pytest.mark.parametrize(
    ("name", "model", "phase"),
    [
        ("text_generation", "tiny-llama", "prefill"),
        ("text_classification", "tiny-bert", "forward"),
        ("sentence_similarity", "tiny-bert", "forward"),
    ],
)
def test_a_batch_stays_on_the_host_so_that_every_repetition_copies_it(name, model, phase):
    """A batch that is moved for good would leave all repetitions but the first with less to do."""
    tested, rows = loaded(name, model, samples=1)
    asked_with = []

    class Recorder(tuple):
        dtype = torch.float32
        logits = torch.empty(1, 2, device="meta")

        def __call__(self, **batch):
            asked_with.append({one.device.type for one in batch.values() if isinstance(one, torch.Tensor)})
            return self

        generate = __call__

    tested.device, tested.model = (
        "meta",
        Recorder([torch.empty(2, 1, 4, device="meta")]),
    )  # the one device beside the CPU
    inputs = tested.prepare(rows)
    for _ in range(2):
        tested.run(phase, inputs)
    assert asked_with == [{"meta"}, {"meta"}]
    assert {tensor.device.type for tensor in inputs.values()} == {"cpu"}
