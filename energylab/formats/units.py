"""Units of other people's energies: converted only when a field name, a check or the user says which one it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from energylab.errors import FormatError, unknown_name

#: Joules in one of each unit.
JOULES = {
    "mJ": 1e-3,
    "J": 1.0,
    "kJ": 1e3,
    "MJ": 1e6,
    "mWh": 3.6,
    "cWh": 36.0,
    "Wh": 3600.0,
    "kWh": 3.6e6,
    "MWh": 3.6e9,
}

_SPELLINGS = {"joule": "J", "joules": "J", "watt-hour": "Wh", "watt-hours": "Wh", "watthours": "Wh"}

#: What one device can draw on average while it works, in watts: from a small module to the largest accelerators.
DEVICE_POWER_W = (4.0, 2000.0)

#: Units in common use, which a check of power sets against each other; kJ and Wh are too near for it to tell.
_COMMON = ("mJ", "J", "kJ", "Wh", "kWh", "MWh")


@dataclass(frozen=True)
class Unit:
    """A unit, and what shows that it is the right one.

    Attributes
    ----------
    name : str
        One of `JOULES`.
    how : str
        The evidence, in words.
    """

    name: str
    how: str

    def joules(self, value: float) -> float:
        """Return `value` of this unit in joules."""
        return value * JOULES[self.name]


def named(text: str) -> str:
    """Return the unit that a text means.

    Capitals matter only where they tell units apart (``mJ``, ``MJ``).

    Raises
    ------
    UnknownNameError
        If it is none of `JOULES`; names the nearest.
    """
    text = text.strip()
    if text in JOULES:
        return text
    lower = text.lower()
    matching = [unit for unit in JOULES if unit.lower() == lower] or [_SPELLINGS.get(lower)]
    if len(matching) == 1 and matching[0]:
        return matching[0]
    raise unknown_name("unit", text, JOULES)


def settle(proved: Unit | None, asked: str | None, where: str, why_not: str = "") -> Unit:
    """Return the unit to convert by: the proved one, or the one that the user stated where nothing proves any.

    Parameters
    ----------
    proved : Unit, optional
        What the file itself shows.
    asked : str, optional
        ``--unit``.
    where : str
        File, for the error.
    why_not : str, optional
        Why the file proves no unit.

    Returns
    -------
    Unit

    Raises
    ------
    FormatError
        If nothing says the unit, or the user's contradicts what the file shows.
    """
    stated = named(asked) if asked is not None else None
    if proved is not None:
        if stated is not None and stated != proved.name:
            raise FormatError(
                f"{where}: --unit {stated} contradicts the file, which shows {proved.name} ({proved.how}); "
                "leave --unit out, or correct the file"
            )
        return proved
    if stated is None:
        raise FormatError(
            f"{where}: {why_not or 'nothing in the file says the unit of its energies'}; "
            f"state it with --unit, one of {', '.join(JOULES)}"
        )
    return Unit(stated, "stated by the user with --unit; nothing in the file proves it")


def by_power(values: Iterable[tuple[float, float]], devices: int, what: str) -> Unit | None:
    """Return the only unit in which energies over times give a power that the devices can draw.

    Parameters
    ----------
    values : iterable of (float, float)
        Energies in the unknown unit, and seconds.
    devices : int
        How many devices drew it.
    what : str
        Name of the energies, for the evidence.

    Returns
    -------
    Unit or None
        None where no unit, or more than one, fits every value.
    """
    ratios = [energy / seconds / devices for energy, seconds in values if energy > 0 and seconds > 0]
    low_w, high_w = DEVICE_POWER_W
    fitting = [unit for unit in _COMMON if ratios and all(low_w <= ratio * JOULES[unit] <= high_w for ratio in ratios)]
    if len(fitting) != 1:
        return None
    powers = sorted(ratio * JOULES[fitting[0]] for ratio in ratios)
    span = f"{powers[0]:.3g} W" if len(powers) == 1 else f"{powers[0]:.3g} to {powers[-1]:.3g} W"
    return Unit(
        fitting[0], f"of {', '.join(_COMMON)} only {fitting[0]} makes {what} over time a possible power ({span})"
    )
