"""A simulated study whose variance components are known: for teaching, and to test what claims to find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from energylab.errors import ParameterError
from energylab.statistics.study import Study
from energylab.table import COLUMNS, WINDOW_COLUMNS

PHASE = "generate"


@dataclass(frozen=True)
class Truth:
    """Everything the simulation knows and an analysis has to find. All spreads are coefficients of variation.

    Attributes
    ----------
    mean_j : float
        Steady-state energy per query, in joules.
    board, session, run, window : float
        Relative standard deviation of each level around the one above it; ``board`` includes the sensor's
        gain, ``window`` is what a window of `queries_per_window` queries has beyond its queries.
    query : float
        Relative standard deviation between queries.
    explained : float
        Share of the query variance that the input tokens explain.
    correlation : float
        Correlation of one window's own deviation with the next one's.
    warm_up : float
        Relative excess of the energy at the start of a session; decays with `warm_up_s`.
    warm_up_s : float
        Time constant of the decay, in seconds.
    meter_bias, meter_noise : float
        Relative bias and noise of a second meter on the same windows.
    power_w : float
        Power under load: turns energy into duration.
    overhead_j : float
        Energy of a session beside its windows: warm-up and idle.
    """

    mean_j: float = 300.0
    board: float = 0.02
    session: float = 0.006
    run: float = 0.004
    window: float = 0.008
    query: float = 0.3
    explained: float = 0.7
    correlation: float = 0.0
    warm_up: float = 0.05
    warm_up_s: float = 60.0
    meter_bias: float = -0.03
    meter_noise: float = 0.015
    power_w: float = 300.0
    overhead_j: float = 20_000.0


@dataclass(frozen=True)
class Design:
    """How many of each: boards, sessions a board, runs a session, windows a run, queries a window."""

    boards: int = 3
    sessions: int = 4
    runs: int = 4
    windows: int = 20
    queries_per_window: int = 10

    @property
    def queries(self) -> int:
        """Distinct queries of a run: every run asks them all."""
        return self.windows * self.queries_per_window


def simulate(seed: int = 0, truth: Truth | None = None, design: Design | None = None, **changes) -> Study:
    """Simulate a study: one model and task on several boards, in several sessions, from known components.

    The energy of a window is the sum over its queries, times ``1 +`` the deviations of its board, session,
    run and window and the session's warm-up. Queries are dealt out anew to the windows of every run, as the
    protocol does.

    Parameters
    ----------
    seed : int, default 0
        Same seed, same study.
    truth : Truth, optional
        The components.
    design : Design, optional
        The size.
    **changes
        Single fields of either, by name: ``simulate(warm_up=0.0, boards=1)``.

    Returns
    -------
    Study
        Its tables carry the energy kind "simulated".

    Raises
    ------
    ParameterError
        If a name is unknown or a value makes no sense.
    """
    truth, design = _changed(truth or Truth(), design or Design(), changes)
    rng = np.random.default_rng(seed)
    tokens, query_j = _queries(rng, truth, design)
    windows = pd.concat(
        [
            _session(rng, truth, design, tokens, query_j, board, number, deviation)
            for board, gain in enumerate(truth.board * rng.standard_normal(design.boards))
            for number, deviation in enumerate(gain + truth.session * rng.standard_normal(design.sessions))
        ],
        ignore_index=True,
    )
    covariates = pd.DataFrame({"input_tokens": tokens}, index=pd.RangeIndex(design.queries, name="query"))
    return Study(
        kind="simulated",
        tidy=_tidy(windows),
        windows=windows,
        meters=_meters(rng, truth, windows),
        covariates=covariates,
        overhead_j=truth.overhead_j,
        truth={level: getattr(truth, level) for level in ("board", "session", "run", "window", "query")},
    )


def _changed(truth: Truth, design: Design, changes: Mapping) -> tuple[Truth, Design]:
    groups = {"truth": truth, "design": design}
    for name in changes:
        if not any(name in group.__dataclass_fields__ for group in groups.values()):
            known = [*truth.__dataclass_fields__, *design.__dataclass_fields__]
            raise ParameterError(f"simulate has no setting {name!r}; allowed: {', '.join(known)}")
    truth, design = (
        replace(group, **{k: v for k, v in changes.items() if k in group.__dataclass_fields__})
        for group in groups.values()
    )
    if any(count < 1 for count in vars(design).values()):
        raise ParameterError(f"every count of the design must be at least 1: {design}")
    if truth.mean_j <= 0 or truth.power_w <= 0 or truth.warm_up_s <= 0:
        raise ParameterError(f"mean_j, power_w and warm_up_s must be positive: {truth}")
    if not (0 <= truth.explained <= 1 and -1 < truth.correlation < 1):
        raise ParameterError(f"explained must be within 0 to 1 and correlation within -1 to 1: {truth}")
    return truth, design


def _queries(rng, truth: Truth, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Input tokens and energy of every query; the set's mean energy and CV are exactly the truth's."""
    length = np.exp(0.6 * rng.standard_normal(design.queries))
    tokens = np.maximum(np.rint(100 * length / length.mean()), 1).astype(int)
    if truth.query == 0 or design.queries < 3:
        return tokens, np.full(design.queries, truth.mean_j)
    known = _standardised(tokens)
    rest = rng.standard_normal(design.queries)
    rest = _standardised(rest - known * (rest @ known) / design.queries)
    deviation = np.sqrt(truth.explained) * known + np.sqrt(1 - truth.explained) * rest
    energy_j = truth.mean_j * (1 + truth.query * deviation)
    if energy_j.min() <= 0:
        raise ParameterError(f"query={truth.query} makes a query's energy negative; choose a smaller spread")
    return tokens, energy_j


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std()


def _session(rng, truth, design, tokens, query_j, board: int, number: int, deviation: float) -> pd.DataFrame:
    """The windows of one session, in order."""
    shape = (design.runs, design.windows)
    dealt = np.array([rng.permutation(design.queries) for _ in range(design.runs)]).reshape(*shape, -1)
    of_run = truth.run * rng.standard_normal((design.runs, 1))
    of_window = truth.window * _autoregressive(rng, shape[0] * shape[1], truth.correlation).reshape(shape)
    work_j = query_j[dealt].sum(axis=-1)
    duration_s = work_j / truth.power_w
    start_s = np.concatenate([[0.0], np.cumsum(duration_s.ravel() + 0.2)[:-1]])
    excess = truth.warm_up * np.exp(-start_s / truth.warm_up_s).reshape(shape)
    energy_j = work_j * (1 + deviation + of_run + of_window) * (1 + excess)
    count = energy_j.size
    return pd.DataFrame(
        {
            "session": f"simulated-{board}-{number}",
            "board": f"SIM-{board}",
            "device": "simulated board",
            "task": "text_generation",
            "model": "simulated/model",
            "run": np.repeat(np.arange(design.runs), design.windows),
            "phase": PHASE,
            "scored": True,
            "block": np.tile(np.arange(design.windows), design.runs),
            "attempt": 0,
            "index": np.arange(count),
            "queries": design.queries_per_window,
            "query_ids": [tuple(int(query) for query in ids) for ids in dealt.reshape(count, -1)],
            "replications": 1,
            "start_s": start_s,
            "duration_s": duration_s.ravel(),
            "energy_j": energy_j.ravel(),
            "bound_j": 0.2 * truth.power_w,  # one tick of 100 ms at each edge
            "mean_power_w": (energy_j / duration_s).ravel(),
            "temperature_c": 65 - 25 * np.exp(-start_s / truth.warm_up_s),
            "input_tokens": tokens[dealt].sum(axis=-1).ravel(),
            "output_tokens": 10 * design.queries_per_window,
            "valid": True,
            "reasons": "",
            "energy_kind": "simulated",
        },
        columns=list(WINDOW_COLUMNS),
    )


def _autoregressive(rng, count: int, correlation: float) -> np.ndarray:
    """Unit-variance Gaussian series whose neighbours have this correlation."""
    noise = rng.standard_normal(count)
    for i in range(1, count):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1 - correlation**2) * noise[i]
    return noise


def _tidy(windows: pd.DataFrame) -> pd.DataFrame:
    """One row a run: the sums of its windows, as the store makes them of real records."""
    keys = ["task", "model", "device", "board", "session", "phase", "scored", "energy_kind", "run"]
    sums = ["queries", "energy_j", "bound_j", "duration_s", "input_tokens", "output_tokens"]
    runs = windows.groupby(keys, sort=False, as_index=False)[sums].sum()
    runs = runs.assign(
        task_version="simulated",
        model_class="A",
        model_source="simulated",
        data_source="synthetic",
        gpus=1,
        job_id=runs["session"],
        repeat=runs["session"].str.rsplit("-", n=1).str[-1].astype(int),
        batch_size=1,
        valid=True,
        reasons="",
        cohort="simulated",
        path="",
    )
    return runs.reindex(columns=list(COLUMNS))


def _meters(rng, truth: Truth, windows: pd.DataFrame) -> pd.DataFrame:
    """The scored meter and a second one on the same windows."""
    noise = truth.meter_noise * rng.standard_normal(len(windows))
    readings = {"first": windows["energy_j"], "second": windows["energy_j"] * (1 + truth.meter_bias + noise)}
    parts = [
        windows[["session", "index"]].assign(meter=meter, device=windows["board"], energy_j=energy_j)
        for meter, energy_j in readings.items()
    ]
    return pd.concat(parts, ignore_index=True)
