"""Where queries come from: the published data set on the hub, a small real sample, or seeded synthetic rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from energylab.errors import DataError, nearest
from energylab.record import DataFacts

if TYPE_CHECKING:
    from energylab.tasks.base import DatasetSettings, Row, Task


def load_rows(task: Task) -> tuple[list[Row], DataFacts]:
    """Load a task's first ``samples`` queries from the parameters' data source; empty rows are skipped."""
    source, name, count = task.parameters.data_source, task.settings.name, task.parameters.samples
    if source == "synthetic":
        rows, facts = iter(task.synthesise(count, task.parameters.seed)), {"name": f"synthetic {name}"}
    elif source == "sample":
        folder = task.settings.sample
        if folder is None or not (folder / "rows.jsonl").is_file():
            raise DataError(f"task {name!r} has no sample data ({folder}); use data_source='synthetic' or 'hub'")
        rows, facts = iter(json_lines(folder / "rows.jsonl")), {"name": f"sample {name}", "licence": _licence(folder)}
    elif task.settings.dataset is None:
        raise DataError(f"task {name!r} has no published data set; use data_source='sample' or 'synthetic'")
    else:
        rows, facts = _published(task.settings.dataset, task.input_columns())
    first = list(islice((row for row in rows if not task.is_empty(row)), count))
    if source == "sample":
        first = [_opened(task, row) for row in first]
    _check(task, first, facts["name"])
    return first, DataFacts(source=source, digest=digest(first), queries=len(first), **facts)


def digest(rows: Iterable[Row]) -> str:
    """Return the sha256 over rows in order; tensors, arrays, images and bytes count by their content."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=_content).encode())
        total.update(b"\n")
    return total.hexdigest()


def _content(value: Any) -> dict[str, Any] | str:
    """Replace a value that JSON cannot hold by the hash of its bytes and its shape, or by its text."""
    if hasattr(value, "detach"):  # a tensor; numpy has no bfloat16
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if not (isinstance(value, bytes | bytearray) or hasattr(value, "tobytes")):
        return repr(value)
    data = value if isinstance(value, bytes | bytearray) else value.tobytes()
    shape = [str(getattr(value, name)) for name in ("shape", "size", "dtype", "mode") if hasattr(value, name)]
    return {"sha256": hashlib.sha256(data).hexdigest(), "shape": shape}


def json_lines(file: Path) -> list[Row]:
    """Read a file with one JSON object per line; an error names the first bad line. Empty lines are skipped."""
    rows = []
    # not splitlines(): it would also split at other line separators inside a text
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file} line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{file} line {number} is not a JSON object; write one per line, with the task's columns")
        rows.append(row)
    return rows


def _licence(folder: Path) -> str:
    try:
        about = yaml.safe_load((folder / "about.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        about = None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"sample data {folder}: {error}") from error
    if not isinstance(about, dict) or not about.get("licence"):
        raise DataError(f"sample data {folder}: about.yaml with a licence is missing; write `licence: CC0-1.0` there")
    return about["licence"]


def _opened(task: Task, row: Row) -> Row:
    try:
        return task.open_row(row, task.settings.sample)
    except (OSError, ValueError) as error:
        raise DataError(f"sample data {task.settings.sample}: {error}") from error


def _published(source: DatasetSettings, required: Sequence[str]) -> tuple[Iterator[Row], dict[str, Any]]:
    """Read the published data at one commit; pictures and sound stay encoded, since decoding is measured work."""
    import datasets
    from datasets.exceptions import DatasetsError

    from energylab.tasks import hub

    commit = hub.resolve_commit(source.id, source.revision, "dataset", DataError)
    with hub.explained(source.id, commit, "dataset", DataError):
        try:
            table = datasets.load_dataset(source.id, source.config, split=source.split, revision=commit)
        except (DatasetsError, ValueError, FileNotFoundError) as error:
            hub.check_access(source.id, "dataset")  # the library does not report that a data set is gated
            raise DataError(f"data set {source.id!r} (split {source.split!r}): {error}") from error
    for column in required:
        if source.columns.get(column, column) not in table.column_names:
            raise _missing_column(source.id, source.columns.get(column, column), table.column_names)
    wanted = {column: name for column, name in source.columns.items() if name in table.column_names}
    table = table.select_columns(list(wanted.values()))
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            table = table.cast_column(name, type(feature)(decode=False))
    facts = {"name": source.id, "revision": source.revision, "commit": commit, "licence": table.info.license or None}
    return ({column: _file(row[name]) for column, name in wanted.items()} for row in table), facts


def _file(value: Any) -> Any:
    """Return the bytes of an encoded file (``{bytes, path}``); any other value as it is."""
    if not (isinstance(value, dict) and value.keys() == {"bytes", "path"}):
        return value
    if value["bytes"] is None and value["path"] is not None:
        return Path(value["path"]).read_bytes()
    return value["bytes"]


def _missing_column(name: str, column: str, present: Iterable[str]) -> DataError:
    match = nearest(column, present)
    meant = f"; did you mean {match!r}?" if match else ";"
    return DataError(f"data {name!r} has no column {column!r}{meant} it has {', '.join(present) or 'none'}")


def _check(task: Task, rows: Sequence[Row], name: str) -> None:
    wanted = task.parameters.samples
    if len(rows) < wanted:
        raise DataError(f"samples={wanted}, but data {name!r} has {len(rows)} row(s); lower samples")
    for number, row in enumerate(rows):
        for column in task.input_columns():
            if column not in row:
                raise _missing_column(name, column, row)
        problem = task.check_row(row)
        if problem:
            raise DataError(f"data {name!r}, row {number}: {problem}; remove the row or correct it")
