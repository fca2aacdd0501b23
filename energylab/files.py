"""Small files: strict reading and atomic writing."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from energylab.errors import EnergylabError, StudyError


def write_whole(path: Path, text: str) -> Path:
    """Write `text` atomically: to a temporary file that is flushed to disk and then renamed to `path`."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    return path


def cannot_write(path: Path, error: OSError) -> StudyError:
    """Return the error for a results folder that is full, read-only or missing."""
    return StudyError(
        f"cannot write {path}: {error.strerror}; free space or choose another folder (`output_folder`, or --results)"
    )


class _DuplicateKey(ValueError):
    """A mapping has the same key twice, so that one value would silently replace the other."""


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses repeated keys in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise _DuplicateKey(f"the key {key.value!r} is repeated in line {key.start_mark.line + 1}")
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, source: str | Path, error: type[EnergylabError] = StudyError) -> Any:
    """Read a YAML text; a repeated key in a mapping is an error with its line. `error` names `source`."""
    try:
        return yaml.load(text, _StrictLoader)
    except _DuplicateKey as fault:
        raise error(f"{source}: {fault}; merge both entries") from None
    except yaml.YAMLError as fault:
        raise error(f"{source}: not YAML: {fault}") from fault


def read_json(text: str, source: str | Path, error: type[EnergylabError]) -> Any:
    """Read a JSON text; a repeated key in an object is an error with its line. `error` names `source`."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKey as fault:
        try:
            yaml.load(text, _StrictLoader)  # almost every JSON text is YAML, whose reader knows the line
        except (_DuplicateKey, yaml.YAMLError) as found:
            fault = found if isinstance(found, _DuplicateKey) else fault
        raise error(f"{source}: {fault}; merge both entries, or get the file again") from None
    except ValueError as fault:
        raise error(f"{source} is truncated or not JSON ({fault}); get it again") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKey(f"the key {Counter(name for name, _ in pairs).most_common(1)[0][0]!r} is repeated")
    return found
