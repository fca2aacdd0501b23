"""Where the spread of a figure comes from (boards, sessions, runs, drift), and how many sessions are enough."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from energylab import store
from energylab.energy import model_energies, run_energies
from energylab.errors import CohortError, StatisticsError, unknown_name
from energylab.statistics.uncertainty import Interval, check_level, mean_interval, t_quantile
from energylab.table import WINDOW_COLUMNS, record_rows, tidy_frame, window_rows

LEVELS = ("board", "session", "run")

#: Windows of a session below which its drift cannot be seen.
LEAST_WINDOWS = 8


@dataclass(frozen=True)
class Study:
    """The sessions of one model on one task, on one or several boards of one kind.

    Attributes
    ----------
    kind : str
        Kind of its energy.
    table, windows : pandas.DataFrame
        As `energylab.read` and `energylab.store.read_windows` give them.
    meters : pandas.DataFrame
        What every meter said of every valid window: ``session, index, meter, energy_j``.
    truth : mapping of str to float or None
        Relative spread of every level, where a simulation knows them.
    """

    kind: str
    table: pd.DataFrame = field(repr=False)
    windows: pd.DataFrame = field(repr=False)
    meters: pd.DataFrame = field(repr=False)
    truth: Mapping[str, float] | None = None

    def describe(self) -> str:
        """Say in Markdown what this is; loudly, where it was not measured."""
        first = self.windows.iloc[0]
        size = (
            f"{self.windows['board'].nunique()} board(s), {self.windows['session'].nunique()} session(s), "
            f"{len(run_energies(self.table))} runs, {len(self.windows)} windows of {first['model']} on {first['task']} "
            f"({first['device']}); energy is **{self.kind}**."
        )
        if self.kind != "simulated":
            return size
        return f"> ## SIMULATED\n> **No energy on this page was measured.** Every figure is computed from: {size}"


def read_study(*roots: str | os.PathLike, task: str | None = None, model: str | None = None) -> Study:
    """Read the records of one model on one task.

    Parameters
    ----------
    *roots : path
        Records or folders of records.
    task, model : str, optional
        Which, where the folders hold several.

    Raises
    ------
    StatisticsError
        If no record fits.
    CohortError
        If records of several models, tasks, devices or energy kinds are left; names them.
    """
    found = list(store.read_records(*roots))
    chosen = [(path, r) for path, r in found if task in (None, r.task.name) and model in (None, r.model.name)]
    if not chosen:
        have = sorted({f"{record.task.name} / {record.model.name}" for _, record in found})
        raise StatisticsError(
            f"no record of task={task!r}, model={model!r} under {', '.join(map(str, roots))}; there are: "
            f"{', '.join(have) or 'none'}"
        )
    table = tidy_frame([row for path, record in chosen for row in record_rows(record, path)])
    for name in ("task", "model", "device", "energy_kind"):
        if table[name].nunique() > 1:
            values = ", ".join(sorted(map(str, table[name].unique()))[:6])
            raise CohortError(f"{table[name].nunique()} values of {name} ({values}); name one by task= and model=")
    windows = pd.DataFrame([row for _, record in chosen for row in window_rows(record)], columns=list(WINDOW_COLUMNS))
    meters = pd.DataFrame(
        [
            (record.record_id, window.index, reading.meter, reading.energy_j)
            for _, record in chosen
            for window in record.windows
            if window.valid
            for reading in window.meters
        ],
        columns=["session", "index", "meter", "energy_j"],
    ).astype({"energy_j": float})
    return Study(chosen[0][1].energy_kind, table, windows, meters)


@dataclass(frozen=True)
class Components:
    """Relative spread of every level around the one above it.

    Attributes
    ----------
    energy_wh : float
        Mean over the boards, Wh per 1,000 queries, all scored phases.
    energy_kind : str
        Kind of that energy.
    table : pandas.DataFrame
        One row a level, from `LEVELS`: ``level, units, cv, low, high, note``; NaN where the data cannot tell.
    """

    energy_wh: float
    energy_kind: str
    table: pd.DataFrame = field(repr=False)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def cv(self, level: str) -> float:
        """Return the relative spread of a level; refuse one that the data could not tell."""
        if level not in LEVELS:
            raise unknown_name("level", level, LEVELS)
        row = self.table.set_index("level").loc[level]
        if not np.isfinite(row["cv"]):
            raise StatisticsError(f"the spread of a {level} is not known here: {row['note']}")
        return float(row["cv"])


def components(table: pd.DataFrame, level: float = 0.95) -> Components:
    """Split the variance of a model's energy over boards, sessions and runs.

    A mixed model with boards, and sessions within boards, as random effects (REML, statsmodels); the intervals are
    modified large-sample ones on the mean squares: near nominal in balanced designs with Gaussian effects, approximate
    in unbalanced ones. ``board`` contains the difference of the sensors' gains.

    Parameters
    ----------
    table : pandas.DataFrame
        Tidy table of one model on one task.
    level : float, default 0.95
        Coverage of each interval.

    Raises
    ------
    StatisticsError
        If fewer than two complete runs are left.
    CohortError
        If several models, tasks or energy kinds are mixed.

    References
    ----------
    Ting, Burdick, Graybill, Jeyaratnam, Lu (1990), Confidence intervals on linear combinations of variance components
    that are unrestricted in sign, J. Stat. Comput. Simul. 35, 135-143; Burdick, Graybill (1992), Confidence intervals
    on variance components, Dekker, ch. 3 and 5.
    """
    check_level(level)
    runs = _runs_of_one(table)
    if len(runs) < 2:
        raise StatisticsError("variance needs at least two complete runs; measure more runs or sessions")
    energy_wh = float(runs.groupby("board")["energy_wh"].mean().mean())
    runs = runs.assign(y=runs["energy_wh"] / energy_wh)
    squares, size = mean_squares(runs)
    variances = _mixed_model(runs)
    rows = []
    for name, below in (("board", "session"), ("session", "run"), ("run", None)):
        units = len(runs) if name == "run" else runs[name].nunique()
        if name not in squares or (below and below not in squares):
            rows.append((name, units, np.nan, np.nan, np.nan, _missing(name, runs)))
            continue
        low, high = difference_interval(squares[name], squares[below] if below else (0.0, 1.0), level)
        ends = np.array([variances[name], low / size[name], high / size[name]])
        rows.append((name, units, *np.sqrt(np.maximum(ends, 0.0)), ""))
    found = pd.DataFrame(rows, columns=["level", "units", "cv", "low", "high", "note"])
    return Components(energy_wh, str(runs["energy_kind"].iloc[0]), found)


def _runs_of_one(table: pd.DataFrame) -> pd.DataFrame:
    runs = run_energies(table)
    for name in ("task", "model", "energy_kind"):
        if runs[name].nunique() > 1:
            raise CohortError(f"{runs[name].nunique()} values of {name} in one variance study; choose one")
    return runs.dropna(subset="energy_wh").fillna({"board": "not stated"})


def _missing(name: str, runs: pd.DataFrame) -> str:
    if name == "board":
        return f"{runs['board'].nunique()} board(s), {runs['session'].nunique()} session(s): several of both are needed"
    if name == "session":
        one = runs.groupby("board")["session"].nunique().max() < 2
        return "one session a board" if one else "one run a session"
    return "one run a session: its spread is in that of the sessions"


def mean_squares(runs: pd.DataFrame) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Return mean squares of runs in sessions in boards with their degrees of freedom, from unweighted means.

    Expected values: run σ²_r, session σ²_r + r·σ²_s, board σ²_r + r·σ²_s + r·s·σ²_b, with r runs a session and s
    sessions a board (harmonic means); the second mapping holds 1, r and r·s.
    """
    sessions = runs.groupby(["board", "session"], sort=False)["y"].agg(["mean", "size"]).reset_index()
    boards = sessions.groupby("board", sort=False)["mean"].agg(["mean", "size"]).reset_index()
    per_session, per_board = stats.hmean(sessions["size"]), stats.hmean(boards["size"])
    around = {
        "run": runs["y"] - runs.groupby("session")["y"].transform("mean"),
        "session": sessions["mean"] - sessions.groupby("board")["mean"].transform("mean"),
        "board": boards["mean"] - boards["mean"].mean(),
    }
    size = {"run": 1.0, "session": float(per_session), "board": float(per_session * per_board)}
    df = {"run": len(runs) - len(sessions), "session": len(sessions) - len(boards), "board": len(boards) - 1}
    squares = {name: (size[name] * float((d**2).sum()) / df[name], df[name]) for name, d in around.items() if df[name]}
    return squares, size


def difference_interval(
    larger: tuple[Any, float], smaller: tuple[Any, float], level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the modified large-sample interval of a difference of two expected mean squares.

    Each is a value with its degrees of freedom, its expectation times χ²/df; a `smaller` of value 0 gives the exact χ²
    interval. Works on arrays.
    """
    (a, df_a), (b, df_b) = larger, smaller
    a, b, tail = np.asarray(a, float), np.asarray(b, float), (1 - level) / 2
    ends = []
    for sign, point in ((-1, 1 - tail), (1, tail)):
        g = 1 - df_a / stats.chi2.ppf(point, df_a)
        h = df_b / stats.chi2.ppf(1 - point, df_b) - 1
        f = stats.f.ppf(point, df_a, df_b)
        cross = ((f - 1) ** 2 - g**2 * f**2 - h**2) / f
        ends.append(a - b + sign * np.sqrt(np.maximum(g**2 * a**2 + h**2 * b**2 + cross * a * b, 0.0)))
    return ends[0], ends[1]


def _mixed_model(runs: pd.DataFrame) -> dict[str, float]:
    """REML variances of board, session and run (residual); levels that do not exist are left out."""
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    boards, sessions = runs["board"].nunique(), runs["session"].nunique()
    nested = runs.groupby("board")["session"].nunique().max() > 1
    if sessions < 2 or sessions == len(runs):
        return dict.fromkeys(LEVELS, float(runs["y"].var(ddof=1)))
    top, inner = ("board", "session") if boards > 1 and nested else ("session", None)
    data = runs.assign(z=100 * (runs["y"] - 1))  # per cent: the optimiser starts at variances near 1
    parts = {inner: f"0 + C({inner})"} if inner else None
    with warnings.catch_warnings():
        # a component estimated as zero lies on the boundary, which statsmodels reports as doubtful convergence
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MixedLM.from_formula("z ~ 1", groups=top, re_formula="1", vc_formula=parts, data=data)
        fit = model.fit(reml=True)
    variances = {top: float(fit.cov_re.iloc[0, 0]), "run": float(fit.scale)}
    if inner:
        variances[inner] = float(fit.vcomp[0])
    return {name: value / 1e4 for name, value in variances.items()}


def by_board(table: pd.DataFrame) -> pd.DataFrame:
    """Return the energy of every board with both intervals, and that over all boards: rows of `model_energies`."""
    boards = table["board"].fillna("not stated")
    parts = {board: table[boards == board] for board in boards.unique()}
    if len(parts) > 1:
        parts["all boards"] = table
    columns = [
        "energy_wh",
        "repeatability_low",
        "repeatability_high",
        "expanded_low",
        "expanded_high",
        "sessions",
        "note",
    ]
    rows = [model_energies(part).models[columns].assign(board=board) for board, part in parts.items()]
    return pd.concat(rows).set_index("board")


def drift(windows: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Say how fast every session still moves, and how many independent windows it is worth.

    The power of each window, relative to the mean of its phase, against time: least squares with a covariance that
    allows for correlated neighbours (Newey-West with the automatic lag ``4·(n/100)^(2/9)``, statsmodels). Nothing is
    cut from the start: the protocol warms up before its first window, and a rule that looks for a better start
    discards a third of steady series.

    Parameters
    ----------
    windows : pandas.DataFrame
        As `energylab.store.read_windows` gives it.
    level : float, default 0.95
        Coverage of the interval.

    Returns
    -------
    pandas.DataFrame
        One row a session: ``session, board, windows, hours, slope, low, high`` (per hour), ``moved`` (over the
        session), ``lag_1`` (autocorrelation) and ``effective`` (independent windows that give as sure a mean).

    Raises
    ------
    StatisticsError
        If no session has `LEAST_WINDOWS` windows.
    """
    check_level(level)
    rows = [_trend(part, level) for _, part in relative_power(windows).groupby("session", sort=False)]
    found = pd.DataFrame([row for row in rows if row])
    if found.empty:
        raise StatisticsError(f"no session has {LEAST_WINDOWS} valid windows; use shorter windows")
    return found


def relative_power(windows: pd.DataFrame) -> pd.DataFrame:
    """Return the valid scored windows in order, with ``hours`` and ``power`` relative to their phase's mean."""
    valid = windows[windows["valid"].astype(bool) & windows["scored"].astype(bool) & windows["start_s"].notna()]
    valid = valid.sort_values(["session", "index"])
    mean_w = valid.groupby(["session", "phase"])["mean_power_w"].transform("mean")
    hours = (valid["start_s"] + valid["duration_s"] / 2) / 3600
    return valid.assign(power=valid["mean_power_w"] / mean_w, hours=hours)


def _trend(part: pd.DataFrame, level: float) -> dict[str, Any] | None:
    import statsmodels.api as sm
    from statsmodels.tsa.stattools import acf

    if len(part) < LEAST_WINDOWS:
        return None
    power, hours = part["power"].to_numpy(), part["hours"].to_numpy()
    robust = {
        "cov_type": "HAC",
        "cov_kwds": {"maxlags": int(4 * (power.size / 100) ** (2 / 9)), "use_correction": True},
    }
    fit = sm.OLS(power, sm.add_constant(hours - hours.mean())).fit(**robust)
    slope, half = float(fit.params[1]), float(t_quantile(level, power.size - 2) * fit.bse[1])
    rho = acf(fit.resid, nlags=power.size - 1, fft=True) if np.ptp(fit.resid) > 0 else np.eye(1, power.size)[0]
    return {
        "session": part["session"].iloc[0],
        "board": part["board"].iloc[0],
        "windows": power.size,
        "hours": float(np.ptp(hours)),
        "slope": slope,
        "low": slope - half,
        "high": slope + half,
        "moved": slope * float(np.ptp(hours)),
        "lag_1": float(rho[1]),
        "effective": effective_size(rho),
    }


def effective_size(rho: np.ndarray) -> float:
    """Return how many independent values give a mean as sure as a series with these autocorrelations does.

    ``n / (1 + 2·Σρ)``, the sum over neighbouring pairs cut at the first that is not positive, and not allowed to rise;
    at most n (Geyer, 1992, Practical Markov chain Monte Carlo, Statistical Science 7, 473-483).
    """
    pairs = rho[: rho.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    kept = pairs[: np.argmax(pairs <= 0)] if (pairs <= 0).any() else pairs
    time = max(2 * float(np.minimum.accumulate(kept).sum()) - 1, 1.0) if kept.size else 1.0
    return float(max(rho.size / time, 1.0))


def relative_half_width(found: Components, sessions: int, runs: int, level: float = 0.95) -> float:
    """Predict the relative half-width of one board's repeatability interval."""
    variance = (found.cv("session") ** 2 + found.cv("run") ** 2 / runs) / sessions
    return float(t_quantile(level, sessions - 1) * np.sqrt(variance))


def plan(
    found: Components, targets: Sequence[float], runs: Sequence[int] = (1, 3, 10), most: int = 100
) -> pd.DataFrame:
    """Return the fewest sessions on one board that reach each target, for several numbers of runs.

    Parameters
    ----------
    found : Components
    targets : sequence of float
        Wanted relative half-widths.
    runs : sequence of int
        Runs of a session.
    most : int
        Sessions that are tried at most; a target beyond them has none.
    """
    rows = []
    for target in targets:
        for each in runs:
            enough = (n for n in range(2, most + 1) if relative_half_width(found, n, each) <= target)
            rows.append({"target": target, "runs": each, "sessions": next(enough, None)})
    table = pd.DataFrame(rows).astype({"sessions": "Int64"})
    return table.pivot(index="target", columns="runs", values="sessions").add_prefix("sessions of ").add_suffix(" runs")


@dataclass(frozen=True)
class Agreement:
    """How far a meter lies from a reference, as ratios of their energies (Bland and Altman, 1999).

    Attributes
    ----------
    reference, other : str
        The two meters.
    bias : Interval
        Mean of ``other - reference``, relative to the mean of the two; its interval is over sessions, or within the
        session if there is one.
    limits : tuple of float
        Limits of agreement: 95 % of single windows are expected between them.
    pairs : pandas.DataFrame
        One row a window: the energies of both.
    """

    reference: str
    other: str
    bias: Interval
    limits: tuple[float, float]
    pairs: pd.DataFrame = field(repr=False)


def agreement(meters: pd.DataFrame, reference: str | None = None, other: str | None = None) -> Agreement:
    """Compare two meters on the windows that both have seen.

    Parameters
    ----------
    meters : pandas.DataFrame
        A study's ``meters``; several devices of one meter are summed.
    reference, other : str, optional
        Names of the two meters; the first and the last that the table names.

    Raises
    ------
    UnknownNameError
        If a meter is not in the table.
    StatisticsError
        If there are not two meters, or fewer than two windows have both.
    """
    known = list(meters["meter"].unique())
    if None in (reference, other) and len(known) < 2:
        raise StatisticsError(f"two meters on the same windows are needed; here is {known[0] if known else 'none'}")
    reference, other = reference or known[0], other or known[-1]
    for name in (reference, other):
        if name not in known:
            raise unknown_name("meter", name, known)
    sums = meters.groupby(["session", "index", "meter"])["energy_j"].sum(min_count=1).unstack()
    pairs = sums[[reference, other]].dropna()
    if len(pairs) < 2 or reference == other:
        raise StatisticsError(
            f"{len(pairs)} windows have both {reference} and {other}; two of different meters are needed"
        )
    difference = (pairs[other] - pairs[reference]) / pairs.mean(axis=1)
    of_session = difference.groupby("session").mean()
    several = len(of_session) > 1
    bias = mean_interval(of_session if several else difference, kind="repeatability" if several else "within-session")
    spread = stats.norm.ppf(0.975) * float(difference.std(ddof=1))
    return Agreement(reference, other, bias, (difference.mean() - spread, difference.mean() + spread), pairs)


class Reason(str):
    """A sentence in the place of a result that the data cannot carry; shown as text."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return f"*{self}*"


def or_reason(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what `function` returns, or the sentence why these data cannot carry it.

    For notebooks that run on any study: a section that one session or one meter cannot fill says so in its place.
    """
    missing = next((value for value in (*arguments, *named.values()) if isinstance(value, Reason)), None)
    if missing is not None:
        return missing
    try:
        return function(*arguments, **named)
    except StatisticsError as error:
        return Reason(f"Not from these data: {error}")
