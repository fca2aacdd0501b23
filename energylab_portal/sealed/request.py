"""From plain values of the command line to a request for a sealed run, with one clear error for what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from energylab.devices import resolve_devices
from energylab.errors import ParameterError, unknown_name
from energylab.parameters import Parameters
from energylab_portal.sealed import keys
from energylab_portal.sealed.container import Plan
from energylab_portal.sealed.run import Request
from energylab_portal.sealed.seal import Limits
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS, Attested


def build(
    *, model: Path, task: str, alias: str, key: Path, out: Path, image: str, gpus: int, device: str, data: Path | None,
    settings: Sequence[str], params: Path | None, memory_mb: int, processes: int, results_mb: int, limit_s: float,
    private: Sequence[str], attest: str,
) -> Request:  # fmt: skip
    """Build a request; every parameter is named as in `energylab-portal sealed run`.

    Raises
    ------
    EnergylabError
        Names the bad value, what is allowed, and what to do.
    """
    folder = model.expanduser().resolve()
    if not folder.is_dir():
        raise ParameterError(f"--model {str(model)!r} is not a folder; name the folder the model was saved to")
    given = {
        **parse_settings(settings), "task": task, "model": str(folder), "model_source": "path", "gpus": gpus,
        "device": device, "params": None if params is None else str(params),
    }  # fmt: skip
    parameters = Parameters.check(given)
    boards = resolve_devices(device, gpus)
    limits = Limits(memory_mb=memory_mb, processes=processes, results_mb=results_mb)
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        image=image,
        model=folder,
        data=None if data is None else data.expanduser().resolve(),
        gpus=tuple(str(board.uuid) for board in boards if board.type == "cuda"),
        limits=limits,
        limit_s=limit_s,
    )
    return Request(parameters, plan, alias, keys.load(key), out, parse_attestations(attest), tuple(private))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as the parameters they set.

    Raises
    ------
    ParameterError
        If one has no equals sign, or names what another option says.
    """
    found = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign:
            raise ParameterError(f"--set {setting!r} must be NAME=VALUE, for example --set samples=1000")
        if name in ("model", "model_source", "task", "gpus", "device", "params", "output_folder", "record"):
            raise ParameterError(f"--set {name}=… is given by its own option, or follows from the folder")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ParameterError(f"--set {setting!r}: {value!r} is no plain value") from None
    return found


def parse_attestations(text: str) -> Attested:
    """Read what the owner attests.

    Raises
    ------
    UnknownNameError
        If a name is none of the attestations.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ATTESTATIONS:
            raise unknown_name("attestation", name, ATTESTATIONS)
    return Attested(version=ATTESTATION_VERSION, **{name: name in names for name in ATTESTATIONS})
