"""From windows to energies: the only place where they are added.

Windows give the total of a phase in one run; totals give a session's energy per query. Everything else (tables,
ratings, releases, pages, exports, stopping rules) takes these figures and computes none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from energylab.record import SCORED_PHASES, Record, Window

J_PER_WH = 3600.0

#: Wh per 1,000 queries of one joule per query.
WH_PER_1000_QUERIES = 1000.0 / J_PER_WH


@dataclass(frozen=True)
class PhaseTotal:
    """Energy of one phase in one run, over all its queries once.

    Attributes
    ----------
    run : int
    phase : str
        ``decode`` is generate minus prefill.
    queries : int
    energy_j, bound_j : float or None
        In joules; None where it is unavailable: at least one block has no valid window.
    duration_s : float or None
    windows, invalid_windows : int
    input_tokens, output_tokens : int or None
    reasons : tuple of str
        Why there is no energy.
    """

    run: int
    phase: str
    queries: int
    energy_j: float | None
    bound_j: float | None
    duration_s: float | None
    windows: int
    invalid_windows: int
    input_tokens: int | None
    output_tokens: int | None
    reasons: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether every query of the phase was measured."""
        return self.energy_j is not None


def totals(record: Record) -> tuple[PhaseTotal, ...]:
    """Sum a record's windows: one total per run and phase, decode derived as generate minus prefill.

    Returns
    -------
    tuple of PhaseTotal
        In run order, then phase order. A total whose block has no valid window is unavailable
        (``energy_j is None``): never a mean of the survivors.
    """
    return phase_totals(record.windows)


def scored_totals(record: Record) -> list[PhaseTotal]:
    """Return the totals of the phases whose energy is rated."""
    return [total for total in totals(record) if total.phase in SCORED_PHASES]


def energy_j_per_query(parts: Iterable[PhaseTotal]) -> float | None:
    """Pool scored totals of one session: energy over queries of each phase, phases added.

    A run that ended early counts by its queries, never as a whole one. None where a total is unavailable.
    """
    pooled: dict[str, list[PhaseTotal]] = defaultdict(list)
    for total in parts:
        pooled[total.phase].append(total)
    if not pooled or any(total.energy_j is None for runs in pooled.values() for total in runs):
        return None
    return sum(sum(one.energy_j for one in runs) / sum(one.queries for one in runs) for runs in pooled.values())


def session_energy_j(record: Record) -> float | None:
    """Return a session's energy per query in joules, scored phases added; None where it is unavailable."""
    return energy_j_per_query(scored_totals(record))


def static_share(record: Record) -> float | None:
    """Part of the scored energy the device would have used at rest with the weights resident: idle power x duration.

    None when the resting power or a total is unknown.
    """
    idle_w = next((level.power_w for level in record.idle if level.level == "weights_resident"), None)
    parts = scored_totals(record)
    if idle_w is None or not parts or any(None in (total.energy_j, total.duration_s) for total in parts):
        return None
    energy_j = sum(total.energy_j for total in parts)
    return idle_w * sum(total.duration_s for total in parts) / energy_j if energy_j > 0 else None


def phase_totals(windows: tuple[Window, ...]) -> tuple[PhaseTotal, ...]:
    """Sum windows to one total per run and phase; see `totals`."""
    grouped: dict[tuple[int, str], dict[int, list[Window]]] = defaultdict(lambda: defaultdict(list))
    for window in windows:
        grouped[window.run, window.phase][window.block].append(window)
    totals = {key: _phase_total(*key, blocks) for key, blocks in grouped.items()}
    for run, phase in list(totals):
        if phase == "generate" and (run, "prefill") in totals:
            totals[run, "decode"] = _decode(totals[run, "prefill"], totals[run, "generate"])
    return tuple(totals[key] for key in sorted(totals, key=lambda key: key[0]))


def _phase_total(run: int, phase: str, blocks: dict[int, list[Window]]) -> PhaseTotal:
    attempts = [window for block in blocks.values() for window in block]
    chosen = [next((w for w in reversed(block) if w.valid), None) for block in blocks.values()]
    missing = [number for number, window in zip(blocks, chosen, strict=True) if window is None]
    reasons = sorted({reason for number in missing for window in blocks[number] for reason in window.reasons})
    complete = not missing

    def once(field: str) -> float | None:
        if not complete or any(getattr(window, field) is None for window in chosen):
            return None
        return sum(getattr(window, field) / window.replications for window in chosen)

    def tokens(field: str) -> int | None:
        if not complete or any(getattr(window, field) is None for window in chosen):
            return None
        return sum(getattr(window, field) for window in chosen)

    return PhaseTotal(
        run=run,
        phase=phase,
        queries=sum(len(block[0].queries) for block in blocks.values()),
        energy_j=once("energy_j"),
        bound_j=once("bound_j"),
        duration_s=once("duration_s"),
        windows=len(attempts),
        invalid_windows=sum(not window.valid for window in attempts),
        input_tokens=tokens("input_tokens"),
        output_tokens=tokens("output_tokens"),
        reasons=tuple(reasons),
    )


def _decode(prefill: PhaseTotal, generate: PhaseTotal) -> PhaseTotal:
    """Derive decode as generate minus prefill; a negative difference is marked, never shown as energy or time."""
    known = prefill.energy_j is not None and generate.energy_j is not None
    energy_j = generate.energy_j - prefill.energy_j if known else None
    reasons = set(prefill.reasons) | set(generate.reasons)
    if energy_j is not None and energy_j < 0:
        reasons.add("negative_decode")
        energy_j = None
    bounded = prefill.bound_j is not None and generate.bound_j is not None
    timed = None not in (prefill.duration_s, generate.duration_s) and generate.duration_s >= prefill.duration_s
    return PhaseTotal(
        run=generate.run,
        phase="decode",
        queries=generate.queries,
        energy_j=energy_j,
        bound_j=prefill.bound_j + generate.bound_j if bounded else None,
        duration_s=generate.duration_s - prefill.duration_s if timed else None,
        windows=0,
        invalid_windows=0,
        input_tokens=generate.input_tokens,
        output_tokens=generate.output_tokens,
        reasons=tuple(sorted(reasons)),
    )
