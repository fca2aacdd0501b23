"""Small files that are whole or not there, whenever the machine stops."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from energylab.errors import StudyError


def write_whole(path: Path, text: str) -> Path:
    """Write `text` under a temporary name, flush it to the disk, then rename it to `path`.

    Raises
    ------
    StudyError
        If the folder is full or may not be written to; nothing is left behind.
    """
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
    """Build the one error for a results folder that is full, read-only or gone."""
    return StudyError(f"cannot write {path}: {error.strerror}; free space or choose another folder with --results")
