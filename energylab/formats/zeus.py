"""Zeus's log of windows: one row a window, joules by GPU, without model, task or number of queries.

References
----------
https://github.com/ml-energy/zeus, ``zeus/monitor/energy.py``: ``ZeusMonitor(log_file=…)``.
"""

from __future__ import annotations

import datetime as dt
import re

from energylab.errors import FormatError
from energylab.formats import common
from energylab.formats.common import Asked, Measure, Part, Session, Unit
from energylab.formats.importing import Format, Source
from energylab.record import DeviceFacts

_GPU = re.compile(r"gpu(\d+)_energy")
_NEEDED = frozenset({"start_time", "window_name", "elapsed_time"})


class Window(Part):
    """One row of the log."""

    start_time: common.Number
    window_name: str
    elapsed_time: common.Number


class Gpu(Part):
    """One GPU's energy."""

    energy: common.Number


def read(source: Source, asked: Asked) -> list[Session]:
    """Return one session a window; its name may name the model (``--model-column window_name``)."""
    unit = common.settle(Unit("J", "Zeus writes joules, by its column names"), asked.unit, source.name)
    if asked.model_column not in (None, "window_name"):
        raise FormatError(f"{source.name}: only its column window_name can name the model, not {asked.model_column!r}")
    sessions = [_session(where, cells, unit, asked) for where, cells in source.rows]
    common.rated_component(asked, {"gpu": [s.runs[0]["total"].energy_j for s in sessions]}, source.name)
    return sessions


def _session(where: str, cells: dict[str, str], unit: Unit, asked: Asked) -> Session:
    window = common.parse(Window, cells, where)
    energies = {
        int(m[1]): common.parse(Gpu, {"energy": cells[n]}, where).energy for n in cells if (m := _GPU.fullmatch(n))
    }
    values = list(energies.values())
    lost = [reason for value in values for reason in Measure(value).checked().reasons]  # a sum would hide it
    started = window.start_time
    return Session(
        model=common.model_name(asked, window.window_name if asked.model_column else None, where),
        task=common.task_name(asked, None, where),
        queries=common.query_count(asked, None, where),
        runs=(
            {
                "total": Measure(
                    energy_j=None if None in values else unit.joules(sum(values)),
                    duration_s=window.elapsed_time,
                    reasons=tuple(dict.fromkeys(lost)),
                )
            },
        ),
        unit=unit,
        meter=("zeus", "columns gpuN_energy"),
        row=f"window {window.window_name}, {where.rpartition(', ')[2]}",
        devices=tuple(DeviceFacts(name=None, type="cuda", index=index) for index in energies),
        devices_counted=True,
        created_utc=None if started is None else dt.datetime.fromtimestamp(started, dt.UTC),
        extra={"zeus": {"window_name": window.window_name}},
    )


def _recognises(source: Source) -> bool:
    return source.columns >= _NEEDED and any(map(_GPU.fullmatch, source.columns))


FORMATS = (Format("zeus", "Zeus's log of windows (ZeusMonitor's log_file)", _recognises, read),)
