"""What a machine cannot do is refused by name, on machines made up for it."""

import pytest
import torch

from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.protocol.workload import FunctionWorkload
from energylab.record import DeviceFacts
from energylab.tasks import load_task
from energylab.tasks.machine import IN_CHECKPOINT, ON_LOADING, Machine, refuse_options, refuse_size
from energylab.tasks.models import ModelRequest, prepare

GB = 10**9
EVERYTHING = frozenset(way.package for way in (*ON_LOADING.values(), *IN_CHECKPOINT.values())) | {"flash_attn"}
CPU = Machine("cpu", (8 * GB,), None, frozenset(), compiler=False)
H100 = Machine("cuda:0", (80 * GB,), (9, 0), EVERYTHING, compiler=True)
T4 = Machine("cuda:0", (15 * GB, 15 * GB), (7, 5), EVERYTHING, compiler=True)


def options(machine, dtype="float32", quantisation=None, attention=None, compiled=False, gpus=1):
    refuse_options(machine, dtype, quantisation, attention, compiled, gpus)


@pytest.mark.parametrize(
    ("machine", "asked", "said"),
    [
        (CPU, {"gpus": 2}, "gpus=2 needs GPUs"),
        (CPU, {"compiled": True}, "C\\+\\+ compiler"),
        (CPU, {"attention": "flash_attention_2"}, "'flash_attn'"),
        (CPU, {"attention": "flash_attention_2"}, "this is a CPU"),
        (CPU, {"attention": "sdpaa"}, "allowed: eager"),
        (CPU, {"quantisation": "int8"}, "energylab\\[quantisation\\]"),
        (CPU, {"quantisation": "int9"}, "allowed: int8"),
        (T4, {"dtype": "bfloat16"}, "compute capability 8.0, this GPU has 7.5"),
        (T4, {"quantisation": "fp8"}, "compute capability 8.9"),
        (T4, {"attention": "flash_attention_2"}, "compute capability 8.0"),
        (T4, {"gpus": 3}, "only 2 device"),
    ],
)
def test_each_option_is_refused_by_name(machine, asked, said):
    with pytest.raises(ModelError, match=said):
        options(machine, **asked)


def test_all_problems_are_named_at_once():
    with pytest.raises(ModelError) as refused:
        options(T4, dtype="bfloat16", quantisation="fp8", attention="flash_attention_2", gpus=4)
    assert len(str(refused.value).splitlines()) == 5


def test_a_capable_machine_is_let_be():
    options(H100, "bfloat16", "fp8", "flash_attention_2", compiled=True)
    options(CPU, "float16", attention="sdpa")


@pytest.fixture
def touched(monkeypatch):
    """Four boards as torch shows them, and the numbers of those that were asked for anything that starts a context."""
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (asked.append(index), (80 * GB, 80 * GB))[1])
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    return asked


def test_no_board_is_touched_but_those_the_model_is_on(touched):
    machine = Machine.detect("cuda:1", 2)
    assert touched == [1, 2]
    assert machine.memory_bytes == (0, 80 * GB, 80 * GB, 0)
    with pytest.raises(ModelError, match="sees 4 GPU"):
        Machine.detect("cuda:4")
    touched.clear()
    task = load_task(Parameters(task="sentence_similarity", gpus=2))
    task.device = "cuda:1"
    task.synchronize()
    assert touched == [1, 2]
    touched.clear()
    FunctionWorkload(len, ["a"], boards=[3]).synchronize()
    assert touched == [3]


def test_a_large_model_is_refused_with_what_would_do():
    with pytest.raises(ModelError, match=r"138\.0 GB of weights in float16.*gpus=2"):
        refuse_size(H100, "big", 69 * GB, "float16", 1)
    refuse_size(H100, "big", 69 * GB, "bitsandbytes-4bit", 1)
    refuse_size(T4, "middling", 14 * GB, "float16", 2)
    with pytest.raises(ModelError, match="host's free memory"):
        refuse_size(CPU, "big", 69 * GB, "float16", 1)


def test_a_class_c_model_on_one_small_gpu_is_refused_before_anything_is_built():
    request = ModelRequest("meta-llama/Llama-2-70b-hf", "random", "cuda:0", "float16")
    with pytest.raises(ModelError, match=r"Llama-2-70b-hf' has 68\.98 B parameters: 138\.0 GB.*gpus=10"):
        prepare(request, lambda config: "AutoModelForCausalLM", machine=T4)


def test_there_is_no_gpu_to_be_found_here():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match="no usable GPU"):
        Machine.detect("cuda:0")
    assert Machine.detect("cpu").capability is None


def test_a_board_whose_driver_tells_no_memory_is_left_to_the_loading():
    """Boards that share the host's memory answer "not supported"; what is unknown is not zero."""
    facts = DeviceFacts(name="NVIDIA GB10", type="cuda", index=0, settings={"compute_capability": "12.1"})
    refuse_size(Machine.described("cuda:0", (facts,)), "small", 10**6, "float32", 1)
