"""One page a task: its published settings, from params/tasks/*.yaml and the model that checks them."""

from __future__ import annotations

import json

from energylab import tasks
from energylab.paths import params_root
from pagegen import comments, types
from pagegen.markdown import code, one_line, page, table

#: Settings that a session can replace by a parameter of another name or of the same.
REPLACED_BY = ("samples", "runs", "batch_size", "dtype", "new_tokens", "diffusion_steps", "quantisation", "attention",
               "compile")  # fmt: skip


def pages() -> dict[str, str]:
    """Return a page of all tasks, and one for every task."""
    loaded = {name: tasks.load_settings(name) for name in tasks.task_names()}
    made = {"tasks/index.md": _index(loaded)}
    return made | {f"tasks/{name}.md": _task(name, *found) for name, found in loaded.items()}


def _index(loaded) -> str:
    rows = [
        (
            f"[{code(name)}]({name}.md)",
            settings.title,
            settings.version,
            " → ".join(family.phases),
            code(settings.dataset.id) if settings.dataset else "none",
        )
        for name, (family, settings) in loaded.items()
    ]
    return page(
        "# Tasks",
        "A task is one file of settings, `params/tasks/NAME.yaml`, and the small class of its family. The pages of "
        "this section are made from both. Overriding a published setting is recorded and moves a record out of the "
        "published cohort.",
        table(("task", "title", "version", "phases", "published data"), rows),
    )


def _task(name: str, family, settings) -> str:
    described = comments.of_fields(type(settings))
    fields = type(settings).model_fields
    rows = [
        (code(field), described[field], _value(getattr(settings, field)), types.words(fields[field].annotation))
        for field in fields
        if field not in ("name", "dataset", "sample")
    ]
    source = _source(name)
    return page(
        f"# {settings.title}",
        one_line(family.__doc__),
        _facts(name, family, settings),
        "## Settings",
        "As published, unless a session's parameter of the same name says otherwise "
        f"({', '.join(f'[{code(each)}](../parameters.md#{each})' for each in REPLACED_BY if each in fields)}).",
        table(("setting", "meaning", "published value", "values"), rows),
        "## Data",
        _dataset(settings),
        "## File" if source else "",
        f'```yaml title="params/tasks/{name}.yaml"\n{source}```' if source else "",
    )


def _facts(name: str, family, settings) -> str:
    rows = [
        ("name", code(name)),
        ("version", settings.version),
        ("phases", ", ".join(code(phase) for phase in family.phases)),
        ("columns of a row", ", ".join(code(column) for column in family.columns)),
        ("class", code(f"{family.__module__}.{family.__qualname__}")),
    ]
    return table(("fact", "value"), rows)


def _dataset(settings) -> str:
    data = settings.dataset
    if data is None:
        return "There is no published data set: the task runs on its sample and on synthetic rows."
    revision = data.revision or "the newest, frozen by `energylab study fetch`"
    columns = ", ".join(f"{code(own)} from {code(theirs)}" for own, theirs in data.columns.items())
    rows = [
        ("data set", code(data.id)),
        ("split", code(data.split)),
        ("configuration", code(data.config or "")),
        ("revision", revision),
        ("columns", columns),
    ]
    return table(("published data", "value"), [row for row in rows if row[1]])


def _source(name: str) -> str:
    file = params_root() / "tasks" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _value(value: object) -> str:
    if value is None:
        return ""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        value = {
            str(key): each.model_dump(mode="json") if hasattr(each, "model_dump") else each
            for key, each in value.items()
        }
        return code(json.dumps(value, ensure_ascii=False, default=str))
    return code(value)
