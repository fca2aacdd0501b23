"""How joules are read: one module a source, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.parameters import Parameters
from energylab.record import DeviceFacts
from energylab.registry import Registry

__all__ = ["METERS", "Chosen", "DeviceCounters", "Meter", "Reading", "choose", "wait_for_tick"]

#: Every kind of meter by name. Other packages add theirs as entry points of the group ``energylab.meters``.
METERS = Registry(
    "meter",
    {
        "nvml": "energylab.meters.nvml:NvmlMeter",
        "rapl": "energylab.meters.rapl:RaplMeter",
        "codecarbon": "energylab.meters.codecarbon:CodeCarbonMeter",
        "estimate": "energylab.meters.estimate:EstimateMeter",
        "replay": "energylab.meters.replay:ReplayMeter",
    },
    group="energylab.meters",
)

#: What `auto` tries for a type of device, best first.
PREFERRED = {"cuda": ("nvml",), "cpu": ("rapl", "estimate")}


@dataclass(frozen=True)
class Chosen:
    """The meters of a session, unopened, and why these.

    Attributes
    ----------
    scored : tuple of Meter
        Their sum is the record's energy: one a device, or one that sees them all.
    extra : tuple of Meter
        Watch the same windows beside them.
    why : str
        One sentence for the reader of the notebook.
    """

    scored: tuple[Meter, ...]
    extra: tuple[Meter, ...]
    why: str


def choose(parameters: Parameters, devices: Sequence[DeviceFacts]) -> Chosen:
    """Choose the meters of a session from its parameters ``meter`` and ``extra_meters``.

    ``auto`` takes the first of `PREFERRED` for the type of device that can be used here.

    Parameters
    ----------
    parameters : Parameters
    devices : sequence of DeviceFacts
        All of one type, as `energylab.devices.resolve_devices` gives them.

    Returns
    -------
    Chosen
        Unopened meters: opening them can still fail.

    Raises
    ------
    UnknownNameError
        If a name is not a known meter.
    MeterError
        If a meter that was asked for by name cannot be used here, or `auto` finds none.
    """
    if parameters.meter == "auto":
        scored, why = _best(devices)
    else:
        scored, why = METERS.get(parameters.meter), "asked for by name"
        _refuse(scored, scored.why_not(devices))
    extras = [METERS.get(name) for name in _names(parameters.extra_meters) if name != scored.name]
    extra = [meter for kind in extras for meter in kind.for_devices(devices, parameters)]
    meters = tuple(scored.for_devices(devices, parameters))
    return Chosen(meters, tuple(extra), f"meter {scored.name}: {why}")


def _best(devices: Sequence[DeviceFacts]) -> tuple[type[Meter], str]:
    passed_over = []
    for name in PREFERRED.get(devices[0].type, ()):
        kind = METERS.get(name)
        reason = kind.why_not(devices)
        if reason is None:
            first = "the best source for this device" if not passed_over else "the best left"
            return kind, "; ".join([first, *passed_over])
        passed_over.append(f"{name} not: {reason}")
    raise MeterError(
        f"no meter sees the energy of a {devices[0].type} device here"
        f" ({'; '.join(passed_over) or 'none is known'}); "
        f"name one with meter=, of: {', '.join(METERS.names())}"
    )


def _refuse(kind: type[Meter], reason: str | None) -> None:
    if reason is not None:
        raise MeterError(
            f"meter {kind.name!r} cannot be used here: {reason}; use meter=auto, or one of: {', '.join(METERS.names())}"
        )


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    return list(dict.fromkeys(name for name in names if name))
