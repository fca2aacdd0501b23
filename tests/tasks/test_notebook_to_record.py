"""Every task from the notebook to its record: its cells run here, on the CPU, with small architectures."""

from pathlib import Path

import nbformat
import pytest

from energylab import store
from energylab.energy import totals
from energylab.tasks import task_names

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01-benchmark.ipynb"
QUICK = {"samples": 4, "runs": 2, "window_s": 0.1, "idle_s": 0.1, "warm_up_min_s": 0.1, "warm_up_max_s": 1.0}
DECODED = ("preprocess", "prefill", "generate")
ONE_PASS = ("preprocess", "forward")

#: Task -> model, phases, and parameters of its own.
TASKS = {
    "image_captioning": ("tiny-blip", DECODED, {}),
    "image_classification": ("tiny-vit", ONE_PASS, {}),
    "image_generation": ("tiny-stable-diffusion", ("call",), {"samples": 2, "diffusion_steps": 3}),
    "object_detection": ("tiny-detr", ONE_PASS, {}),
    "question_answering": ("tiny-roberta", ONE_PASS, {}),
    "reasoning": ("tiny-qwen3", DECODED, {"new_tokens": 16, "thinking": "on"}),
    "sentence_similarity": ("tiny-bert", ONE_PASS, {}),
    "speech_recognition": ("tiny-wav2vec2", ONE_PASS, {}),
    "summarization": ("tiny-bart", ONE_PASS, {}),
    "summarization_generated": ("tiny-bart", DECODED, {}),
    "text_classification": ("tiny-t5", DECODED, {}),
    "text_generation": ("tiny-llama", DECODED, {}),
}


def execute(folder, **parameters):
    """Run the notebook's cells with these parameters in place of its own; studies run it through papermill."""
    namespace = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
        if "parameters" in cell.metadata.get("tags", ()):
            namespace |= {**QUICK, **parameters, "output_folder": str(folder)}
    return store.read_record(folder / "record.json")


def test_no_task_is_left_out():
    assert set(TASKS) == set(task_names())


@pytest.mark.parametrize("task", TASKS)
def test_a_task_from_the_notebook_to_its_record(task, tmp_path):
    model, phases, more = TASKS[task]
    record = execute(tmp_path, task=task, model=model, **more)
    assert record.valid, record.reasons
    assert record.phases == phases
    assert (record.model.name, record.model.source, record.data.source) == (model, "random", "sample")
    parts = {(total.run, total.phase): total for total in totals(record)}
    for run in range(2):
        for phase in phases:
            total = parts[run, phase]
            assert total.energy_j > 0
            assert total.queries == record.queries
        if "generate" in phases:
            stated = record.task.settings["new_tokens"] * record.queries
            assert parts[run, "generate"].output_tokens == stated
            assert parts[run, "prefill"].output_tokens == record.queries
            assert (run, "decode") in parts
    assert all(quality.value is None and "random weights" in quality.meaningless for quality in record.quality)
    assert record.quality
