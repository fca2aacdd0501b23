"""Pages of the API: the few public names first, then every module by room. mkdocstrings fills in the docstrings."""

from __future__ import annotations

import ast
import functools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import energylab
from pagegen.markdown import code, one_line, page, table

#: Modules that are the command line, described under Commands, or a process of their own that nobody imports.
NOT_API = ("cli", "commands", "slurm_task", "forge", "inside", "verify_bundle")

#: Front matter: a search finds guides and reference tables before single functions.
_LOW_IN_SEARCH = "---\nsearch:\n  boost: 0.3\n---"


def pages() -> dict[str, str]:
    """Return the page of public names, and one for every room of the package."""
    rooms: dict[str, list[str]] = {}
    for module in modules():
        rooms.setdefault(room_of(module), []).append(module)
    made = {"api/index.md": _index(rooms)}
    return made | {f"api/{room}.md": _room(room, names) for room, names in sorted(rooms.items())}


def modules() -> Iterator[str]:
    """Yield the name of every module that says something to people who write programs."""
    for found in pkgutil.walk_packages(energylab.__path__, "energylab."):
        last = found.name.rpartition(".")[2]
        hidden = any(part.startswith("_") for part in found.name.split(".")) or last in NOT_API
        if not hidden and names(found.name):
            yield found.name


def names(module: str) -> list[str]:
    """Return the public functions and classes that a module itself defines."""
    return [node.name for node in _tree(module).body if _public(node)]


def doc_of(module: str, name: str) -> str:
    """Return the first paragraph of the docstring of one public name of a module."""
    return next(one_line(ast.get_docstring(node)) for node in _tree(module).body if _public(node) and node.name == name)


def public_targets() -> dict[str, str]:
    """Return the package's public names, and where each is defined."""
    found = {name: getattr(energylab, name) for name in energylab.__all__ if name != "__version__"}
    return {name: f"{value.__module__}.{value.__qualname__}" for name, value in found.items()}


def room_of(module: str) -> str:
    """Return the first part of a module's name inside the package."""
    return module.split(".")[1]


def _public(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")


@functools.cache
def _tree(module: str) -> ast.Module:
    base = Path(energylab.__file__).parents[1].joinpath(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _doc(module: str) -> str:
    return one_line(ast.get_docstring(_tree(module)))


def _index(rooms: dict[str, list[str]]) -> str:
    targets = public_targets()
    return page(
        "# API",
        "The names below are the public ones: few, and stable. `import energylab` loads none of the heavy libraries; "
        "each name loads its module when it is first used.",
        *(_in_full(name, target) for name, target in targets.items() if name[0].islower()),
        "## Classes",
        table(("name", "what it is"), [_class_row(*item) for item in targets.items() if not item[0][0].islower()]),
        "## All modules",
        "Everything else is documented too, by room. It may change between versions; the changelog says so.",
        table(("room", "what lives there", "public names"), [_room_row(*item) for item in sorted(rooms.items())]),
    )


def _in_full(name: str, target: str) -> str:
    options = {"heading": f"energylab.{name}", "toc_label": name, "members": "false"}
    return f"::: {target}\n    options:\n" + "\n".join(f"      {key}: {value}" for key, value in options.items())


def _class_row(name: str, target: str) -> tuple[str, str]:
    link = f"[{code(f'energylab.{name}')}]({room_of(target)}.md#{target})"
    return link, one_line(getattr(energylab, name).__doc__)


def _room_row(room: str, found: list[str]) -> tuple[str, str, str]:
    link = f"[{code(f'energylab.{room}')}]({room}.md)"
    return link, _doc(f"energylab.{room}"), str(sum(len(names(each)) for each in found))


def _room(room: str, found: list[str]) -> str:
    parts = [_LOW_IN_SEARCH, f"# energylab.{room}"]
    elsewhere = {target for name, target in public_targets().items() if name[0].islower()}
    for module in found:
        here = sorted(target.rpartition(".")[2] for target in elsewhere if target.rpartition(".")[0] == module)
        filters = ", ".join(f'"{pattern}"' for pattern in ["!^_", *(f"!^{name}$" for name in here)])
        parts.append(f"::: {module}\n    options:\n      filters: [{filters}]")
    return page(*parts)
