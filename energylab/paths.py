"""Where parameter files are found, with the same rule for notebooks, commands and tests."""

from __future__ import annotations

import os
from pathlib import Path

from energylab.errors import EnergylabError, ParameterError

_PACKAGE = Path(__file__).resolve().parent
_PACKAGED = _PACKAGE / "_params"


def params_root(explicit: str | os.PathLike | None = None, start: str | os.PathLike | None = None) -> Path:
    """Return the folder that holds ``tasks/``, ``studies/`` and ``architectures/``.

    It is `explicit` (``--params``), which must be such a folder; else the first of: ``params/`` in `start` (by default
    the working folder) or any folder above it, the repository of this package, the copy in the installed package.
    """
    if explicit is not None:
        folder = Path(explicit)
        if not (folder / "tasks").is_dir():
            raise ParameterError(
                f"params folder {str(folder)!r} has no tasks/ folder; name a folder with the layout of params/"
            )
        return folder
    here = Path(start if start is not None else Path.cwd()).resolve()
    candidates = [folder / "params" for folder in (here, *here.parents)]
    candidates += [_PACKAGE.parent / "params", _PACKAGED]
    for folder in candidates:
        if (folder / "tasks").is_dir():
            return folder
    raise ParameterError(f"no params/ folder in {here} or above it; run inside the project or give --params FOLDER")


def shipped(name: str) -> Path:
    """Return the path of a file of this package: in its repository, else in the installed package.

    The installed package holds ``notebooks/…`` and ``params/…`` as ``_notebooks/…`` and ``_params/…``.
    """
    in_repository = _PACKAGE.parent / name
    return in_repository if in_repository.is_file() else _PACKAGE / f"_{name}"


def results_root(params: str | os.PathLike | None = None) -> Path:
    """Return the folder of results: in the folder of ``params/``, or in the working folder outside a project."""
    root = params_root(params)
    return (Path.cwd() if root == _PACKAGED else root.parent) / "results"


def named_file(name: str | os.PathLike, what: str, error: type[EnergylabError] = ParameterError) -> Path:
    """Return an existing file, given by a path that is absolute or relative to the working folder or one above.

    The repository of this package comes last, so that notebooks find ``examples/…`` from any folder. If there is no
    such file, `error` is raised and names `what` the file should hold.
    """
    path = Path(name).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / path).is_file():
            return (folder / path).resolve()
    above = "" if path.is_absolute() else f" in {here} or a folder above it"
    raise error(f"{what} {str(name)!r}: no such file{above}; name an existing one")
