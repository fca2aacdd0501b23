"""A model with random weights as a folder, as a checkpoint would be: what servers and quantisation need."""

from __future__ import annotations

from pathlib import Path

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.models import quiet


def store_random(model: str, folder: str | Path, task: str = "text_generation", dtype: str = "float32") -> Path:
    """Write an architecture with random weights, and the tokenizer made for it, into a folder.

    Parameters
    ----------
    model : str
        Name of an architecture of ``params/architectures/``.
    folder : path
        Made if need be.
    task : str
        The task it is for.
    dtype : str
        Precision of the stored weights.

    Returns
    -------
    pathlib.Path
        The folder: a `model` for ``model_source='path'``.
    """
    loaded = load_task(Parameters.check({"task": task, "model": model, "dtype": dtype, "new_tokens": 1}))
    loaded.load("cpu")
    folder = Path(folder)
    try:
        with quiet():
            for part in (loaded.model, loaded.processor):
                part.save_pretrained(folder)
    except OSError as error:
        raise ModelError(f"cannot write the model to {folder}: {error.strerror}; choose another folder") from error
    return folder
