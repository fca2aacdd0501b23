"""Advice made of one model's own figures, in words a developer acts on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from energylab.efficiency.words import LESS_IS_BETTER, SERVED, SHARES

if TYPE_CHECKING:
    import pandas as pd

#: What each part of the energy is, and what to do when it is the largest.
MEANING = {
    "static": (
        "the power the device draws at rest, for as long as the answer takes",
        "keep the device busy (batch, or serve several requests at once), finish sooner, or take a smaller device",
    ),
    "memory": (
        "reading the weights, once for every token and batch",
        "read fewer bytes (16-bit or quantised weights) or share each reading among more queries (batch)",
    ),
    "arithmetic": (
        "the model's own multiplications",
        "use a narrower precision, fewer tokens, or a smaller model: batching will not help further",
    ),
    "rest": (
        "neither rest, nor reading the weights once, nor the arithmetic: launching small steps, waiting between them, "
        "work beyond the least",
        "cut the overhead of each step (a static cache with CUDA graphs or torch.compile, a serving engine), and batch "
        "so that fewer steps answer more queries",
    ),
}

#: Relative change of quality that is said to be none.
SAME_QUALITY = 0.01


def advice(frame: pd.DataFrame) -> str:
    """Say what saves energy on this model and device, and what it costs elsewhere.

    Parameters
    ----------
    frame : pandas.DataFrame
        As `energylab.efficiency.pareto.front` returns it; its first row is the base.

    Returns
    -------
    str
        One paragraph of Markdown.
    """
    rows = frame.reset_index().to_dict("records")
    base, others = rows[0], rows[1:]
    sentences = [_opening(base), _paid_for(base), *_knobs(base, others), _choice(base, rows), _served(others)]
    return " ".join([*filter(None, sentences), _caution(frame)])


def _opening(base: dict[str, Any]) -> str:
    text = (
        f"As loaded, a query costs **{base['energy_j']:.3g} J** ({base['token_j']:.2g} J a new token) and its answer "
        f"takes {base['latency_s']:.3g} s"
    )
    if math.isnan(base["times_least"]):
        return f"{text}; how far that is from this device's limit is not known."
    return (
        f"{text}: **{base['times_least']:.3g} times** what this device needs to read each weight once a token and to "
        "do the arithmetic once, at full speed."
    )


def _paid_for(base: dict[str, Any]) -> str:
    if math.isnan(base["times_least"]):
        return ""
    shares = {name: base[f"{name}_j"] / base["energy_j"] for name in SHARES}
    largest = max(shares, key=shares.get)
    what, remedy = MEANING[largest]
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"Most of it, {shares[largest]:.0%}, is {what} ({listed}): {remedy}."


def _knobs(base: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each knob: its best value, or that it makes no difference here."""
    said = []
    inside = [row for row in others if row["track"] != SERVED]
    for knob in dict.fromkeys(row["knob"] for row in inside):
        tried = [row for row in inside if row["knob"] == knob]
        if knob == "new_tokens":
            said.append(_length(base, tried))
            continue
        best = min(tried, key=lambda row: row["energy_j"])
        said.append(_change(base, best))
    return said


def _length(base: dict[str, Any], tried: list[dict[str, Any]]) -> str:
    """Say what a token more costs, from the shortest and the longest answer."""
    rows = sorted([base, *tried], key=lambda row: row["new_tokens"])
    short, long = rows[0], rows[-1]
    more = (long["energy_j"] - short["energy_j"]) / (long["new_tokens"] - short["new_tokens"])
    if more <= 0:
        return f"From {short['new_tokens']:.0f} to {long['new_tokens']:.0f} new tokens, length made no difference here."
    saved = 1 - short["energy_j"] / long["energy_j"]
    return (
        f"Each further token of an answer costs {more:.2g} J: {short['new_tokens']:.0f} new tokens in place of "
        f"{long['new_tokens']:.0f} save {saved:.0%} of a query's energy."
    )


def _change(base: dict[str, Any], row: dict[str, Any]) -> str:
    name = row["setting"][0].upper() + row["setting"][1:]
    if not differs(base, row):
        return f"{name}: no difference that these runs can tell ({_ratio(base, row)})."
    word = "cuts" if row["energy_j"] < base["energy_j"] else "**raises**"
    wait = row["latency_s"] / base["latency_s"]
    waits = "leaves the wait as it is" if abs(wait - 1) < 0.05 else f"makes the wait {wait:.2g} times as long"
    change = abs(1 - row["energy_j"] / base["energy_j"])
    return f"{name} {word} the energy of a query by {change:.0%} and {waits}{_quality(base, row)}."


def differs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two energies differ by more than their 95 % half-widths, added in squares; unknown ones count as 5 %."""
    widths = [
        row["half_width_j"] if row["half_width_j"] == row["half_width_j"] else 0.05 * row["energy_j"]
        for row in (one, other)
    ]
    return abs(one["energy_j"] - other["energy_j"]) > math.hypot(*widths)


def _ratio(base: dict[str, Any], row: dict[str, Any]) -> str:
    return f"{row['energy_j'] / base['energy_j'] - 1:+.0%}"


def _quality(base: dict[str, Any], row: dict[str, Any]) -> str:
    if math.isnan(base["quality"]) or math.isnan(row["quality"]) or base["quality"] == 0:
        return ""
    change = row["quality"] / base["quality"] - 1
    if abs(change) < SAME_QUALITY:
        return " at the same quality"
    better = (change < 0) == (base["quality_metric"] in LESS_IS_BETTER)
    return f", with quality {'better' if better else '**worse**'} by {abs(change):.1%} ({base['quality_metric']})"


def _choice(base: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Name the cheapest setting for users who do not mind waiting, and for those who do."""
    same = [row for row in rows if row["new_tokens"] == base["new_tokens"] and row["front"] and row["track"] != SERVED]
    if not same:
        return ""
    cheapest = min(same, key=lambda row: row["energy_j"])
    quick = [row for row in same if row["latency_s"] <= 1.05 * base["latency_s"]]
    fast = min(quick, key=lambda row: row["energy_j"]) if quick else base
    if not differs(base, cheapest):
        return "Of all that was tried, nothing saves energy for certain: keep the model as it is loaded."
    saved = 1 - cheapest["energy_j"] / base["energy_j"]
    name, wait = cheapest["setting"], cheapest["latency_s"]
    text = f"**Do this:** where answers may take {wait:.2g} s, run with **{name}** and save {saved:.0%}"
    if fast["setting"] == cheapest["setting"]:
        return f"{text}; nobody waits longer for it."
    if fast["setting"] == base["setting"] or not differs(base, fast):
        return f"{text}; where they must come no later than now, nothing that was tried saves energy for certain."
    saved = 1 - fast["energy_j"] / base["energy_j"]
    return f"{text}; where they must come no later than now, run with **{fast['setting']}** and save {saved:.0%}."


def _served(others: list[dict[str, Any]]) -> str:
    served = [row for row in others if row["track"] == SERVED]
    if len(served) < 2:
        return ""
    first, best = served[0], min(served, key=lambda row: row["energy_j"])
    if best is first or not differs(first, best):
        return f"Behind a server, more than {first['setting']} saved nothing that these runs can tell."
    saved, wait = 1 - best["energy_j"] / first["energy_j"], best["latency_s"] / first["latency_s"]
    return (
        f"Behind a server, {best['setting']} costs {saved:.0%} less a query than {first['setting']}, and an answer "
        f"takes {wait:.2g} times as long."
    )


def _caution(frame: pd.DataFrame) -> str:
    kinds = set(frame["energy_kind"])
    said = ""
    if frame["sessions"].min() < 2:
        said = (
            "**These are single sessions**, which drift with the machine: set repeats=3 before acting on a difference."
        )
    if kinds != {"measured"}:
        said += f" Energy here is **{' and '.join(sorted(kinds))}**: compare it on this machine only."
    if frame["quality"].isna().all():
        said += (
            " Quality is unknown here (random weights, or a server's): check it before a narrower precision is used."
        )
    return said
