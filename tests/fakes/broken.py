"""Writes tasks that are broken in one place, as a newcomer would: a Python file, a YAML file, a sample."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fill_mask"

_FILE = """
import gc, logging, time, random
import torch
from energylab.errors import TaskError
from energylab.record import Quality
from energylab.registry import import_file
from energylab.tasks.base import Tokens
from energylab.tasks.text import TextGeneration

FillMask = import_file({example!r}).FillMask


class Broken({base}):
"""


def write(folder: Path, body: str = "pass", base: str = "FillMask", **changes: Any) -> str:
    """Write a task whose class has `body`, and return the path of its YAML file.

    Parameters
    ----------
    folder : pathlib.Path
        An empty one.
    body : str
        Of the class, unindented.
    base : {"FillMask", "TextGeneration"}
        What it derives from.
    **changes
        Values of the YAML file; None leaves one out.
    """
    head = _FILE.format(example=str(EXAMPLE / "fill_mask.py"), base=base)
    (folder / "broken.py").write_text(head + indent(body.strip(), "    ") + "\n", encoding="utf-8")
    origin = EXAMPLE / "fill_mask.yaml" if base == "FillMask" else ROOT / "params" / "tasks" / "text_generation.yaml"
    values = yaml.safe_load(origin.read_text(encoding="utf-8"))
    values |= {"family": "broken.py:Broken", "sample": "sample"}
    values["check_models"] = ["tiny-bert"] if base == "FillMask" else ["tiny-llama"]
    values |= changes
    values = {name: value for name, value in values.items() if value is not None}
    sample = EXAMPLE / "sample" if base == "FillMask" else ROOT / "params" / "samples" / "text_generation"
    if not (folder / "sample").exists():
        shutil.copytree(sample, folder / "sample")
    (folder / "broken.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(folder / "broken.yaml")
