"""One meter against another on the same windows: bias and limits of agreement."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from energylab.errors import StatisticsError, unknown_name
from energylab.statistics.intervals import Interval, check_level, mean_interval


@dataclass(frozen=True)
class Agreement:
    """How far a meter lies from a reference, as ratios of their energies.

    Attributes
    ----------
    reference, other : str
        The two meters.
    bias : Interval
        Mean of ``other - reference``, relative to the mean of the two; its interval is over sessions, or within the
        session if there is one.
    limits : tuple of float
        Limits of agreement: 95 % of single windows are expected between them.
    table : pandas.DataFrame
        One row a window: ``session, index, mean_j, difference`` (relative).
    """

    reference: str
    other: str
    bias: Interval
    limits: tuple[float, float]
    table: pd.DataFrame = field(repr=False)


def agreement(
    readings: pd.DataFrame, reference: str | None = None, other: str | None = None, level: float = 0.95
) -> Agreement:
    """Compare two meters on the windows that both have seen.

    Differences are relative to the mean of the two, since errors of energy meters grow with the energy.
    Windows of one session share its circumstances: the limits use the variance between sessions plus that
    within them, the interval of the bias rests on the sessions' means.

    Parameters
    ----------
    readings : pandas.DataFrame
        A study's ``meters``; several devices of one meter are summed.
    reference, other : str, optional
        Names of the two meters; the first and the last that the table names.
    level : float, default 0.95
        Coverage of the bias's interval, and share of windows within the limits.

    Returns
    -------
    Agreement

    Raises
    ------
    UnknownNameError
        If a meter is not in the table.
    StatisticsError
        If there are not two meters, or fewer than two windows have both.

    References
    ----------
    Bland, Altman (1999), Measuring agreement in method comparison studies, Statistical Methods in Medical
    Research 8, 135-160; (2007), Agreement between methods of measurement with multiple observations per
    individual, Journal of Biopharmaceutical Statistics 17, 571-582.
    """
    check_level(level)
    known = list(readings["meter"].unique())
    if None in (reference, other) and len(known) < 2:
        raise StatisticsError(f"two meters on the same windows are needed; here is {known[0] if known else 'none'}")
    reference, other = reference or known[0], other or known[-1]
    for name in (reference, other):
        if name not in known:
            raise unknown_name("meter", name, known)
    if reference == other:
        raise StatisticsError(f"meter {reference!r} agrees with itself; name two meters")
    sums = readings.groupby(["session", "index", "meter"])["energy_j"].sum(min_count=1).unstack()
    pairs = sums[[reference, other]].dropna()
    if len(pairs) < 2:
        raise StatisticsError(f"{len(pairs)} windows were seen by both {reference} and {other}; at least 2 are needed")
    mean_j = pairs.mean(axis=1)
    table = pd.DataFrame({"mean_j": mean_j, "difference": (pairs[other] - pairs[reference]) / mean_j}).reset_index()
    return Agreement(reference, other, *_bias_and_limits(table, level), table)


def _bias_and_limits(table: pd.DataFrame, level: float) -> tuple[Interval, tuple[float, float]]:
    groups = table.groupby("session")["difference"]
    means, sizes = groups.mean(), groups.size()
    several = len(means) > 1
    bias = mean_interval(
        means if several else table["difference"], level, "repeatability" if several else "within-session"
    )
    df = len(table) - len(means)
    within = float(((table["difference"] - groups.transform("mean")) ** 2).sum() / df) if df else 0.0
    between = max(float(means.var(ddof=1)) - within * float((1 / sizes).mean()), 0.0) if several else 0.0
    reach = float(stats.norm.ppf(0.5 + level / 2) * np.sqrt(within + between))
    return bias, (bias.mean - reach, bias.mean + reach)
