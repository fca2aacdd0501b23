"""Random weights in place, and models over several devices: two fake ones, since their memory is one."""

import pytest
import torch
import transformers

from energylab.errors import ModelError
from energylab.tasks.architectures import find_architecture
from energylab.tasks.models import Origin, build_random, build_skeleton, spread

SHAPES = {
    "tiny-llama": ("AutoModelForCausalLM", {"num_hidden_layers": 8, "vocab_size": 300}),
    "tiny-gpt2": ("AutoModelForCausalLM", {"n_layer": 8, "vocab_size": 300, "n_positions": 64}),
    "tiny-mixtral": ("AutoModelForCausalLM", {"num_hidden_layers": 8, "vocab_size": 300}),
    "tiny-t5": ("AutoModelForSeq2SeqLM", {"num_layers": 8, "num_decoder_layers": 8, "vocab_size": 300}),
    "tiny-bart": ("AutoModelForSeq2SeqLM", {"encoder_layers": 8, "decoder_layers": 8, "vocab_size": 300}),
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
    one = build_random(auto, config, ["cpu"], {"": "cpu"}, 0, dtype=torch.float32).eval()
    two = build_random(auto, config, ["cpu", "cpu"], dict.fromkeys(plan, "cpu"), 0, dtype=torch.float32).eval()
    assert not any(tensor.is_meta for tensor in [*two.parameters(), *two.buffers()])
    assert two.num_parameters() == one.num_parameters()
    two.load_state_dict(one.state_dict())
    ids = torch.arange(18).view(2, 9)
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    assert torch.equal(one(input_ids=ids, **more)[0], two(input_ids=ids, **more)[0])


def test_both_halves_of_a_class_c_model_weigh_the_same(two_devices):
    config = find_architecture("meta-llama/Llama-2-70b-hf").build_config()
    skeleton = build_skeleton(config, transformers.AutoModelForCausalLM, Origin("x", None))
    plan = spread(skeleton, two_devices)
    weights = {device: 0 for device in two_devices}
    for part, device in plan.items():
        weights[device] += sum(weight.numel() for weight in skeleton.get_submodule(part).parameters())
    assert weights["first"] == pytest.approx(weights["second"], rel=0.1)
    assert sum(weights.values()) == skeleton.num_parameters()


def test_a_model_with_too_few_layers_is_refused(two_devices):
    skeleton = build_skeleton(*shaped("tiny-bert")[::-1], Origin("x", None))
    with pytest.raises(ModelError, match="cannot be spread over gpus=20"):
        spread(skeleton, [str(number) for number in range(20)])


def test_random_weights_are_made_in_the_precision_asked_for_and_by_the_seed():
    auto, config = shaped("tiny-llama")
    made = [build_random(auto, config, ["cpu"], {"": "cpu"}, seed, dtype=torch.bfloat16) for seed in (1, 1, 2)]
    assert {weight.dtype for weight in made[0].parameters()} == {torch.bfloat16}
    first, same, other = (next(model.parameters()) for model in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_no_float32_copy_is_made_on_the_way(monkeypatch):
    """Every weight of a float16 model is born in float16: the default type while modules are made."""
    seen = set()
    init = torch.nn.Linear.__init__

    def watched(self, *args, **kwargs):
        init(self, *args, **kwargs)
        seen.add(self.weight.dtype)

    monkeypatch.setattr(torch.nn.Linear, "__init__", watched)
    auto, config = shaped("tiny-llama")
    build_random(auto, config, ["cpu"], {"": "cpu"}, 0, dtype=torch.float16)
    assert seen == {torch.float16}
