"""What the first cell refuses: found by asking the driver and the model's own files, with nothing loaded."""

import pytest
import torch

from energylab.errors import EnergylabError, ModelError, UnknownNameError
from energylab.parameters import Parameters
from energylab.record import DeviceFacts
from energylab.tasks import load_task
from energylab.tasks.machine import Machine


def gpu(memory_gb=80, capability="9.0"):
    settings = {"compute_capability": capability}
    return DeviceFacts(name="made up", type="cuda", index=0, memory_bytes=memory_gb * 10**9, settings=settings)


def check(facts, task="text_generation", device="cuda:0", **parameters):
    load_task(Parameters(task=task, **parameters)).check(device, facts)


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Fail when a device or a weight is touched: a context on a board would spoil its idle level."""

    def refuse(*args, **kwargs):
        raise AssertionError("touched")

    for name in ("mem_get_info", "get_device_capability", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    monkeypatch.setattr("energylab.tasks.models.build_random", refuse)


def test_what_fits_is_let_be(monkeypatch):
    check([gpu()], model="meta-llama/Meta-Llama-3-8B")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # the planner counts devices itself
    check([gpu(), gpu()], model="meta-llama/Llama-2-70b-hf", gpus=2)


@pytest.mark.parametrize(
    ("facts", "parameters", "said"),
    [
        ([gpu(24)], {"model": "meta-llama/Llama-2-70b-hf"}, "138.0 GB of weights in float16"),
        ([gpu()], {"model": "meta-llama/Llama-2-70b-hf"}, "gpus=2"),
        ([gpu(capability="7.5")], {"model": "microsoft/phi-2", "dtype": "bfloat16"}, "compute capability 8.0"),
        ([gpu()], {"model": "microsoft/phi-2", "attention": "flash"}, "allowed: eager"),
        ([gpu()], {"model": "microsoft/fi-2"}, "did you mean 'microsoft/phi-2'"),
        ([gpu()], {"model": "/not/there", "model_source": "path"}, "not a folder"),
        ([gpu()], {"model": "hustvl/yolos-tiny"}, "cannot be loaded"),
        ([gpu()], {"task": "image_generation", "model": "prompthero/openjourney", "gpus": 2}, "gpus=2"),
    ],
)
def test_what_cannot_be_is_refused_by_name(facts, parameters, said):
    with pytest.raises(EnergylabError, match=said):
        check(facts, **parameters)


def test_errors_are_of_the_kind_they_name():
    with pytest.raises(UnknownNameError):
        check([gpu()], model="nothing/like-it")
    with pytest.raises(ModelError):
        check([gpu(1)], model="microsoft/phi-2")


def test_a_machine_is_what_the_driver_says_of_its_devices():
    machine = Machine.described("cuda:1", [gpu(80, "9.0"), gpu(40, "8.0")])
    assert machine.capability == (8, 0)
    assert machine.memory_bytes == (0, 80 * 10**9, 40 * 10**9)
    assert machine.devices(2) == ["cuda:1", "cuda:2"]
    assert Machine.described("cpu", []).capability is None
