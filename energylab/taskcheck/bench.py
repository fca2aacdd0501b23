"""A task on the bench: made, loaded and run as the protocol does, with every stranger's error told by its line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from energylab.errors import EnergylabError
from energylab.parameters import Parameters
from energylab.tasks import load_settings
from energylab.tasks.base import Row, Task, TaskSettings

QUERIES = 6  # of a check: enough for texts of different lengths in one batch
NEW_TOKENS = 5
DIFFUSION_STEPS = 2


class TheirError(Exception):
    """What the task's own code raised; says what, where, and while what was done."""


class Bench:
    """One task and one small architecture, ready to be looked at.

    Parameters
    ----------
    name : str
        Task, as `energylab.tasks.find_file` takes it.
    model : str or None
        Architecture with random weights; None for checks that load none.
    params : path, optional
        A folder laid out like ``params/``.

    Attributes
    ----------
    family : type
        The task's class.
    settings : TaskSettings
        Its file.
    """

    def __init__(self, name: str, model: str | None, params: str | Path | None = None) -> None:
        self.name = name
        self.model = model or ""
        self.params = None if params is None else str(params)
        self.family, self.settings = load_settings(name, params)

    def parameters(self, **changes: Any) -> Parameters:
        """Return parameters of a check: few queries, few tokens, float32, the sample data where there is some."""
        has_sample = self.settings.sample is not None and (self.settings.sample / "rows.jsonl").is_file()
        values = {
            "task": self.name,
            "model": self.model or "none",
            "params": self.params,
            "samples": QUERIES,
            "dtype": "float32",
            "data_source": "sample" if has_sample else "synthetic",
            "new_tokens": NEW_TOKENS,
            "diffusion_steps": DIFFUSION_STEPS,
            "device": "cpu",
        }
        return Parameters.check({**values, **changes})

    def make(self, settings: TaskSettings | None = None, **changes: Any) -> Task:
        """Create the task, unloaded."""
        parameters = self.parameters(**changes)
        with self.theirs("it is created"):
            return self.family(settings or self.settings, parameters)

    def load(self, **changes: Any) -> tuple[Task, list[Row]]:
        """Create the task and load its queries and its model."""
        task = self.make(**changes)
        with self.theirs("its queries are loaded"):
            rows, _ = task.load_rows()
        with self.theirs("its model is loaded"):
            task.load("cpu")
        return task, rows

    @cached_property
    def loaded(self) -> tuple[Task, list[Row]]:
        """The task with its model, and its queries: loaded once for all checks."""
        return self.load()

    @property
    def task(self) -> Task:
        """The loaded task."""
        return self.loaded[0]

    @property
    def rows(self) -> list[Row]:
        """Its queries."""
        return self.loaded[1]

    @property
    def last(self) -> str:
        """The phase whose outputs are the answers."""
        return self.task.phases[-1]

    def inputs(self, rows: Sequence[Row]) -> Any:
        """Preprocess rows, as the protocol does outside the windows."""
        return self.call("prepare", self.task.prepare, rows)

    def run(self, phase: str, inputs: Any) -> Any:
        """Run one phase as the protocol does inside a window."""
        return self.call(phase, partial(self.task.run, phase), inputs)

    def answers(self, inputs: Any, outputs: Any) -> list[Any]:
        """Read the answers of a batch."""
        return self.call("answers", self.task.answers, inputs, outputs)

    def ask(self, rows: Sequence[Row]) -> list[Any]:
        """Preprocess, run the last phase and read the answers: one batch from rows to answers."""
        inputs = self.inputs(rows)
        return self.answers(inputs, self.run(self.last, inputs))

    def call(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call one method of the task; what it raises becomes `TheirError`."""
        with self.theirs(f"{what}() runs"):
            return method(*arguments)

    @contextmanager
    def theirs(self, doing: str) -> Iterator[None]:
        """Turn whatever the task's code raises into one sentence with the line in the task's own file."""
        try:
            yield
        except TheirError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's class may raise anything, and each is a finding
            raise TheirError(f"{describe(error, self.family)} (while {doing})") from error


def describe(error: Exception, family: type) -> str:
    """Say what was raised, and at which line of the task's own files; errors of energylab speak for themselves."""
    message = " ".join(str(error).split()) or "no message"
    if isinstance(error, EnergylabError):
        return message
    files = own_files(family)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    where = f" at {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {message}{where}"


def own_files(family: type) -> set[str]:
    """Return the files of the task's class: its module's, and those of its bases that are not energylab's."""
    names = {kind.__module__ for kind in family.__mro__ if not kind.__module__.startswith(("energylab.", "builtins"))}
    modules = (sys.modules.get(name) for name in {family.__module__, *names})
    return {module.__file__ for module in modules if getattr(module, "__file__", None)}
