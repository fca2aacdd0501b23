"""Ways to alter a run consistently, as somebody with the key and some care would."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from energylab_portal.sealed.statement import ClosedRun, Point


def with_record(run: ClosedRun, **changes) -> ClosedRun:
    """Alter fields of the record."""
    return run.model_copy(update={"record": run.record.model_copy(update=changes)})


def with_windows(run: ClosedRun, alter: Callable) -> ClosedRun:
    """Alter every window by ``alter(window) -> dict of changes``."""
    return with_record(run, windows=tuple(w.model_copy(update=alter(w)) for w in run.record.windows))


def window_energy(window, factor: float) -> dict:
    """Scale everything a window says of its energy."""
    parts = tuple(part.model_copy(update={"energy_j": part.energy_j * factor}) for part in window.meters)
    return {"energy_j": window.energy_j * factor, "meters": parts}


def warped(
    run: ClosedRun, factor_at: Callable[[float], float], sensor: bool = False, grid_j: float = 0.001
) -> ClosedRun:
    """Scale what the counter adds, by a factor that depends on time, everywhere at once: timeline, readings, windows.

    Values are rounded to the counter's grid. With `sensor`, the power sensor is scaled alike.
    """
    line = run.timelines[0]
    energy, table = line.samples[0].energy_j, {}
    samples = [line.samples[0]]
    table[line.samples[0].time_s, line.samples[0].energy_j] = energy
    for before, after in pairwise(line.samples):
        factor = factor_at((before.time_s + after.time_s) / 2)
        energy += (after.energy_j - before.energy_j) * factor
        value = round(energy / grid_j) * grid_j
        power_w = after.power_w * factor if sensor and after.power_w is not None else after.power_w
        samples.append(after.model_copy(update={"energy_j": value, "power_w": power_w}))
        table[after.time_s, after.energy_j] = value
    table[line.samples[0].time_s, line.samples[0].energy_j] = samples[0].energy_j

    def moved(point: Point) -> Point:
        return point.model_copy(update={"energy_j": table[point.time_s, point.energy_j]})

    readings = tuple(
        one.model_copy(update={"start": moved(one.start), "stop": moved(one.stop)}) for one in run.readings
    )
    by_window = {one.window: one.stop.energy_j - one.start.energy_j for one in readings}
    made = run.model_copy(
        update={"timelines": (line.model_copy(update={"samples": tuple(samples)}),), "readings": readings}
    )
    return with_windows(made, lambda w: window_energy(w, by_window[w.index] / w.energy_j))


def span_of(run: ClosedRun, number: int) -> tuple[float, float]:
    """Return when a run of the session began and ended, in seconds."""
    windows = [window for window in run.record.windows if window.run == number]
    return windows[0].start_s, windows[-1].start_s + windows[-1].duration_s


def scaled_alike(run: ClosedRun, factor: float) -> ClosedRun:
    """Scale everything that tells of energy or power: readings, sensor, bounds, power at rest and warm-up."""
    made = warped(run, lambda _: factor, sensor=True)
    quanta_j = 2 * run.record.meters[0].quantum_j

    def bound(value_j: float) -> float:
        return (value_j - quanta_j) * factor + quanta_j

    def scaled(window) -> dict:
        parts = tuple(
            part.model_copy(update={"max_power_w": part.max_power_w * factor, "bound_j": bound(part.bound_j)})
            for part in window.meters
        )
        return {"meters": parts, "bound_j": bound(window.bound_j)}

    idle = tuple(
        level.model_copy(update={"power_w": level.power_w * factor, "energy_j": level.energy_j * factor})
        for level in run.record.idle
    )
    warm_up = run.record.warm_up.model_copy(update={"energy_j": run.record.warm_up.energy_j * factor})
    return with_record(with_windows(made, scaled), idle=idle, warm_up=warm_up)
