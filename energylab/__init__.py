"""energylab: measure the energy of AI models, say how sure the figure is, rate it, and let others repeat it."""

from __future__ import annotations

import importlib

__version__ = "0.2.0"

# Public names load their module on first use, so that `import energylab` stays light.
_PUBLIC = {
    "measure": "energylab.measuring",
    "read": "energylab.store",
    "rate": "energylab.ratings",
    "plot": "energylab.figures",
    "Parameters": "energylab.parameters",
    "Record": "energylab.record",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'energylab' has no attribute {name!r}; it has {', '.join(_PUBLIC)}")


def __dir__() -> list[str]:
    return sorted(__all__)
