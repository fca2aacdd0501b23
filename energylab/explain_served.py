"""A served model's record in a table: energy of a query and of a token, and how long users wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from energylab.energy import scored_totals
from energylab.record import Record

if TYPE_CHECKING:
    import pandas as pd


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
