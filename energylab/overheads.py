"""The energy and time that a rating itself took, and the energy of a model on standby."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from energylab.energy import J_PER_WH, WH_PER_1000_QUERIES, scored_totals, session_energy_j
from energylab.record import Record

#: Runs of the published protocol, with which the cost of a rating is compared.
PUBLISHED_RUNS = 10

#: Utilisations of the device for which the energy of a query is shown.
LOADS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Spent:
    """Energy and time that measuring took."""

    wh: float  # energy of all metered parts: warm-up, idle levels, valid and invalid windows
    minutes: float  # duration of these parts
    unmetered: int  # parts without an energy, which are not in the sum
    published_wh: float | None  # energy of ten full runs of the same queries; None if a session has no energy


def spent(records: Iterable[Record]) -> Spent:
    """Return energy and time that the sessions of a figure took, and the energy of one session of ten full runs."""
    records = list(records)
    parts = [part for record in records for part in (*record.idle, record.warm_up, *record.windows) if part]
    energies = [session_energy_j(record) for record in records]
    known = [energy * record.queries for energy, record in zip(energies, records, strict=True) if energy is not None]
    return Spent(
        wh=sum(part.energy_j for part in parts if part.energy_j is not None) / J_PER_WH,
        minutes=sum(part.duration_s or 0.0 for part in parts) / 60,
        unmetered=sum(part.energy_j is None for part in parts),
        published_wh=PUBLISHED_RUNS * fmean(known) / J_PER_WH if len(known) == len(records) > 0 else None,
    )


@dataclass(frozen=True)
class Standby:
    """A model on standby: idle power with the weights loaded, and Wh per 1,000 queries at each of `LOADS`."""

    power_w: float
    wh_at_load: tuple[float, ...]


def standby(records: Iterable[Record], energy_wh: float) -> Standby | None:
    """Return the standby of a model that needs `energy_wh`; None if no record has idle power and time per query.

    A device that works a share u of the time idles ``(1 - u) / u`` of a query's time t for every query:
    ``E(u) = E + P_rest x t x (1 - u) / u``, with the rated energy E.
    """
    known = [(record.idle_with_model_w, seconds_a_query(record)) for record in records]
    known = [pair for pair in known if None not in pair]
    if not known:
        return None
    power_w, seconds = (fmean(column) for column in zip(*known, strict=True))
    rest_wh = power_w * seconds * WH_PER_1000_QUERIES
    return Standby(power_w, tuple(energy_wh + rest_wh * (1 - load) / load for load in LOADS))


def seconds_a_query(record: Record, phase: str | None = None) -> float | None:
    """Return the seconds per query in one phase, or in all scored phases; None if unknown."""
    totals = [total for total in scored_totals(record) if phase in (None, total.phase)]
    if any(total.duration_s is None for total in totals):
        return None
    parts = [[total for total in totals if total.phase == name] for name in {total.phase for total in totals}]
    return sum(sum(total.duration_s for total in part) / sum(total.queries for total in part) for part in parts)
