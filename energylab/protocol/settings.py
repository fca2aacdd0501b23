"""The protocol's settings, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from energylab.parameters import Parameters

Edges = Literal["auto", "dithered", "tick"]


@dataclass(frozen=True)
class Settings:
    """How one session measures.

    Attributes
    ----------
    runs : int
        Runs of this session.
    window_s : float
        Shortest window, in seconds. A window repeats its queries until it is this long.
    idle_s : float
        Time each idle level is observed.
    warm_up_min_s, warm_up_max_s : float
        Bounds of the warm-up.
    steady_power : float
        Warm-up is over when the power of its last third differs from the third before by less than this, relative …
    steady_temperature_c_per_s : float
        … and the temperature changes more slowly than this.
    max_attempts : int
        Times a block of queries is measured before its total is given up.
    max_relative_bound : float
        Largest error bound of a window relative to its energy; a looser window has too few ticks.
    power_tolerance : float
        How far the mean power may exceed the board's limit, relative, before the reading is not believed.
    idle_tolerance : float
        How far the mean power of a device phase may lie below the idle power, relative, before it is not believed.
    slowdown_tolerance : float
        Share of a window that thermal, power-brake or hardware slowdown may take.
    edges : {"auto", "dithered", "tick"}
        How windows begin and end where the counter steps: after a dithered start and some lead-in work, or on a
        step of the counter; ``auto`` takes the first unless its error bound is too wide. Waiting for a step makes a
        short window too large, by up to two steps at rest: its bound says by how much, its duration holds the wait.
    dither : bool
        Start windows at random times relative to the counter's steps.
    seed : int
        Of the order of queries and of the dithered starts.
    """

    runs: int = 2
    window_s: float = 10.0
    idle_s: float = 10.0
    warm_up_min_s: float = 10.0
    warm_up_max_s: float = 300.0
    steady_power: float = 0.01
    steady_temperature_c_per_s: float = 0.1
    max_attempts: int = 3
    max_relative_bound: float = 0.05
    power_tolerance: float = 0.05
    idle_tolerance: float = 0.1
    slowdown_tolerance: float = 0.01
    edges: Edges = "auto"
    dither: bool = True
    seed: int = 0

    @classmethod
    def of(cls, parameters: Parameters) -> Settings:
        """Take the settings a session's parameters name; the rest keep the protocol's values."""
        return cls(
            **{name: getattr(parameters, name) for name in cls.__annotations__ if name in type(parameters).model_fields}
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, for the record."""
        return asdict(self)
