"""Where queries come from: the published data set on the hub, a small real sample, or seeded synthetic rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from energylab.errors import DataError, nearest
from energylab.parameters import Parameters
from energylab.record import DataFacts
from energylab.tasks import hub
from energylab.tasks.base import Row, TaskSettings


def load_rows(
    settings: TaskSettings,
    parameters: Parameters,
    required: Sequence[str],
    synthesise: Callable[[int, int], list[Row]],
    check: Callable[[Row], str | None],
    open_row: Callable[[Row, Path], Row] = lambda row, folder: row,
    is_empty: Callable[[Row], bool] = lambda row: False,
) -> tuple[list[Row], DataFacts]:
    """Load the first ``samples`` queries from the data source that the parameters name, and say what they are.

    `required` columns must be there; ``synthesise(count, seed)`` makes rows up; ``check(row)`` returns what makes one
    unusable; ``open_row(row, folder)`` reads the files a sample's row names; ``is_empty(row)`` leaves one out before
    rows are counted.
    """
    if parameters.data_source == "synthetic":
        rows = synthesise(parameters.samples, parameters.seed)
        facts = {"name": f"synthetic {settings.name}"}
    elif parameters.data_source == "sample":
        rows, facts = _sample(settings, parameters.samples, open_row, is_empty)
    else:
        rows, facts = _published(settings, parameters.samples, required, is_empty)
    _check(rows, facts["name"], required, parameters.samples, check)
    return rows, DataFacts(source=parameters.data_source, digest=digest(rows), queries=len(rows), **facts)


def digest(rows: Iterable[Row]) -> str:
    """Return the sha256 over rows in order; tensors, arrays, images and bytes count by their content."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=_content).encode())
        total.update(b"\n")
    return total.hexdigest()


def _content(value: Any) -> dict[str, Any] | str:
    """Stand for a value that JSON cannot hold by the hash of its bytes and its shape, or by its text."""
    if hasattr(value, "detach"):  # a tensor; numpy has no bfloat16
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if not (isinstance(value, bytes | bytearray) or hasattr(value, "tobytes")):
        return repr(value)
    data = value if isinstance(value, bytes | bytearray) else value.tobytes()
    shape = [str(getattr(value, name)) for name in ("shape", "size", "dtype", "mode") if hasattr(value, name)]
    return {"sha256": hashlib.sha256(data).hexdigest(), "shape": shape}


def _sample(
    settings: TaskSettings, count: int, open_row: Callable[[Row, Path], Row], is_empty: Callable[[Row], bool]
) -> tuple[list[Row], dict[str, Any]]:
    folder = settings.sample
    if folder is None or not (folder / "rows.jsonl").is_file():
        raise DataError(f"task {settings.name!r} has no sample data ({folder}); use data_source='synthetic' or 'hub'")
    try:
        whole = [row for row in json_lines(folder / "rows.jsonl") if not is_empty(row)]
        rows = [open_row(row, folder) for row in whole[:count]]
        about = yaml.safe_load((folder / "about.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"sample data {folder}: {error}") from error
    if not isinstance(about, dict) or not about.get("licence"):
        raise DataError(f"sample data {folder}: about.yaml names no licence; say under which terms others may use it")
    return rows, {"name": f"sample {settings.name}", "licence": about["licence"]}


def json_lines(file: Path) -> list[Row]:
    """Read a file of one JSON object a line, or name the line that is none; empty lines are left out."""
    rows = []
    # not splitlines(): it would also split at the other ends of a line that a text may hold
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file} line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{file} line {number} is no object; write one a line, with the task's columns")
        rows.append(row)
    return rows


def _published(
    settings: TaskSettings, count: int, required: Sequence[str], is_empty: Callable[[Row], bool]
) -> tuple[list[Row], dict[str, Any]]:
    """Load the first `count` rows of the published data at one commit; empty rows do not count."""
    import datasets
    from datasets.exceptions import DatasetsError

    source = settings.dataset
    if source is None:
        raise DataError(f"task {settings.name!r} has no published data set; use data_source='sample' or 'synthetic'")
    commit = hub.resolve_commit(source.id, source.revision, "dataset", DataError)
    with hub.explained(source.id, commit, "dataset", DataError):
        try:
            table = datasets.load_dataset(source.id, source.config, split=source.split, revision=commit)
        except (DatasetsError, ValueError, FileNotFoundError) as error:
            hub.check_access(source.id, "dataset")  # a gated data set is the one cause this library hides
            raise DataError(f"data set {source.id!r} (split {source.split!r}): {error}") from error
    for column in required:
        name = source.columns.get(column, column)
        if name not in table.column_names:
            raise _missing_column(source.id, name, table.column_names)
    wanted = {column: name for column, name in source.columns.items() if name in table.column_names}
    table = _still_encoded(table.select_columns(list(wanted.values())))
    rows = ({column: _file(row[name]) for column, name in wanted.items()} for row in table)
    whole = (row for row in rows if not is_empty(row))
    facts = {
        "name": source.id,
        "revision": source.revision,
        "commit": commit,
        "licence": table.info.license or None,
    }
    return list(islice(whole, count)), facts


def _still_encoded(table: Any) -> Any:
    """Leave pictures and sound as the files they are: to decode them is the work of the preprocess phase."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            table = table.cast_column(name, type(feature)(decode=False))
    return table


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


def _check(
    rows: Sequence[Row], name: str, required: Sequence[str], count: int, check: Callable[[Row], str | None]
) -> None:
    if len(rows) < count:
        raise DataError(f"data {name!r} has {len(rows)} row(s), samples={count} were asked for; lower samples")
    for number, row in enumerate(rows):
        for column in required:
            if column not in row:
                raise _missing_column(name, column, row)
        problem = check(row)
        if problem:
            raise DataError(f"data {name!r}, row {number}: {problem}; remove the row or correct it")
