"""Test whether one set of records is better than, worse than or equivalent to another: two one-sided tests (TOST)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from energylab.energy import model_energies
from energylab.errors import DataError, ParameterError
from energylab.statistics.uncertainty import GAIN_ERROR, gain_variance

#: Power of the recommended number of sessions: the probability of showing two equal sets to be equivalent.
WANTED_POWER = 0.9
_MOST_SESSIONS = 10_000


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison; ``energy_wh`` (Wh per 1,000 queries) and ``sessions`` are pairs of A and B.

    Attributes
    ----------
    verdict : str
        ``better`` (B needs significantly less energy than A), ``worse`` (significantly more), ``equivalent`` (within
        the margin of A with significance) or ``undecided``.
    ratio, low, high : float
        Energy of B divided by that of A, with the interval of both one-sided tests (level ``1 - 2 alpha``).
    margin, alpha : float
        The relative margin, and the false-alarm rate of each test.
    power : float
        Probability that this number of sessions shows two truly equal sets to be equivalent.
    sessions_wanted : int or None
        Sessions of each set with which that probability is at least 0.9; None if no number reaches it, because the
        sets ran on different boards.
    """

    verdict: str
    ratio: float
    low: float
    high: float
    margin: float
    alpha: float
    power: float
    sessions_wanted: int | None
    energy_wh: tuple[float, float]
    sessions: tuple[int, int]
    energy_kind: str


def compare(
    a: pd.DataFrame, b: pd.DataFrame, margin: float = 0.03, alpha: float = 0.05, gain: float = GAIN_ERROR
) -> Comparison:
    """Compare the energy of two sets of records of one task and cohort.

    The difference of the logarithms of the two mean energies is tested by two one-sided Welch tests against the margin.
    The gain of a board that both sets used cancels; the gain of any other board is an error of the difference.

    Parameters
    ----------
    a, b : pandas.DataFrame
        Tidy tables, each of one model; the names may differ.
    margin : float, default 0.03
        Largest relative difference that counts as equivalent.
    alpha : float, default 0.05
        False-alarm rate of each one-sided test.
    gain : float, default 0.05
        Largest relative gain error of a board's sensor, in either direction.

    Raises
    ------
    ParameterError
        If margin or alpha is out of its range.
    DataError
        If a set holds several models, or none has repeats.
    CohortError
        If the two may not be compared.

    References
    ----------
    Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 657-680.
    """
    if not 0 < margin < 1:
        raise ParameterError(f"margin={margin!r}: give a relative difference between 0 and 1, 0.03 for 3 %")
    if not 0 < alpha < 0.5:
        raise ParameterError(f"alpha={alpha!r}: give a false-alarm rate between 0 and 0.5, such as 0.05")
    found = model_energies(pd.concat([_one_model(a, "A"), _one_model(b, "B")], ignore_index=True), gain=gain)
    models = found.models.set_index("model")
    if set(models.index) != {"A", "B"} or len(found.groups) > 1:
        raise DataError("the two sets have different cohorts, tasks or classes; compare records of one cohort")
    rows = models.loc[["A", "B"]]
    if rows["energy_wh"].isna().any():
        raise DataError("one of the sets has no complete session; measure it again")
    if not np.isfinite(rows["session_se"]).all():
        raise DataError("neither set was repeated, so the difference cannot be tested; measure each at least twice")
    unshared = gain_variance(gain) * _unshared(found.boards, found.models)
    return judge(rows, unshared, margin, alpha, found.groups[0].energy_kind)


def judge(rows: pd.DataFrame, unshared: float, margin: float, alpha: float, energy_kind: str) -> Comparison:
    """Compare two rows of `energy.ModelEnergies`; `unshared` is the variance of the gains that do not cancel."""
    se, df, energies = (rows[name].to_numpy(float) for name in ("session_se", "session_df", "energy_wh"))
    difference, edge = math.log(energies[1] / energies[0]), math.log1p(margin)
    total = math.sqrt(float(np.sum(se**2)) + unshared)
    freedom = total**4 / float(np.sum(se**4 / df)) if np.any(se > 0) else math.inf  # Welch and Satterthwaite
    half = stats.t.ppf(1 - alpha, freedom) * total
    sessions = tuple(int(n) for n in rows["sessions"])
    return Comparison(
        verdict=_verdict(difference - half, difference + half, edge),
        ratio=math.exp(difference),
        low=math.exp(difference - half),
        high=math.exp(difference + half),
        margin=margin,
        alpha=alpha,
        power=_power(total, freedom, edge, alpha),
        sessions_wanted=_wanted(se, sessions, unshared, edge, alpha),
        energy_wh=(float(energies[0]), float(energies[1])),
        sessions=sessions,
        energy_kind=energy_kind,
    )


def _one_model(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a set's rows with the name of the set as model; it must hold one model."""
    models = table["model"].dropna().unique()
    if len(models) != 1:
        raise DataError(f"set {name} holds {len(models)} models ({', '.join(map(str, models[:4]))}); choose one")
    return table.assign(model=name)


def _unshared(boards: pd.DataFrame, models: pd.DataFrame) -> float:
    """Return the sum over boards of the squared difference of the two sets' shares; 0 if they share all boards."""
    if not len(boards):
        return 0.0
    name = models["model"].to_numpy()[boards["row"].to_numpy()]
    shares = boards.assign(name=name).pivot_table(index="board", columns="name", values="share", fill_value=0.0)
    return float(((shares["A"] - shares["B"]) ** 2).sum())


def _verdict(low: float, high: float, edge: float) -> str:
    if -edge < low and high < edge:
        return "equivalent"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "undecided"


def _power(se: float, df: float, edge: float, alpha: float) -> float:
    """Return the probability of showing two equal sets to be equivalent."""
    reach = edge / se - stats.t.ppf(1 - alpha, df) if se > 0 else math.inf
    return max(0.0, 2 * float(stats.t.cdf(reach, df)) - 1)


def _wanted(se: np.ndarray, sessions: tuple[int, int], unshared: float, edge: float, alpha: float) -> int | None:
    """Return the smallest number of sessions of each set with power `WANTED_POWER`, given the spread so far."""
    spread = float(np.sum(se**2 * np.array(sessions)))  # of one session of each

    def power(count: int) -> float:
        return _power(math.sqrt(spread / count + unshared), 2 * (count - 1), edge, alpha)

    if power(_MOST_SESSIONS) < WANTED_POWER:
        return None
    return next(count for count in range(2, _MOST_SESSIONS + 1) if power(count) >= WANTED_POWER)


def as_share(margin: str) -> float:
    """Return a margin as a share: ``3%`` and ``0.03`` are equal."""
    number, percent, rest = margin.strip().partition("%")
    try:
        return float(number) / (100 if percent else 1) if not rest else float(margin)
    except ValueError as error:
        raise ParameterError(
            f"margin={margin!r} is not a number; give a relative difference such as 3% or 0.03"
        ) from error


def lines(found: Comparison) -> list[str]:
    """Return a comparison as lines for the terminal."""
    a, b = found.energy_wh
    level = 100 * (1 - 2 * found.alpha)
    interval = f"{level:.3g} % interval {100 * (found.low - 1):+.2g} % to {100 * (found.high - 1):+.2g} %"
    wanted = (
        f"with {found.sessions_wanted} sessions each, equal sets would be shown to be equivalent with probability "
        f"{WANTED_POWER:.0%}"
        if found.sessions_wanted
        else "no number of sessions is enough: the sets ran on different boards, whose gains differ"
    )
    return [
        f"{found.verdict}: B needs {100 * (found.ratio - 1):+.2g} % energy compared with A ({interval})",
        f"A {a:.4g} Wh per 1,000 queries in {found.sessions[0]} sessions, B {b:.4g} in {found.sessions[1]}; energy is "
        f"{found.energy_kind}",
        f"margin ±{100 * found.margin:.3g} %, false-alarm rate {100 * found.alpha:.3g} %, power {found.power:.0%}",
        wanted,
    ]
