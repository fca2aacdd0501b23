"""What a device needs at its best: joules per operation and per byte, from a large product, a large copy, and rest.

``python -m energylab.efficiency.limits FILE DEVICE DTYPES WINDOW_S`` measures in a process of its own, so that no
notebook holds a context on the board while others measure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from energylab.energy import totals
from energylab.errors import MeasurementError
from energylab.files import write_whole
from energylab.record import EnergyKind, Record
from energylab.studies import devices as device_names

#: Side of the square matrices and bytes of the copied block: large enough to fill the device, small enough to be quick.
SIDE = {"cuda": 8192, "cpu": 768}
BLOCK_BYTES = {"cuda": 2 << 30, "cpu": 128 << 20}


class Cost(BaseModel):
    """What one operation, or one byte, costs at full speed.

    Attributes
    ----------
    per_s : float
        Operations or bytes a second.
    j : float
        Joules of one, all power included.
    above_rest_j : float
        Joules of one above what the device draws at rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_s: float
    j: float
    above_rest_j: float


class Limits(BaseModel):
    """The measured limits of one device.

    Attributes
    ----------
    device : str
        Its name.
    energy_kind : str
        Kind of all its energies.
    rest_w : float
        Power at rest, with a context.
    flop : dict of str to Cost
        Cost of a floating-point operation by precision.
    byte : Cost
        Cost of a byte read or written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    energy_kind: EnergyKind
    rest_w: float
    flop: dict[str, Cost]
    byte: Cost


def measure_limits(
    dtypes: Sequence[str],
    device: str = "auto",
    window_s: float = 0.5,
    meters: Any = None,
    size: dict[str, int] | None = None,
) -> Limits:
    """Measure the limits of a device, with the meters and the protocol of every other figure.

    Parameters
    ----------
    dtypes : sequence of str
        Precisions to multiply in.
    device : str
        As in `Parameters`.
    window_s : float
        Length of a window.
    meters : sequence of Meter, optional
        In place of the device's own.
    size : dict, optional
        Other sizes than `SIDE` and `BLOCK_BYTES`: ``{"side": …, "bytes": …}``.

    Raises
    ------
    MeasurementError
        If a window was not valid, or the device's power at rest is unknown.
    """
    import energylab
    from energylab.devices import resolve_devices, torch_name

    where = torch_name(resolve_devices(device, 1)[0])
    kind = where.partition(":")[0]
    size = {"side": SIDE[kind], "bytes": BLOCK_BYTES[kind], **(size or {})}

    def run(fn: Callable[[Any], Any]) -> Record:
        record = energylab.measure(
            fn=fn, queries=[0], meters=meters, device=device, runs=3, window_s=window_s, idle_s=min(window_s, 2.0),
            warm_up_min_s=window_s / 2, warm_up_max_s=4 * window_s,
        )  # fmt: skip
        if not record.valid:
            raise MeasurementError(f"the calibration of {record.devices[0].name} failed: {'; '.join(record.reasons)}")
        return record

    copied = run(_copy(size["bytes"], where))
    rest_w = next((level.power_w for level in copied.idle if level.level == "weights_resident"), None)
    if rest_w is None:
        raise MeasurementError(f"the power of {copied.devices[0].name} at rest is unknown; lengthen window_s")
    products = {dtype: run(_product(size["side"], dtype, where)) for dtype in dtypes}
    return Limits(
        device=copied.devices[0].name,
        energy_kind=copied.energy_kind,
        rest_w=rest_w,
        flop={dtype: cost(record, 2 * size["side"] ** 3, rest_w) for dtype, record in products.items()},
        byte=cost(copied, 2 * size["bytes"], rest_w),  # read and written
    )


def cost(record: Record, amount: float, rest_w: float) -> Cost:
    """Return what each of `amount` operations or bytes of a record's one query cost."""
    parts = totals(record)
    energy_j = fmean(total.energy_j for total in parts)
    seconds = fmean(total.duration_s for total in parts)
    above_j = max(energy_j - rest_w * seconds, 0.0)  # a device cannot give energy back: noise about an idle power
    return Cost(per_s=amount / seconds, j=energy_j / amount, above_rest_j=above_j / amount)


def _product(side: int, dtype: str, device: str) -> Callable[[Any], Any]:
    import torch

    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    out = torch.empty_like(left)
    return lambda _: torch.mm(left, right, out=out)


def _copy(size: int, device: str) -> Callable[[Any], Any]:
    import torch

    source = torch.ones(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return lambda _: target.copy_(source)


def calibrate(file: Path, dtypes: Sequence[str], devices: str = "auto", window_s: float = 0.5) -> Limits:
    """Measure the limits in a process of its own and keep them in a file, or read them from it.

    Raises
    ------
    MeasurementError
        With what that process said, if it failed.
    """
    if file.is_file():
        known = Limits.model_validate_json(file.read_bytes())
        if set(dtypes) <= known.flop.keys():
            return known
    lease = (device_names.available(devices)[0],)
    target = "cpu" if lease == (device_names.CPU,) else "cuda"
    command = [sys.executable, "-m", "energylab.efficiency.limits", str(file), target, ",".join(dtypes), str(window_s)]
    shown = {**os.environ, **device_names.environment(lease)}
    done = subprocess.run(command, env=shown, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(f"the device's limits could not be measured:\n{done.stderr.strip()[-1500:]}")
    return Limits.model_validate_json(file.read_bytes())


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the limits to the file that is named."""
    file, device, dtypes, window_s = arguments
    limits = measure_limits(dtypes.split(","), device, float(window_s))
    write_whole(Path(file), limits.model_dump_json(indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
