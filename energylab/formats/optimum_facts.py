"""What the configuration beside an optimum-benchmark report says of model, data, device and machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from energylab.formats import ask
from energylab.formats.session import NO_HOST
from energylab.formats.source import Source
from energylab.record import DeviceFacts, HostFacts

#: Packages whose versions the configuration's environment states.
_PACKAGES = ("optimum_benchmark", "transformers", "accelerate", "diffusers", "optimum", "timm", "peft")


#: What a report of this workbench's own says of itself, beside its phases.
OWN = "energylab"


def configuration(source: Source) -> Mapping[str, Any]:
    """Return the configuration: in the file, or in ``benchmark_config.json`` beside it; empty where there is none."""
    if isinstance(source.json, dict) and OWN in source.json:
        return _as_configuration(ask.mapping(source.json[OWN], OWN, source.name))
    own = source.json.get("config") if isinstance(source.json, dict) and "report" in source.json else None
    if own is None:
        beside = source.neighbour("benchmark_config.json")
        own = beside.json if beside is not None else None
    return ask.mapping(own, "config", source.name)


def _as_configuration(own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a report of this workbench says of itself as a configuration would say it."""
    count = ask.devices(own.get("devices"), "devices", OWN) or 1
    gpus = [own["device"]] * count if own.get("device") else []
    return {
        "backend": {
            "model": own.get("model"),
            "task": own.get("task"),
            "device": own.get("device_type"),
            "device_ids": list(range(count)),
            "torch_dtype": own.get("dtype"),
            "model_class": own.get("model_class"),
        },
        "scenario": {
            "_target_": "EnergyStarScenario",
            "num_samples": own.get("queries"),
            "dataset_name": own.get("data"),
            "input_shapes": {"batch_size": own.get("batch_size")},
        },
        "environment": {"gpu": gpus, "cpu": own.get("device")},
    }


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def model(config: Mapping[str, Any]) -> Any:
    """Return the model's name."""
    return _part(config, "backend").get("model")


def task(config: Mapping[str, Any]) -> Any:
    """Return the hub's name of the task."""
    return _part(config, "backend").get("task")


def device_type(config: Mapping[str, Any]) -> str | None:
    """Return ``cuda`` or ``cpu``, as configured."""
    return _part(config, "backend").get("device")


def samples(config: Mapping[str, Any]) -> int | None:
    """Return the number of queries of a pass over the data; scenarios without data have none."""
    scenario = _part(config, "scenario")
    of_data = "energystar" in str(scenario.get("_target_", scenario.get("name", ""))).lower().replace("_", "")
    value = scenario.get("num_samples")
    return value if of_data and isinstance(value, int) else None


def duration_s(target: Mapping[str, Any], run: int, repeats: int) -> float | None:
    """Return how long a target took in a run, where there are as many latencies as energies."""
    latency = target.get("latency") or {}
    values = latency.get("values")
    if latency.get("unit") != "s" or not isinstance(values, list) or len(values) != repeats:
        return None
    value = values[run if repeats > 1 else 0]
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def known(config: Mapping[str, Any], component: str) -> dict[str, Any]:
    """Return what the configuration states, as fields of a session; nothing where there is none."""
    if not config:
        return {}
    backend, scenario = _part(config, "backend"), _part(config, "scenario")
    devices, counted = _devices(config, component)
    return {
        "devices": devices,
        "devices_counted": counted,
        "facts": _facts(backend),
        "data": {"name": scenario.get("dataset_name"), "source": None},
        "settings": _settings(backend, scenario),
        "protocol": {name: scenario[name] for name in ("name", "warmup_runs", "iterations") if name in scenario},
        "host": _host(_part(config, "environment"), backend),
        "seed": backend.get("seed") if isinstance(backend.get("seed"), int) else None,
    }


def _facts(backend: Mapping[str, Any]) -> dict[str, Any]:
    model_kwargs = _part(backend, "model_kwargs")
    return {
        "source": "random" if backend.get("no_weights") is True else None,
        "revision": model_kwargs.get("revision"),
        "dtype": backend.get("torch_dtype") if backend.get("torch_dtype") != "auto" else None,
        "quantisation": backend.get("quantization_scheme"),
        "attention": backend.get("attn_implementation"),
        "compiled": backend.get("torch_compile"),
        "real_weights": backend.get("no_weights") is not True,
        "model_class": backend.get("model_class"),
    }


def _settings(backend: Mapping[str, Any], scenario: Mapping[str, Any]) -> dict[str, Any]:
    batch_size = _part(scenario, "input_shapes").get("batch_size")
    found = {"batch_size": batch_size, "dtype": backend.get("torch_dtype")}
    for part in ("generate_kwargs", "call_kwargs", "forward_kwargs", "reasoning_params"):
        found.update(_part(scenario, part))
    return {name: value for name, value in found.items() if value is not None}


def _devices(config: Mapping[str, Any], component: str) -> tuple[tuple[DeviceFacts, ...], bool]:
    """Return the devices the energy is of, and whether their number is stated."""
    backend, environment = _part(config, "backend"), _part(config, "environment")
    if component != "gpu":
        name = environment.get("cpu")
        return (DeviceFacts(name=name.strip() if isinstance(name, str) else None, type="cpu"),), True
    ids = backend.get("device_ids")
    numbers = [int(each) for each in re.findall(r"\d+", str(ids))] if ids is not None else []
    gpus = environment.get("gpu")
    gpus = [str(gpu) for gpu in gpus] if isinstance(gpus, list) else [str(gpus)] if gpus else []
    kind = "cuda" if backend.get("device") == "cuda" else "not stated"
    names = [gpus[number] if number < len(gpus) else None for number in numbers or [0]]
    return tuple(
        DeviceFacts(name=name, type=kind, index=number) for name, number in zip(names, numbers or [None], strict=True)
    ), bool(numbers)


def _host(environment: Mapping[str, Any], backend: Mapping[str, Any]) -> HostFacts:
    if not environment:
        return NO_HOST
    packages = {name: environment.get(f"{name}_version") for name in _PACKAGES}
    if backend.get("name") == "pytorch":
        packages["torch"] = backend.get("version")
    memory_mb = environment.get("cpu_ram_mb")
    processor = environment.get("cpu")
    return HostFacts(
        processor=processor.strip() if isinstance(processor, str) else None,
        cores=environment.get("cpu_count"),
        memory_bytes=round(memory_mb * 1e6) if isinstance(memory_mb, (int, float)) else None,
        system=environment.get("platform") or environment.get("system"),
        python=environment.get("python_version"),
        packages={name.replace("_", "-"): str(version) for name, version in packages.items() if version},
    )
