"""A simulated study with known spreads, for teaching and to test the analysis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from energylab.errors import ParameterError
from energylab.statistics.variance import Study
from energylab.table import COLUMNS, WINDOW_COLUMNS


@dataclass(frozen=True)
class Truth:
    """True values of the simulation, which an analysis estimates. Spreads are relative standard deviations."""

    boards: int = 3
    sessions: int = 4  # per board
    runs: int = 4  # per session
    windows: int = 20  # per run
    queries: int = 10  # per window
    mean_j: float = 300.0  # energy per query
    board: float = 0.02  # spread of each level around the level above; that of boards includes the sensors' gain
    session: float = 0.006
    run: float = 0.004
    window: float = 0.008
    query: float = 0.3  # spread between queries; every run measures all of them
    drift: float = 0.0  # relative change of the energy per hour
    meter_bias: float = -0.03  # of a second meter on the same windows, relative
    meter_noise: float = 0.015
    power_w: float = 300.0  # under load: turns energy into duration


def simulate(seed: int = 0, **changes) -> Study:
    """Simulate a study: one model and task on several boards, in several sessions; the same seed gives the same study.

    The energy of a window is the sum over its queries, times ``1 +`` the deviations of its board, session, run and
    window. Queries are assigned to windows at random in every run, as in the protocol. `changes` are fields of `Truth`,
    by name: ``simulate(boards=1, run=0.0)``; an unknown name or impossible value is a ParameterError.
    """
    unknown = set(changes) - set(Truth.__dataclass_fields__)
    if unknown:
        raise ParameterError(
            f"simulate has no setting {min(unknown)!r}; it has {', '.join(Truth.__dataclass_fields__)}"
        )
    truth = replace(Truth(), **changes)
    if min(truth.boards, truth.sessions, truth.runs, truth.windows, truth.queries) < 1 or truth.mean_j <= 0:
        raise ParameterError(f"every count must be at least 1, and mean_j above 0; given: {truth}")
    rng = np.random.default_rng(seed)
    query_j = np.exp(truth.query * rng.standard_normal(truth.windows * truth.queries))
    query_j *= truth.mean_j / query_j.mean()
    windows = pd.concat(
        [
            _session(rng, truth, query_j, f"SIM-{board}", number, gain + truth.session * rng.standard_normal())
            for board, gain in enumerate(truth.board * rng.standard_normal(truth.boards))
            for number in range(truth.sessions)
        ],
        ignore_index=True,
    )
    known = {level: getattr(truth, level) for level in ("board", "session", "run", "window", "query")}
    return Study("simulated", _tidy(windows), windows, _meters(rng, truth, windows), known)


def _session(rng, truth: Truth, query_j: np.ndarray, board: str, number: int, deviation: float) -> pd.DataFrame:
    """The windows of one session, in order."""
    shape = (truth.runs, truth.windows)
    dealt = np.array([rng.permutation(query_j.size) for _ in range(truth.runs)]).reshape(*shape, -1)
    work_j = query_j[dealt].sum(axis=-1)
    duration_s = work_j / truth.power_w
    start_s = np.concatenate([[0.0], np.cumsum(duration_s.ravel() + 0.2)[:-1]]).reshape(shape)
    noise = truth.run * rng.standard_normal((truth.runs, 1)) + truth.window * rng.standard_normal(shape)
    energy_j = work_j * (1 + deviation + noise + truth.drift * start_s / 3600)
    return pd.DataFrame(
        {
            "session": f"simulated-{board}-{number}", "board": board, "device": "simulated board",
            "task": "text_generation", "model": "simulated/model",
            "run": np.repeat(np.arange(truth.runs), truth.windows),
            "phase": "generate", "scored": True, "block": np.tile(np.arange(truth.windows), truth.runs), "attempt": 0,
            "index": np.arange(energy_j.size), "queries": truth.queries,
            "query_ids": [tuple(map(int, ids)) for ids in dealt.reshape(energy_j.size, -1)], "replications": 1,
            "start_s": start_s.ravel(), "duration_s": duration_s.ravel(), "energy_j": energy_j.ravel(),
            "bound_j": 0.2 * truth.power_w, "mean_power_w": (energy_j / duration_s).ravel(), "temperature_c": 65.0,
            "valid": True, "reasons": "", "marks": "", "energy_kind": "simulated",
        },
        columns=list(WINDOW_COLUMNS),
    )  # fmt: skip


def _tidy(windows: pd.DataFrame) -> pd.DataFrame:
    """One row a run: the sums of its windows, as the store makes them of real records."""
    keys = ["task", "model", "device", "board", "session", "phase", "scored", "energy_kind", "run"]
    runs = windows.groupby(keys, sort=False, as_index=False)[["queries", "energy_j", "bound_j", "duration_s"]].sum()
    return runs.assign(valid=True, official=False, reasons="", marks="", cohort="simulated").reindex(
        columns=list(COLUMNS)
    )


def _meters(rng, truth: Truth, windows: pd.DataFrame) -> pd.DataFrame:
    """The scored meter and a second one on the same windows."""
    second = windows["energy_j"] * (1 + truth.meter_bias + truth.meter_noise * rng.standard_normal(len(windows)))
    parts = {"first": windows["energy_j"], "second": second}
    rows = [windows[["session", "index"]].assign(meter=meter, energy_j=energy_j) for meter, energy_j in parts.items()]
    return pd.concat(rows, ignore_index=True)
