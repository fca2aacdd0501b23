"""Speech recognition: what checkpoints decide, error rates, and clear refusals."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from task_builders import loaded, params_with, saved, wav

from energylab.errors import ModelError

NAME = "speech_recognition"


def always(task, head, favourites):
    """Let a model give the same token at every step: the one with the largest number."""
    config = task.model.config
    layer = torch.nn.Linear(config.d_model, config.vocab_size)
    layer.weight.data.zero_()
    layer.bias.data.zero_()
    for token, number in favourites.items():
        layer.bias.data[token] = number
    setattr(task.model, head, layer)


def test_a_whisper_generates_as_its_checkpoint_says():
    """A language is detected by one more pass unless stated; a timestamp starts a second pass, and is counted."""
    task, rows = loaded(NAME, "tiny-whisper", samples=1, new_tokens=6)
    inputs, runs = task.prepare(rows), []
    task.model.model.encoder.register_forward_hook(lambda *_: runs.append(1))
    task.run("generate", inputs)
    assert len(runs) == 2
    language = next(iter(task.model.generation_config.lang_to_id))
    task.model.generation_config.language, task.model.generation_config.task = language, "transcribe"
    task.run("generate", inputs)
    assert len(runs) == 3
    always(task, "proj_out", {650: 1.0})  # beyond no_timestamps_token_id: a timestamp
    assert task.count("generate", inputs, task.run("generate", inputs)).output >= 6


def test_word_error_rate_ignores_case_and_punctuation(tmp_path):
    task, rows = loaded(NAME, saved(loaded(NAME, "tiny-hubert", samples=2)[0], tmp_path), samples=2)
    assert task.facts.real_weights
    perfect = [row["text"].upper().replace(",", "") for row in rows]
    assert task.score(perfect, rows)[0].value == 0.0
    words = [len(row["text"].split()) for row in rows]
    wrong = [" ".join(["zebra", *perfect[0].split()[1:]]), perfect[1]]
    assert task.score(wrong, rows)[0].value == pytest.approx(1 / sum(words))
    quality = task.score(["anything", perfect[1]], [{**rows[0], "text": "…"}, rows[1]])[0]
    assert (quality.value, quality.details["references_without_words"]) == (0.0, 1)
    assert task.score(["a"], [{"text": "!"}])[0].value is None


def test_answers_that_are_scored_stop_where_the_model_stops():
    """Within the windows a model generates the stated length; the scored text is the one it would give freely."""
    task, rows = loaded(NAME, "tiny-speech-to-text", samples=1, new_tokens=12)
    always(task, "lm_head", {task.model.config.eos_token_id: 2.0, 50: 1.0})  # it would stop at once, or else give 50
    inputs = task.prepare(rows)
    forced = task.run("generate", inputs)
    assert forced[0][0, 1:].tolist() == [50] * 12
    whole = task.processor.decode([50] * 12).strip()
    assert task.answers(inputs, forced) == [whole]
    task.facts = task.facts.model_copy(update={"real_weights": True})
    assert task.answers(inputs, forced) == [""]
    task.scored = False
    assert task.answers(inputs, forced) == [whole]


def test_a_checkpoint_of_the_first_days_is_loaded(tmp_path):
    """As published: weight norm under its old names, no mask embedding, which recognition never uses."""
    task, rows = loaded(NAME, "tiny-wav2vec2", samples=1)
    file = saved(task, tmp_path) / "model.safetensors"
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(file).items()
        if "masked_spec_embed" not in name
    }
    assert any("weight_g" in name for name in renamed)
    save_file(renamed, file, {"format": "pt"})
    again, rows = loaded(NAME, tmp_path, samples=1)
    inputs = task.prepare(rows)
    assert torch.allclose(again.run("forward", inputs)[0], task.run("forward", inputs)[0], atol=1e-6)


def test_a_model_without_a_head_of_speech_is_refused(tmp_path):
    from transformers import Wav2Vec2ForPreTraining

    task, _ = loaded(NAME, "tiny-wav2vec2", samples=1)
    saved(task, tmp_path)
    config = task.model.config
    config.codevector_dim = config.proj_codevector_dim = 16
    Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lm_head"):
        loaded(NAME, tmp_path, samples=1)
    with pytest.raises(ModelError, match="does not recognise speech"):
        loaded(NAME, "tiny-bert", samples=1)
    with pytest.raises(ModelError, match="lower new_tokens"):
        loaded(NAME, "tiny-whisper", samples=1, new_tokens=125)


def test_a_clip_longer_than_whispers_window_is_measured_and_counted(tmp_path):
    clip = wav(0.01 * np.sin(np.arange(35 * 16_000) / 9.0))
    params = params_with(tmp_path, NAME, [{"audio": "long.wav", "text": "words"}], **{"long.wav": clip})
    for model, given_s, cut_s in (("tiny-whisper", 30.0, 5.0), ("tiny-hubert", 35.0, 0.0)):
        task, rows = loaded(NAME, model, samples=1, params=params)
        assert task.covariates(rows) == {"audio_s": (given_s,), "truncated_s": (cut_s,)}
