"""Speech recognition: CTC and encoder-decoder, the library's own answers whatever the batch, clear refusals."""

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from energylab.errors import DataError, ModelError, TaskError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.speech import decode_audio

PARAMS = Path(__file__).parents[2] / "params"
CTC = ["tiny-wav2vec2", "tiny-hubert"]
IN_WORDS = ["tiny-whisper", "tiny-speech-to-text"]


def loaded(**values):
    task = load_task(Parameters(task="speech_recognition", **{"new_tokens": 6, **values}))
    rows, _ = task.load_rows()
    facts = task.load("cpu")
    return task, rows, facts


def stored(task, folder):
    for part in (task.model, task.processor, task.extractor):
        part.save_pretrained(folder)
    return {"model": str(folder), "model_source": "path"}


def encoded(samples, rate_hz=16_000, subtype=None):
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def params_with_clips(folder, clips):
    sample = folder / "samples" / "speech_recognition"
    sample.mkdir(parents=True)
    (sample / "about.yaml").write_text("licence: CC0-1.0\n")
    for number, clip in enumerate(clips):
        (sample / f"{number}.wav").write_bytes(clip)
    rows = [{"audio": f"{number}.wav", "text": "words"} for number in range(len(clips))]
    (sample / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for part in ("tasks", "architectures"):
        shutil.copytree(PARAMS / part, folder / part)
    return str(folder)


@pytest.mark.parametrize("model", CTC)
def test_ctc_answers_as_the_librarys_pipeline(model):
    task, rows, _ = loaded(model=model, samples=3)
    reference = pipeline(
        "automatic-speech-recognition", model=task.model, tokenizer=task.processor, feature_extractor=task.extractor
    )
    inputs = task.prepare(rows)
    for row, mine in zip(rows, task.answers(inputs, task.run("forward", inputs)), strict=True):
        assert reference({"raw": decode_audio(row["audio"]), "sampling_rate": 16_000})["text"] == mine != ""


@pytest.mark.parametrize("model", IN_WORDS)
def test_encoder_decoders_answer_as_the_documented_call(model, caplog):
    """Features by the extractor, then ``generate`` with plain arguments, as the models' pages show."""
    task, rows, _ = loaded(model=model, samples=2)
    inputs = task.prepare(rows)
    root = logging.getLogger("transformers")
    root.addHandler(caplog.handler)
    outputs = task.run("generate", inputs)
    root.removeHandler(caplog.handler)
    assert caplog.records == []  # a log would be work inside the window
    for row, text in zip(rows, task.answers(inputs, outputs), strict=True):
        features = task.extractor(decode_audio(row["audio"]), sampling_rate=16_000, return_tensors="pt")
        ids = task.model.generate(**features, do_sample=False, num_beams=1, min_new_tokens=6, max_new_tokens=6)
        assert task.processor.batch_decode(ids, skip_special_tokens=True)[0].strip() == text
    assert task.count("prefill", inputs, task.run("prefill", inputs)).output == 2
    with pytest.raises(TaskError, match="5 token"):
        task.count("generate", inputs, [ids[:, :-1] for ids in outputs])


def test_a_whisper_generates_as_its_checkpoint_says():
    """A language is detected by one more pass unless stated; a timestamp starts a second pass, and is counted."""
    task, rows, _ = loaded(model="tiny-whisper", samples=1)
    inputs, runs = task.prepare(rows), []
    task.model.model.encoder.register_forward_hook(lambda *_: runs.append(1))
    task.run("generate", inputs)
    assert len(runs) == 2
    language = next(iter(task.model.generation_config.lang_to_id))
    task.model.generation_config.language, task.model.generation_config.task = language, "transcribe"
    task.run("generate", inputs)
    assert len(runs) == 3
    config = task.model.config
    task.model.proj_out = torch.nn.Linear(config.d_model, config.vocab_size)
    task.model.proj_out.weight.data.zero_()
    task.model.proj_out.bias.data.zero_()
    task.model.proj_out.bias.data[650] = 1.0  # beyond no_timestamps_token_id: a timestamp
    outputs = task.run("generate", inputs)
    assert task.count("generate", inputs, outputs).output >= task.new_tokens


def test_word_error_rate_ignores_case_and_punctuation(tmp_path):
    given = stored(loaded(model="tiny-hubert", samples=2)[0], tmp_path / "model")
    task, rows, facts = loaded(samples=2, **given)
    assert facts.real_weights
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
    task, rows, _ = loaded(model="tiny-speech-to-text", samples=1, new_tokens=12)
    task.model.lm_head = torch.nn.Linear(task.model.config.d_model, task.model.config.vocab_size)
    task.model.lm_head.weight.data.zero_()
    task.model.lm_head.bias.data.zero_()
    task.model.lm_head.bias.data[task.model.config.eos_token_id] = 2.0  # it would stop at once
    task.model.lm_head.bias.data[50] = 1.0  # or else give this
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
    from safetensors.torch import load_file, save_file

    task, rows, _ = loaded(model="tiny-wav2vec2", samples=1)
    given = stored(task, tmp_path)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        if "masked_spec_embed" not in name:
            renamed[name] = tensor
    assert any("weight_g" in name for name in renamed)
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    again, rows, _ = loaded(samples=1, **given)
    inputs = task.prepare(rows)
    assert torch.allclose(again.run("forward", inputs)[0], task.run("forward", inputs)[0], atol=1e-6)


def test_a_model_without_a_head_of_speech_is_refused(tmp_path):
    from transformers import Wav2Vec2ForPreTraining

    task, _, _ = loaded(model="tiny-wav2vec2", samples=1)
    given = stored(task, tmp_path)
    config = task.model.config
    config.codevector_dim = config.proj_codevector_dim = 16
    Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lm_head"):
        loaded(samples=1, **given)
    with pytest.raises(ModelError, match="does not recognise speech"):
        loaded(samples=1, model="tiny-bert")
    with pytest.raises(ModelError, match="lower new_tokens"):
        loaded(samples=1, model="tiny-whisper", new_tokens=125)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (encoded(np.zeros(100)), r"lasts 0\.006 s"),
        (encoded(np.full(16_000, np.nan), subtype="FLOAT"), "no finite numbers"),
        (encoded(np.zeros(16_000))[:9_000], "cut short"),
        (b"RIFF and nothing else", "cannot be decoded"),
        (b"", "cannot be decoded"),
    ],
)
def test_a_clip_without_sound_is_refused_by_its_row(tmp_path, clip, message):
    params = params_with_clips(tmp_path, [encoded(np.zeros(16_000)), clip])
    with pytest.raises(DataError, match=f"row 1: .*{message}"):
        load_task(Parameters(task="speech_recognition", samples=2, params=params)).load_rows()


def test_a_clip_longer_than_whispers_window_is_measured_and_counted(tmp_path):
    params = params_with_clips(tmp_path, [encoded(0.01 * np.sin(np.arange(35 * 16_000) / 9.0))])
    for model, given_s, cut_s in (("tiny-whisper", 30.0, 5.0), ("tiny-hubert", 35.0, 0.0)):
        task, rows, _ = loaded(model=model, samples=1, params=params)
        assert task.covariates(rows) == {"audio_s": (given_s,), "truncated_s": (cut_s,)}


def test_sound_is_mixed_to_one_channel_and_resampled():
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    samples = decode_audio(encoded(np.stack([tone, np.zeros_like(tone)], axis=1), 44_100))
    assert (samples.dtype, len(samples)) == (np.float32, 16_000)
    middle = slice(1000, 15_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(samples[middle] - expected[middle]).max() < 1e-3
