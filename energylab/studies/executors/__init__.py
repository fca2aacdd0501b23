"""Where jobs run: one small module an executor, found by name."""

from __future__ import annotations

from energylab.registry import Registry

#: Another executor registers itself in the entry point group ``energylab.executors``.
EXECUTORS = Registry(
    "executor",
    {
        "local": "energylab.studies.executors.local:LocalExecutor",
        "slurm": "energylab.studies.executors.slurm:SlurmExecutor",
    },
    group="energylab.executors",
)
