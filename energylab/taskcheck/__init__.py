"""The gate for a new task: the contract's checks, run on the task itself, each answered in words.

A task passes when what it measures is what it says. Every check is one module: it looks at the task through a `Bench`,
and returns what it found wrong with how to mend it. The same checks hold the tasks of this package.
"""

from __future__ import annotations

from energylab.taskcheck.report import Finding, Problem, Report, Unseen
from energylab.taskcheck.run import CHECKS, check

__all__ = ["CHECKS", "Finding", "Problem", "Report", "Unseen", "check"]
