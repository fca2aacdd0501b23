"""The schema of a record and of the tidy tables, from pydantic and the tables' columns."""

from __future__ import annotations

import json
import typing

from pydantic import BaseModel

from energylab import energy, record
from energylab import table as tidy
from energylab.studies.plan import GIVEN_BY_STUDY, StudyFile
from pagegen import comments, types
from pagegen.markdown import code, one_line, page, table


def pages() -> dict[str, str]:
    """Return the page of the record, its JSON Schema, and the page of the tables."""
    schema = record.Record.model_json_schema()
    return {
        "record.md": _record(),
        "record.schema.json": json.dumps(schema, indent=1) + "\n",
        "tables.md": _tables(),
        "study-file.md": _study_file(),
    }


def parts(model: type[BaseModel] = record.Record) -> list[type[BaseModel]]:
    """Return a model and every model it holds, each once, in order of first use."""
    found = [model]
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            found += [each for each in parts(inner) if each not in found]
    return found


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _record() -> str:
    sections = [text for model in parts() for text in (f"## {model.__name__}", _part(model))]
    return page(
        "# Record",
        f"What one session leaves: `record.json`, schema version {record.SCHEMA_VERSION}. Readers accept every older "
        "version; a newer one is refused by name. Energies are joules, times are seconds, and nothing is ever 0 in "
        "place of unknown: unknown is `null`. This page is made from the frozen pydantic models of `energylab.record`, "
        "a module that imports nothing else of energylab, so that any program can read a record with that one file. "
        "The same as JSON Schema: [record.schema.json](record.schema.json).",
        *sections,
    )


def _part(model: type[BaseModel]) -> str:
    said = comments.of_fields(model)
    rows = [
        (code(name), said[name], types.words(field.annotation), _default(field))
        for name, field in model.model_fields.items()
    ]
    return page(one_line(model.__doc__), table(("field", "meaning", "values", "default"), rows))


def _default(field) -> str:
    value = types.default(field)
    return value if value == "required" else code(value)


def _tables() -> str:
    return page(
        "# Tables",
        "Table in, table out: every function that rates, compares or draws takes the tidy table of `energylab.read`, "
        "one row a record, run and phase. A table of your own needs only "
        f"{', '.join(code(name) for name in energy.REQUIRED)}.",
        "## The tidy table",
        table(("column", "type", "unit", "meaning"), [_typed(column) for column in tidy.TIDY]),
        "## The table of windows",
        "`energylab.store.read_windows`: one row a window, invalid ones included.",
        table(
            ("column", "unit", "meaning"),
            [(code(column.name), column.unit, column.description) for column in tidy.WINDOWS],
        ),
    )


def _typed(column: tidy.Column) -> tuple[str, ...]:
    return code(column.name), column.kind, column.unit, column.description


def _study_file() -> str:
    sections = [text for model in parts(StudyFile) for text in (f"## {model.__name__}", _part(model))]
    return page(
        "# Study file",
        "`params/studies/NAME.yaml`: every key, made from the models that check it. How to use one: "
        "[Run a sweep](studies.md). The parameters that `parameters`, `sweeps`, `include` and `exclude` may name are "
        f"those of [Parameters](parameters.md), except {', '.join(code(name) for name in GIVEN_BY_STUDY)}, which the "
        "study gives to each job itself.",
        *sections,
    )
