"""What a rule that may end a session early has found, in words."""

from __future__ import annotations

from energylab.record import Record

_WH_PER_J = 1 / 3600


def ended(record: Record) -> str:
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
    spent = f"all it took, warm-up and rest included, was {found['spent_j'] * _WH_PER_J:.3g} Wh"
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
