"""Every setting of a sweep in one table: what it costs, how fast and how good it is, and what is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from energylab.efficiency.limits import Limits
from energylab.efficiency.sweep import Setting, Sweep
from energylab.efficiency.words import SHARES
from energylab.efficiency.work import Shape, least_work
from energylab.energy import scored_totals, totals
from energylab.record import SCORED_PHASES, Record
from energylab.statistics.intervals import mean_interval
from energylab.table import cohort_key

if TYPE_CHECKING:
    import pandas as pd


#: Kept on one line with the figures beside it.
PLUS_MINUS = "\u00a0±\u00a0"


def table(sweep: Sweep, limits: Limits, shape: Shape | None) -> pd.DataFrame:
    """Return one row a setting that was measured.

    Parameters
    ----------
    sweep : Sweep
    limits : Limits
        Of the device the sweep ran on.
    shape : Shape or None
        Of the model; None where its least work is not known.

    Returns
    -------
    pandas.DataFrame
        Indexed by label: ``knob, track, sessions, new_tokens, energy_j`` (of one query), ``half_width_j`` (95 %,
        between the runs of the session, or between sessions where there are several; NaN where there is but one),
        ``token_j``, ``latency_s`` (until a query's whole answer), ``tokens_per_s``, ``quality, quality_metric``,
        ``least_j`` (the device's own limit for this work), ``times_least``, and ``static_j, memory_j, arithmetic_j,
        rest_j``, which add up to ``energy_j``; NaN where unknown. ``energy_kind``, ``cohort``.
    """
    import pandas as pd

    rows = [row(setting, records, limits, shape) for setting, records in sweep.records]
    return pd.DataFrame(rows).set_index("setting")


def row(setting: Setting, records: Sequence[Record], limits: Limits, shape: Shape | None) -> dict[str, Any]:
    """Return one setting's row: the mean over its sessions."""
    runs = [run_energies_j(record) for record in records]
    sessions = [fmean(values) for values in runs]
    energy_j = fmean(sessions)
    speeds = [_speed(record) for record in records]
    first = records[0]
    quality = first.quality[0] if first.quality else None
    split = [parts(record, session, limits, shape) for record, session in zip(records, sessions, strict=True)]
    return {
        "setting": setting.label,
        "knob": setting.knob,
        "track": setting.track,
        "sessions": len(records),
        "new_tokens": fmean(new for new, _ in speeds),
        "energy_j": energy_j,
        "half_width_j": _half_width(sessions if len(sessions) > 1 else runs[0]),
        "token_j": energy_j / fmean(new for new, _ in speeds),
        "latency_s": fmean(latency_s(record, seconds) for record, (_, seconds) in zip(records, speeds, strict=True)),
        "tokens_per_s": fmean(new / seconds for new, seconds in speeds),
        "quality": float("nan") if quality is None or quality.value is None else quality.value,
        "quality_metric": quality.metric if quality else None,
        **{name: fmean(part[name] for part in split) for name in split[0]},
        "energy_kind": first.energy_kind,
        "cohort": cohort_key(first),
    }


def run_energies_j(record: Record) -> list[float]:
    """Return the rated energy of one query in each run of a valid record, in joules."""
    runs: dict[int, float] = {}
    for total in totals(record):
        if total.phase in SCORED_PHASES:
            runs[total.run] = runs.get(total.run, 0.0) + total.energy_j / total.queries
    return list(runs.values())


def _half_width(values: Sequence[float]) -> float:
    return mean_interval(values).half_width if len(values) > 1 else float("nan")


def _speed(record: Record) -> tuple[float, float]:
    """Return the new tokens of a query, and the seconds of the device it takes."""
    made = [total for total in totals(record) if total.phase == "generate"]
    queries = sum(total.queries for total in made)
    return sum(total.output_tokens for total in made) / queries, sum(total.duration_s for total in made) / queries


def latency_s(record: Record, device_s: float) -> float:
    """Return how long a query waits for its whole answer: the batch it is in, or what the server's users saw."""
    served = record.extra.get("serving")
    if served:
        return served["latency_s"]["mean"]
    batch = min(record.task.settings.get("batch_size") or 1, record.queries)
    return device_s * batch


def parts(record: Record, energy_j: float, limits: Limits, shape: Shape | None) -> dict[str, float]:
    """Split a query's energy, and give the least this device could answer it with.

    Static is the power at rest times the time taken. Memory and arithmetic are the least work at the device's measured
    cost above rest. What is left is paid for something else: launching, waiting while the clocks are up, work
    beyond the least. The least adds reading and arithmetic at full speed, one after the other, all power included.
    """
    unknown = dict.fromkeys(("least_j", "times_least", *(f"{name}_j" for name in SHARES)), float("nan"))
    work = None if shape is None else least_work(shape, record)
    flop = limits.flop.get(record.model.dtype or "")
    if work is None or flop is None:
        return unknown
    parts = scored_totals(record)
    per_query = record.queries * len({total.run for total in parts})
    static_j = limits.rest_w * sum(total.duration_s for total in parts) / per_query
    memory_j = work.read_bytes * limits.byte.above_rest_j
    arithmetic_j = work.flop * flop.above_rest_j
    least_j = work.read_bytes * limits.byte.j + work.flop * flop.j
    return {
        "least_j": least_j,
        "times_least": energy_j / least_j,
        "static_j": static_j,
        "memory_j": memory_j,
        "arithmetic_j": arithmetic_j,
        "rest_j": energy_j - static_j - memory_j - arithmetic_j,
    }


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: few digits, units in the names, what is unknown left empty."""
    import pandas as pd

    def digits(value: float, form: str = ".3g") -> str:
        if pd.isna(value):
            return ""
        return f"{value:,.0f}" if value >= 1000 else format(value, form)

    columns = {
        "track": frame["track"],
        "J a query": [
            digits(energy) + ("" if pd.isna(half) else f"{PLUS_MINUS}{digits(half, '.2g')}")
            for energy, half in zip(frame["energy_j"], frame["half_width_j"], strict=True)
        ],
        "J a token": frame["token_j"].map(digits),
        "wait, s": frame["latency_s"].map(digits),
        "tokens/s": frame["tokens_per_s"].map(digits),
        "quality": frame["quality"].map(digits).replace("", "not\u00a0known"),
        "times the device's least": frame["times_least"].map(digits),
        **{name: _share(frame, name) for name in SHARES},
        "front": frame["front"].map({True: "yes", False: ""}) if "front" in frame else "",
        "kind": frame["energy_kind"],
    }
    return pd.DataFrame(columns, index=frame.index)


def _share(frame: pd.DataFrame, name: str) -> list[str]:
    import pandas as pd

    shares = frame[f"{name}_j"] / frame["energy_j"]
    return ["" if pd.isna(share) else f"{share:.0%}" for share in shares]


def limits_table(limits: Limits) -> pd.DataFrame:
    """Tabulate the device's limits in units people know: picojoules, and billions a second."""
    import pandas as pd

    costs = {f"one operation in {dtype}": cost for dtype, cost in limits.flop.items()} | {"one byte": limits.byte}
    rows = {
        name: {
            "pJ": f"{cost.j * 1e12:.4g}",
            "pJ above rest": f"{cost.above_rest_j * 1e12:.4g}",
            "10⁹ a second": f"{cost.per_s / 1e9:.4g}",
        }
        for name, cost in costs.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis(limits.device)
    return frame.assign(**{"power at rest": f"{limits.rest_w:.4g} W", "kind": limits.energy_kind})


def missing_table(sweep: Sweep) -> pd.DataFrame | str:
    """Tabulate what could not be measured, and why."""
    import pandas as pd

    if not sweep.missing:
        return "Every setting was measured."
    rows = [{"setting": setting.label, "why": reason} for setting, reason in sweep.missing]
    return pd.DataFrame(rows).set_index("setting")
