"""Speech recognition: transcribe a clip by a CTC model or an encoder-decoder."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.errors import DataError, ModelError
from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Plain, Row, TaskSettings, all_finite, unscored
from energylab.tasks.media import Group, Inputs, MediaTask, grouped, read_processor
from energylab.tasks.synthetic import draw_sizes
from energylab.tasks.tokenizers import local_tokenizer

RATE_HZ = 16_000
SHORTEST_S = 0.025  # input of one frame in a speech model's first layers


class DurationSettings(Plain):
    """Lengths of synthetic clips: log-normal, roughly like lengths of utterances."""

    mean_s: float = Field(gt=0)  # mean length in seconds
    spread: float = Field(0.0, ge=0)  # standard deviation of the logarithm of the length
    longest_s: float = Field(30.0, gt=0)  # no clip is longer


class SpeechSettings(TaskSettings):
    """Settings of speech recognition."""

    new_tokens: int = Field(ge=1)  # of encoder-decoders; a CTC model has none
    synthetic: DurationSettings  # lengths of synthetic clips


class SpeechRecognition(MediaTask):
    """An encoder reads a clip; a CTC head labels every frame, or a decoder generates exactly `new_tokens` tokens.

    The phases depend on the model: ``forward`` for CTC, ``prefill`` and ``generate`` for an encoder-decoder. Decoding
    the file and resampling are part of ``preprocess``. Whisper uses the settings of its checkpoint: language, task and
    timestamps, which may start a second pass over the clip; its tokens are counted, but not checked.
    """

    Settings = SpeechSettings
    phases = ("preprocess", "prefill", "generate")
    medium = "audio"
    columns = ("audio", "text")
    references = ("text",)
    optional_parts = ("masked_spec_embed",)  # only training masks; published wav2vec 2.0 checkpoints lack it

    extractor: Any = None
    pads: bool = False  # whether clips of different length are padded to one batch

    @property
    def ctc(self) -> bool:
        return "forward" in self.phases

    @property
    def open_ended(self) -> bool:
        """Whether a clip may take several passes: Whisper begins another if its timestamps end early."""
        return not self.ctc and self.config.model_type == "whisper"

    # ---- loading

    def auto_class(self, config: Any) -> str:
        from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

        if type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
            return "AutoModelForSpeechSeq2Seq"
        if type(config) in MODEL_FOR_CTC_MAPPING:
            return "AutoModelForCTC"
        raise ModelError(
            f"a model of type {config.model_type!r} does not recognise speech; choose a CTC model (wav2vec2, HuBERT) "
            "or an encoder-decoder (Whisper, speech-to-text)"
        )

    def read_processor(self) -> Any:
        from transformers import AutoFeatureExtractor, AutoTokenizer

        self.phases = ("preprocess", *(("prefill", "generate") if self.config.is_encoder_decoder else ("forward",)))
        loader = AutoFeatureExtractor.from_pretrained
        self.extractor = read_processor(self.origin, self.config, loader, "feature_extractor")
        if self.origin.architecture is None:
            return self.origin.read(AutoTokenizer.from_pretrained, "tokenizer")
        if self.ctc:
            return character_tokenizer(self.config.vocab_size)
        return local_tokenizer(self.config, self.origin.architecture.tokenizer)

    def ready(self) -> dict[str, Any]:
        """Check that the decoder has room for `new_tokens`, and find the length of its prompt; nothing for CTC."""
        if self.ctc:
            masked = getattr(self.extractor, "return_attention_mask", False)
            self.pads = bool(masked) and hasattr(self.model, "_get_feat_extract_output_lengths")
            return {"decoding": "ctc, best path", "pads_batches": self.pads}
        longest = getattr(self.config, "max_target_positions", None)
        if longest is not None and self.new_tokens + 4 > longest:  # the decoder's prompt has up to four tokens
            raise ModelError(
                f"new_tokens={self.new_tokens}: model {self.origin.name!r} writes at most {longest} tokens with its "
                "prompt; lower new_tokens"
            )
        if self.origin.architecture is not None:  # special ids of the real model, used for detecting the language
            stated = dict(self.origin.architecture.options.get("generation", {}))
            if languages := stated.pop("languages", None):
                first, count = languages["first"], languages["count"]
                stated["lang_to_id"] = {f"<|{number}|>": first + number for number in range(count)}
            for name, value in stated.items():
                setattr(self.model.generation_config, name, value)
        import numpy as np

        self.measure_prompt(synthetic_clip(np.random.default_rng(0), 1.0))
        return {"new_tokens": self.new_tokens}

    # ---- rows

    def decode(self, encoded: bytes) -> Any:
        return decode_audio(encoded)

    def synthesise(self, count: int, seed: int) -> list[Row]:
        import numpy as np

        rng = np.random.default_rng(seed)
        lengths = self.settings.synthetic
        seconds = draw_sizes(rng, count, lengths.mean_s, lengths.spread, lengths.longest_s)
        return [{"audio": synthetic_clip(rng, max(length, 0.2))} for length in seconds]

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Return the length of every clip in seconds, and the part that a model with a fixed input length cuts off."""
        import soundfile

        seconds = [float(soundfile.info(io.BytesIO(row["audio"])).duration) for row in rows]
        window_s = getattr(self.extractor, "chunk_length", None) or float("inf")
        return {
            "audio_s": tuple(min(length, window_s) for length in seconds),
            "truncated_s": tuple(max(length - window_s, 0.0) for length in seconds),
        }

    # ---- queries

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        """Decode and resample every clip, and compute the model's features.

        A batch is padded only if the model masks the padding exactly: a CTC model whose extractor returns a mask.
        """
        clips = [decode_audio(row["audio"], self.extractor.sampling_rate) for row in rows]
        if self.pads:
            return Inputs((Group(tuple(range(len(clips))), self._features(clips)),))
        return grouped([self._features([clip]) for clip in clips])

    def _features(self, clips: Sequence[Any]) -> dict[str, Any]:
        options = {} if hasattr(self.extractor, "chunk_length") else {"padding": True}
        return self.extractor(clips, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", **options).data

    def ask(self, tensors: Any, generation: dict[str, Any] | None) -> Any:
        """Run the model once, without the log messages of Whisper about its settings."""
        with models.quiet():
            return super().ask(tensors, generation)

    # ---- after the windows

    def finite(self, inputs: Inputs, outputs: Any) -> bool:
        """Whether the logits are finite; those of generated tokens are computed again."""
        if self.ctc:
            return all_finite(outputs)
        batches = zip(inputs.groups, outputs, strict=True)
        return all(all_finite(self.ask({**g.tensors, "decoder_input_ids": ids[:, :2]}, None)) for g, ids in batches)

    def answers(self, inputs: Inputs, outputs: Any) -> list[str]:
        if not self.ctc:
            return self.free_texts(inputs, outputs)
        return inputs.in_order(map(self._best_path, inputs.groups, outputs))

    def _best_path(self, group: Group, logits: Any) -> list[str]:
        ids = logits.argmax(-1).cpu()
        if "attention_mask" not in group.tensors:
            return self.processor.batch_decode(ids)
        frames = self.model._get_feat_extract_output_lengths(group.tensors["attention_mask"].sum(-1)).tolist()
        return [self.processor.decode(row[:count]) for row, count in zip(ids, frames, strict=True)]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Word error rate over all clips, in lower case and without punctuation; lower is better.

        References
        ----------
        The normalisation is the basic one of A. Radford et al., "Robust Speech Recognition via Large-Scale Weak
        Supervision" (2022), appendix C.
        """
        meaningless = self.no_quality("wer", rows)
        if meaningless is not None:
            return (meaningless,)
        import jiwer
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer

        plain = BasicTextNormalizer()
        pairs = [(plain(row["text"]).strip(), plain(answer).strip()) for row, answer in zip(rows, answers, strict=True)]
        spoken = [pair for pair in pairs if pair[0]]
        if not spoken:
            return (unscored("wer", rows, "the references contain no words"),)
        value = float(jiwer.wer(*(list(column) for column in zip(*spoken, strict=True))))
        details = {"references_without_words": len(pairs) - len(spoken)}
        return (Quality(metric="wer", value=value, queries=len(rows), details=details),)


def character_tokenizer(size: int) -> Any:
    """Make a CTC tokenizer: the 32 characters of English models, and unused ones up to the vocabulary size."""
    from transformers import Wav2Vec2CTCTokenizer

    first = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    names = [*first, *(chr(0xE000 + number) for number in range(max(size - len(first), 0)))][:size]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps({name: number for number, name in enumerate(names)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(file))


def decode_audio(encoded: bytes, rate_hz: int = RATE_HZ) -> Any:
    """Decode a clip of any format that libsndfile reads to one channel of float32 samples at `rate_hz`."""
    import numpy as np
    import soundfile

    try:
        samples, found_hz = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"the clip ({len(encoded)} bytes) cannot be decoded: {error}") from error
    if _cut_short(encoded):
        raise DataError(f"the clip ({len(encoded)} bytes) is shorter than its header states")
    if len(samples) < SHORTEST_S * found_hz:
        raise DataError(f"the clip lasts {len(samples) / found_hz:.3f} s; a model needs at least {SHORTEST_S:g} s")
    if not np.isfinite(samples).all():
        raise DataError("the clip holds samples that are not finite numbers")
    mono = samples.mean(axis=1)
    if found_hz == rate_hz:
        return mono
    import soxr

    return soxr.resample(mono, found_hz, rate_hz)


def _cut_short(encoded: bytes) -> bool:
    """Whether a WAV file is shorter than its header states; the library would silently read a shorter clip.

    A file written to a pipe states no length: 0 or all ones.
    """
    stated = int.from_bytes(encoded[4:8], "little")
    return encoded[:4] == b"RIFF" and stated not in (0, 2**32 - 1) and stated + 7 > len(encoded)  # 8, less a pad byte


def synthetic_clip(rng: Any, seconds: float) -> bytes:
    """Make a clip with the rhythm and the spectrum of speech, but without words.

    FLAC, 16 kHz, one channel: harmonics of a wandering pitch, four syllables a second, a little noise.
    """
    import numpy as np
    import soundfile

    count = round(seconds * RATE_HZ)
    time_s = np.arange(count) / RATE_HZ
    pitch_hz = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * time_s))
    turns = np.cumsum(pitch_hz) / RATE_HZ
    harmonics = np.arange(1, 25)[:, None]
    phases = 2 * np.pi * (harmonics * np.arange(4096) / 4096 + rng.uniform(size=harmonics.shape))
    period = (np.sin(phases) / harmonics).sum(axis=0)  # of the voice: looked up, not computed for every sample
    voice = period[(turns % 1.0 * len(period)).astype(int)]
    syllables = np.sin(np.pi * 4.0 * time_s + rng.uniform(0, np.pi)) ** 2
    samples = 0.1 * voice * syllables + 0.005 * rng.normal(size=count)
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1).astype(np.float32), RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()
