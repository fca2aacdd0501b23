"""Names of lazily imported objects: of this package, of entry points of other packages, by module or by file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from energylab.errors import EnergylabError, unknown_name
from energylab.paths import named_file


class Registry:
    """Names of one kind of object (meters, rating schemes), each given as ``module:object``.

    `what` is the kind of object, used in errors. `group` is the entry point group in which other packages register
    theirs; they cannot replace names of this package.
    """

    def __init__(self, what: str, builtin: dict[str, str], group: str = "") -> None:
        self.what, self.group = what, group
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        """Return every known name, sorted."""
        return sorted(self._all())

    def get(self, name: str) -> Any:
        """Return the object with this name; a name with a colon is a ``module:object`` or ``file.py:object``."""
        target = name if ":" in name else self._all().get(name)
        if target is None and name.endswith(".py"):
            raise EnergylabError(f"{self.what} {name!r} is only a file; add the name of the class in it: {name}:NAME")
        if target is None:
            raise unknown_name(self.what, name, self._all())
        return import_object(target, f"{self.what} {name!r}")

    def _all(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=self.group)} | self._builtin


def import_object(target: str, what: str) -> Any:
    """Import ``module:object`` or ``file.py:object``; `what` is its description in errors."""
    module, _, attribute = target.rpartition(":")
    try:
        return getattr(import_file(module) if module.endswith(".py") else importlib.import_module(module), attribute)
    except EnergylabError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's file may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise EnergylabError(f"{what} points to {target!r}, which cannot be imported: {reason}") from error


def import_file(name: str) -> ModuleType:
    """Import a Python file that belongs to no package; once, until the file changes."""
    file = named_file(name, "Python file", EnergylabError)
    stamp = hashlib.sha256(f"{file} {file.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    known = f"energylab_file_{stamp}_{file.stem}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module  # before it runs: dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]
