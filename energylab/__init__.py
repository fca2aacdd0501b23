"""energylab: measure the energy of AI models with its uncertainty, rate models by stars, publish repeatable results."""

from __future__ import annotations

import importlib
import os
import sys

__version__ = "0.2.0"

# Threads of torch on a processor wait for each other by spinning, by default for 300,000 turns, most of the processor
# time of a small model on a busy machine. 20,000 are enough between two operations: figures of an idle machine change
# by less than 3 %. OpenMP reads this when torch is loaded; the record stores the value in use.
if "torch" not in sys.modules and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "20000"

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
