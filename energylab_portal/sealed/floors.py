"""Lower bounds by physics: time and energy that reading and using the stored weights need at least.

All bounds are on the generous side: they refuse the impossible, not the unusual.

References
----------
Memory bandwidths and peak rates of dense 16-bit arithmetic: the makers' data sheets. Energy per operation and per byte:
M. Horowitz, "Computing's energy problem", ISSCC 2014, scaled down to less than any present process reaches.
"""

from __future__ import annotations

from collections.abc import Iterator

from energylab import energy
from energylab.energy import PhaseTotal
from energylab.record import Record
from energylab_portal.sealed import checks
from energylab_portal.sealed.statement import ClosedRun, Weights

#: Lower bounds of the energy of one operation, and of one byte from memory, in joules.
OPERATION_J, BYTE_J = 0.1e-12, 8e-12
#: Minimal share of a dense model's weights used for every token; the others may be embeddings, which are looked up.
WORKING, WORKING_LARGE = 0.3, 0.8
#: Bytes of weights that exceed every cache, and of a model with small embeddings.
LARGE, VERY_LARGE = 2**30, 2**33
#: Upper bounds for a processor: operations per second and core, and bytes per second of all cores.
CORE_OPERATIONS_PER_S, PROCESSOR_BYTES_PER_S = 5e11, 1.2e12


def time(run: ClosedRun, record: Record) -> checks.Check:
    """No phase is faster than reading the weights, or computing with them, on the device."""
    device, boards = record.devices[0], len(record.devices)
    if device.type == "cuda":
        like = checks.product(device.name)
        if like is None:
            return checks.Check("time", None, f"the speed of {str(device.name)[:60]!r} is unknown")
        bytes_per_s, operations_per_s = like.bytes_per_s * boards, like.operations_per_s * boards
    else:
        cores = device.settings.get("usable_cores")
        count = cores if isinstance(cores, int | float) and 0 < cores < 10_000 else 10_000
        bytes_per_s, operations_per_s = PROCESSOR_BYTES_PER_S, CORE_OPERATIONS_PER_S * count
    problems, looked = [], 0
    for total, read_bytes, operations in _work(run, record):
        looked, least_s = looked + 1, max(read_bytes / bytes_per_s, operations / operations_per_s)
        if total.duration_s < 0.9 * least_s:
            problems.append(
                f"run {total.run}, {total.phase}: {total.duration_s:.4g} s, but its weights need {least_s:.4g} s"
            )
    if not looked:
        return checks.Check("time", None, "the phases count no tokens by which work could be told")
    return checks.judged("time", problems, "no phase is faster than its weights can be read and used")


def least_energy(run: ClosedRun, record: Record) -> checks.Check:
    """No phase needs less energy than reading and using its weights on any current chip."""
    problems, looked = [], 0
    for total, read_bytes, operations in _work(run, record):
        looked, least_j = looked + 1, read_bytes * BYTE_J + operations * OPERATION_J
        if total.energy_j < least_j:
            problems.append(
                f"run {total.run}, {total.phase}: {total.energy_j:.4g} J, but at least {least_j:.4g} J are needed"
            )
    if not looked:
        return checks.Check("energy", None, "the phases count no tokens by which work could be told")
    return checks.judged("energy", problems, "no phase takes less energy than its weights need")


def _work(run: ClosedRun, record: Record) -> Iterator[tuple[PhaseTotal, float, float]]:
    """Yield, for every phase with tokens, its total, and the minimal bytes and operations."""
    model, batch = record.model, record.task.settings["batch_size"]
    large = model.weights_bytes > LARGE
    working = _working(run.weights, model.weights_bytes)
    for total in energy.totals(record):
        given, made = total.input_tokens or 0, total.output_tokens or 0
        if total.phase not in ("forward", "generate") or not total.energy_j or not (made or given):
            continue
        passes = made / batch if total.phase == "generate" else total.queries / batch
        read_bytes = working * model.weights_bytes * passes if large else 0.0
        yield total, read_bytes, 2 * working * model.parameters * (given + made)


def _working(told: Weights, loaded_bytes: int) -> float:
    """Return the minimal share of weights used per token: all but inactive experts and embeddings."""
    dense = WORKING_LARGE if loaded_bytes > VERY_LARGE else WORKING
    if not told.experts:
        return dense
    idle = told.expert_elements / sum(told.elements.values()) * (1 - told.experts_used / told.experts)
    return dense * (1 - idle)
