"""Rows on the total from fewer queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coverage_rows import lognormal, row
from energylab.statistics import survey


@dataclass(frozen=True)
class Population:
    """Queries dealt to windows at random; each simulation draws a new population and measures some windows."""

    windows: int = 50
    per_window: int = 20
    measured: int = 15
    query_cv: float = 0.5
    explained: float = 0.8
    lognormal_residual: bool = False
    grows: bool = False  # the residual grows with the covariate
    noise: float = 0.0  # of a window

    def covers(self, rng, count: int, regression: bool, method: str = "auto", share: float = 1.0) -> list[bool]:
        held: list[bool] = []
        while len(held) < count:  # in blocks, so that memory stays small
            x, energy, window = self._draw(rng, min(count - len(held), 500))
            measured = x[:, : self.measured].mean(axis=2)
            intervals = (
                survey.estimate_total(
                    window[i],
                    np.full(self.measured, self.per_window),
                    population=energy[i].size,
                    covariates={"x": measured[i]} if regression else None,
                    covariate_means={"x": x[i].mean()} if regression else None,
                    sampling_share=share,
                    method=method,
                    seed=len(held) + i,
                )
                for i in range(len(x))
            )
            held += [i.low <= truth <= i.high for i, truth in zip(intervals, energy.sum(axis=(1, 2)), strict=True)]
        return held

    def _draw(self, rng, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariate and energy of all queries, and the energy of the windows measured.

        Queries are independent, so the first windows are as random as any others.
        """
        shape = (count, self.windows, self.per_window)
        x = lognormal(rng, 0.6, shape)
        residual = lognormal(rng, 1.0, shape) - 1 if self.lognormal_residual else rng.standard_normal(shape)
        residual = residual * (x if self.grows else 1.0)
        slope = self.query_cv * np.sqrt(self.explained) / 0.6
        energy = 1 + slope * (x - 1) + self.query_cv * np.sqrt(1 - self.explained) * residual
        noise = 1 + self.noise * rng.standard_normal((count, self.measured))
        return x, energy, energy[:, : self.measured].sum(axis=2) * noise


@row("total, mean per query with FPC", "15 of 50 windows of 20 queries, lengths lognormal, CV 0.5", "95 %")
def _(rng, count):
    return Population().covers(rng, count, regression=False, method="t")


@row("total, mean per query with FPC", "40 of 50 windows of 20 queries, lengths lognormal, CV 0.5", "95 %")
def _(rng, count):
    return Population(measured=40).covers(rng, count, regression=False, method="t")


@row("total, mean per query with FPC", "40 of 50 windows, window noise 5 %, its share known", "95 %")
def _(rng, count):
    sampling = 0.5**2 / 20
    share = sampling / (sampling + 0.05**2)
    return Population(measured=40, noise=0.05).covers(rng, count, regression=False, method="t", share=share)


@row("total, mean per query with FPC", "40 of 50 windows, window noise 5 %, taken for sampling")
def _(rng, count):
    return Population(measured=40, noise=0.05).covers(rng, count, regression=False, method="t")


@row("total by regression", "15 of 50 windows of 20 queries, Gaussian residuals", "95 %")
def _(rng, count):
    return Population().covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, Gaussian residuals", "95 %")
def _(rng, count):
    return Population(measured=30).covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, residuals grow with the length", "95 %")
def _(rng, count):
    return Population(measured=30, grows=True).covers(rng, count, regression=True, method="t")


@row("total by regression", "30 of 50 windows of 20 queries, lognormal residuals of CV 1, t")
def _(rng, count):
    return Population(measured=30, lognormal_residual=True).covers(rng, count, regression=True, method="t")


@row("total by regression", "15 windows of 1 query, lognormal residuals of CV 1, t")
def _(rng, count):
    skewed = Population(windows=500, per_window=1, measured=15, lognormal_residual=True)
    return skewed.covers(rng, count, regression=True, method="t")


@row("total by regression", "15 windows of 1 query, lognormal residuals of CV 1, auto")
def _(rng, count):
    skewed = Population(windows=500, per_window=1, measured=15, lognormal_residual=True)
    return skewed.covers(rng, count, regression=True)


@row("total by regression", "15 of 50 windows of 20 queries, lognormal residuals of CV 1, auto", "95 %")
def _(rng, count):
    return Population(lognormal_residual=True).covers(rng, count, regression=True)


@row("total, mean per query with FPC", "10 of 50 windows of 20 queries, lengths lognormal, CV 0.5, auto", "95 %")
def _(rng, count):
    return Population(measured=10).covers(rng, count, regression=False)
