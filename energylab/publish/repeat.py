"""How to measure a model again: one papermill command, quoted so that a hostile name stays a word."""

from __future__ import annotations

import shlex
from typing import Any

from energylab.release import RatedModel


def command(model: RatedModel) -> str | None:
    """Return the command that repeats a model's first session.

    Returns
    -------
    str or None
        A papermill command over ``notebooks/01-benchmark.ipynb``; None when no session was made by the notebook.
    """
    parameters = next((session.parameters for session in model.sessions if session.parameters), None)
    if parameters is None:
        return None
    words = ["papermill", "notebooks/01-benchmark.ipynb", "repeated.ipynb"]
    for name, value in sorted(parameters.items()):
        words += _words(name, value)
    words += ["-r", "output_folder", "results/repeated"]
    return shlex.join(words)


def _words(name: str, value: Any) -> list[str]:
    """Return one parameter as papermill takes it: text raw, so that a revision like 5607e12 stays text."""
    if value is None:
        return []
    return ["-r" if isinstance(value, str) else "-p", name, str(value)]
