"""Tables and sentences of notebook 01 on a record: results, uncertainty and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from energylab.energy import (
    J_PER_WH,
    WH_PER_1000_QUERIES,
    energy_j_per_query,
    run_energies_j,
    scored_totals,
    session_energy_j,
    static_share,
    totals,
)
from energylab.protocol.validity import WARNINGS
from energylab.record import SCORED_PHASES, Record
from energylab.statistics.uncertainty import Interval, expanded, mean_interval

if TYPE_CHECKING:
    import pandas as pd


def whole_words() -> None:
    """Show complete texts in a notebook's tables; by default pandas cuts them after 50 characters."""
    import pandas as pd

    pd.set_option("display.max_colwidth", None)


def _frame(rows: Sequence[dict[str, Any]], index: str, kind: str | None = None) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else [index]).set_index(index)
    return frame if kind is None else frame.assign(kind=kind)


def _number(value: float | None, digits: str = ".4g", unknown: str = "unknown") -> str:
    return unknown if value is None else f"{value:{digits}}"


def run_energies(record: Record) -> list[float]:
    """Return the rated energy of every complete run, in Wh per 1,000 queries."""
    return [energy_j * WH_PER_1000_QUERIES for energy_j in run_energies_j(record)]


def energy_interval(record: Record) -> Interval | None:
    """Return the 95 % within-session interval in Wh per 1,000 queries; None with a stopping rule, which has its own."""
    whole = record.stop is None and session_energy_j(record) is not None
    return _interval(run_energies(record)) if whole else None


def _interval(runs: Sequence[float]) -> Interval | None:
    """Return the interval of a mean over runs; its lower end is at least zero. None with a single run."""
    found = mean_interval(runs) if len(runs) > 1 else None
    return found and replace(found, low=max(found.low, 0.0))


def energy_table(record: Record) -> pd.DataFrame:
    """Tabulate energy by phase and in total with within-session intervals, and reasons for unavailable totals."""
    found, rows = totals(record), []
    phases = list(dict.fromkeys(total.phase for total in found))
    for phase in phases:
        parts = [total for total in found if total.phase == phase]
        known = [total.energy_j / total.queries * WH_PER_1000_QUERIES for total in parts if total.energy_j is not None]
        facts = {
            "windows": str(sum(total.windows for total in parts) or "derived"),
            "invalid": sum(total.invalid_windows for total in parts),
            "reason": ", ".join(dict.fromkeys(reason for total in parts for reason in total.reasons)),
        }
        rows.append(_energy_row(phase, energy_j_per_query(parts), known, len(parts)) | facts)
    rated = "rated: " + " + ".join(phase for phase in phases if phase in SCORED_PHASES)
    runs = len({total.run for total in found})
    rows.append(_energy_row(rated, session_energy_j(record), run_energies(record), runs))
    return _frame(rows, "phase", record.energy_kind).fillna("")


def _energy_row(name: str, energy_j: float | None, whole: Sequence[float], runs: int) -> dict[str, object]:
    wh, interval = energy_j and energy_j * WH_PER_1000_QUERIES, None if energy_j is None else _interval(whole)
    return {
        "phase": name,
        "Wh per 1,000 queries": _number(wh, unknown="unavailable"),
        "95 % within session": f"{interval.low:.4g} to {interval.high:.4g}" if interval else "",
        "runs": f"{runs}" if len(whole) == runs else f"{len(whole)} of {runs} complete",
        "windows": "",
        "invalid": "",
        "reason": "",
    }


def conditions_table(record: Record) -> pd.DataFrame:
    """Tabulate the conditions of the result: protocol, kind of energy, warnings, truncation, deviations."""
    data, task = record.data, record.task
    counts = {mark: sum(mark in window.marks for window in record.windows) for mark in record.marks if mark in WARNINGS}
    marked = [f"{mark} in {n} of {len(record.windows)} windows: {WARNINGS[mark]}" for mark, n in counts.items() if n]
    rows = {
        "protocol": f"{record.protocol.name}, version {record.protocol.version}",
        "energy": record.energy_kind,
        "warnings": "; ".join(marked),
        "truncated input": _truncated(record),
        "deviations from the published work": "; ".join(task.deviations),
        "settings that differ from published": ", ".join(task.overridden),
        "data": f"{data.queries} queries of {data.name or 'a source not stated'} ({data.source or 'not stated'})",
        "official": "; ".join(record.not_official()) or f"yes, under {record.protocol.name}",
    }
    return _frame([{"condition": name, "value": value or "none"} for name, value in rows.items()], "condition")


def _truncated(record: Record) -> str:
    queries, cut = record.data.truncated_queries, record.data.truncated_tokens
    if queries is None:
        return "not stated"
    known = record.data.covariates.get("input_tokens", ())
    whole = f" of {cut + round(sum(known)):,}" if known and cut else ""
    return f"{queries} of {record.queries} queries, {cut:,}{whole} tokens cut" if queries else "none"


def meters_table(record: Record) -> pd.DataFrame:
    """Tabulate the meters of the session: kind, source, update period and duration of a reading."""
    rows = [
        {
            "meter": meter.name,
            "kind": meter.kind,
            "scored": "yes" if meter.scored else "no",
            "device": meter.device,
            "source": meter.source,
            "update period": "none" if meter.update_period_s is None else f"{meter.update_period_s * 1e3:.3g} ms",
            "one reading": "" if meter.read_cost_s is None else f"{meter.read_cost_s * 1e6:.3g} µs",
            "notes": " ".join(meter.notes),
        }
        for meter in record.meters
    ]
    return _frame(rows, "meter")


def invalid_windows(record: Record) -> pd.DataFrame | str:
    """Tabulate every invalid window with its reasons; a sentence if all are valid."""
    rows = [
        {
            "window": window.index,
            "run": window.run,
            "phase": window.phase,
            "attempt": window.attempt,
            "queries": len(window.queries),
            "seconds": _number(window.duration_s, ".3f", "not stated"),
            "energy in J": _number(window.energy_j, unknown="none"),
            "reasons": ", ".join(window.reasons),
            "queries that failed": ", ".join(str(failure.query) for failure in window.failures),
        }
        for window in record.windows
        if not window.valid
    ]
    return _frame(rows, "window", record.energy_kind) if rows else f"All {len(record.windows)} windows are valid."


def device_states(record: Record) -> pd.DataFrame | str:
    """Tabulate temperature, clocks and slowdown of every device over the windows; a sentence if unknown."""
    import pandas as pd

    states = [state.model_dump(exclude={"cotenants"}) for window in record.windows for state in window.states]
    told = pd.DataFrame(states).dropna(axis="columns", how="all")
    if set(told.columns) <= {"device"}:
        return "This device reports no temperature, clocks or slowdown, so they could not be checked."
    return told.groupby("device").agg(["min", "max"]).T


def idle_table(record: Record) -> pd.DataFrame:
    """Tabulate the three idle levels and the static share of the rated energy."""
    meaning = {
        "no_context": "before the process touched the device",
        "weights_resident": "model loaded, idle",
        "after_load": "right after the last window",
        "static share": "idle power (weights resident) x time, as a share of the rated energy",
    }
    found = [
        (one.level, _number(one.power_w, unknown=f"unknown: {', '.join(one.reasons)}"), f"{one.duration_s:.2f} s")
        for one in record.idle
    ]
    found.append(("static share", _number(static_share(record), ".0%"), ""))
    columns = ("level", "power in W", "observed for", "meaning")
    rows = [dict(zip(columns, (*one, meaning[one[0]]), strict=True)) for one in found]
    return _frame(rows, "level", record.energy_kind)


def speed_table(record: Record) -> pd.DataFrame:
    """Tabulate time per query and tokens per second by phase, from the valid windows."""
    valid = [window for window in record.windows if window.valid and window.duration_s is not None]
    rows = []
    for phase in dict.fromkeys(window.phase for window in valid):
        windows, made = [window for window in valid if window.phase == phase], phase in ("prefill", "generate")
        ms = [window.duration_s / window.replications / len(window.queries) * 1e3 for window in windows]
        tokens = [((w.output_tokens if made else w.input_tokens) or 0) * w.replications for w in windows]
        rate = sum(tokens) / sum(window.duration_s for window in windows) if all(tokens) else None
        rows.append(
            {
                "phase": phase,
                "ms per query (mean)": f"{sum(ms) / len(ms):.4g}",
                "range over windows": f"{min(ms):.4g} to {max(ms):.4g}",
                "tokens per second": _number(rate, unknown=""),
                "tokens counted": "" if rate is None else "new" if made else "input",
                "windows": len(windows),
            }
        )
    return _frame(rows, "phase")


def quality_table(record: Record) -> pd.DataFrame:
    """Tabulate the quality of the answers, which is meaningless with random weights."""
    unknown = "not scored" if record.model.real_weights else "meaningless"
    rows = [
        {
            "metric": quality.metric,
            "value": _number(quality.value, ".4f", unknown),
            "queries": quality.queries,
            "reason": quality.meaningless or "",
        }
        for quality in record.quality
    ]
    return _frame(rows, "metric")


def served_table(record: Record) -> pd.DataFrame | str:
    """Tabulate energy and speed of a served model under load (with queueing); a sentence if not served."""
    if record.model.source != "endpoint":
        return "The model was not served, but loaded in this process."
    facts, settings = record.extra.get("serving") or {}, record.model.settings
    made = [total for total in scored_totals(record) if total.output_tokens]
    tokens = sum(total.output_tokens for total in made) / max(sum(total.queries for total in made), 1)
    energy_j = session_energy_j(record) if record.valid else None

    def joules(parts: float) -> str:
        return "unavailable" if energy_j is None or not parts else f"{energy_j / parts:.4g} J, {record.energy_kind}"

    rows = {
        "concurrent requests": facts.get("concurrency", record.task.settings.get("concurrency")),
        "energy per query": joules(1),
        "energy per new token": joules(tokens),
        "new tokens per second": _number(facts.get("output_tokens_per_s")),
        "time to first token": _wait(facts.get("first_token_s")),
        "time to the complete answer": _wait(facts.get("latency_s")),
        "processor cores used by the client": _number(facts.get("client_cores"), ".2g"),
        "ratio of work done to work counted": _number(facts.get("balance"), ".3f"),
        "server": settings.get("server"),
        "length fixed by": settings.get("fixed_length"),
        "prompt cache": settings.get("prompt_cache", "unknown"),
        "prompt cache known from": settings.get("prompt_cache_known_by", "unknown"),
    }
    return _frame([{"served": name, "value": str(value)} for name, value in rows.items()], "served")


def _wait(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "unknown"
    return f"median {spread['median']:.4g} s, mean {spread['mean']:.4g} s, 95 % within {spread['p95']:.4g} s"


def trust(record: Record) -> str:
    """Return one paragraph of Markdown on the reliability of the result."""
    why, under = record.not_official(), f"protocol {record.protocol.name}"
    official = f"It is not official ({under}): {'; '.join(why)}." if why else f"It is official under {under}."
    sentences = [_figure(record), _how_sure(record), *_marked(record), _windows(record), _warm_up(record), official]
    return " ".join(sentence for sentence in sentences if sentence)


def _figure(record: Record) -> str:
    energy_j = session_energy_j(record)
    name = f"**{record.model.name}** on {record.task.name.replace('_', ' ')}"
    if not record.valid or energy_j is None:
        kept = sum(window.valid for window in record.windows)
        kept = f" The {kept} valid windows are kept." if kept else ""
        return f"{name} has **no figure**: {'; '.join(record.reasons) or 'a run has no total'}.{kept}"
    kind = {"estimated": "**estimated, not measured**", "simulated": "**simulated**"}
    figure = f"**{energy_j * WH_PER_1000_QUERIES:.4g} Wh per 1,000 queries**"
    return f"{name} used {figure}, {kind.get(record.energy_kind, record.energy_kind)}."


def _how_sure(record: Record) -> str:
    text = _of_stop(record) if record.stop else _between_runs(record)
    if record.energy_kind == "estimated" and text:
        text += " The power model of an estimate can be wrong by a factor of two; only compare figures of one machine."
    return text


def _between_runs(record: Record) -> str:
    interval = energy_interval(record)
    if interval is None:
        return "A single run gives no interval." if record.valid else ""
    text = (
        f"Between the {interval.n} runs of this one session the 95 % interval is ±{interval.relative_half_width:.1%}; "
        "other sessions usually differ more: repeat the session at least three times "
        "(`repeat=0, 1, 2`) for a repeatability interval."
    )
    if record.energy_kind == "measured":
        text += f" Across boards, with a sensor gain of ±5 %, it is ±{expanded(interval).relative_half_width:.1%}."
    return text


def _of_stop(record: Record) -> str:
    """Return why the session ended, the interval of the stopping rule, and the possible stars."""
    stop, details = record.stop, record.stop.details
    text = f"The session {'ended early' if stop.reached else 'ran to its end'} ({stop.reason})"
    if stop.low_j is None or not stop.energy_j_per_query:
        return f"{text}; the stopping rule found no interval."
    if stop.spent_j is not None:
        text += f"; in total, with warm-up and idle time, it used {stop.spent_j / J_PER_WH:.3g} Wh"
    if details.get("unmetered_parts"):
        text += f" and {details['unmetered_parts']} parts whose energy is unknown"
    half = (stop.high_j - stop.low_j) / 2 / stop.energy_j_per_query
    whose = "of the mean over sessions" if details.get("shared_cv") else "of the mean of this session alone"
    text += f". Its {100 * stop.level:.3g} % interval {whose}, valid at any stopping time, is ±{half:.1%}."
    if not details.get("stars"):
        return text
    stars, notes = " or ".join(map(str, details["stars"])), "; ".join(details.get("notes", ()))
    peers = f"Among {details['peers']} peers it has **{stars} stars**, correct with probability {stop.target:.0%}"
    return f"{text} {peers}{f' ({notes})' if notes else ''}."


def _marked(record: Record) -> Iterable[str]:
    for mark in record.marks:
        if mark == "truncated":
            yield f"**Truncated**: {_truncated(record)}."
        elif mark in WARNINGS:
            yield f"**{mark}**: {WARNINGS[mark]}."


def _windows(record: Record) -> str:
    bounds = [w.bound_j / w.energy_j for w in record.windows if w.valid and w.bound_j is not None and w.energy_j]
    invalid = [window for window in record.windows if not window.valid]
    text = f"Reading the counter adds at most {max(bounds):.1%} of error to any window." if bounds else ""
    if invalid:
        reasons = ", ".join(sorted({reason for window in invalid for reason in window.reasons}))
        text += f" {len(invalid)} of {len(record.windows)} windows were invalid ({reasons})"
        text += "; their queries were measured again." if record.valid else "."
    return text.strip()


def _warm_up(record: Record) -> str:
    warm_up = record.warm_up
    if warm_up is None:
        return "The warm-up is not stated."
    if record.protocol.name != "steady":
        return f"The device was warmed up according to the protocol: {warm_up.reason}."
    if warm_up.steady:
        return f"The device was steady after {warm_up.duration_s:.1f} s of warm-up."
    return f"**The device was not steady after the warm-up** ({warm_up.reason}): the figure may drift."
