"""Sources of the spread of a figure (boards, sessions, runs, drift), and the number of sessions needed."""

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
from energylab.energy import UNSTATED, model_energies, run_energies
from energylab.errors import CohortError, StatisticsError
from energylab.statistics.uncertainty import LEVEL, Interval, mean_interval, t_quantile
from energylab.table import record_rows, tidy_frame, window_frame

LEVELS = ("board", "session", "run")

#: Fewest windows of a session for an estimate of its drift.
LEAST_WINDOWS = 8

#: Largest number of sessions in a plan.
MOST_SESSIONS = 100


@dataclass(frozen=True)
class Study:
    """The sessions of one model on one task, on one or several boards of one kind.

    Attributes
    ----------
    kind : str
        Kind of its energy.
    table, windows : pandas.DataFrame
        From `energylab.read` and `energylab.store.read_windows`.
    meters : pandas.DataFrame
        Energy of every valid window by every meter: ``session, index, meter, energy_j``.
    truth : mapping of str to float or None
        True relative spread of every level, for a simulation.
    """

    kind: str
    table: pd.DataFrame = field(repr=False)
    windows: pd.DataFrame = field(repr=False)
    meters: pd.DataFrame = field(repr=False)
    truth: Mapping[str, float] | None = None

    def describe(self) -> str:
        """Return a description in Markdown, with a warning if the study is simulated."""
        first = self.windows.iloc[0]
        size = (
            f"{self.windows['board'].nunique()} board(s), {self.windows['session'].nunique()} session(s), "
            f"{len(run_energies(self.table))} runs, {len(self.windows)} windows of {first['model']} on {first['task']} "
            f"({first['device']}); energy is **{self.kind}**."
        )
        if self.kind != "simulated":
            return size
        return f"> ## SIMULATED\n> **No energy on this page was measured.** All figures are computed from: {size}"


def read_study(*roots: str | os.PathLike, task: str | None = None, model: str | None = None) -> Study:
    """Read the records of one model on one task; give `task` and `model` if the folders hold several.

    Raises
    ------
    StatisticsError
        If no record matches.
    CohortError
        If the matching records have several models, tasks, devices or energy kinds; names them.
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
    _one_of_each(table, "task", "model", "device", "energy_kind")
    windows = window_frame(record for _, record in chosen)
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


def _one_of_each(table: pd.DataFrame, *names: str) -> None:
    for name in names:
        if table[name].nunique() > 1:
            values = ", ".join(sorted(map(str, table[name].unique()))[:6])
            raise CohortError(f"{table[name].nunique()} values of {name} ({values}); choose one by task= and model=")


@dataclass(frozen=True)
class Components:
    """Relative spread of every level (board, session, run) around the level above.

    Attributes
    ----------
    energy_wh : float
        Mean over the boards, Wh per 1,000 queries, all scored phases.
    energy_kind : str
        Kind of that energy.
    table : pandas.DataFrame
        One row per level of `LEVELS`: ``level, units, cv, low, high, note``; NaN if the data do not determine it.
    """

    energy_wh: float
    energy_kind: str
    table: pd.DataFrame = field(repr=False)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def cv(self, level: str) -> float:
        """Return the relative spread of a level; a StatisticsError if the data do not determine it."""
        row = self.table.set_index("level").loc[level]
        if not np.isfinite(row["cv"]):
            raise StatisticsError(f"the spread of the level {level} is unknown: {row['note']}")
        return float(row["cv"])


def components(table: pd.DataFrame) -> Components:
    """Split the variance of a model's energy into parts of boards, sessions and runs.

    Fits a mixed model with boards, and sessions within boards, as random effects by restricted maximum likelihood
    (REML). The 95 % intervals are modified large-sample intervals on the mean squares: nearly exact in balanced
    designs with Gaussian effects, approximate in unbalanced ones. ``board`` includes the sensors' gains.

    Parameters
    ----------
    table : pandas.DataFrame
        Tidy table of one model on one task.

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
    runs = run_energies(table)
    _one_of_each(runs, "task", "model", "energy_kind")
    runs = runs.dropna(subset="energy_wh").fillna({"board": UNSTATED})
    if len(runs) < 2:
        raise StatisticsError("variance needs at least two complete runs; measure more runs or sessions")
    energy_wh = float(runs.groupby("board")["energy_wh"].mean().mean())
    runs = runs.assign(y=runs["energy_wh"] / energy_wh)
    squares, size = _mean_squares(runs)
    variances = _mixed_model(runs)
    rows = []
    for name, below in (("board", "session"), ("session", "run"), ("run", None)):
        units = len(runs) if name == "run" else runs[name].nunique()
        if name not in squares or (below and below not in squares):
            rows.append((name, units, np.nan, np.nan, np.nan, _missing(name, runs)))
            continue
        low, high = difference_interval(squares[name], squares[below] if below else (0.0, 1.0))
        ends = np.array([variances[name], low / size[name], high / size[name]])
        rows.append((name, units, *np.sqrt(np.maximum(ends, 0.0)), ""))
    found = pd.DataFrame(rows, columns=["level", "units", "cv", "low", "high", "note"])
    return Components(energy_wh, str(runs["energy_kind"].iloc[0]), found)


def _missing(name: str, runs: pd.DataFrame) -> str:
    if name == "board":
        return f"{runs['board'].nunique()} board(s), {runs['session'].nunique()} session(s): several of both are needed"
    if name == "session" and runs.groupby("board")["session"].nunique().max() < 2:
        return "one session per board"
    return "one run per session" + (": its spread is included in that of sessions" if name == "run" else "")


def _mean_squares(runs: pd.DataFrame) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Return mean squares of runs in sessions in boards with their degrees of freedom, from unweighted means.

    Expected values: run σ²_r, session σ²_r + r·σ²_s, board σ²_r + r·σ²_s + r·s·σ²_b, with r runs per session and s
    sessions per board (harmonic means); the second mapping holds 1, r and r·s.
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


def difference_interval(larger: tuple[float, float], smaller: tuple[float, float]) -> tuple[float, float]:
    """Return the modified large-sample 95 % interval of a difference of two expected mean squares.

    Each is a value with its degrees of freedom, its expectation times χ²/df; a `smaller` of value 0 gives the exact χ²
    interval.
    """
    (a, df_a), (b, df_b), tail = larger, smaller, (1 - LEVEL) / 2
    ends = []
    for sign, point in ((-1, 1 - tail), (1, tail)):
        g = 1 - df_a / stats.chi2.ppf(point, df_a)
        h = df_b / stats.chi2.ppf(1 - point, df_b) - 1
        f = stats.f.ppf(point, df_a, df_b)
        cross = ((f - 1) ** 2 - g**2 * f**2 - h**2) / f
        ends.append(a - b + sign * np.sqrt(max(g**2 * a**2 + h**2 * b**2 + cross * a * b, 0.0)))
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
    """Return the energy of every board, and of all together, with both intervals: rows of `model_energies`."""
    boards = table["board"].fillna(UNSTATED)
    parts = {board: table[boards == board] for board in boards.unique()}
    if len(parts) > 1:
        parts["all boards"] = table
    ends = [f"{name}_{end}" for name in ("repeatability", "expanded") for end in ("low", "high")]
    columns = ["energy_wh", *ends, "sessions", "note"]
    rows = [model_energies(part).models[columns].assign(board=board) for board, part in parts.items()]
    return pd.concat(rows).set_index("board")


def drift(windows: pd.DataFrame) -> pd.DataFrame:
    """Return the drift of power in every session, and its number of effectively independent windows.

    Fits the power of each window, relative to the mean of its phase, against time by least squares, with a covariance
    that allows for correlated neighbours (Newey-West with the automatic lag ``4·(n/100)^(2/9)``, statsmodels). No
    windows are removed from the start: the protocol warms up before the first window, and rules that search for a
    better start discard a third of steady series.

    Parameters
    ----------
    windows : pandas.DataFrame
        From `energylab.store.read_windows`.

    Returns
    -------
    pandas.DataFrame
        One row per session: ``session, board, windows, hours, slope, low, high`` (per hour, 95 %), ``moved`` (over the
        session), ``lag_1`` (autocorrelation) and ``effective`` (number of independent windows of equal precision).

    Raises
    ------
    StatisticsError
        If no session has `LEAST_WINDOWS` windows.
    """
    sessions = [part for _, part in relative_power(windows).groupby("session", sort=False)]
    rows = [_trend(part) for part in sessions if len(part) >= LEAST_WINDOWS]
    if not rows:
        raise StatisticsError(f"no session has {LEAST_WINDOWS} valid windows; use shorter windows")
    return pd.DataFrame(rows)


def relative_power(windows: pd.DataFrame) -> pd.DataFrame:
    """Return the valid scored windows in order, with ``hours`` and ``power`` relative to their phase's mean."""
    valid = windows[windows["valid"].astype(bool) & windows["scored"].astype(bool) & windows["start_s"].notna()]
    valid = valid.sort_values(["session", "index"])
    mean_w = valid.groupby(["session", "phase"])["mean_power_w"].transform("mean")
    hours = (valid["start_s"] + valid["duration_s"] / 2) / 3600
    return valid.assign(power=valid["mean_power_w"] / mean_w, hours=hours)


def _trend(part: pd.DataFrame) -> dict[str, Any]:
    import statsmodels.api as sm
    from statsmodels.tsa.stattools import acf

    power, hours = part["power"].to_numpy(), part["hours"].to_numpy()
    lag = {"maxlags": int(4 * (power.size / 100) ** (2 / 9)), "use_correction": True}
    fit = sm.OLS(power, sm.add_constant(hours - hours.mean())).fit(cov_type="HAC", cov_kwds=lag)
    slope, half = float(fit.params[1]), float(t_quantile(LEVEL, power.size - 2) * fit.bse[1])
    rho = acf(fit.resid, nlags=power.size - 1, fft=True) if np.ptp(fit.resid) > 0 else np.eye(1, power.size)[0]
    return {
        **part.iloc[0][["session", "board"]],
        "windows": power.size,
        "hours": float(np.ptp(hours)),
        "slope": slope,
        "low": slope - half,
        "high": slope + half,
        "moved": slope * float(np.ptp(hours)),
        "lag_1": float(rho[1]),
        "effective": _effective_size(rho),
    }


def _effective_size(rho: np.ndarray) -> float:
    """Return the number of independent values whose mean has the precision of a series with these autocorrelations.

    ``n / (1 + 2·Σρ)``, at most n; the sum runs over pairs up to the first that is not positive, made non-increasing
    (Geyer, 1992, Practical Markov chain Monte Carlo, Statistical Science 7, 473-483).
    """
    pairs = rho[: rho.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    kept = pairs[: np.argmax(pairs <= 0)] if (pairs <= 0).any() else pairs
    time = max(2 * float(np.minimum.accumulate(kept).sum()) - 1, 1.0) if kept.size else 1.0
    return float(max(rho.size / time, 1.0))


def relative_half_width(found: Components, sessions: int, runs: int) -> float:
    """Predict the relative half-width of one board's repeatability interval."""
    variance = (found.cv("session") ** 2 + found.cv("run") ** 2 / runs) / sessions
    return float(t_quantile(LEVEL, sessions - 1) * np.sqrt(variance))


def plan(found: Components, targets: Sequence[float], runs: Sequence[int] = (1, 3, 10)) -> pd.DataFrame:
    """Return the fewest sessions on one board that reach each target (relative half-width), by runs per session."""
    tried = range(2, MOST_SESSIONS + 1)
    fewest = {
        f"sessions of {each} runs": pd.array(
            [next((n for n in tried if relative_half_width(found, n, each) <= target), None) for target in targets],
            dtype="Int64",
        )
        for each in runs
    }
    return pd.DataFrame(fewest, index=pd.Index(targets, name="target")).sort_index()


@dataclass(frozen=True)
class Agreement:
    """Difference of a meter from a reference, relative to their mean (Bland and Altman, 1999).

    Attributes
    ----------
    reference, other : str
        The two meters.
    bias : Interval
        Mean of ``other - reference``, relative to the mean of the two; its interval is from sessions, or from the
        windows of a single session.
    limits : tuple of float
        Limits of agreement: 95 % of single windows are expected between them.
    pairs : pandas.DataFrame
        One row per window: the energies of both.
    """

    reference: str
    other: str
    bias: Interval
    limits: tuple[float, float]
    pairs: pd.DataFrame = field(repr=False)


def agreement(meters: pd.DataFrame) -> Agreement:
    """Compare the first and the last meter of a study's ``meters`` on the windows that both have measured.

    Several devices of one meter are summed. Raises a StatisticsError for fewer than two meters or two windows.
    """
    known = list(meters["meter"].unique())
    if len(known) < 2:
        raise StatisticsError(
            f"two meters on the same windows are needed, but there is {known[0] if known else 'none'}; set extra_meters"
        )
    reference, other = known[0], known[-1]
    sums = meters.groupby(["session", "index", "meter"])["energy_j"].sum(min_count=1).unstack()
    pairs = sums[[reference, other]].dropna()
    if len(pairs) < 2:
        raise StatisticsError(f"{len(pairs)} windows have both {reference} and {other}; at least two are needed")
    difference = (pairs[other] - pairs[reference]) / pairs.mean(axis=1)
    of_session = difference.groupby("session").mean()
    bias = mean_interval(of_session if len(of_session) > 1 else difference)
    spread = stats.norm.ppf(0.975) * float(difference.std(ddof=1))
    return Agreement(reference, other, bias, (difference.mean() - spread, difference.mean() + spread), pairs)


class Reason(str):
    """A sentence instead of a result that the data do not allow; shown as text."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return f"*{self}*"


def or_reason(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `function`, or a sentence why the data do not allow it.

    For notebooks that run on any study, also on one with a single session or meter.
    """
    missing = next((value for value in arguments if isinstance(value, Reason)), None)
    if missing is not None:
        return missing
    try:
        return function(*arguments)
    except StatisticsError as error:
        return Reason(f"Not possible with these data: {error}")
