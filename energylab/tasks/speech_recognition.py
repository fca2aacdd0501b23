"""Speech recognition: write down what is said, by a CTC model or an encoder-decoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from energylab.errors import DataError, ModelError
from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.audio import DurationSettings, babble, decode_audio, duration_s
from energylab.tasks.base import Row, TaskSettings, Tokens
from energylab.tasks.family import ModelTask
from energylab.tasks.media import Group, Inputs, by_group, grouped, in_order, open_file, read_processor
from energylab.tasks.media_generation import MediaGenerationMixin
from energylab.tasks.synthetic import draw_sizes
from energylab.tasks.tokenizers import local_tokenizer

#: What Whisper's generation cannot do without: which ids mean languages and tasks, which it must not say.
WHISPER_SETTINGS = (
    "is_multilingual",
    "lang_to_id",
    "task_to_id",
    "no_timestamps_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "prev_sot_token_id",
    "max_initial_timestamp_index",
)


class SpeechSettings(TaskSettings):
    """Settings of speech recognition."""

    new_tokens: int = Field(ge=1)  # of encoder-decoders; a CTC model has none
    synthetic: DurationSettings  # lengths of synthetic clips


class SpeechRecognition(MediaGenerationMixin, ModelTask):
    """A clip goes through an encoder; a CTC head names every frame, or a decoder writes exactly `new_tokens` tokens.

    The phases follow from the model: ``forward`` for CTC, ``prefill`` and ``generate`` for an encoder-decoder. They
    are known after `load_model`. Decoding the file and resampling are part of ``preprocess``.
    """

    Settings = SpeechSettings
    phases = ("preprocess", "prefill", "generate")
    columns = ("audio", "text")
    references = ("text",)
    may_miss = ("masked_spec_embed",)  # only training masks; published wav2vec 2.0 checkpoints lack it

    extractor: Any = None
    pads: bool = False  # whether clips of different length go to the model together

    @property
    def ctc(self) -> bool:
        """Whether the loaded model names frames instead of writing text."""
        return "forward" in self.phases

    # ---- loading

    def auto_class(self, config: Any) -> str:
        """CTC where the library has it for the configuration, an encoder-decoder otherwise."""
        from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

        if type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
            return "AutoModelForSpeechSeq2Seq"
        if type(config) in MODEL_FOR_CTC_MAPPING:
            return "AutoModelForCTC"
        raise ModelError(
            f"a model of type {config.model_type!r} does not recognise speech; choose a CTC model (wav2vec2, HuBERT) "
            "or an encoder-decoder (Whisper, speech-to-text)"
        )

    def load_processor(self, loaded: models.Loaded) -> Any:
        """Load feature extractor and tokenizer; the phases follow from the model."""
        from transformers import AutoFeatureExtractor, AutoTokenizer

        origin, architecture = loaded.origin, loaded.origin.architecture
        if not loaded.config.is_encoder_decoder:
            self.phases = ("preprocess", "forward")
        values = architecture.options.get("feature_extractor", {}) if architecture is not None else {}
        self.extractor = read_processor(
            origin, loaded.config, AutoFeatureExtractor.from_pretrained, "feature extractor", values
        )
        if architecture is None:
            return origin.read(AutoTokenizer.from_pretrained, "tokenizer")
        if self.ctc:
            return character_tokenizer(loaded.config.vocab_size)
        return local_tokenizer(loaded.config, architecture.tokenizer)

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Set decoding up for an encoder-decoder; nothing to set up for CTC."""
        if self.ctc:
            masked = getattr(self.extractor, "return_attention_mask", False)
            self.pads = bool(masked) and hasattr(loaded.model, "_get_feat_extract_output_lengths")
            return {"decoding": "ctc, best path", "pads_batches": self.pads}
        longest = getattr(loaded.config, "max_target_positions", None)
        if longest is not None and self.new_tokens + 4 > longest:  # the decoder's prompt has up to four tokens
            raise ModelError(
                f"model {loaded.origin.name!r} writes at most {longest} tokens with its prompt; lower new_tokens"
            )
        if loaded.origin.architecture is not None and "generation" in loaded.origin.architecture.options:
            _say_languages(loaded.model.generation_config, **loaded.origin.architecture.options["generation"])
        return super().ready(loaded)

    def decoding_settings(self, checkpoint: Any, new_tokens: int) -> Any:
        """Add what Whisper needs to greedy decoding of exactly `new_tokens` tokens.

        Asked without timestamps, a Whisper may still say one once it has run out of words; the library would then
        transcribe the clip again from there, and do more work than stated. So it may not.
        """
        settings = super().decoding_settings(checkpoint, new_tokens)
        for name in WHISPER_SETTINGS:
            if getattr(checkpoint, name, None) is not None:
                setattr(settings, name, getattr(checkpoint, name))
        last = getattr(checkpoint, "no_timestamps_token_id", None)
        if last is not None:
            timestamps = range(last + 1, self.model.config.vocab_size)
            settings.suppress_tokens = sorted({*(settings.suppress_tokens or ()), *timestamps})
        return settings

    # ---- rows

    def open_row(self, row: Row, folder: Path) -> Row:
        """Replace the name of a clip by what the file holds."""
        return open_file(row, "audio", folder)

    def check_row(self, row: Row) -> str | None:
        """Refuse a clip that is missing, broken or too short."""
        if not isinstance(row["audio"], bytes):
            return f"column 'audio' holds {type(row['audio']).__name__}, not an encoded clip"
        try:
            decode_audio(row["audio"])
        except DataError as error:
            return str(error)
        return None

    def synthesise(self, count: int, seed: int) -> list[Row]:
        """Make clips of the stated lengths, with the rhythm of speech and no words."""
        import numpy as np

        rng = np.random.default_rng(seed)
        lengths = self.settings.synthetic
        seconds = draw_sizes(rng, count, lengths.mean_s, lengths.spread, lengths.longest_s)
        return [{"audio": babble(rng, max(length, 0.2))} for length in seconds]

    def blank(self) -> Row:
        """Return a second of babble."""
        import numpy as np

        return {"audio": babble(np.random.default_rng(0), 1.0)}

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Measure the length of every clip in seconds, and what of it a model with a fixed window cuts off."""
        seconds = [duration_s(row["audio"]) for row in rows]
        window_s = getattr(self.extractor, "chunk_length", None) or float("inf")
        return {
            "audio_s": tuple(min(length, window_s) for length in seconds),
            "truncated_s": tuple(max(length - window_s, 0.0) for length in seconds),
        }

    # ---- phases

    def preprocess(self, rows: Sequence[Row]) -> Inputs:
        """Decode and resample every clip, and make the model's features of it.

        A batch is padded only where the model masks the padding exactly: a CTC model whose extractor gives a mask.
        """
        rate_hz = self.extractor.sampling_rate
        clips = [decode_audio(row["audio"], rate_hz) for row in rows]
        if self.pads:
            return Inputs((Group(tuple(range(len(clips))), self._features(clips, rate_hz)),))
        return grouped([self._features([clip], rate_hz) for clip in clips])

    def _features(self, clips: Sequence[Any], rate_hz: int) -> dict[str, Any]:
        fixed = {} if hasattr(self.extractor, "chunk_length") else {"padding": True}
        return self.extractor(list(clips), sampling_rate=rate_hz, return_tensors="pt", **fixed).data

    def forward(self, inputs: Inputs) -> list[Any]:
        """Return for each group the logits of every frame, shape (queries, frames, characters)."""
        outputs = by_group(self.model, inputs, self.device, self.model.dtype)
        return [output.logits for output in outputs]

    def count(self, phase: str, inputs: Inputs, outputs: Any) -> Tokens:
        """Check the number of new tokens; a CTC model generates none."""
        return Tokens() if self.ctc else super().count(phase, inputs, outputs)

    # ---- answers

    def answers(self, inputs: Inputs, outputs: Any) -> list[str]:
        """Return the transcript of every clip."""
        if not self.ctc:
            return super().answers(inputs, outputs)
        texts = [self._best_path(group, logits) for group, logits in zip(inputs.groups, outputs, strict=True)]
        return in_order(inputs, texts)

    def _best_path(self, group: Any, logits: Any) -> list[str]:
        """Collapse the most likely character of every frame that is not padding."""
        ids = logits.argmax(-1).cpu()
        mask = group.tensors.get("attention_mask")
        if mask is None:
            return self.processor.batch_decode(ids)
        frames = self.model._get_feat_extract_output_lengths(mask.sum(-1)).tolist()
        return [self.processor.decode(row[:count]) for row, count in zip(ids, frames, strict=True)]

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Word error rate over all clips, in lower case and without punctuation; lower is better.

        References
        ----------
        The normalisation is the basic one of A. Radford et al., "Robust Speech Recognition via Large-Scale Weak
        Supervision" (2022), appendix C.
        """
        metric = "wer"
        meaningless = self.no_quality(metric, rows)
        if meaningless is not None:
            return (meaningless,)
        import jiwer
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer

        plain = BasicTextNormalizer()
        pairs = [(plain(row["text"]).strip(), plain(answer).strip()) for row, answer in zip(rows, answers, strict=True)]
        spoken = [pair for pair in pairs if pair[0]]
        if not spoken:
            return (Quality(metric=metric, value=None, queries=len(rows), meaningless="the references hold no word"),)
        references, hypotheses = (list(column) for column in zip(*spoken, strict=True))
        value = float(jiwer.wer(references, hypotheses))
        details = {"references_without_words": len(pairs) - len(spoken)}
        return (Quality(metric=metric, value=value, queries=len(rows), details=details),)


def character_tokenizer(size: int) -> Any:
    """Make a CTC tokenizer: the 32 characters of English models, and unused ones up to the vocabulary's size."""
    from transformers import Wav2Vec2CTCTokenizer

    first = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    names = [*first, *(chr(0xE000 + number) for number in range(max(size - len(first), 0)))][:size]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps({name: number for number, name in enumerate(names)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(file))


def _say_languages(settings: Any, languages: dict[str, int] | None = None, **values: Any) -> None:
    """Give a random Whisper the special ids of the real one, so that it detects the language as the real one does."""
    for name, value in values.items():
        setattr(settings, name, value)
    if languages is not None:
        settings.lang_to_id = {f"<|{number}|>": languages["first"] + number for number in range(languages["count"])}
