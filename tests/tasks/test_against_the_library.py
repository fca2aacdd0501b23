"""The call inside the phases gives what the library's own pipeline, or its documented call, gives on the same input."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.architectures import find_architecture
from energylab.tasks.similarity import read_pooling
from energylab.tasks.tokenizers import local_tokenizer

AUTO = {
    "text_generation": "AutoModelForCausalLM",
    "reasoning": "AutoModelForCausalLM",
    "text_classification": "AutoModelForSequenceClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "summarization": "AutoModelForSeq2SeqLM",
}

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def stored(folder, architecture, auto, **changes):
    """Write a small model with random weights as a checkpoint, which energylab then takes for a real one."""
    row = find_architecture(architecture)
    config = row.build_config()
    config.update(changes)
    torch.manual_seed(3)
    getattr(transformers, auto).from_config(config).save_pretrained(folder)
    tokenizer = local_tokenizer(config, row.tokenizer)
    tokenizer.chat_template = CHAT if row.family == "qwen3" else None
    tokenizer.save_pretrained(folder)
    return str(folder)


def loaded(task, model, samples=4, **more):
    made = load_task(Parameters(task=task, model=model, model_source="path", samples=samples, dtype="float32", **more))
    rows, _ = made.load_rows()
    made.load("cpu")
    return made, rows


@pytest.mark.parametrize("architecture", ["tiny-gpt2", "tiny-llama", "tiny-mixtral"])
def test_text_generation_is_the_pipelines(architecture, tmp_path):
    folder = stored(tmp_path, architecture, "AutoModelForCausalLM")
    task, rows = loaded("text_generation", folder)
    pipeline = transformers.pipeline("text-generation", model=folder, device="cpu", dtype=torch.float32)
    settings = transformers.GenerationConfig(max_new_tokens=10, min_new_tokens=10, do_sample=False)
    for row in rows:
        inputs = task.prepare([row])
        said = pipeline(row["text"], generation_config=settings, return_full_text=False)[0]["generated_text"]
        assert task.answers(inputs, task.run("generate", inputs)) == [said]


def test_a_checkpoints_penalty_stays_and_its_sampling_does_not(tmp_path):
    """As the published runner: greedy with one beam, and everything else as the checkpoint says."""
    folder = stored(tmp_path, "tiny-gpt2", "AutoModelForCausalLM")
    own = transformers.GenerationConfig(
        do_sample=True, temperature=2.0, top_k=5, repetition_penalty=5.0, max_new_tokens=3, num_beams=4, eos_token_id=0
    )
    own.save_pretrained(folder)
    task, rows = loaded("text_generation", folder)
    inputs = task.prepare(rows[:1])
    ids = inputs["input_ids"]
    for _ in range(10):
        with torch.no_grad():
            scores = task.model(ids).logits[0, -1].clone()
        scores[0] = -torch.inf  # not the end
        seen = ids[0].unique()
        scores[seen] = torch.where(scores[seen] < 0, scores[seen] * 5.0, scores[seen] / 5.0)
        ids = torch.cat([ids, scores.argmax()[None, None]], dim=1)
    assert torch.equal(task.run("generate", inputs), ids)


@pytest.mark.parametrize("architecture", ["tiny-distilbert", "tiny-bert", "tiny-gpt2"])
def test_text_classification_is_the_pipelines(architecture, tmp_path):
    folder = stored(tmp_path, architecture, AUTO["text_classification"], pad_token_id=0)
    task, rows = loaded("text_classification", folder, samples=16)
    pipeline = transformers.pipeline("text-classification", model=folder, device="cpu", dtype=torch.float32)
    for row, said in zip(rows, pipeline([row["text"] for row in rows], top_k=None), strict=True):
        inputs = task.prepare([row])
        scores = task.run("forward", inputs).softmax(-1)[0]
        named = {task.model.config.id2label[n]: float(score) for n, score in enumerate(scores)}
        assert named == pytest.approx({answer["label"]: answer["score"] for answer in said}, abs=1e-6)
        assert task.answers(inputs, task.run("forward", inputs)) == [said[0]["label"]]


@pytest.mark.parametrize("architecture", ["tiny-distilbert", "tiny-roberta"])
def test_question_answering_finds_the_best_span_there_is(architecture, tmp_path):
    """The library dropped its pipeline: its rule, on the documented call's scores, by trying every span."""
    folder = stored(tmp_path, architecture, AUTO["question_answering"])
    task, rows = loaded("question_answering", folder, samples=6)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row in rows:
        batch = tokenizer(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
        offsets, kinds = batch.pop("offset_mapping")[0].tolist(), batch.sequence_ids(0)
        with torch.no_grad():
            scores = model(**batch)
        start, end = scores.start_logits[0], scores.end_logits[0]
        spans = [
            (float(start[a] + end[b]), a, b)
            for a in range(len(kinds))
            for b in range(a, min(a + 15, len(kinds)))
            if kinds[a] == kinds[b] == 1
        ]
        _, first, last = max(spans)
        inputs = task.prepare([row])
        assert task.answers(inputs, task.run("forward", inputs)) == [(offsets[first][0], offsets[last][1])]


PROMPTS = {
    "summarization": "summarize: {text}",
    "question_answering": "question: {question} context: {context}",
    "text_classification": "sst2 sentence: {text}",
}


@pytest.mark.parametrize(
    ("task_name", "architecture", "prompt"),
    [(task, "tiny-t5", prompt) for task, prompt in PROMPTS.items()],
)
def test_encoder_decoders_answer_as_the_documented_call(task_name, architecture, prompt, tmp_path):
    folder = stored(tmp_path, architecture, AUTO["summarization"])
    task, rows = loaded(task_name, folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row in rows:
        ids = tokenizer(prompt.format_map(row), return_tensors="pt", truncation=True, max_length=512).input_ids
        tokens = 100 if task_name == "question_answering" else 10
        said = model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, num_beams=1)
        inputs = task.prepare([row])
        assert task.answers(inputs, task.run("generate", inputs)) == tokenizer.batch_decode(
            said, skip_special_tokens=True
        )
        assert task.count("prefill", inputs, task.run("prefill", inputs)).output == 1


def test_a_model_that_answers_in_words_needs_a_prompt(tmp_path):
    folder = stored(tmp_path, "tiny-bart", AUTO["summarization"])
    with pytest.raises(ModelError, match="no prompt for models of type 'bart'"):
        loaded("question_answering", folder)


def test_similarity_with_other_poolings_is_their_librarys(tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    modules = pytest.importorskip("sentence_transformers.models")
    for pooling in ("mean", "cls", "lasttoken"):
        folder = tmp_path / pooling
        bert = stored(tmp_path / f"{pooling}-bert", "tiny-bert", "AutoModel")
        encoder = modules.Transformer(bert)
        pooled = modules.Pooling(encoder.get_embedding_dimension(), pooling_mode=pooling)
        model = library.SentenceTransformer(modules=[encoder, pooled], device="cpu")
        model.save(str(folder))
        task, rows = loaded("sentence_similarity", str(folder))
        first, second = (model.encode([row[f"sentence{n}"] for row in rows], normalize_embeddings=True) for n in (1, 2))
        how, problem = read_pooling(task.origin)
        assert problem is None
        assert [task.cosine(row, how) for row in rows] == pytest.approx((first * second).sum(axis=1), abs=1e-5)


def test_a_similarity_model_with_a_part_that_is_not_loaded_has_no_quality(tmp_path):
    """The measured work is the encoder's, as published; the embedding would need the part."""
    folder = stored(tmp_path, "tiny-bert", "AutoModel")
    parts = ["Transformer", "Pooling", "Dense", "Normalize"]
    listed = [{"idx": n, "type": f"sentence_transformers.models.{part}"} for n, part in enumerate(parts)]
    Path(folder, "modules.json").write_text(json.dumps(listed))
    task, rows = loaded("sentence_similarity", folder)
    assert "sentence_transformers.models.Dense" in task.score([None] * len(rows), rows)[0].meaningless
