"""One small registry: names to lazily imported objects, from this package, entry points, a dotted path or a file."""

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

#: What a file of somebody's own may raise while it is imported.
_BROKEN = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, OSError)


class Registry:
    """Names of one kind of thing (task families, meters, executors), each an object behind ``module:object``.

    Parameters
    ----------
    what : str
        The kind of thing, as it appears in errors: ``"task family"``.
    builtin : dict of str to str
        Name to ``module:object``; the module is imported when the object is asked for.
    group : str, optional
        Entry point group in which other packages register theirs.
    """

    def __init__(self, what: str, builtin: dict[str, str], group: str | None = None) -> None:
        self.what = what
        self.group = group
        self._targets = dict(builtin)

    def add(self, name: str, target: str) -> None:
        """Register ``module:object`` under `name`.

        Raises
        ------
        EnergylabError
            If the name already stands for something else.
        """
        if self._targets.get(name, target) != target:
            raise EnergylabError(f"{self.what} {name!r} is already {self._targets[name]}; choose another name")
        self._targets[name] = target

    def names(self) -> list[str]:
        """Return every known name, sorted."""
        return sorted(self._all())

    def get(self, name: str) -> Any:
        """Return the object called `name`; a name with a colon is itself a ``module:object`` or ``file.py:object``.

        Raises
        ------
        UnknownNameError
            If the name is not known; names the nearest match.
        EnergylabError
            If the module or the object behind it cannot be imported.
        """
        target = name if ":" in name else self._all().get(name)
        if target is None:
            raise unknown_name(self.what, name, self._all())
        module, _, attribute = target.rpartition(":")
        try:
            return getattr(_import(module), attribute)
        except _BROKEN as error:
            raise EnergylabError(
                f"{self.what} {name!r} points to {target!r}, which cannot be imported: {error}"
            ) from error

    def _all(self) -> dict[str, str]:
        if self.group is None:
            return self._targets
        outside = {point.name: point.value for point in entry_points(group=self.group)}
        clash = {name for name in outside if self._targets.get(name, outside[name]) != outside[name]}
        if clash:
            raise EnergylabError(
                f"{self.what} {sorted(clash)} is registered twice (entry point group {self.group!r}); uninstall one"
            )
        return {**outside, **self._targets}


def import_file(name: str) -> ModuleType:
    """Import a Python file that belongs to no package; once, until the file changes.

    Parameters
    ----------
    name : str
        Its path, absolute or relative to the working folder or one above it.
    """
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


def _import(module: str) -> ModuleType:
    return import_file(module) if module.endswith(".py") else importlib.import_module(module)
