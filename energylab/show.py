"""A record in tables and words: what was measured, how sure it is, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from energylab.energy import PhaseTotal, scored_totals, static_share, totals
from energylab.record import SCORED_PHASES, Record
from energylab.statistics.intervals import Interval, expanded, mean_interval

if TYPE_CHECKING:
    import pandas as pd

WH_PER_J = 1 / 3600


def whole_words() -> None:
    """Let the tables of a notebook show their sentences whole: pandas cuts texts after 50 characters."""
    import pandas as pd

    pd.set_option("display.max_colwidth", None)


def wh_per_1000(total: PhaseTotal) -> float | None:
    """Return a total as watt-hours per 1,000 queries; None where it is unavailable."""
    return None if total.energy_j is None else total.energy_j / total.queries * 1000 * WH_PER_J


def scored_wh_per_1000(record: Record) -> list[float | None]:
    """Return the rated energy of every run: the scored phases summed, in Wh per 1,000 queries; None if one lacks."""
    runs: dict[int, list[float | None]] = {}
    for total in totals(record):
        if total.phase in SCORED_PHASES:
            runs.setdefault(total.run, []).append(wh_per_1000(total))
    return [None if None in values else sum(values) for values in runs.values()]


def energy_interval(record: Record) -> Interval | None:
    """Return the within-session 95 % interval of the rated energy, in Wh per 1,000 queries.

    None when a run has no total, or there is only one run.
    """
    values = scored_wh_per_1000(record)
    if len(values) < 2 or None in values:
        return None
    return mean_interval(values, kind="within-session")


def energy_table(record: Record) -> pd.DataFrame:
    """Tabulate energy by phase with its within-session interval, in Wh per 1,000 queries.

    Returns
    -------
    pandas.DataFrame
        One row a phase and one for the rated sum; an unavailable total is shown as such, with its reason.
    """
    import pandas as pd

    by_phase: dict[str, list[PhaseTotal]] = {}
    for total in totals(record):
        by_phase.setdefault(total.phase, []).append(total)
    rows = [_phase_row(phase, parts) for phase, parts in by_phase.items()]
    rows.append(_row("rated: " + " + ".join(p for p in by_phase if p in SCORED_PHASES), scored_wh_per_1000(record)))
    table = pd.DataFrame(rows).set_index("phase")
    return table.assign(kind=record.energy_kind)


def _phase_row(phase: str, totals: list[PhaseTotal]) -> dict[str, object]:
    windows = sum(total.windows for total in totals)
    row = _row(phase, [wh_per_1000(total) for total in totals])
    row["windows"] = f"{windows}" if windows else "derived"
    row["invalid"] = sum(total.invalid_windows for total in totals)
    row["reason"] = ", ".join(dict.fromkeys(reason for total in totals for reason in total.reasons))
    return row


def _row(name: str, values: list[float | None]) -> dict[str, object]:
    row: dict[str, object] = {"phase": name, "Wh per 1,000 queries": "unavailable", "95 % within session": ""}
    if values and None not in values:
        row["Wh per 1,000 queries"] = f"{sum(values) / len(values):.4g}"
        if len(values) > 1:
            interval = mean_interval(values, kind="within-session")
            row["95 % within session"] = f"{interval.low:.4g} to {interval.high:.4g}"
    row["runs"] = len(values)
    return row | {"windows": "", "invalid": "", "reason": ""}


def meters_table(record: Record) -> pd.DataFrame:
    """Tabulate what watched this session: each meter with kind, source, step and cost of one reading."""
    import pandas as pd

    rows = [
        {
            "meter": meter.name,
            "kind": meter.kind,
            "scored": "yes" if meter.scored else "no",
            "device": meter.device,
            "source": meter.source,
            "step": "none" if meter.update_period_s is None else f"{meter.update_period_s * 1e3:.3g} ms",
            "one reading": "" if meter.read_cost_s is None else f"{meter.read_cost_s * 1e6:.3g} µs",
            "notes": " ".join(meter.notes),
        }
        for meter in record.meters
    ]
    return pd.DataFrame(rows).set_index("meter")


def invalid_windows(record: Record) -> pd.DataFrame | str:
    """Tabulate every invalid window with its reasons; say so where all are valid."""
    import pandas as pd

    bad = [window for window in record.windows if not window.valid]
    if not bad:
        return f"All {len(record.windows)} windows are valid."
    rows = [
        {
            "window": window.index,
            "run": window.run,
            "phase": window.phase,
            "attempt": window.attempt,
            "queries": len(window.queries),
            "seconds": "not stated" if window.duration_s is None else f"{window.duration_s:.3f}",
            "energy in J": "none" if window.energy_j is None else f"{window.energy_j:.4g}",
            "reasons": ", ".join(window.reasons),
            "queries that failed": ", ".join(str(failure.query) for failure in window.failures),
        }
        for window in bad
    ]
    return pd.DataFrame(rows).set_index("window").assign(kind=record.energy_kind)


def device_states(record: Record) -> pd.DataFrame | str:
    """Tabulate temperature, clocks and slowdown of every device across the windows; say so where none is told."""
    import pandas as pd

    states = [
        {"window": w.index, **state.model_dump(exclude={"cotenants"})} for w in record.windows for state in w.states
    ]
    told = pd.DataFrame(states).dropna(axis="columns", how="all") if states else pd.DataFrame()
    if set(told.columns) <= {"window", "device"}:
        return "This device tells neither temperature nor clocks nor slowdown: nothing of the kind could be checked."
    return told.groupby("device").agg(["min", "max"]).drop(columns="window").T


def idle_table(record: Record) -> pd.DataFrame:
    """Tabulate the three idle levels and the static share of the rated energy."""
    import pandas as pd

    meaning = {
        "no_context": "before the process touched the device",
        "weights_resident": "model loaded, at rest",
        "after_load": "right after the last window",
    }
    rows = [
        {
            "level": level.level,
            "power in W": "unknown: " + ", ".join(level.reasons) if level.power_w is None else f"{level.power_w:.4g}",
            "watched for": f"{level.duration_s:.2f} s",
            "meaning": meaning[level.level],
        }
        for level in record.idle
    ]
    share = static_share(record)
    rows.append(
        {
            "level": "static share",
            "power in W": "unknown" if share is None else f"{share:.0%}",
            "watched for": "",
            "meaning": "power at rest (weights resident) x time, as a share of the rated energy",
        }
    )
    return pd.DataFrame(rows).set_index("level").assign(kind=record.energy_kind)


def speed_table(record: Record) -> pd.DataFrame:
    """Tabulate time a query and tokens a second by phase, from the valid windows."""
    import pandas as pd

    rows = []
    for phase in dict.fromkeys(window.phase for window in record.windows):
        valid = [window for window in record.windows if window.phase == phase and window.valid]
        valid = [window for window in valid if window.duration_s is not None]
        if not valid:
            continue
        latencies = pd.Series([w.duration_s / w.replications / len(w.queries) * 1e3 for w in valid])
        seconds = sum(window.duration_s for window in valid)
        tokens = [
            (w.output_tokens if phase in ("prefill", "generate") else w.input_tokens, w.replications) for w in valid
        ]
        known = all(count for count, _ in tokens)
        rows.append(
            {
                "phase": phase,
                "ms a query (mean)": f"{latencies.mean():.4g}",
                "range over windows": f"{latencies.min():.4g} to {latencies.max():.4g}",
                "tokens a second": f"{sum(n * times for n, times in tokens) / seconds:.4g}" if known else "",
                "tokens counted": ("new" if phase in ("prefill", "generate") else "input") if known else "",
                "windows": len(valid),
            }
        )
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["phase"]).set_index("phase")


def quality_table(record: Record) -> pd.DataFrame:
    """Tabulate how good the answers were; meaningless where the weights are random."""
    import pandas as pd

    without = "not scored" if record.model.real_weights else "meaningless"
    rows = [
        {
            "metric": quality.metric,
            "value": f"{quality.value:.4f}" if quality.value is not None else without,
            "queries": quality.queries,
            "why": quality.meaningless or "",
        }
        for quality in record.quality
    ]
    return pd.DataFrame(rows, columns=["metric", "value", "queries", "why"]).set_index("metric")


def trust(record: Record) -> str:
    """Say in words how far the figure can be trusted.

    Returns
    -------
    str
        One paragraph of Markdown.
    """
    sentences = [_figure(record), _how_sure(record), _windows(record), _warm_up(record), _official(record)]
    return " ".join(sentence for sentence in sentences if sentence)


def _figure(record: Record) -> str:
    values = scored_wh_per_1000(record)
    name = f"**{record.model.name}** on {record.task.name.replace('_', ' ')}"
    if not record.valid or not values or None in values:
        return f"{name} has **no figure**: {'; '.join(record.reasons) or 'a run has no total'}."
    kind = {"measured": "measured", "estimated": "**estimated, not measured**", "simulated": "**simulated**"}
    mean = sum(values) / len(values)
    return f"{name} used **{mean:.4g} Wh per 1,000 queries**, {kind.get(record.energy_kind, record.energy_kind)}."


def _how_sure(record: Record) -> str:
    text = _ended(record) or _between_runs(record)
    if record.energy_kind == "estimated" and text:
        text += " The power model behind an estimate can be wrong by a factor of two; compare such figures only here."
    return text


def _between_runs(record: Record) -> str:
    interval = energy_interval(record)
    if interval is None:
        return "With a single run there is no interval at all." if record.valid else ""
    text = (
        f"Between the {interval.n} runs of this one session the 95 % interval is ±{interval.relative_half_width:.1%}; "
        "it says nothing of other sessions, which usually differ more: repeat the session at least three times "
        "(`repeat=0, 1, 2`) for a repeatability interval."
    )
    if record.energy_kind == "measured":
        text += f" Across boards, with a sensor gain of ±5 %, it is ±{expanded(interval).relative_half_width:.1%}."
    return text


def _windows(record: Record) -> str:
    bounds = [w.bound_j / w.energy_j for w in record.windows if w.valid and w.bound_j is not None]
    invalid = [window for window in record.windows if not window.valid]
    text = f"Reading the counter adds at most {max(bounds):.1%} of error to any window." if bounds else ""
    if invalid:
        reasons = ", ".join(sorted({reason for window in invalid for reason in window.reasons}))
        text += f" {len(invalid)} of {len(record.windows)} windows were invalid ({reasons})"
        text += "; their queries were measured again." if record.valid else "."
    return text


def _warm_up(record: Record) -> str:
    if record.warm_up is None:
        return "How the device was warmed up is not stated."
    if record.warm_up.steady:
        return f"The device was steady after {record.warm_up.duration_s:.1f} s of warm-up."
    return f"**The warm-up did not end steady** ({record.warm_up.reason}): the figure may drift."


def _official(record: Record) -> str:
    why = record.not_official()
    return f"It is not official: {'; '.join(why)}." if why else "It meets every condition of an official figure."


def _ended(record: Record) -> str:
    """Say why the session ended, how sure its figure is by the rule's own interval, and which stars are left.

    Parameters
    ----------
    record : Record
        Of a session with `energylab.stopping.PrecisionStop` or `StarStop`, or of any other.

    Returns
    -------
    str
        Markdown; empty where no rule watched the session, or its rule found no interval.
    """
    found = record.extra.get("star") or record.extra.get("precision")
    if not found or found["low_j"] is None:
        return ""
    level, between = found.get("level", 0.95), found.get("between_cv", 0.0)
    half = (found["high_j"] - found["low_j"]) / 2 / found["energy_j_per_query"]
    whose = "of the mean over sessions" if between else "of this session's mean alone"
    spent = f"all it took, warm-up and rest included, was {found['spent_j'] * WH_PER_J:.3g} Wh"
    if found["unmetered_parts"]:
        spent += f" and {found['unmetered_parts']} parts whose energy nobody knows"
    how = "ended early" if found["reached"] else "ran to its end"
    sentences = [
        f"The session {how} ({found['reason']}); {spent}.",
        f"Its {100 * level:.3g} % interval {whose}, which holds however often one looked, is ±{half:.1%}.",
    ]
    return " ".join([*sentences, _stars(found)]).strip()


def _stars(found: dict) -> str:
    if not found.get("stars"):
        return ""
    left = " or ".join(map(str, found["stars"]))
    notes = f" ({'; '.join(found['notes'])})" if found["notes"] else ""
    return f"Among {found['peers']} peers it has **{left} stars**, right with {found['probability']:.0%}{notes}."


def served_table(record: Record) -> pd.DataFrame | None:
    """Tabulate what a load of so many requests at once cost and how fast it was; None for a model not served.

    Energy is that of the server's devices over windows in which every slot was full. The time to first token counts
    from the request sent, queueing in the server included.
    """
    import pandas as pd

    if record.model.source != "endpoint":
        return None
    energy_j, queries, tokens = served_energy(record)
    facts = record.extra.get("serving") or {}
    rows = {
        "requests at once": str(facts.get("concurrency", record.task.settings.get("concurrency"))),
        "energy of a query": _joules(energy_j, queries, record.energy_kind),
        "energy of a new token": _joules(energy_j, tokens, record.energy_kind),
        "new tokens a second": f"{facts['output_tokens_per_s']:.4g}" if facts else "unknown",
        "time to first token": _wait(facts, "first_token_s"),
        "time to the whole answer": _wait(facts, "latency_s"),
        "load of the client itself": f"{facts['client_cores']:.2g} cores" if facts else "unknown",
        "work done over work credited": f"{facts['balance']:.3f}" if facts else "unknown",
        "server": str(record.model.settings.get("server")),
        "fixed length by": str(record.model.settings.get("fixed_length")),
    }
    return pd.DataFrame({"value": rows}).rename_axis("served")


def served_energy(record: Record) -> tuple[float | None, int, int]:
    """Return the rated energy of all runs in joules (None: unavailable), with their queries and new tokens."""
    parts = scored_totals(record)
    made = [total for total in parts if total.output_tokens]
    whole = bool(parts) and record.valid and all(total.energy_j is not None for total in parts)
    energy_j = sum(total.energy_j for total in parts) if whole else None
    return energy_j, sum(total.queries for total in made), sum(total.output_tokens for total in made)


def _joules(energy_j: float | None, count: int, kind: str) -> str:
    return "unavailable" if energy_j is None or not count else f"{energy_j / count:.4g} J, {kind}"


def _wait(facts: dict, name: str) -> str:
    if not facts:
        return "unknown"
    spread = facts[name]
    return f"median {spread['median']:.4g} s, mean {spread['mean']:.4g} s, 95 % within {spread['p95']:.4g} s"
