"""The rows of ``benchmarks/coverage.py``: what is simulated, what is promised, and how coverage is judged."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: What a row can promise: limits of its Wilson interval.
PROMISES = {"95 %": (0.935, 0.965), "95 % or more": (0.935, 1.0), "at least 95 %": (0.95, 1.0)}


@dataclass(frozen=True)
class Row:
    """One line of the table: what is simulated, and what is promised of it."""

    method: str
    condition: str
    promise: str  # a key of PROMISES, or "" for a condition the method does not claim
    covered: Callable[[np.random.Generator, int], np.ndarray]

    @property
    def name(self) -> str:
        return f"{self.method}: {self.condition}"

    def run(self, count: int) -> Result:
        """Simulate `count` times with the row's own seed."""
        rng = np.random.default_rng([20250200, zlib.crc32(self.name.encode())])
        held = np.asarray(self.covered(rng, count), bool)
        interval = stats.binomtest(int(held.sum()), held.size).proportion_ci(0.95, "wilson")
        return Result(self, held.size, float(held.mean()), interval.low, interval.high)


@dataclass(frozen=True)
class Result:
    """Coverage of a row, with its Wilson interval."""

    row: Row
    count: int
    coverage: float
    low: float
    high: float

    @property
    def kept(self) -> bool | None:
        """Whether the promise was kept; None where there was none.

        Fewer than 10,000 simulations cannot show that it was: then it is broken only if a 99.9 % Wilson interval
        lies outside the limits as a whole.
        """
        if not self.row.promise:
            return None
        low, high = PROMISES[self.row.promise]
        if self.count >= 10_000:
            return bool(low <= self.low and self.high <= high)
        surely = stats.binomtest(round(self.coverage * self.count), self.count).proportion_ci(0.999, "wilson")
        return bool(surely.high >= low and surely.low <= high)


ROWS: list[Row] = []


def row(method: str, condition: str, promise: str = ""):
    """Register a simulation: a function of a generator and a count that returns who was covered."""

    def register(function):
        ROWS.append(Row(method, condition, promise, function))
        return function

    return register


def lognormal(rng, cv: float, size) -> np.ndarray:
    """Lognormal numbers of mean 1 and the given coefficient of variation."""
    variance = np.log1p(cv**2)
    return np.exp(np.sqrt(variance) * rng.standard_normal(size) - variance / 2)


def autoregressive(rng, count: int, n: int, correlation: float) -> np.ndarray:
    noise = rng.standard_normal((count, n))
    for i in range(1, n):
        noise[:, i] = correlation * noise[:, i - 1] + np.sqrt(1 - correlation**2) * noise[:, i]
    return noise
