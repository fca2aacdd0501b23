"""Ways to alter a sealed run consistently, as somebody with the key and some care would."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from energylab_portal.sealed.statement import ClosedRun, Edges, Point, SealedWindow


def with_windows(run: ClosedRun, alter: Callable[[SealedWindow], dict]) -> ClosedRun:
    """Alter every window by ``alter(window) -> dict of changes``."""
    return run.model_copy(update={"windows": tuple(w.model_copy(update=alter(w)) for w in run.windows)})


def part(run: ClosedRun, name: str, /, **changes) -> ClosedRun:
    """Alter fields of one part; of the first where there are several."""
    value = getattr(run, name)
    if isinstance(value, tuple):
        return run.model_copy(update={name: (value[0].model_copy(update=changes), *value[1:])})
    return run.model_copy(update={name: value.model_copy(update=changes)})


def parameters(run: ClosedRun, **changes) -> ClosedRun:
    """Alter what the session was asked for."""
    return run.model_copy(update={"parameters": {**run.parameters, **changes}})


def scaled_edges(window: SealedWindow, factor: float) -> dict:
    """Scale what the readings of a window say: its last reading moves."""

    def scale(edge: Edges) -> Edges:
        stop_j = edge.start.energy_j + round((edge.stop.energy_j - edge.start.energy_j) * factor, 3)
        return edge.model_copy(update={"stop": edge.stop.model_copy(update={"energy_j": stop_j})})

    return {"edges": tuple(scale(edge) for edge in window.edges)}


def warped(run: ClosedRun, factor: Callable[[float], float], sensor: bool = False) -> ClosedRun:
    """Scale the counter by a factor of time, in readings and timeline; the sensor beside it too, if asked."""
    line = run.timelines[0]
    read = [point for window in run.windows for edge in window.edges for point in (edge.start, edge.stop)]
    points = sorted({(p.time_s, p.energy_j) for p in read} | set(zip(line.time_s, line.energy_j, strict=True)))
    moved = {points[0]: points[0][1]}
    exact = points[0][1]
    for before, after in pairwise(points):
        exact += (after[1] - before[1]) * factor(after[0])
        moved[after] = round(exact, 3)  # on the counter's own grid

    def at(point: Point) -> Point:
        return point.model_copy(update={"energy_j": moved[point.time_s, point.energy_j]})

    columns = {"energy_j": tuple(moved[one] for one in zip(line.time_s, line.energy_j, strict=True))}
    if sensor:
        powers = zip(line.time_s, line.power_w, strict=True)
        columns["power_w"] = tuple(power_w * factor(time_s) for time_s, power_w in powers)
    made = run.model_copy(update={"timelines": (line.model_copy(update=columns), *run.timelines[1:])})
    return with_windows(made, lambda w: {"edges": tuple(
        edge.model_copy(update={
            "start": at(edge.start), "stop": at(edge.stop), "bound_j": edge.bound_j * factor(edge.start.time_s),
            "max_power_w": edge.max_power_w * factor(edge.start.time_s)}) for edge in w.edges)})  # fmt: skip


def span_of(run: ClosedRun, number: int) -> tuple[float, float]:
    """Return when a run of the session began and ended, in seconds."""
    edges = [edge for window in run.windows if window.run == number for edge in window.edges]
    return edges[0].start.time_s, edges[-1].stop.time_s


def scaled_alike(run: ClosedRun, factor: float) -> ClosedRun:
    """Scale everything that tells of energy or power: readings, sensor, power at rest and warm-up."""
    made = warped(run, lambda _: factor, sensor=True)
    idle = tuple(level.model_copy(update={"power_w": level.power_w * factor, "energy_j": level.energy_j * factor})
                 for level in run.idle)  # fmt: skip
    return part(made.model_copy(update={"idle": idle}), "warm_up", energy_j=run.warm_up.energy_j * factor)
