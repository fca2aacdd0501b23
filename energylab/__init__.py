"""energylab: measure the energy of AI models, say how sure the figure is, rate it, and let others repeat it."""

from __future__ import annotations

import importlib
import os
import sys

__version__ = "0.2.0"

# Threads of torch on a processor wait for each other by spinning, 300,000 turns if nothing is said: beside other work,
# most of the processor time of a small model. 20,000 bridge the time between two operations: figures of an idle machine
# stay within 3 %. OpenMP reads this when torch is loaded; the record keeps what was in force.
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
