"""Tasks with small models: loaded on the processor, stored as checkpoints, and asked."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers

from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.architectures import find_architecture
from energylab.tasks.base import Row, Task
from energylab.tasks.tokenizers import local_tokenizer

PARAMS = Path(__file__).parents[1] / "params"


def loaded(task: str, model: Any, **values: Any) -> tuple[Task, list[Row]]:
    """Return a task with its model, and its rows; `model` is an architecture's name or a checkpoint's folder."""
    source = "path" if Path(model).is_dir() else "random"
    made = load_task(Parameters(task=task, model=str(model), model_source=source, **values))
    rows, _ = made.load_rows()
    made.load("cpu")
    return made, rows


def stored(folder: Path, architecture: str, auto: str = "AutoModelForCausalLM", seed: int = 3, **changes: Any) -> Path:
    """Write a small model with random weights and its tokenizer, which energylab then takes for a real checkpoint."""
    row = find_architecture(architecture)
    config = row.build_config()
    config.update(changes)
    torch.manual_seed(seed)
    getattr(transformers, auto).from_config(config).save_pretrained(folder)
    local_tokenizer(config, row.tokenizer).save_pretrained(folder)
    return folder


def saved(task: Task, folder: Path) -> Path:
    """Write a loaded model with its processors."""
    parts = (task.model, getattr(task, "image_processor", None), getattr(task, "extractor", None), task.processor)
    for part in parts:
        if part is not None:
            part.save_pretrained(folder)
    return folder


def answers(task: Task, rows: list[Row]) -> list[Any]:
    """Ask a loaded task, all rows in one batch."""
    inputs = task.prepare(rows)
    return task.answers(inputs, task.run(task.phases[-1], inputs))


def params_with(folder: Path, task: str, rows: bytes | list[Row], **files: bytes) -> str:
    """Lay out a params folder whose task has these sample rows and files; return its path."""
    for part in ("tasks", "architectures"):
        shutil.copytree(PARAMS / part, folder / part)
    sample = folder / "samples" / task
    sample.mkdir(parents=True)
    (sample / "about.yaml").write_text("licence: CC0-1.0\n")
    lines = rows if isinstance(rows, bytes) else json_lines(*rows)
    (sample / "rows.jsonl").write_bytes(lines)
    for name, content in files.items():
        (sample / name).write_bytes(content)
    return str(folder)


def json_lines(*rows: Any) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def wav(samples: Any, rate_hz: int = 16_000, subtype: str | None = None) -> bytes:
    """Return a clip as a file."""
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()
