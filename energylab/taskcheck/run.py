"""Run the checks in order: those of the files first, then those of the loaded task, on every architecture it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from energylab.taskcheck import (
    batches,
    creation,
    determinism,
    loading,
    phases,
    quality,
    refusal,
    sample,
    session,
    settings,
    tokens,
    window,
)
from energylab.taskcheck.bench import Bench, TheirError
from energylab.taskcheck.report import Finding, Problem, Report, Status, Unseen
from energylab.tasks import find_file
from energylab.tasks.models import quiet_imports

#: Checks that need the files and the class alone, and those that need a loaded model; in the order they run.
BEFORE = (settings, sample, creation, refusal)
AFTER = (loading, phases, window, batches, tokens, determinism, quality)
AT_LAST = (session,)  # only of a task with which nothing else is wrong
CHECKS: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in (*BEFORE, *AFTER, *AT_LAST)}


@dataclass(frozen=True)
class _Looked:
    """What one check returned."""

    name: str
    status: Status
    problems: tuple[Problem, ...] = ()
    unseen: tuple[str, ...] = ()


def check(task: str, models: Iterable[str] = (), params: str | Path | None = None) -> Report:
    """Hold a task against the contract.

    Parameters
    ----------
    task : str
        A name, or the path of a task's YAML file.
    models : iterable of str, optional
        Architectures to try it on; by default those the task's file names (``check_models``).
    params : path, optional
        A folder laid out like ``params/``.

    Returns
    -------
    Report
        One finding a check, and a model where it needs one; ``report.passed`` says whether the task may be measured.

    Raises
    ------
    EnergylabError
        If there is no such task, or its file or class cannot be read at all.
    """
    first = Bench(task, None, params)
    with quiet_imports():
        findings = [_finding(_look(module, first), "") for module in BEFORE]
        for name in tuple(models) or first.settings.check_models:
            findings += _on(Bench(task, name, params))
    return Report(first.settings.name, _short(find_file(task, params)), tuple(findings))


def _on(bench: Bench) -> list[Finding]:
    """Run the checks that need a model; when it does not load, the rest waits, and the session for all others."""
    found = [_look(AFTER[0], bench)]
    for module in (*AFTER[1:], *AT_LAST):
        needed = found if module in AT_LAST else found[:1]
        ready = all(one.status != "failed" for one in needed)
        found.append(_look(module, bench) if ready else _Looked(_name(module), "waits"))
    return [_finding(one, bench.model) for one in found]


def _look(module: ModuleType, bench: Bench) -> _Looked:
    found: list[Problem | Unseen] = []
    try:
        found.extend(module.look(bench))  # what was found before an error stays found
    except TheirError as error:
        found.append(Problem(str(error), "correct this first: the rest of this check could not be run"))
    problems = tuple(one for one in found if isinstance(one, Problem))
    unseen = tuple(one.why for one in found if isinstance(one, Unseen))
    return _Looked(_name(module), "failed" if problems else "not seen" if unseen else "passed", problems, unseen)


def _finding(looked: _Looked, model: str) -> Finding:
    asks = CHECKS[looked.name].ASKS
    return Finding(looked.name, model, asks, looked.status, looked.problems, looked.unseen)


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _short(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
