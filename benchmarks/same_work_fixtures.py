"""Tiny models with random weights and local data sets for same_work.py, made alike by either library version."""

import io
import json
import random
from pathlib import Path

import numpy as np
import torch
import transformers as tf
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors, trainers
from tokenizers import models as tm
from tokenizers import pre_tokenizers as pt

PLAN = yaml.safe_load(Path(__file__).with_suffix("").with_name("same_work.yaml").read_text(encoding="utf-8"))
WORDS = PLAN["words"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: Kind of tokenizer -> marks around one text and around two, special tokens in the order of their ids, padding or none.
TOKENIZERS = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", BERT, "[PAD]"),
    "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<pad>"),
    "t5": ("$A </s>", "$A </s> $B </s>", ["<pad>", "</s>", "<unk>"], "<pad>"),
    "llama": ("<s> $A", "<s> $A <s> $B", ["<unk>", "<s>", "</s>", "<pad>"], None),
    "opt": ("<s> $A", "<s> $A <s> $B", ["<unk>", "<s>", "</s>", "<pad>"], "<pad>"),
    "bloom": ("$A", "$A $B", ["<unk>", "<s>", "</s>", "<pad>"], "<pad>"),
    "gpt2": ("$A", "$A $B", ["<unk>", "<s>", "</s>", "<pad>"], None),
    "xlnet_marks": ("$A [SEP] [CLS]:2", "$A [SEP] $B:1 [SEP]:1 [CLS]:2", BERT, "[PAD]"),
}
ROLES = {"unk": "unk", "[UNK]": "unk", "<unk>": "unk", "<s>": "bos", "</s>": "eos", "<mask>": "mask", "[MASK]": "mask"}


def text(count, seed=0):
    """Draw a text of so many words."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + rng.choice(["", "", "", "ing", "s", ".", ","]) for _ in range(count))


def trained(special, bert=False):
    """Train a tokenizer of 700 tokens: WordPiece for BERT, byte-level BPE for the others."""
    unknown = "<unk>" if "<unk>" in special else None
    tok = Tokenizer(tm.WordPiece(unk_token="[UNK]") if bert else tm.BPE(unk_token=unknown))
    options = {"vocab_size": 700, "special_tokens": special, "show_progress": False}
    if bert:
        tok.normalizer, tok.decoder = normalizers.BertNormalizer(lowercase=True), decoders.WordPiece()
        tok.pre_tokenizer = pt.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**options, initial_alphabet=[chr(c) for c in range(33, 127)])
    else:
        tok.pre_tokenizer, tok.decoder = pt.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**options, initial_alphabet=pt.ByteLevel.alphabet())
    tok.train_from_iterator([text(200, n) for n in range(40)], trainer)
    return tok


def tokenizer(kind, joined=None):
    """Return a tokenizer of a kind, of its own class where a processor holds it; its limits must not count."""
    plain, made_by = PLAN["tokenizers"].get(kind, (kind, "PreTrainedTokenizerFast"))
    single, pair, special, pad = TOKENIZERS[plain]
    tok = trained(special, special is BERT)
    used = [(token, tok.token_to_id(token)) for token in special if token in pair]
    tok.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    names = {f"{ROLES[token]}_token": token for token in special if token in ROLES}
    names |= {"pad_token": pad} if pad else {}
    names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"} if special is BERT else {}
    limit = {"llama": int(1e30), "opt": 1024, "bert": 512}.get(plain, 512)
    made_by = made_by if joined else "PreTrainedTokenizerFast"
    if made_by == "PreTrainedTokenizerFast":  # the others name their inputs themselves
        names["model_input_names"] = ["input_ids", *(["token_type_ids"] if kind == "bert" else []), "attention_mask"]
    return getattr(tf, made_by)(tokenizer_object=tok, model_max_length=limit, **names)


def whisper(place, **settings):
    """Return a Whisper of three languages, with the generation settings of a real one."""
    languages = ["<|en|>", "<|fr|>", "<|de|>"]
    roles = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    special = ["<|startoftranscript|>", *languages, *(f"<|{role}|>" for role in roles)]
    trained([]).model.save(str(place))
    tok = tf.WhisperTokenizer(*(str(place / f) for f in ("vocab.json", "merges.txt")), model_max_length=448)
    tok.add_special_tokens({"additional_special_tokens": special})
    tok.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>") for n in range(1501)])
    ids = tok.get_vocab()
    end = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    end |= {"decoder_start_token_id": ids[special[0]]}
    none = {"suppress_tokens": None, "begin_suppress_tokens": None}
    model = tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(vocab_size=len(tok), **PLAN["shared"]["d"], **end, **none)
    )
    model.generation_config = tf.GenerationConfig(
        **end,
        is_multilingual=True,
        lang_to_id={token: ids[token] for token in languages},
        task_to_id={role: ids[f"<|{role}|>"] for role in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_length=448,
        max_initial_timestamp_index=50,
        suppress_tokens=[1, 2, 7],
        begin_suppress_tokens=[220, end["eos_token_id"]],
        return_timestamps=False,
        **settings,
    )
    return model, tf.WhisperProcessor(tf.WhisperFeatureExtractor(feature_size=80), tok)


def wav2vec2(place, kind="Wav2Vec2"):
    """Return a CTC model of an English alphabet."""
    processor = tf.Wav2Vec2Processor(tf.Wav2Vec2FeatureExtractor(return_attention_mask=False), letters(place))
    config = getattr(tf, f"{kind}Config")(vocab_size=32, **PLAN["shared"]["s"], **PLAN["shared"]["ears"])
    return getattr(tf, f"{kind}ForCTC")(config), processor


def letters(place):
    """Return a tokenizer of an English alphabet."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLU"]
    (place / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    return tf.Wav2Vec2CTCTokenizer(str(place / "vocab.json"))


def diffusion(place):
    """Return a Stable Diffusion pipeline."""
    import diffusers as df

    marks = [chr(c) for c in range(33, 127)]
    vocab = ["th", *marks, *(mark + "</w>" for mark in marks), "<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocab)}))
    (place / "merges.txt").write_text("#version: 0.2\nt h\n")
    tok = tf.CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"), model_max_length=77)
    wide, steps = {"block_out_channels": (32, 64)}, {"beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    unet = df.UNet2DConditionModel(
        **wide, layers_per_block=1, sample_size=16, cross_attention_dim=32, down_block_types=down, up_block_types=up
    )
    coders = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    words = tf.CLIPTextConfig(
        vocab_size=len(tok), max_position_embeddings=77, bos_token_id=189, eos_token_id=190, **PLAN["shared"]["s"]
    )
    scheduler = df.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, **steps)
    parts = (df.AutoencoderKL(**wide, **coders), tf.CLIPTextModel(words), tok, unet, scheduler, None, None)
    return (df.StableDiffusionPipeline(*parts, requires_safety_checker=False),)


MADE_HERE = {"whisper": whisper, "wav2vec2": wav2vec2, "diffusion": diffusion}


def parts_of(name, place):
    """Return everything that is saved of a model."""
    kind, config, *rest = PLAN["models"][name]
    if kind in MADE_HERE:
        return MADE_HERE[kind](place, **config)
    made = getattr(tf, kind)(getattr(tf, kind).config_class(**config))
    if name in PLAN["generation"]:
        made.generation_config.update(**PLAN["generation"][name])
    words, image, values, joined, more = [*rest, *[None] * 5][:5]
    readers = [getattr(tf, image)(**values)] if image else []
    readers += [tokenizer(words, joined)] if words else []
    readers = [getattr(tf, joined)(*readers, **(more or {}))] if joined else readers
    return made.half() if name in PLAN["half"] else made, *readers


def picture(size, mode="RGB", turned=False):
    """Return an encoded picture of noise."""
    from PIL import Image

    rng, file, exif = np.random.default_rng(sum(size)), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    image.save(file, "JPEG", **({"exif": exif} if turned else {}))
    return {"bytes": file.getvalue(), "path": None}


def clip(seconds):
    """Return an encoded clip of noise."""
    import soundfile

    file, noise = io.BytesIO(), 0.1 * np.random.default_rng(0).normal(size=int(seconds * 16000))
    soundfile.write(file, noise, 16000, format="FLAC", subtype="PCM_16")
    return {"bytes": file.getvalue(), "path": None}


def texts(*lengths):
    """Return texts of so many words, one more, and an empty one."""
    return [text(n, i) for i, n in enumerate([*lengths, 20])] + [""]


def rows_of(name):
    """Return the columns of a data set."""
    kind, _, variant = name.partition("_")
    if kind == "text":
        lengths = (1, 12, 157, 250, 90) if variant == "short" else (1, 12, 157, 3000, 480)
        long, more = texts(*lengths), {"hole": [""], "blank": ["  "]}
        return {"text": [*long[:2], *more.get(variant, []), *long[2:]]}
    if kind == "pairs":
        lengths = (9, 1, 20, 30 if variant else 700, 8)
        return {"sentence1": texts(*lengths), "sentence2": texts(9, 12, 3, 4, 9)}
    if kind == "qa":
        asked = [text(n, 50 + i) + "?" for i, n in enumerate([8, 3, 12, 25, 9, 10, 4])]
        asked[0] = text(700) if variant == "wordy" else asked[0]
        return {"question": asked, "context": texts(1, 12, 157, *((250, 200) if variant else (3000, 480)))}
    if kind == "image":
        how, sizes = (
            {1: {"mode": "L"}, 2: {"turned": True}},
            [(640, 480), (480, 640), (1000, 300), (40, 30), (600, 600)],
        )
        return {"image": [picture(size, **how.get(n, {})) for n, size in enumerate(sizes)]}
    if kind == "audio":
        return {"audio": [clip(seconds) for seconds in (3.0, 0.5, 12.0, 29.0, 5.0)]}
    return {"prompt": texts(1, 12, 200, 5, 30)}


def name_class(file, made_by):
    """Name the library's class in a tokenizer's settings, as checkpoints do; either version of it reads them."""
    if made_by != "PreTrainedTokenizerFast":
        values = json.loads(file.read_text())
        values.pop("model_input_names", None)  # the class names them
        file.write_text(json.dumps({**values, "tokenizer_class": made_by.removesuffix("Fast")}))


def make(kind, name, folder):
    """Write ``folder/models/NAME`` or ``folder/data/NAME`` unless it is there, and return it."""
    place = Path(folder) / kind / name
    if place.is_dir():
        return place
    place.mkdir(parents=True)
    torch.manual_seed(0)
    if kind == "models":
        for part in parts_of(name, place):
            part.save_pretrained(place)
        _, _, words, *more = [*PLAN["models"][name], None]
        if words in PLAN["tokenizers"] and len(more) < 4:
            name_class(place / "tokenizer_config.json", PLAN["tokenizers"][words][1])
        return place
    from datasets import Audio, Dataset, Image

    table = Dataset.from_dict(rows_of(name))
    for column in table.column_names:
        table = table.cast_column(column, {"image": Image(), "audio": Audio()}.get(column, table.features[column]))
    table.to_parquet(place / "train.parquet")
    return place
