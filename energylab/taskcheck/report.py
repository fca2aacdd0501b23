"""What the checks say: findings in words, one row a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "not seen", "waits"]

#: How a status is marked in front of a line.
MARKS = {"passed": "✓", "failed": "✗", "not seen": "·", "waits": "…"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    said: str
    mend: str


@dataclass(frozen=True)
class Unseen:
    """One thing that could not be looked at, and why; it does not fail the task."""

    why: str


@dataclass(frozen=True)
class Finding:
    """The answer of one check for one model.

    Attributes
    ----------
    check : str
        Name of the check.
    model : str
        The architecture it was tried on; empty for checks that need none.
    asks : str
        What the check asks, in words.
    status : {"passed", "failed", "not seen", "waits"}
        ``waits``: an earlier check must pass first.
    problems : tuple of Problem
        What is wrong.
    unseen : tuple of str
        What could not be looked at.
    """

    check: str
    model: str
    asks: str
    status: Status
    problems: tuple[Problem, ...] = ()
    unseen: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the finding as lines of text: what was asked, what is wrong, how to mend it."""
        where = f" [{self.model}]" if self.model else ""
        text = [f"{MARKS[self.status]} {self.check}{where}: {self.asks}"]
        for problem in self.problems:
            text += [f"    wrong: {problem.said}", f"    mend:  {problem.mend}"]
        return [*text, *(f"    not seen: {why}" for why in self.unseen)]


@dataclass(frozen=True)
class Report:
    """Every finding on one task."""

    task: str
    file: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing waits."""
        return all(finding.status in ("passed", "not seen") for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.status == "failed")

    def text(self) -> str:
        """Return the report as text for a terminal."""
        lines = [f"task {self.task} ({self.file})"]
        for finding in self.findings:
            lines += finding.lines()
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """Say in one sentence whether the task may be measured."""
        if self.passed:
            return f"{self.task} keeps the contract: {len(self.findings)} checks passed"
        waiting = sum(finding.status == "waits" for finding in self.findings)
        problems = sum(len(finding.problems) for finding in self.findings)
        later = f"; {waiting} checks wait for them" if waiting else ""
        return f"{self.task} does not keep the contract yet: {problems} thing(s) to mend{later}"
