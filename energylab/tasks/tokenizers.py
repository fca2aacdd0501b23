"""Tokenizers for models with random weights, with the model's own vocabulary size and special ids.

Energy depends on the number of tokens of a text and on the size of the vocabulary. The tokenizer is therefore a real
one of the family's algorithm, trained in a second on packaged word lists; the rest of the vocabulary is filled with
entries that never occur, so that every id the model can generate decodes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from energylab.errors import ModelError
from energylab.tasks.synthetic import draw_text, lexicon

#: Kinds of tokenizer: algorithm, special tokens around one text and around a pair, special tokens in order.
KINDS = {
    "wordpiece": ("wordpiece", "<cls> $A <sep>", "<cls> $A <sep> $B:1 <sep>:1", ("pad", "unk", "cls", "sep", "mask")),
    "roberta": ("bpe", "<bos> $A <eos>", "<bos> $A <eos> <eos> $B <eos>", ("pad", "unk", "bos", "eos", "mask")),
    "gpt": ("bpe", "$A", "$A $B", ("pad", "unk", "eos")),
    "llama": ("bpe", "<bos> $A", "<bos> $A $B", ("pad", "unk", "bos", "eos")),
    "t5": ("bpe", "$A <eos>", "$A <eos> $B <eos>", ("pad", "unk", "eos")),
}

#: Model types whose tokenizers returned token types until version 5 of the library.
WITH_TOKEN_TYPES = {
    "albert", "bert-japanese", "ctrl", "deberta-v2", "flaubert", "funnel", "herbert", "nystromformer", "rembert",
    "roc_bert", "roformer", "splinter", "xlm", "xlnet", "yoso",
}  # fmt: skip

_TRAINED_VOCABULARY = 24_000  # enough for the word lists; real vocabularies are larger and are filled up
_CHARACTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]  # of a lower-cased text


def local_tokenizer(config: Any, kind: str | None, padding_side: str = "right") -> Any:
    """Make a tokenizer of a kind in `KINDS` for a model configuration, padding batches on one side."""
    from transformers import PreTrainedTokenizerFast

    if kind not in KINDS:
        raise ModelError(f"unknown tokenizer kind {kind!r}; allowed: {', '.join(KINDS)}")
    text = config.get_text_config(decoder=False) if hasattr(config, "get_text_config") else config
    special = _special_ids(text, KINDS[kind][3])
    pairs = kind == "wordpiece" and getattr(text, "type_vocab_size", 0) > 1
    return PreTrainedTokenizerFast(
        tokenizer_object=_backend(kind, text.vocab_size, tuple(special.items())),
        model_max_length=getattr(text, "max_position_embeddings", None)
        or getattr(text, "n_positions", None)
        or 1_000_000,
        padding_side=padding_side,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", *(["token_type_ids"] if pairs else []), "attention_mask"],
        **{f"{token.strip('<>')}_token": token for token in special},
    )


def read_tokenizer(origin: Any, config: Any, **options: Any) -> Any:
    """Read a checkpoint's tokenizer as stated in its tokenizer.json.

    Since version 5 the library takes normalisation and splitting from a class, which can differ from the file, and some
    classes no longer return token types.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = Path(origin.folder, "tokenizer.json")
    try:
        tokenizer = origin.read(AutoTokenizer.from_pretrained, "tokenizer", **options)
    except ModelError:
        if not file.is_file():
            raise
        tokenizer = origin.read(PreTrainedTokenizerFast.from_pretrained, "tokenizer", **options)
    inputs = tokenizer.model_input_names
    if config.model_type in WITH_TOKEN_TYPES and "model_input_names" not in tokenizer.init_kwargs:
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if (
        file.is_file()
        and isinstance(tokenizer, PreTrainedTokenizerFast)
        and _parts(file.read_text(encoding="utf-8")) != _parts(tokenizer.backend_tokenizer.to_str())
    ):
        named = tokenizer.special_tokens_map  # defined by the class, if the settings in the folder name none
        tokenizer = origin.read(PreTrainedTokenizerFast.from_pretrained, "tokenizer", **options)
        words = tokenizer.get_vocab()
        for role in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
            if getattr(tokenizer, role) is None and named.get(role) in words:
                setattr(tokenizer, role, named[role])
    tokenizer.model_input_names = inputs
    return tokenizer


def _parts(stated: str) -> list[Any]:
    """Return the kinds of a tokenizer's parts: algorithm, normaliser, splitter."""
    values = json.loads(stated)
    return [(values.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")]


def usable_padding(config: Any, tokenizer: Any) -> int | None:
    """Return an id of the vocabulary that a batch may be padded with; None if the tokenizer has none."""
    size = getattr(config, "vocab_size", None) or len(tokenizer)
    wanted = [tokenizer.pad_token_id, tokenizer.eos_token_id]
    return next((token for token in wanted if token is not None and 0 <= token < size), None)


def repair_padding(settings: Any, pad: int | None) -> None:
    """Replace a padding id that generation cannot use: a missing or negative one."""
    if settings.pad_token_id is None or settings.pad_token_id < 0:
        settings.pad_token_id = pad


def _special_ids(config: Any, roles: tuple[str, ...]) -> dict[str, int]:
    """Give special tokens the ids of the model's configuration, others free ids."""
    ids: dict[str, int] = {}
    for role in roles:
        wanted = getattr(config, f"{role}_token_id", None)
        wanted = wanted[0] if isinstance(wanted, list) else wanted
        if isinstance(wanted, int) and 0 <= wanted < config.vocab_size and wanted not in ids.values():
            ids[f"<{role}>"] = wanted
    free = (number for number in range(config.vocab_size) if number not in ids.values())
    return ids | {f"<{role}>": next(free) for role in roles if f"<{role}>" not in ids}


@lru_cache(maxsize=4)
def _backend(kind: str, size: int, special: tuple[tuple[str, int], ...]) -> Any:
    """Assign ids: special tokens their own, trained tokens the lowest free ones, fillers the rest."""
    from tokenizers import AddedToken, models, processors

    algorithm, single, pair, _ = KINDS[kind]
    vocabulary, merges = _trained(algorithm, min(_TRAINED_VOCABULARY, size - len(special)))
    ids = dict(special)
    taken = set(ids.values())
    free = (number for number in range(size) if number not in taken)
    ids.update({token: next(free) for token in vocabulary})
    ids.update((f"<unused{number}>", number) for number in free)
    backend = _untrained(algorithm)
    backend.model = models.BPE(ids, merges) if algorithm == "bpe" else models.WordPiece(ids, unk_token="<unk>")
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, _ in special])
    used = [(token, number) for token, number in special if token in pair]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    return backend


def _untrained(algorithm: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    if algorithm == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return tokenizer


@lru_cache(maxsize=8)
def _trained(algorithm: str, size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Train on text drawn from the lexicon; return the tokens, and the merges of a BPE."""
    import numpy as np
    from tokenizers import pre_tokenizers, trainers

    if algorithm == "bpe":
        alphabet, kind = sorted(pre_tokenizers.ByteLevel.alphabet()), trainers.BpeTrainer
    else:
        alphabet, kind = [*_CHARACTERS, *(f"##{one}" for one in _CHARACTERS)], trainers.WordPieceTrainer
    if size < 2 * len(alphabet):
        raise ModelError(f"a vocabulary of {size} is too small for a tokenizer; give at least {2 * len(alphabet)}")
    rng = np.random.default_rng(0)
    texts = [draw_text(rng, 100) for _ in range(200)]
    tokenizer = _untrained(algorithm)
    trainer = kind(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*texts, *_forms()], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    if algorithm == "wordpiece":  # the trainer keeps only continuations it has seen, but numbers need all digits
        inner = [f"##{character}" for character in _CHARACTERS if character.isalnum()]
        tokens = list(dict.fromkeys([*_CHARACTERS, *inner, *tokens]))[:size]
    return tokens, [tuple(merge) for merge in model.get("merges", [])]


def _forms() -> list[str]:
    """Return every word a tokenizer should know once, and words of the lexicon also capitalised."""
    rarer = Path(__file__).with_name("vocabulary.txt").read_text(encoding="utf-8").split()
    return [" ".join(("", *words)) for words in (lexicon(), rarer, [word.capitalize() for word in lexicon()])]
