"""What of a record is shown and what is committed to: the public record, and the private parts by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from energylab.errors import BundleError
from energylab.record import Record, canonical_json

#: Stands where a private text was.
WITHHELD = "withheld"

#: Parameters of a session that say nothing of the model or of the machine's folders.
SHOWN = (
    "task", "data_source", "samples", "runs", "window_s", "batch_size", "dtype", "new_tokens", "diffusion_steps",
    "quantisation", "attention", "compile", "gpus", "meter", "cpu_core_w", "idle_s", "warm_up_min_s", "warm_up_max_s",
    "max_attempts", "max_relative_bound", "seed", "repeat", "attempt",
)  # fmt: skip

#: Results of later stages that are figures of the measurement alone.
SHOWN_EXTRA = ("meter_choice",)

#: Everything that is committed to, by name.
COMMITTED = frozenset((
    "model_name", "job_id", "model_architecture", "model_revision", "model_settings", "parameters", "extra",
    "quality_details", "messages", "outputs", "weights",
))  # fmt: skip

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{2,59}")


def check_alias(alias: str) -> str:
    """Return the name a closed model is shown under.

    Raises
    ------
    BundleError
        If it is not 3 to 60 letters, digits, spaces, dots, hyphens or underscores.
    """
    if not _ALIAS.fullmatch(alias):
        raise BundleError(
            f"the public name {alias[:80]!r} must be 3 to 60 letters, digits, spaces, dots, hyphens or underscores"
        )
    return alias


def split(record: Record, alias: str) -> tuple[Record, dict[str, Any]]:
    """Split a record into what is shown and what is committed to.

    Parameters
    ----------
    record : Record
        As measured, with everything in it.
    alias : str
        The name the model is shown under.

    Returns
    -------
    public : Record
        The same measurement: every window, meter and machine fact; no name, path, configuration, output or message.
    private : dict of str to object
        What was taken out, by name.
    """
    model = record.model
    private = {
        "model_name": model.name,
        "job_id": record.job_id,
        "model_architecture": model.architecture,
        "model_revision": [model.revision, model.commit],
        "model_settings": model.settings,
        "parameters": record.parameters,
        "extra": record.extra,
        "quality_details": [quality.details for quality in record.quality],
        "messages": {
            "reasons": list(record.reasons),
            "warm_up": record.warm_up.reason,
            "failures": [[failure.message for failure in window.failures] for window in record.windows],
        },
    }
    shown_parameters = {name: value for name, value in record.parameters.items() if name in SHOWN}
    shown = {"name": check_alias(alias), "architecture": None, "revision": None, "commit": None, "settings": {}}
    return record.model_copy(
        update={
            "model": model.model_copy(update=shown),
            "parameters": shown_parameters,
            # the job's own id is a hash of the model's name, among few others: names could be tried
            "job_id": public_job_id(alias, shown_parameters),
            "extra": {name: value for name, value in record.extra.items() if name in SHOWN_EXTRA},
            "quality": tuple(quality.model_copy(update={"details": {}}) for quality in record.quality),
            "windows": tuple(_without_messages(window) for window in record.windows),
            "warm_up": record.warm_up.model_copy(update={"reason": _warm_up_reason(record)}),
            "reasons": () if record.valid else (f"no total; {WITHHELD}: the messages of failed queries",),
        }
    ), private


def public_job_id(alias: str, parameters: Mapping[str, Any]) -> str:
    """Return the job's id that is shown: of the public name and the parameters that are shown."""
    return hashlib.sha256(canonical_json([alias, dict(parameters)])).hexdigest()[:16]


def _without_messages(window: Any) -> Any:
    failures = tuple(failure.model_copy(update={"message": WITHHELD}) for failure in window.failures)
    return window.model_copy(update={"failures": failures})


def _warm_up_reason(record: Record) -> str:
    """Keep the protocol's own words; a failed query's message is private."""
    return record.warm_up.reason if "failed:" not in record.warm_up.reason else f"a query failed ({WITHHELD})"


def with_answers(private: Mapping[str, Any], answers: Mapping[int, str], files: Mapping[str, str]) -> dict[str, Any]:
    """Add the outputs and the hashes of the weights to what is committed to."""
    return {**private, "outputs": {str(query): answers[query] for query in sorted(answers)}, "weights": dict(files)}
