"""Where variance comes from: board, session, run, window and query, each with its interval."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from energylab.errors import StatisticsError, unknown_name
from energylab.statistics.intervals import check_level
from energylab.statistics.mean_squares import MeanSquare, difference_interval, nested_mean_squares
from energylab.statistics.queries import QuerySplit, split_queries
from energylab.statistics.units import run_totals

LEVELS = ("board", "session", "run", "window", "query")


@dataclass(frozen=True)
class Components:
    """Variance components as coefficients of variation.

    Attributes
    ----------
    mean_j : float
        Mean energy per query over the boards, in joules.
    energy_kind : str
        Kind of that energy.
    queries : int
        Distinct queries of a run.
    windows : float
        Windows of a run, on average.
    table : pandas.DataFrame
        One row a level, from `LEVELS`: ``level, units, cv, low, high, note``; NaN where the data cannot tell.
    """

    mean_j: float
    energy_kind: str
    queries: int
    windows: float
    table: pd.DataFrame = field(repr=False)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def cv(self, level: str) -> float:
        """Return the coefficient of variation of a level.

        Raises
        ------
        StatisticsError
            If the data could not tell it.
        """
        if level not in LEVELS:
            raise unknown_name("level", level, LEVELS)
        row = self.table.set_index("level").loc[level]
        if not np.isfinite(row["cv"]):
            raise StatisticsError(f"the variance of a {level} is not known here: {row['note']}")
        return float(row["cv"])


def nested_components(units: pd.DataFrame, level: float = 0.95) -> Components:
    """Split the variance of energy per query over boards, sessions, runs, windows and queries.

    Two analyses that do not disturb each other, since every run asks all queries: *between* complete runs,
    a mixed model with boards, and sessions within boards, as random effects (REML); *within* runs, the
    split of the windows' variance into that of the queries they hold and their own
    (`queries.split_queries`). The variance of a run beyond its windows' noise is a difference of two mean
    squares.

    Intervals of board, session and run are modified large-sample intervals on the mean squares: near
    nominal in balanced designs with Gaussian effects, approximate in unbalanced ones (unweighted means).

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, in a steady state (`drift.steady`).
    level : float, default 0.95
        Coverage of each interval.

    Returns
    -------
    Components
        ``board`` contains the difference of the sensors' gains.

    Raises
    ------
    StatisticsError
        If fewer than two complete runs are left.

    References
    ----------
    Searle, Casella, McCulloch (1992), Variance components, Wiley, ch. 3 and 6; Ting, Burdick, Graybill,
    Jeyaratnam, Lu (1990), Confidence intervals on linear combinations of variance components that are
    unrestricted in sign, J. Stat. Comput. Simul. 35, 135-143; Burdick, Graybill (1992), Confidence
    intervals on variance components, Dekker, ch. 3 and 5.
    """
    check_level(level)
    runs = run_totals(units)
    if len(runs) < 2:
        raise StatisticsError("variance needs at least two complete runs; measure more runs or sessions")
    mean_j = float(runs.groupby("board")["per_query_j"].mean().mean())
    split = split_queries(units, level)
    rows = _between_runs(runs.assign(y=runs["per_query_j"] / mean_j), split, level)
    rows += _within_runs(split, units)
    table = pd.DataFrame(rows, columns=["level", "units", "cv", "low", "high", "note"])
    return Components(
        mean_j=mean_j,
        energy_kind=str(units["energy_kind"].iloc[0]),
        queries=int(runs["queries"].iloc[0]),
        windows=float(runs["windows"].mean()),
        table=table,
    )


def sampling_share(units: pd.DataFrame, components: Components, covariates: pd.DataFrame | None = None) -> float:
    """Share of the windows' residual variance that comes from which queries they hold; the rest is their own noise.

    Parameters
    ----------
    units : pandas.DataFrame
        From `units.measured_windows`, in a steady state.
    components : Components
        Found on them: its ``window`` is the noise.
    covariates : pandas.DataFrame, optional
        One row a query: the residual is that of a regression on the windows' means of all its columns.

    Returns
    -------
    float
        Between 0 and 1: the ``sampling_share`` of `sequential.StopRule` and `survey.estimate_total`.

    Raises
    ------
    StatisticsError
        If the noise of a window is not known, or there are too few windows for the regression.
    """
    runs = units.groupby(["session", "run"], sort=False)
    y = (units["per_query_j"] / runs["per_query_j"].transform("mean") - 1).to_numpy()
    columns = [] if covariates is None else list(covariates.columns)
    means = np.array([[covariates[name].loc[list(ids)].mean() for name in columns] for ids in units["query_ids"]])
    design = means.reshape(len(units), len(columns))
    run = runs.ngroup().to_numpy()
    for column in design.T:  # within runs, as y is
        column -= (np.bincount(run, column) / np.bincount(run))[run]
    df = len(units) - runs.ngroups - len(columns)
    if df < 1:
        raise StatisticsError(f"{len(units)} windows in {runs.ngroups} runs are too few; use shorter windows")
    residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0] if columns else y
    return float(np.clip(1 - components.cv("window") ** 2 * df / (residuals @ residuals), 0.0, 1.0))


def _between_runs(runs: pd.DataFrame, split: QuerySplit, level: float) -> list[dict]:
    squares, size = nested_mean_squares(runs)
    model = _mixed_model(runs)
    noise = MeanSquare(split.window_variance / runs["windows"].mean(), split.df)
    rows = []
    for name, below in (("board", "session"), ("session", "run")):
        count = runs[name].nunique()
        if name not in squares or below not in squares:
            rows.append(_unknown(name, count, _why_not(name, runs)))
            continue
        low, high = difference_interval(squares[name], squares[below], level)
        rows.append(_row(name, count, model[name], low / size[name], high / size[name]))
    if "run" not in squares:
        return [*rows, _unknown("run", len(runs), "one run a session: its spread is in that of the sessions")]
    if not noise.df >= 1:  # not known, or not known well enough to be subtracted
        note = "with the noise of its windows" + (f": {split.note}" if split.note else "")
        low, high = difference_interval(squares["run"], MeanSquare(0.0, 1.0), level)
        return [*rows, _row("run", len(runs), squares["run"].value, low, high, note)]
    low, high = difference_interval(squares["run"], noise, level)
    return [*rows, _row("run", len(runs), model["run"] - noise.value, low, high)]


def _within_runs(split: QuerySplit, units: pd.DataFrame) -> list[dict]:
    window = _row("window", len(units), split.window_variance, *split.window_interval, split.note)
    queries = len(set().union(*units["query_ids"]))
    return [window, _row("query", queries, split.query_variance, *split.query_interval, split.note)]


def _row(name: str, count: int, variance: float, low: float, high: float, note: str = "") -> dict:
    cv, low, high = np.sqrt(np.maximum([variance, low, high], 0.0))
    return {"level": name, "units": count, "cv": cv, "low": low, "high": high, "note": note}


def _unknown(name: str, count: int, note: str) -> dict:
    nan = float("nan")
    return {"level": name, "units": count, "cv": nan, "low": nan, "high": nan, "note": note}


def _why_not(name: str, runs: pd.DataFrame) -> str:
    if name == "board":
        return f"{runs['board'].nunique()} board(s), {runs['session'].nunique()} session(s): several of both are needed"
    return "one session a board" if runs.groupby("board")["session"].nunique().max() < 2 else "one run a session"


def _mixed_model(runs: pd.DataFrame) -> dict[str, float]:
    """REML variances of board, session and run (residual); levels that do not exist are left out."""
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    boards, sessions = runs["board"].nunique(), runs["session"].nunique()
    nested = runs.groupby("board")["session"].nunique().max() > 1
    if sessions < 2 or sessions == len(runs):
        return {"run": float(runs["y"].var(ddof=1))}
    top, inner = ("board", "session") if boards > 1 and nested else ("session", None)
    data = runs.assign(z=100 * (runs["y"] - 1))  # per cent: the optimiser starts at variances near 1
    with warnings.catch_warnings():
        # a component estimated as zero lies on the boundary, which statsmodels reports as doubtful convergence
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = MixedLM.from_formula(
            "z ~ 1",
            groups=top,
            re_formula="1",
            vc_formula={inner: f"0 + C({inner})"} if inner else None,
            data=data,
        ).fit(reml=True)
    variances = {top: float(fit.cov_re.iloc[0, 0]), "run": float(fit.scale)}
    if inner:
        variances[inner] = float(fit.vcomp[0])
    return {name: value / 1e4 for name, value in variances.items()}
