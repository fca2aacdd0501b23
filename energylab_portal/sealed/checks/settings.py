"""Whether what was set is told the same everywhere: parameters, protocol, task, model and devices."""

from __future__ import annotations

from typing import Any

from energylab.protocol.settings import Settings
from energylab_portal.sealed import privacy
from energylab_portal.sealed.checks.base import judged, same
from energylab_portal.sealed.statement import ClosedRun
from energylab_portal.sealed.verdict import Check


def settings(run: ClosedRun) -> Check:
    """One value a setting; the protocol's own tolerances as they are, which no parameter can change."""
    record = run.record
    asked, protocol, task = record.parameters, record.protocol.settings, record.task.settings
    problems = [f"parameter {name} is not stated" for name in privacy.SHOWN if name not in asked]
    problems += [f"parameter {name[:40]!r} is none that is shown" for name in sorted(asked.keys() - {*privacy.SHOWN})]
    known = Settings().as_dict()
    problems += [f"the protocol's setting {name} is not stated" for name in known if name not in protocol]
    problems += [f"the protocol has no setting {name[:40]!r}" for name in sorted(protocol.keys() - known.keys())]
    expected = {**known, **{name: asked[name] for name in known if name in asked}}
    problems += _differing("the protocol", protocol, expected)
    problems += _differing("the task", task, {name: value for name, value in asked.items() if value is not None})
    return judged("settings", problems + _elsewhere(run), "every setting is told the same everywhere")


def _differing(where: str, stated: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {str(stated[name])[:40]} in {where}, {str(value)[:40]} elsewhere"
        for name, value in expected.items()
        if name in stated and not same(stated[name], value)
    ]


def _elsewhere(run: ClosedRun) -> list[str]:
    """Compare parameters with what the record says of data, model and devices by other names."""
    record, model, asked = run.record, run.record.model, run.record.parameters
    told = {
        "task": record.task.name, "data_source": record.data.source, "samples": record.data.queries,
        "runs": record.protocol.runs, "seed": record.protocol.seed, "repeat": record.repeat,
        "attempt": record.attempt, "compile": model.compiled,
    }  # fmt: skip
    if asked.get("attention") is not None:
        told["attention"] = model.attention
    if asked.get("quantisation") is not None:
        told["quantisation"] = model.quantisation
    boards = [device.uuid for device in record.devices if device.type == "cuda"]
    if boards:
        told["gpus"] = len(boards)
    found = _differing("the record", told, asked)
    if len(set(boards)) < len(boards):
        found.append("one board is listed twice")
    if len(record.devices) > max(len(boards), 1):
        found.append(f"{len(record.devices)} devices are listed, {len(boards)} of them boards")
    return found
