"""What makes two records comparable: the cohort and its key."""

from __future__ import annotations

import re
from collections.abc import Iterable

from energylab.record import Record

#: Parts of the software stack whose major version belongs to the cohort.
STACK = ("torch", "transformers", "diffusers")

#: In place of a fact that an imported file does not state.
UNSTATED = "not stated"


def cohort(record: Record) -> dict[str, str]:
    """Return the facts that two records must share to be compared.

    The board's identity is not among them: it is a random effect, part of the uncertainty.

    Parameters
    ----------
    record : Record

    Returns
    -------
    dict of str to str
        Field to value, in a fixed order.
    """
    settings, model, first = record.task.settings, record.model, record.devices[0]
    imported = record.energy_kind == "imported"
    shown = sorted(settings) if imported else record.task.overridden  # which ones are published is not known there
    limits = {f"{device.power_limit_w:g} W" for device in record.devices if device.power_limit_w is not None}
    served = {"server": str(model.settings.get("server")), "concurrency": str(settings.get("concurrency"))}
    return {
        "task": " ".join(part for part in (record.task.name, record.task.version) if part),
        "device": f"{'?' if 'devices.count' in record.missing else len(record.devices)} x {first.name or UNSTATED}",
        "energy": record.energy_kind,
        "model source": record.model.source or UNSTATED,
        "data": " ".join(part for part in (record.data.source, record.data.name) if part) or UNSTATED,
        "dtype": str(settings.get("dtype", model.dtype) or UNSTATED),
        "batch": str(settings.get("batch_size", UNSTATED if "batch_size" in record.missing else 1)),
        "settings": ", ".join(f"{name}={settings[name]}" for name in shown)
        or (UNSTATED if imported else "as published"),
        "attention": _attention(record) or (UNSTATED if imported else "default"),
        "compiled": UNSTATED if "model.compiled" in record.missing else ("yes" if model.compiled else "no"),
        "power limit": ", ".join(sorted(limits)) or "unknown",
        "clocks": first.clock_policy or "unknown",
        "ecc": "unknown" if first.ecc is None else ("on" if first.ecc else "off"),
        "driver": (first.driver or (UNSTATED if imported else "none")).split(".")[0],
        "stack": " ".join(f"{name} {_major(record, name)}" for name in STACK if name in record.host.packages),
        "protocol": record.protocol.version,
        **(served if model.source == "endpoint" else {}),
    }


def cohort_key(record: Record) -> str:
    """Return the cohort as one line of text, ``field=value; …``: equal lines may be compared."""
    return "; ".join(f"{field}={value.replace(';', ',')}" for field, value in cohort(record).items())


def _attention(record: Record) -> str | None:
    """Return the implementation that was asked for, which is None for the library's choice.

    What the library then chose follows from the model, not from a setting: it has one kind for a ConvNet and another
    for a ViT, and both are peers.
    """
    asked = record.task.settings
    return asked["attention"] if "attention" in asked and record.energy_kind != "imported" else record.model.attention


def key_facts(key: str) -> dict[str, str]:
    """Return the facts that a cohort's key states, by field; a key that is only a name states none."""
    return dict(part.split("=", 1) for part in key.split("; ") if "=" in part)


def difference(key: str, others: Iterable[str]) -> str:
    """Say in which facts a cohort differs from some of the others, ``field=value; …``.

    Parameters
    ----------
    key : str
        From `cohort_key`, or only a name.
    others : iterable of str
        The keys to compare with; `key` itself may be among them.

    Returns
    -------
    str
        The key's own values, each setting by its name; the whole key where no fact tells them apart; empty where
        there is no other.
    """
    rest = [_single_facts(other) for other in others if other != key]
    if not rest:
        return ""
    own = [f"{name}={value}" for name, value in _single_facts(key).items() if any(o.get(name) != value for o in rest)]
    return "; ".join(own) or key or "no cohort stated"


def _single_facts(key: str) -> dict[str, str]:
    """Return a key's facts with every setting a fact of its own, but those that stand as fields already."""
    facts = key_facts(key)
    settings = dict(part.split("=", 1) for part in re.split(r", (?=\w+=)", facts.pop("settings", "")) if "=" in part)
    return facts | {name: value for name, value in settings.items() if name not in ("batch_size", "dtype")}


def _major(record: Record, package: str) -> str:
    return record.host.packages[package].split(".")[0]
