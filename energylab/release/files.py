"""Releases on disk: written once, never overwritten, found by name from any folder, read with one clear error."""

from __future__ import annotations

import importlib.resources
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from energylab.errors import ReleaseError, problem_text
from energylab.release.schema import RELEASE_SCHEMA_VERSION, Release

FOLDER = Path("results/releases")


def write(release: Release, folder: str | os.PathLike = FOLDER) -> Path:
    """Write a release to ``folder/NAME.json``, whole or not at all, and never over another one; return the file.

    Raises
    ------
    ReleaseError
        If another release has that name, or the folder cannot be written to.
    """
    path = Path(folder) / f"{release.name}.json"
    content = release.to_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".release-", suffix=".tmp", dir=path.parent) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            os.link(file.name, path)  # fails where the name is taken, at the same instant
    except FileExistsError:
        if path.read_bytes() != content:
            raise ReleaseError(
                f"{path} is another release of that name, and a release is never overwritten; choose another --name"
            ) from None
    except OSError as error:
        raise ReleaseError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    return path


def read(path: str | os.PathLike) -> Release:
    """Read a release: a file, or a name in ``results/releases`` here or in a folder above, or of a shipped one.

    Raises
    ------
    ReleaseError
        If it is missing, truncated, not a release, or of a newer schema; says which.
    """
    path = _find(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        names = ", ".join(sorted({file.stem for folder in _folders() for file in folder.glob("*.json")}))
        raise ReleaseError(f"cannot read release {path}: {error.strerror}; known: {names}") from error
    try:
        return Release.model_validate_json(text)
    except ValidationError as error:
        raise ReleaseError(f"{path} {_what_is_wrong(text, error)}") from None


def _find(path: str | os.PathLike) -> Path:
    """Return the file that is meant; notebooks run in their own folder, commands in the project's."""
    path = Path(path)
    if path.is_file() or path.suffix == ".json" or len(path.parts) > 1:
        return path
    named = (folder / f"{path.name}.json" for folder in _folders())
    return next((file for file in named if file.is_file()), path)


def _folders() -> Iterator[Path]:
    here = Path.cwd()
    yield from (folder / FOLDER for folder in (here, *here.parents))
    yield Path(str(importlib.resources.files("energylab.published")))


def _what_is_wrong(text: bytes, error: ValidationError) -> str:
    try:
        content = json.loads(text)
    except ValueError as fault:
        return f"is truncated or not JSON ({fault}); make the release again"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > RELEASE_SCHEMA_VERSION:
        return f"has schema version {version}, newer than {RELEASE_SCHEMA_VERSION} known here; update energylab"
    first = error.errors()[0]
    return f"is not a release: {'.'.join(map(str, first['loc'])) or 'file'}: {problem_text(first)}"
