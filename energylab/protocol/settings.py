"""Settings of the measuring protocol: those the protocol fixes, and those a user chooses as parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from energylab.parameters import Parameters

#: Fixed by the published protocols: a window is one pass over the data in order, with edges on steps of the counter.
PUBLISHED = {"window_s": 0.0, "edges": "tick", "dither": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one session measures.

    A field with a default is fixed by the protocol; the default is its value. A field without one is a user's parameter
    of the same name, whose default is in `energylab.parameters.Parameters`.
    """

    protocol: str  # "steady", or a published one: see `energylab.protocol.published`
    runs: int  # runs of the session
    window_s: float  # shortest window in seconds: it repeats its queries until it is this long
    idle_s: float  # seconds over which each idle level is measured
    warm_up_min_s: float  # shortest and longest warm-up in seconds
    warm_up_max_s: float
    steady_power: float = 0.01  # warm-up ends when mean power in its last two thirds differs by less than this share …
    steady_temperature_c_per_s: float = 0.1  # … and the temperature changes more slowly than this
    max_attempts: int  # how often a block of queries is measured before its total is unavailable
    max_relative_bound: float  # largest error bound of a window relative to its energy
    power_tolerance: float = 0.05  # how far the mean power may exceed the board's limit, relative
    idle_tolerance: float = 0.1  # how far the mean power of a device phase may lie below the idle power, relative
    slowdown_tolerance: float = 0.01  # largest share of a window with clocks lowered by heat, power brake or hardware
    others_tolerance: float = 0.1  # largest share of the processor's busy time used by other processes
    # When the edges of a window are read, if the counter moves in steps. "dithered": at a random time, after lead-in
    # work. "tick": right after a step of the counter; the device idles while waiting for it, which adds up to two steps
    # of idle energy and time to the window, and the bound includes it. "auto": dithered unless its bound is too wide.
    edges: Literal["auto", "dithered", "tick"] = "auto"
    dither: bool = True  # start windows at random times relative to the counter's steps
    seed: int  # of the random order of queries and of the dithered starts

    @classmethod
    def of(cls, parameters: Parameters) -> Settings:
        """Take the user's parameters from `parameters`; the other fields keep the protocol's values."""
        named = {name: value for name, value in dict(parameters).items() if name in cls.__annotations__}
        return cls(**named | ({} if parameters.protocol == "steady" else PUBLISHED))

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, for the record."""
        return asdict(self)
