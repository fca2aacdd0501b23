"""Load a model onto its devices: with stored weights, or with random ones made in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from energylab.errors import ModelError
from energylab.tasks import hub
from energylab.tasks.machine import loading_options
from energylab.tasks.models import Origin, Prepared, quiet

#: Weights, in the order in which they are looked for.
WEIGHT_FILES = ("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")


def load(prepared: Prepared, optional_parts: tuple[str, ...] = ()) -> Any:
    """Load a prepared model onto its device or devices, in evaluation mode."""
    import torch

    request = prepared.request
    how = {"dtype": getattr(torch, request.dtype)}
    how |= {"attn_implementation": request.attention} if request.attention else {}
    with quiet():
        if prepared.origin.folder is None:
            model = build_random(prepared.auto, prepared.config, prepared.plan, request.seed, **how)
        else:
            fetch_weights(prepared.origin)
            model = _stored(prepared, optional_parts, how)
    model.eval()
    if request.compile:
        model.compile()
    return model


def fetch_weights(origin: Origin) -> None:
    """Download the weights of a hub model, safetensors where there are any; does nothing for a folder."""
    if origin.repo is None:
        return
    for patterns in WEIGHT_FILES:
        hub.snapshot(origin.repo, origin.commit, "model", patterns, ModelError)
        if any(next(origin.folder.glob(pattern), None) for pattern in patterns):
            return
    raise ModelError(f"model {origin.name!r} at {origin.commit} holds no weights that transformers can read")


def _stored(prepared: Prepared, optional_parts: tuple[str, ...], how: dict[str, Any]) -> Any:
    options = {"config": prepared.config, "device_map": prepared.plan, "output_loading_info": True, **how}
    options |= loading_options(prepared.request.quantisation)
    model, info = prepared.origin.read(prepared.auto.from_pretrained, "weights", **options)
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in optional_parts))
    if missing:
        raise ModelError(
            f"model {prepared.origin.name!r} has no weights for {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''}: it was trained for another task than {prepared.auto.__name__} "
            "serves; choose a model of this task"
        )
    return model


def build_random(auto: Any, config: Any, plan: dict[str, str], seed: int, **how: Any) -> Any:
    """Build a model with random weights straight on its devices, in its precision: no copy on the host.

    Equal seeds give equal weights on equal devices; `plan` is that of `spread`, `how` goes to ``from_config``.
    """
    import torch

    devices = list(dict.fromkeys(plan.values()))
    with torch.random.fork_rng(devices=[device for device in devices if device.startswith("cuda")]):
        torch.manual_seed(seed)
        if "" in plan:
            with torch.device(plan[""]):
                return auto.from_config(config, **how)
        with torch.device("meta"):
            model = auto.from_config(config, **how)
        return _materialised(model, plan, devices[0])


def _materialised(model: Any, plan: dict[str, str], first: str) -> Any:
    """Give a model on the meta device memory where the plan puts it, and weights there."""
    import torch
    from accelerate import dispatch_model
    from accelerate.utils import set_module_tensor_to_device

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        part = max((key for key in plan if f"{name}.".startswith(f"{key}.")), key=len)
        set_module_tensor_to_device(model, name, plan[part], value=torch.empty_like(tensor, device=plan[part]))
    model.tie_weights()
    model.initialize_weights()
    skipped = getattr(model, "_skip_keys_device_placement", None)
    return dispatch_model(model, plan, main_device=first, skip_keys=skipped, force_hooks=True)


def moved(tensors: Mapping[str, Any], device: str, dtype: Any = None) -> dict[str, Any]:
    """Copy a batch to a device; the batch itself stays on the host, so that every repetition copies it again.

    `dtype`, where given, is the precision that floating-point tensors get.
    """
    return {
        name: tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }
