"""How energy is read: one module per source, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import iter_modules
from typing import get_args

from energylab.errors import MeterError
from energylab.meters.base import DeviceCounters, Meter, Reading, wait_for_tick
from energylab.parameters import Parameters
from energylab.record import DeviceFacts, EnergyKind
from energylab.registry import Registry

__all__ = ["METERS", "DeviceCounters", "Instruments", "Meter", "Reading", "auto_order", "choose", "wait_for_tick"]

#: Modules of this folder without a meter. Every other module NAME holds the class ``NameMeter``.
HELPERS = ("base", "nvml_library", "processor_load", "sampler")

_OURS = {
    module.name: f"energylab.meters.{module.name}:{module.name.capitalize()}Meter"
    for module in iter_modules(__path__)
    if module.name not in HELPERS
}

#: Every kind of meter by name. Other packages add theirs as entry points of the group ``energylab.meters``.
METERS = Registry("meter", _OURS, group="energylab.meters")

#: Meters that ``meter=auto`` tries for each type of device, best first; no others are loaded.
AUTO = {"cuda": ("nvml",), "cpu": ("rapl", "estimate")}


@dataclass(frozen=True)
class Instruments:
    """Devices and meters (unopened) of a session, and why these meters were chosen.

    The energies of `rated_meters` add up to the record's energy: one meter per device, or one for all devices.
    `extra_meters` are read over the same windows, for comparison. `why` is one sentence, shown in the notebook.
    """

    devices: tuple[DeviceFacts, ...]
    rated_meters: tuple[Meter, ...]
    extra_meters: tuple[Meter, ...]
    why: str

    def __post_init__(self) -> None:
        """Refuse a meter that lacks an attribute which records need."""
        for meter in (*self.rated_meters, *self.extra_meters):
            missing = [name for name in ("name", "kind", "device", "source", "clock") if not hasattr(meter, name)]
            if missing:
                raise MeterError(
                    f"meter {type(meter).__name__} lacks {', '.join(missing)}; set each on the class or the object"
                )
            if meter.kind not in get_args(EnergyKind):
                allowed = ", ".join(get_args(EnergyKind))
                raise MeterError(f"meter {meter.name!r} has kind {meter.kind!r}; it must be one of {allowed}")


def choose(parameters: Parameters, devices: Sequence[DeviceFacts]) -> Instruments:
    """Choose the meters of a session on devices of one type, from its parameters ``meter`` and ``extra_meters``.

    ``auto`` takes the first of `AUTO` that works here; all but the last are opened to check. A meter chosen by name
    that cannot be used here is an error.
    """
    if parameters.meter == "auto":
        kind, why = _best(parameters, devices)
    else:
        kind, why = METERS.get(parameters.meter), "chosen by name"
        if (reason := kind.unavailable(devices)) is not None:
            raise MeterError(f"meter {kind.name!r} cannot be used here: {reason}; use meter=auto, or {_others()}")
    names = dict.fromkeys(name.strip() for name in parameters.extra_meters.split(",") if name.strip())
    others = [METERS.get(name) for name in names if name != kind.name]
    extra = [meter for other in others for meter in other.for_devices(devices, parameters)]
    made = kind.for_devices(devices, parameters)
    return Instruments(tuple(devices), tuple(made), tuple(extra), f"meter {kind.name}: {why}")


def auto_order(device_type: str) -> list[type[Meter]]:
    """Return the kinds of meter that `auto` tries for a type of device, best first."""
    return [METERS.get(name) for name in AUTO.get(device_type, ())]


def _best(parameters: Parameters, devices: Sequence[DeviceFacts]) -> tuple[type[Meter], str]:
    passed_over: list[str] = []
    kinds = auto_order(devices[0].type)
    for kind in kinds:
        reason = kind.unavailable(devices) or (_trial(kind, parameters, devices) if kind is not kinds[-1] else None)
        if reason is None:
            return kind, "; ".join(
                ["the best available" if passed_over else "the best source for this device", *passed_over]
            )
        passed_over.append(f"{kind.name} unavailable: {reason}")
    tried = "; ".join(passed_over) or "none is known"
    raise MeterError(f"no meter can measure a {devices[0].type} device here ({tried}); choose {_others()}")


def _trial(kind: type[Meter], parameters: Parameters, devices: Sequence[DeviceFacts]) -> str | None:
    """Open the meters once, because a counter may exist and not move, or step too rarely; return the reason, if any."""
    try:
        for meter in kind.for_devices(devices, parameters):
            with meter:
                meter.read()
    except MeterError as error:
        return str(error)
    return None


def _others() -> str:
    return f"one of these with meter=: {', '.join(METERS.names())}"
