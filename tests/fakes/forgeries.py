"""Ways to alter a sealed run consistently, as somebody with the key and some care would."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from energylab_portal.sealed.statement import ClosedRun, Edges, Point, SealedWindow

Forgery = Callable[[ClosedRun], ClosedRun]


def whole(**changes) -> Forgery:
    """Alter fields of the run."""
    return lambda run: run.model_copy(update=changes)


def part(name: str, /, **changes) -> Forgery:
    """Alter fields of one part; of the first where there are several."""

    def forge(run: ClosedRun) -> ClosedRun:
        value = getattr(run, name)
        if not isinstance(value, tuple):
            return whole(**{name: value.model_copy(update=changes)})(run)
        return whole(**{name: (value[0].model_copy(update=changes), *value[1:])})(run)

    return forge


def parameters(**changes) -> Forgery:
    """Alter what the session was asked for."""
    return lambda run: whole(parameters={**run.parameters, **changes})(run)


def windows(alter: Callable[[SealedWindow], dict], /, **of) -> Forgery:
    """Alter windows by ``alter(window) -> dict of changes``: all, or those whose fields are as told."""

    def forged(window: SealedWindow) -> SealedWindow:
        return window.model_copy(update=alter(window)) if _is(window, of) else window

    return lambda run: whole(windows=tuple(map(forged, run.windows)))(run)


def without(**of) -> Forgery:
    """Leave out the windows whose fields are as told."""
    return lambda run: whole(windows=tuple(window for window in run.windows if not _is(window, of)))(run)


def _is(window: SealedWindow, of: dict) -> bool:
    return all(getattr(window, name) == value for name, value in of.items())


def samples(keep: Callable[[int], bool]) -> Forgery:
    """Leave samples of the timeline out."""

    def forge(run: ClosedRun) -> ClosedRun:
        line = run.timelines[0]
        columns = {name: getattr(line, name) for name in ("time_s", "energy_j", "power_w")}
        kept = {name: tuple(v for i, v in enumerate(values) if keep(i)) for name, values in columns.items()}
        return part("timelines", **kept)(run)

    return forge


def scaled_edges(factor: float) -> Callable[[SealedWindow], dict]:
    """Scale what the readings of a window say: its last reading moves."""

    def scale(edge: Edges) -> Edges:
        stop_j = edge.start.energy_j + round((edge.stop.energy_j - edge.start.energy_j) * factor, 3)
        return edge.model_copy(update={"stop": edge.stop.model_copy(update={"energy_j": stop_j})})

    return lambda window: {"edges": tuple(map(scale, window.edges))}


def warped(factor: Callable[[float], float], sensor: bool = False) -> Forgery:
    """Scale the counter by a factor of time, in readings and timeline; the sensor beside it too, if asked."""

    def forge(run: ClosedRun) -> ClosedRun:
        line = run.timelines[0]
        read = [point for window in run.windows for edge in window.edges for point in (edge.start, edge.stop)]
        points = sorted({(p.time_s, p.energy_j) for p in read} | set(zip(line.time_s, line.energy_j, strict=True)))
        moved, exact = {points[0]: points[0][1]}, points[0][1]
        for before, after in pairwise(points):
            exact += (after[1] - before[1]) * factor(after[0])
            moved[after] = round(exact, 3)  # on the counter's own grid

        def at(point: Point) -> Point:
            return point.model_copy(update={"energy_j": moved[point.time_s, point.energy_j]})

        def warp(edge: Edges) -> Edges:
            by = factor(edge.start.time_s)
            scaled = {"bound_j": edge.bound_j * by, "max_power_w": edge.max_power_w * by}
            return edge.model_copy(update={"start": at(edge.start), "stop": at(edge.stop), **scaled})

        columns = {"energy_j": tuple(moved[one] for one in zip(line.time_s, line.energy_j, strict=True))}
        if sensor:
            columns["power_w"] = tuple(p * factor(t) for t, p in zip(line.time_s, line.power_w, strict=True))
        made = part("timelines", **columns)(run)
        return windows(lambda window: {"edges": tuple(map(warp, window.edges))})(made)

    return forge


def run_warped(number: int, factor: float, sensor: bool = False) -> Forgery:
    """Scale one run of the session everywhere at once; the sensor beside the counter too, if asked."""

    def forge(run: ClosedRun) -> ClosedRun:
        edges = [edge for window in run.windows if window.run == number for edge in window.edges]
        start_s, stop_s = edges[0].start.time_s, edges[-1].stop.time_s
        return warped(lambda time_s: factor if start_s <= time_s <= stop_s else 1.0, sensor)(run)

    return forge


def scaled_alike(factor: float) -> Forgery:
    """Scale everything that tells of energy or power: readings, sensor, power at rest and warm-up."""

    def forge(run: ClosedRun) -> ClosedRun:
        idle = tuple(level.model_copy(update={"power_w": level.power_w * factor, "energy_j": level.energy_j * factor})
                     for level in run.idle)  # fmt: skip
        made = whole(idle=idle)(warped(lambda _: factor, sensor=True)(run))
        return part("warm_up", energy_j=run.warm_up.energy_j * factor)(made)

    return forge
