"""The tasks there are, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from energylab.errors import EnergylabError
from energylab.tasks import find_file, load_settings, task_names


def lines(params: str | Path | None = None) -> Iterator[str]:
    """Return name, version, phases, title and file of every task; one that cannot be read says why.

    Parameters
    ----------
    params : path, optional
        A folder laid out like ``params/``.
    """
    names = task_names(params)
    width = max(map(len, names), default=0)
    for name in names:
        try:
            family, settings = load_settings(name, params)
        except EnergylabError as error:
            yield f"{name:<{width}}  cannot be read: {error}"
            continue
        phases = " + ".join(family.phases)
        yield f"{name:<{width}}  {settings.version:<9} {phases:<31} {settings.title} ({find_file(name, params)})"
