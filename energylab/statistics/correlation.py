"""Neighbouring windows are not independent: autocorrelation, and how many independent ones they are worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from energylab.errors import StatisticsError
from energylab.statistics.intervals import Interval, check_level, finite_values, t_quantile


def autocorrelation(values: ArrayLike) -> np.ndarray:
    """Sample autocorrelation at lags 0, 1, … n-1, by fast Fourier transform.

    Parameters
    ----------
    values : array_like of shape (n,)
        A series in measured order, n ≥ 4, not constant.

    Returns
    -------
    ndarray of shape (n,)
        Biased (divided by n, which keeps it positive definite); 1 at lag 0.

    Raises
    ------
    StatisticsError
        If the series is too short, constant, or holds a NaN.

    References
    ----------
    Priestley (1981), Spectral analysis and time series, Academic Press, 5.3.
    """
    x = finite_values(values, least=4, what="values of the series")
    x = x - x.mean()
    power = np.abs(np.fft.rfft(x, 2 * x.size)) ** 2
    covariance = np.fft.irfft(power)[: x.size]
    if covariance[0] <= 1e-28 * x.size:
        raise StatisticsError("the series is constant: it has no autocorrelation")
    return covariance / covariance[0]


def effective_sample_size(values: ArrayLike) -> float:
    """How many independent values give a mean as precise as this correlated series does.

    ``n / (1 + 2·Σρ_k)``, the sum cut by the initial monotone sequence: sums of neighbouring pairs of
    autocorrelations are kept while they are positive, and not allowed to rise. At most n: a negative
    correlation, which would make the series worth more, is not trusted.

    Parameters
    ----------
    values : array_like of shape (n,)
        A steady series in measured order.

    Returns
    -------
    float
        Between 1 and n.

    Raises
    ------
    StatisticsError
        As `autocorrelation`.

    References
    ----------
    Geyer (1992), Practical Markov chain Monte Carlo, Statistical Science 7, 473-483.
    """
    rho = autocorrelation(values)
    n = rho.size
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    kept = pairs[: negative[0]] if negative.size else pairs
    time = 2 * np.minimum.accumulate(kept).sum() - 1 if kept.size else 1.0
    return float(np.clip(n / max(time, 1.0), 1.0, n))


def correlation(units: pd.DataFrame) -> pd.DataFrame:
    """Autocorrelation and effective sample size of the mean power, session by session.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, after `drift.steady`: a drift looks like correlation.

    Returns
    -------
    pandas.DataFrame
        One row a session: ``session, board, windows, lag_1, effective``.
    """
    rows = [
        {
            "session": session,
            "board": part["board"].iloc[0],
            "windows": len(part),
            "lag_1": autocorrelation(part["mean_power_w"])[1],
            "effective": effective_sample_size(part["mean_power_w"]),
        }
        for session, part in units.groupby("session", sort=False)
    ]
    return pd.DataFrame(rows)


def within_session_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student interval of the mean of one session's correlated windows.

    ``mean ± t(level; m - 1) · s/√m``, m the effective sample size, s² corrected for the correlation by
    ``(n - 1)/(n - n/m)``. It is of this session's mean; it says nothing of the next session.

    Parameters
    ----------
    values : array_like of shape (n,)
        Windows of one session in measured order, any unit.
    level : float, default 0.95
        Nominal coverage; nearly kept when the series is worth 20 independent values or more, less below.

    Returns
    -------
    Interval
        Of kind ``within-session``.

    Raises
    ------
    StatisticsError
        If the series is too short, or worth fewer than two independent values.

    References
    ----------
    Zięba (2010), Effective number of observations and unbiased estimators of variance for autocorrelated
    data, Metrology and Measurement Systems 17, 3-16.
    """
    check_level(level)
    x = finite_values(values, least=4, what="windows")
    if np.ptp(x) == 0:
        mean = float(x[0])
        return Interval(mean, mean, mean, level, x.size, "Student t", "within-session", "", float(x.size - 1))
    m = effective_sample_size(x)
    if m < 2:
        raise StatisticsError(f"{x.size} windows are worth {m:.1f} independent ones; measure for longer")
    deviation = np.sqrt(x.var() * m / (m - 1))
    half = float(t_quantile(level, m - 1) * deviation / np.sqrt(m))
    note = f"worth {m:.0f} independent windows" + (" (few: it may cover less)" if m < 20 else "")
    mean = float(x.mean())
    method = "Student t, effective sample size"
    return Interval(mean, mean - half, mean + half, level, x.size, method, "within-session", note, m - 1)
