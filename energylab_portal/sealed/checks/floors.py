"""What physics and stored bits forbid: a model cannot be smaller, faster or thriftier than its stated weights allow.

All bounds are far on the generous side: they refuse the impossible, not the unusual.

References
----------
Memory bandwidths and peak rates of dense 16-bit arithmetic: the makers' data sheets. Energy per operation and per byte:
M. Horowitz, "Computing's energy problem", ISSCC 2014, scaled down to less than any present process reaches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from energylab.energy import PhaseTotal, totals
from energylab_portal.sealed.checks.base import judged, undecided
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check

BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
#: Types that hold a whole weight each; others (packed integers) hold several.
WHOLE = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}

#: Joules that one operation, and one byte from memory, take at least.
OPERATION_J, BYTE_J = 0.1e-12, 8e-12
#: Share of the parameters that work on every token, at least: the rest may be embeddings, which are looked up. Of large
#: models, and of mixtures of experts.
WORKING, WORKING_LARGE, WORKING_EXPERTS = 0.3, 0.5, 0.02
#: Bytes of weights that no chip's cache holds from one query to the next.
LARGE = 2**30


@dataclass(frozen=True)
class Speed:
    """The fastest a kind of device can be: bytes a second from memory, operations a second in 16 bits."""

    bytes_per_s: float
    operations_per_s: float


@dataclass(frozen=True)
class Product(Speed):
    """A board as its maker describes it: also the most watts it can be set to, and its compute capability."""

    most_w: float
    capability: str


#: By a word of the product name.
PRODUCTS = {
    "B200": Product(8.0e12, 2.5e15, 1200, "10.0"),
    "GH200": Product(4.9e12, 9.9e14, 1000, "9.0"),
    "H200": Product(4.8e12, 9.9e14, 700, "9.0"),
    "H100": Product(3.95e12, 9.9e14, 700, "9.0"),
    "A100": Product(2.04e12, 3.12e14, 500, "8.0"),
    "L40S": Product(8.64e11, 3.62e14, 350, "8.9"),
    "L40": Product(8.64e11, 1.81e14, 300, "8.9"),
    "L4": Product(3.0e11, 1.21e14, 75, "8.9"),
    "A10": Product(6.0e11, 1.25e14, 150, "8.6"),
    "A10G": Product(6.0e11, 1.25e14, 300, "8.6"),
    "V100": Product(1.13e12, 1.25e14, 350, "7.0"),
    "T4": Product(3.2e11, 6.5e13, 75, "7.5"),
    "RTX 4090": Product(1.01e12, 3.3e14, 600, "8.9"),
}


def product(name: str | None) -> Product | None:
    """Return the board of a product name; None for one that is not known here."""
    # whole words: "L4" is not in "L40", nor "A100" in "RTX A1000"; a fuller name before its beginning
    found = [word for word in PRODUCTS if re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", name or "")]
    return PRODUCTS[max(found, key=len)] if found else None


#: No processor is faster than this for each of its cores, nor all of them together in reading memory.
CORE = Speed(1.2e12, 5e11)


def stored(run: ClosedRun) -> Check:
    """The files on the host are large enough for the stated number of weights in the stated precision."""
    model, weights = run.record.model, run.weights
    if not model.parameters or not model.weights_bytes or weights.files < 1:
        said = "the record does not state how many parameters of how many bytes were loaded, from which files"
        return undecided("weights", said) if run.data_checked_by == "container" else judged("weights", [said], "")
    bits = 8 * weights.bytes / model.parameters
    problems = []
    whole = sum(count for kind, count in weights.elements.items() if kind in WHOLE)
    if weights.elements and model.quantisation is None and whole < 0.5 * model.parameters:
        problems.append(
            f"{whole:,} of the stored numbers are whole weights, {model.parameters:,} parameters are stated and no "
            "quantisation"
        )
    if model.quantisation is None and bits < 0.9 * 16:
        problems.append(f"{bits:.1f} bits a parameter are stored; unquantised weights have 16 or more")
    loaded = 8 * (model.weights_bytes or 0) / model.parameters
    declared = BITS.get(model.dtype or "")
    if model.quantisation is None and declared and model.weights_bytes and abs(loaded - declared) > 0.1 * declared:
        problems.append(f"{loaded:.1f} bits a parameter were loaded; {model.dtype} has {declared}")
    asked = run.record.task.settings.get("dtype")
    if model.quantisation is None and asked in list(BITS) and asked != model.dtype:  # it may be anything, lists too
        problems.append(f"the task asked for {asked}, the model was loaded in {str(model.dtype)[:40]}")
    said = model.quantisation or model.dtype or "unknown precision"
    return judged("weights", problems, f"{bits:.1f} bits a parameter are stored, as {said} needs")


def time(run: ClosedRun) -> Check:
    """No phase is faster than the device can read the weights, or compute with them."""
    speed, name = _speed(run)
    if speed is None:
        return undecided("time", f"the speed of {name[:60]!r} is not known here")
    found = _work(run)
    if not found:
        return undecided("time", "the phases count no tokens by which work could be told")
    problems = []
    for total, byte_count, operations in found:
        least_s = max(byte_count / speed.bytes_per_s, operations / speed.operations_per_s)
        if total.duration_s < 0.9 * least_s:
            problems.append(
                f"run {total.run}, {total.phase}: {total.duration_s:.4g} s, but weights of the stated size and "
                f"precision take {least_s:.4g} s on {name[:40]}"
            )
    return judged("time", problems, "no phase is faster than its stated weights can be read and used")


def energy(run: ClosedRun) -> Check:
    """No phase takes less energy than moving and using its stated weights does on any present chip."""
    problems, found = [], _work(run)
    if not found:
        return undecided("energy", "the phases count no tokens by which work could be told")
    for total, byte_count, operations in found:
        least_j = byte_count * BYTE_J + operations * OPERATION_J
        if total.energy_j < least_j:
            problems.append(
                f"run {total.run}, {total.phase}: {total.energy_j:.4g} J, at least {least_j:.4g} J are needed"
            )
    return judged("energy", problems, "no phase takes less energy than its stated weights need")


def _work(run: ClosedRun) -> list[tuple[PhaseTotal, float, float]]:
    """Return, for every phase with tokens, its total, the bytes it must read, and the operations it must do."""
    model, record = run.record.model, run.record
    if not model.parameters or not model.weights_bytes:
        return []
    batch = record.task.settings.get("batch_size")
    batch = batch if isinstance(batch, int) and batch > 0 else 1
    large = model.weights_bytes > LARGE
    share = WORKING_EXPERTS if run.weights.experts else (WORKING_LARGE if large else WORKING)
    found = []
    for total in totals(record):
        if total.phase not in ("forward", "generate") or total.energy_j is None or not total.duration_s:
            continue
        given, made = total.input_tokens or 0, total.output_tokens or 0
        if total.phase == "forward" and not given:
            continue
        passes = made / batch if total.phase == "generate" else total.queries / batch
        reads = share * model.weights_bytes * passes if large else 0.0
        found.append((total, reads, 2 * share * model.parameters * (given + made)))
    return found


def _speed(run: ClosedRun) -> tuple[Speed | None, str]:
    devices = run.record.devices
    name = devices[0].name
    if devices[0].type == "cpu":
        cores = devices[0].settings.get("usable_cores")
        count = cores if isinstance(cores, int) and 0 < cores < 10_000 else 10_000
        return Speed(CORE.bytes_per_s, CORE.operations_per_s * count), name
    if devices[0].type != "cuda":
        return None, name
    known = product(name)
    return (
        None if known is None else Speed(known.bytes_per_s * len(devices), known.operations_per_s * len(devices))
    ), name
