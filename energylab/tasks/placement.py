"""Models on their devices: random weights made in place, and one model spread over several devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energylab.errors import ModelError


def moved(tensors: Mapping[str, Any], device: str, dtype: Any = None) -> dict[str, Any]:
    """Copy a batch to a device; the batch itself stays on the host, so that every repetition copies it again.

    (``BatchEncoding.to`` moves a batch for good: only its first call would pay for the copy.)

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        The batch.
    device : str
        Where to, in torch's words.
    dtype : torch.dtype, optional
        Precision of the floating-point ones; as they are by default.
    """
    return {
        name: tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }


def build_random(
    auto: Any, config: Any, devices: Sequence[str], plan: dict[str, str], seed: int, **loading: Any
) -> Any:
    """Build a model with random weights straight on its devices, in its precision: no copy on the host.

    Parameters
    ----------
    auto : type
        A transformers Auto class.
    config : transformers.PretrainedConfig
        The model's shape.
    devices : sequence of str
        The devices in use, the first one first.
    plan : dict of str to str
        Which part of the model goes to which device; see `spread`.
    seed : int
        Equal seeds give equal weights on equal devices.
    **loading
        Passed to ``from_config``: ``dtype``, ``attn_implementation``.

    Returns
    -------
    transformers.PreTrainedModel
        The model.
    """
    import torch

    with torch.random.fork_rng(devices=[device for device in devices if device.startswith("cuda")]):
        torch.manual_seed(seed)
        if len(devices) == 1:
            with torch.device(devices[0]):
                return auto.from_config(config, **loading)
        with torch.device("meta"):
            model = auto.from_config(config, **loading)
        return _materialise(model, plan, devices[0])


def spread(skeleton: Any, devices: Sequence[str]) -> dict[str, str]:
    """Plan which part of a model goes to which of several equal devices: whole layers, as even as they come.

    Parameters
    ----------
    skeleton : transformers.PreTrainedModel
        The model on the meta device.
    devices : sequence of str
        One device or more.

    Returns
    -------
    dict of str to str
        Module name to device; ``{"": device}`` for a single one.

    Raises
    ------
    ModelError
        If the model has too few layers for that many devices.
    """
    if len(devices) == 1:
        return {"": devices[0]}
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes, get_balanced_memory

    whole = compute_module_sizes(skeleton)[""]
    kept = list(skeleton._no_split_modules or [])
    ample = dict.fromkeys(range(len(devices)), 2 * whole)
    room = get_balanced_memory(skeleton, max_memory=ample, no_split_module_classes=kept)
    plan = infer_auto_device_map(skeleton, max_memory=room, no_split_module_classes=kept)
    if set(plan.values()) != set(range(len(devices))):
        raise ModelError(
            f"{type(skeleton).__name__} cannot be spread over gpus={len(devices)}: its layers fill only "
            f"{len(set(plan.values()))} of them; use fewer"
        )
    return {name: devices[position] for name, position in plan.items()}


def _materialise(model: Any, plan: dict[str, str], first: str) -> Any:
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
