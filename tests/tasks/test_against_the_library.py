"""The call inside the phases gives what the library's own pipeline, or its documented call, gives on the same input."""

import io
import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from task_builders import answers, loaded, saved, stored
from transformers import pipeline

from energylab.errors import ModelError
from energylab.tasks.similarity import read_pooling
from energylab.tasks.speech import decode_audio

TOKENS = 6
EXACTLY = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}
GREEDY = {**EXACTLY, "num_beams": 1}
PROMPTS = {
    "summarization": "summarize: {text}",
    "question_answering": "question: {question} context: {context}",
    "text_classification": "sst2 sentence: {text}",
}


def picture(row):
    return Image.open(io.BytesIO(row["image"])).convert("RGB")


def continued(task, row):
    library = pipeline("text-generation", model=task.model, tokenizer=task.processor, device="cpu")
    settings = transformers.GenerationConfig(**EXACTLY)
    return library(row["text"], generation_config=settings, return_full_text=False)[0]["generated_text"]


def best_span(task, row):
    """The library dropped its pipeline: its rule, on the documented call's scores, by trying every span."""
    batch = task.processor(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
    offsets, kinds = batch.pop("offset_mapping")[0].tolist(), batch.sequence_ids(0)
    with torch.no_grad():
        scores = task.model(**batch)
    start, end = scores.start_logits[0], scores.end_logits[0]
    spans = [
        (float(start[a] + end[b]), a, b)
        for a in range(len(kinds))
        for b in range(a, min(a + 15, len(kinds)))
        if kinds[a] == kinds[b] == 1
    ]
    _, first, last = max(spans)
    return offsets[first][0], offsets[last][1]


def answered(task, row):
    text = PROMPTS[task.settings.name].format_map(row)
    ids = task.processor(text, return_tensors="pt", truncation=True, max_length=512).input_ids
    return task.processor.batch_decode(task.model.generate(ids, **GREEDY), skip_special_tokens=True)[0]


def heard(task, row):
    parts = {"tokenizer": task.processor, "feature_extractor": task.extractor}
    library = pipeline("automatic-speech-recognition", model=task.model, **parts)
    return library({"raw": decode_audio(row["audio"]), "sampling_rate": 16_000})["text"]


def transcribed(task, row):
    features = task.extractor(decode_audio(row["audio"]), sampling_rate=16_000, return_tensors="pt")
    return task.processor.batch_decode(task.model.generate(**features, **GREEDY), skip_special_tokens=True)[0].strip()


def captioned(task, row):
    ids = task.model.generate(**task.image_processor(images=picture(row), return_tensors="pt"), **GREEDY)
    return task.processor.batch_decode(ids[:, task.prompt_length :], skip_special_tokens=True)[0].strip()


#: Task, what answers in the library, and the models.
ANSWERS = [
    ("text_generation", continued, "gpt2 llama mixtral"),
    ("question_answering", best_span, "distilbert roberta"),
    *((task, answered, "t5") for task in PROMPTS),
    ("speech_recognition", heard, "wav2vec2 hubert"),
    ("speech_recognition", transcribed, "whisper speech-to-text"),
    ("image_captioning", captioned, "blip git pix2struct blip-2 blip-2-t5"),
]


@pytest.mark.parametrize(
    ("name", "library", "model"),
    [pytest.param(*case, m, id=f"{case[0]} {m}") for *case, models in ANSWERS for m in models.split()],
)
def test_answers_are_the_librarys(name, library, model):
    task, rows = loaded(name, f"tiny-{model}", samples=3, dtype="float32", new_tokens=TOKENS)
    mine = [one for row in rows for one in answers(task, [row])]
    assert mine == [library(task, row) for row in rows]
    assert any(mine)  # tiny models may say nothing of one


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        *(("text-classification", f"tiny-{model}") for model in ("distilbert", "bert", "gpt2")),
        *(("image-classification", f"tiny-{model}") for model in ("vit", "convnext", "resnet", "swin")),
    ],
)
def test_classes_and_their_scores_are_the_pipelines(kind, model):
    task, rows = loaded(kind.replace("-", "_"), model, samples=4)
    reader = {"tokenizer": task.processor} if "text" in kind else {"image_processor": task.image_processor}
    library = pipeline(kind, model=task.model, device="cpu", **reader)
    for row in rows:
        inputs = task.prepare([row])
        outputs = task.run("forward", inputs)
        score = float(torch.cat([*outputs]).softmax(-1).max())
        best = library(row["text"] if "text" in kind else picture(row), top_k=1)[0]
        assert best == {"label": task.answers(inputs, outputs)[0], "score": pytest.approx(score, rel=1e-4)}


@pytest.mark.parametrize("model", ["tiny-detr", "tiny-yolos"])
def test_boxes_are_the_pipelines(model):
    task, rows = loaded("object_detection", model, samples=2)
    library = pipeline("object-detection", model=task.model, image_processor=task.image_processor, device="cpu")
    for row, mine in zip(rows, answers(task, rows), strict=True):
        found = sorted(library(picture(row), threshold=0.0), key=lambda one: -one["score"])
        assert [one["label"] for one in mine] == [one["label"] for one in found]
        for one, other in zip(mine, found, strict=True):
            assert one["score"] == pytest.approx(other["score"], rel=1e-4)
            x, y, width, height = one["box"]
            corners = [other["box"][name] for name in ("xmin", "ymin", "xmax", "ymax")]
            assert np.abs(np.array([x, y, x + width, y + height]) - corners).max() <= 1.0  # the pipeline rounds down


def test_a_checkpoints_penalty_stays_and_its_sampling_does_not(tmp_path):
    """As the published runner: greedy with one beam, and everything else as the checkpoint says."""
    stored(tmp_path, "tiny-gpt2")
    own = {"do_sample": True, "temperature": 2.0, "top_k": 5, "max_new_tokens": 3, "num_beams": 4, "eos_token_id": 0}
    transformers.GenerationConfig(**own, repetition_penalty=5.0).save_pretrained(tmp_path)
    task, rows = loaded("text_generation", tmp_path, samples=1, dtype="float32")
    inputs = task.prepare(rows)
    ids = inputs["input_ids"]
    for _ in range(10):
        with torch.no_grad():
            scores = task.model(ids).logits[0, -1].clone()
        scores[0] = -torch.inf  # not the end
        seen = ids[0].unique()
        scores[seen] = torch.where(scores[seen] < 0, scores[seen] * 5.0, scores[seen] / 5.0)
        ids = torch.cat([ids, scores.argmax()[None, None]], dim=1)
    assert torch.equal(task.run("generate", inputs), ids)


def test_bart_generates_its_summary_where_the_task_says_so():
    """A task of its own: as published such a model runs once over the text."""
    task, rows = loaded("summarization_generated", "tiny-bart", samples=1)
    inputs = task.prepare(rows)
    asked = {"max_new_tokens": 10, "min_new_tokens": 10, "do_sample": False, "num_beams": 1}
    assert torch.equal(task.run("generate", inputs), task.model.generate(**inputs, **asked))
    assert "one forward pass" in task.deviations()[0]


def test_a_model_that_answers_in_words_needs_a_prompt():
    with pytest.raises(ModelError, match="no prompt for models of type 'bart'"):
        loaded("question_answering", "tiny-bart")


def test_a_stored_captioner_is_read_by_the_library_and_scored(tmp_path):
    task, rows = loaded("image_captioning", "tiny-blip", samples=2, new_tokens=TOKENS)
    task.processor = transformers.BlipProcessor(task.image_processor, task.processor)
    again, _ = loaded("image_captioning", saved(task, tmp_path), samples=2, new_tokens=TOKENS)
    assert (again.facts.real_weights, again.facts.architecture) == (True, "BlipForConditionalGeneration")
    reader = transformers.AutoProcessor.from_pretrained(tmp_path)
    model = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path).eval()
    pixels = reader(images=[picture(row) for row in rows], return_tensors="pt")
    ids = model.generate(**pixels, do_sample=False, num_beams=1, max_new_tokens=TOKENS)  # it may end by itself
    assert answers(again, rows) == [text.strip() for text in reader.batch_decode(ids[:, 1:], skip_special_tokens=True)]
    assert again.score([row["caption"] for row in rows], rows)[0].value == pytest.approx(1.0)
    quality = again.score(["a car", rows[1]["caption"]], [{"caption": ["a red car", "nothing like it"]}, rows[1]])[0]
    # one of two words more in the nearer reference: precision 1, recall 2/3, F 0.8
    assert quality.value == pytest.approx((0.8 + 1.0) / 2)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_similarity_with_other_poolings_is_their_librarys(pooling, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    modules = pytest.importorskip("sentence_transformers.models")
    encoder = modules.Transformer(str(stored(tmp_path / "bert", "tiny-bert", "AutoModel")))
    pooled = modules.Pooling(encoder.get_embedding_dimension(), pooling_mode=pooling)
    model = library.SentenceTransformer(modules=[encoder, pooled], device="cpu")
    model.save(str(tmp_path / "model"))
    task, rows = loaded("sentence_similarity", tmp_path / "model", samples=4)
    first, second = (model.encode([row[f"sentence{n}"] for row in rows], normalize_embeddings=True) for n in (1, 2))
    how, problem = read_pooling(task.origin)
    assert problem is None
    assert [task.cosine(row, how) for row in rows] == pytest.approx((first * second).sum(axis=1), abs=1e-5)


def test_a_similarity_model_with_a_part_that_is_not_loaded_has_no_quality(tmp_path):
    """The measured work is the encoder's, as published; the embedding would need the part."""
    folder = stored(tmp_path, "tiny-bert", "AutoModel")
    parts = ["Transformer", "Pooling", "Dense", "Normalize"]
    listed = [{"idx": n, "type": f"sentence_transformers.models.{part}"} for n, part in enumerate(parts)]
    (folder / "modules.json").write_text(json.dumps(listed))
    task, rows = loaded("sentence_similarity", folder, samples=2)
    assert "sentence_transformers.models.Dense" in task.score([None] * len(rows), rows)[0].meaningless
