"""Zeus's log of windows: one row a window, joules by GPU, without model, task or number of queries.

References
----------
https://github.com/ml-energy/zeus, ``zeus/monitor/energy.py``: ``ZeusMonitor(log_file=…)``.
"""

from __future__ import annotations

import datetime as dt
import re

from energylab.errors import FormatError
from energylab.formats.common import Asked, Measure, Number, Part, Session, Unit, parse
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

_GPU = re.compile(r"gpu(\d+)_energy")


class Window(Part):
    start_time: Number = None
    window_name: str
    elapsed_time: Number = None
    energies: dict[int, Number]


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session a window; its name may name the model (``--model-column window_name``)."""
    if asked.model_column not in (None, "window_name"):
        raise FormatError(f"{source.name}: only its column window_name can name the model, not {asked.model_column!r}")
    return [_session(f"{source.name}, {place}", place, cells, asked) for place, cells in source.rows]


def _session(where: str, place: str, cells: dict[str, str], asked: Asked) -> Session:
    energies = {int(found[1]): cell for name, cell in cells.items() if (found := _GPU.fullmatch(name))}
    window = parse(Window, {**cells, "energies": energies}, where)
    started = window.start_time
    return Session(
        model=window.window_name if asked.model_column else None,
        runs=({"total": Measure.of_boards(window.energies.values(), window.elapsed_time)},),
        unit=Unit("J", "Zeus writes joules, by its column names"),
        meter=("zeus", "columns gpuN_energy"),
        row=f"window {window.window_name}, {place}",
        devices=tuple(DeviceFacts(name=None, type="cuda", index=index) for index in energies),
        devices_counted=True,
        created_utc=None if started is None else dt.datetime.fromtimestamp(started, dt.UTC),
    )


def _recognises(source: Source) -> bool:
    needed = {"start_time", "window_name", "elapsed_time"}
    return source.columns >= needed and any(map(_GPU.fullmatch, source.columns))


FORMATS = (Format("zeus", "Zeus's log of windows (ZeusMonitor's log_file)", _recognises, read),)
