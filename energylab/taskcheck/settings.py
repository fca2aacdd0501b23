"""The task's file: whole, and of one mind with the class."""

from __future__ import annotations

from collections.abc import Iterator

from energylab.errors import EnergylabError
from energylab.taskcheck.bench import Bench
from energylab.taskcheck.report import Problem, Unseen
from energylab.tasks.architectures import find_architecture

ASKS = "the YAML file is whole and fits the class"

_DTYPES = ("float32", "float16", "bfloat16")


def look(bench: Bench) -> Iterator[Problem | Unseen]:
    """Hold the file against the class: columns, references, precision, and the architectures to try it on."""
    settings, family = bench.settings, bench.family
    columns = getattr(family, "columns", ())
    if not columns:
        yield Problem(f"{family.__name__}.columns is empty", "name the columns every row has, references last")
    references = getattr(family, "references", ())
    published = settings.dataset.columns if settings.dataset is not None else columns
    missing = [column for column in columns if column not in (*published, *references)]
    if missing:
        mend = "add them: the task's column name, then the published data set's"
        yield Problem(f"dataset.columns lacks {', '.join(missing)}", mend)
    if tuple(columns[len(columns) - len(references) :]) != tuple(references):
        said = f"references {tuple(references)} are not the last of columns {tuple(columns)}"
        yield Problem(said, "put the columns that only scoring needs last in columns, and list them in references")
    for name in ("title", "version"):
        if not str(getattr(settings, name)).strip():
            yield Problem(f"{name} is empty", f"give the task a {name}: pages and cohorts show it")
    if settings.dtype not in _DTYPES:
        yield Problem(f"dtype is {settings.dtype!r}", f"choose one of {', '.join(_DTYPES)}")
    if settings.dataset is None:
        yield Unseen("the file names no published data set: the task can be measured, but no record is ever official")
    yield from _models(bench)


def _models(bench: Bench) -> Iterator[Problem]:
    names = bench.settings.check_models
    if not names:
        mend = "name a small architecture of params/architectures/ that can do the task: check_models: [tiny-bert]"
        yield Problem("check_models is empty: no model can be tried, and no check of the phases can run", mend)
    for name in names:
        try:
            find_architecture(name, bench.params, bench.settings.architectures)
        except EnergylabError as error:
            mend = "choose one that exists, or add a row to a FAMILY.yaml in the folder that `architectures:` names"
            yield Problem(f"check_models: {error}", mend)
