"""Thinking: every family's switch, what ends it, and what it costs in tokens."""

import pytest
import task_builders
import torch

from energylab.errors import ModelError, ParameterError, TaskError
from energylab.tasks.reasoning import PLAIN, find_thinking

#: Shows all that a template may be told, the way the families' own templates use it.
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "effort={{ reasoning_effort }} think={{ enable_thinking }}\n[assistant]"
)


def stored(folder, template=TEMPLATE):
    task_builders.stored(folder, "tiny-qwen3")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def loaded(folder, **more):
    return task_builders.loaded("reasoning", folder, **{"samples": 2, "new_tokens": 16, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("qwen3"))


@pytest.mark.parametrize(
    ("model", "level", "written"),
    [
        ("Qwen/Qwen3-0.6B", None, "think=True"),
        ("Qwen/Qwen3-0.6B", "off", "think=False"),
        ("HuggingFaceTB/SmolLM3-3B", "off", "think=False"),
        ("openai/gpt-oss-20b", None, "effort=medium"),
        ("openai/gpt-oss-120b", "high", "effort=high"),
        ("nvidia/Llama-3.1-Nemotron-Nano-8B-v1", "off", "[system] detailed thinking off"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "off", "[assistant]</think>\n\n"),
        ("microsoft/Phi-4-reasoning", None, "[assistant]"),
    ],
)
def test_the_switch_of_every_family_reaches_the_prompt(model, level, written, folder):
    task, rows = loaded(folder)
    task.thinking = find_thinking(model, "none")
    task.level, task.chosen = task.thinking.level(level, model)
    assert written in task.texts(rows)[0]
    assert rows[0]["text"] in task.texts(rows)[0]


def test_a_model_without_a_row_has_the_switch_of_its_type():
    assert find_thinking("someone/finetuned", "qwen3").end == "</think>"
    assert find_thinking("someone/finetuned", "llama") == PLAIN
    assert find_thinking("Qwen/Qwen2.5-72B-Instruct", "qwen2") == PLAIN


def test_another_level_than_the_models_own_leaves_the_published_settings(folder):
    assert "thinking" in loaded(folder, thinking="off")[0].overridden()
    assert "thinking" not in loaded(folder, thinking="on")[0].overridden()
    assert "thinking" not in loaded(folder)[0].overridden()


def test_an_unknown_level_and_a_model_that_does_not_chat_are_refused(folder, tmp_path):
    with pytest.raises(ParameterError, match="Allowed: on, off"):
        loaded(folder, thinking="high")
    with pytest.raises(ModelError, match="no chat template"):
        loaded(stored(tmp_path, template=None))


def with_ids(folder, level, text):
    """Return a loaded task, and the ids of an answer as if the model had written `text`."""
    task, _ = loaded(folder, thinking=level)
    return task, task.processor(text, add_special_tokens=False)["input_ids"]


def test_tokens_spent_thinking_are_counted_apart(folder):
    task, ids = with_ids(folder, "on", "let me see, three times four</think>\n\nIt is 12")
    split = task._split(ids)
    thinking = split["thinking_tokens"]
    assert (split["text"], thinking + split["answer_tokens"]) == ("It is 12", len(ids))
    assert "</think>" in task.processor.decode(ids[:thinking])
    assert "</think>" not in task.processor.decode(ids[: thinking - 1])
    assert task.extra([split, split])["thinking_tokens"] == 2 * thinking


@pytest.mark.parametrize(("level", "thinking", "unfinished"), [("on", 1, 1), ("off", 0, 0)])
def test_without_an_end_of_thinking_all_is_thinking_or_all_is_answer(folder, level, thinking, unfinished):
    task, ids = with_ids(folder, level, "three times four is 12")
    counted = {"thinking_tokens": len(ids) * thinking, "answer_tokens": len(ids) * (1 - thinking)}
    assert task.extra([task._split(ids)]) == {**counted, "unfinished_queries": unfinished}


def test_tokens_are_counted_up_to_each_querys_end(folder):
    task, rows = loaded(folder, new_tokens=8)
    inputs = task.prepare(rows)
    end = task.model.generation_config.eos_token_id
    new = torch.tensor([[7, 8, end, 0, 0, 0, 0, 0], [7] * 8])
    outputs = torch.cat([inputs["input_ids"], new], dim=1)
    assert task.count("generate", inputs, outputs).output == 3 + 8
    assert [answer["answer_tokens"] + answer["thinking_tokens"] for answer in task.answers(inputs, outputs)] == [3, 8]
    with pytest.raises(TaskError, match="9 tokens per query, more than new_tokens=8"):
        task.count("generate", inputs, torch.cat([outputs, new[:, :1]], dim=1))
    assert task.count("prefill", inputs, task.run("prefill", inputs)).output == 2


def test_random_weights_give_exactly_the_stated_number():
    task, rows = loaded("tiny-qwen3", new_tokens=6)
    assert task.facts.settings["open_ended"] is False
    inputs = task.prepare(rows)
    outputs = task.run("generate", inputs)
    assert task.count("generate", inputs, outputs).output == 12
    assert task.extra(task.answers(inputs, outputs)) == {"thinking_tokens": None}
