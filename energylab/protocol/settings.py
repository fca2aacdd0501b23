"""Settings of the measuring protocol, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from energylab.parameters import Parameters

#: What the published protocols settle: a window is one pass over the set in order, from step to step of the counter.
PUBLISHED = {"window_s": 0.0, "edges": "tick", "dither": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one session measures; each field's comment says what it does.

    A field without a default is a parameter of the user's: `energylab.parameters.Parameters` holds its default.
    """

    protocol: str  # or a published one: see `energylab.protocol.published`
    runs: int  # of this session
    window_s: float  # shortest window in seconds: it repeats its queries until it is this long
    idle_s: float  # time each idle level is observed
    warm_up_min_s: float  # bounds of the warm-up in seconds
    warm_up_max_s: float
    steady_power: float = 0.01  # it is over when the power of its last third differs from the third before by less …
    steady_temperature_c_per_s: float = 0.1  # … and the temperature changes more slowly than this
    max_attempts: int  # times a block of queries is measured before its total is given up
    max_relative_bound: float  # largest error bound of a window relative to its energy
    power_tolerance: float = 0.05  # how far the mean power may exceed the board's limit, relative
    idle_tolerance: float = 0.1  # how far the mean power of a device phase may lie below the idle power, relative
    slowdown_tolerance: float = 0.01  # share of a window that heat, power brake or hardware may slow down
    others_tolerance: float = 0.1  # share of a processor's busy time that other processes may have
    # How windows begin and end where the counter steps: after a dithered start and some lead-in work, or on a step of
    # the counter; auto takes the first unless its error bound is too wide. Waiting for a step makes a short window too
    # large, by up to two steps at rest: its bound says by how much, its duration holds the wait.
    edges: Literal["auto", "dithered", "tick"] = "auto"
    dither: bool = True  # start windows at random times relative to the counter's steps
    seed: int  # of the order of queries and of the dithered starts

    @classmethod
    def of(cls, parameters: Parameters) -> Settings:
        """Take from a session's parameters what they name; the rest keep the protocol's values."""
        named = {name: value for name, value in dict(parameters).items() if name in cls.__annotations__}
        return cls(**named | ({} if parameters.protocol == "steady" else PUBLISHED))

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, for the record."""
        return asdict(self)
