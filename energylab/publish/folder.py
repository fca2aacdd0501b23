"""A folder of generated files that is either whole or as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from energylab.errors import ReleaseError


def replace_folder(folder: Path, files: Iterable[tuple[str, bytes]], marker: str) -> None:
    """Write files to a new folder beside `folder`, then put it in `folder`'s place.

    Parameters
    ----------
    folder : pathlib.Path
        Made if need be. An existing one is replaced only if it is empty or holds `marker`.
    files : iterable of (str, bytes)
        Names relative to the folder, and contents.
    marker : str
        Name of a file by which an earlier folder of the same kind is known.

    Raises
    ------
    ReleaseError
        If `folder` holds other things, or cannot be written; it is then as it was.
    """
    if folder.exists() and not (folder / marker).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} holds other files and no {marker}; choose an empty or new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ReleaseError(f"cannot write beside {folder}: {error.strerror}; choose another folder") from error
    try:
        _write(fresh, files)
        _swap(fresh, folder)
    except OSError as error:
        raise ReleaseError(f"cannot write {folder}: {error.strerror}; free space or choose another folder") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write(fresh: Path, files: Iterable[tuple[str, bytes]]) -> None:
    fresh.chmod(0o755)
    made = {fresh}
    for name, content in files:
        path = fresh / name
        if path.parent not in made:
            path.parent.mkdir(parents=True)
            made.add(path.parent)
        path.write_bytes(content)


def _swap(fresh: Path, folder: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = fresh.with_name(f"{fresh.name}-old")
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)
