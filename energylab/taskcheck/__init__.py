"""The gate for a new task: the contract's checks, run on the task itself, each answered in words.

A task passes when what it measures is what it says. Every check is one module: it looks at the task through a `Bench`,
and returns what it found wrong with how to mend it. The same checks hold the tasks of this package.
"""

from __future__ import annotations

import importlib

# Loaded on first use: the command line imports this package before it knows what is asked of it.
_PUBLIC = {
    "check": "energylab.taskcheck.run",
    "source": "energylab.taskcheck.show",
    "Report": "energylab.taskcheck.report",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'energylab.taskcheck' has no attribute {name!r}; it has {', '.join(_PUBLIC)}")
