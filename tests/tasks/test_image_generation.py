"""Image generation: pipelines draw as documented, take the stated steps, and are scored by a CLIP model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from task_builders import answers, loaded

from energylab.errors import ModelError, TaskError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.diffusion import clip_score, noise_seed
from energylab.tasks.machine import Machine
from energylab.tasks.tokenizers import local_tokenizer

QUICK = {"samples": 2, "diffusion_steps": 2}


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    loaded("image_generation", "tiny-stable-diffusion", **QUICK)[0].model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**small, "vocab_size": 700, "bos_token_id": 698, "eos_token_id": 699, "max_position_embeddings": 16}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    local_tokenizer(config.text_config, "roberta").save_pretrained(folder)
    return folder


def test_the_stated_steps_are_taken_and_counted():
    task, rows = loaded("image_generation", "tiny-latent-consistency", samples=2, diffusion_steps=3)
    assert (task.phases, task.facts.settings["diffusion_steps"]) == (("call",), 3)
    inputs = task.prepare(rows)
    drawn = task.run("call", inputs)
    task.count("call", inputs, drawn)
    with pytest.raises(TaskError, match=f"ran {drawn.evaluations - 1} times"):
        task.count("call", inputs, type(drawn)(drawn.images, drawn.evaluations - 1))
    with pytest.raises(TaskError, match="1 pictures for 2 prompts"):
        task.count("call", inputs, type(drawn)(drawn.images[:1], drawn.evaluations))
    task.model(["another"], num_inference_steps=2)
    with pytest.raises(TaskError, match="diffusion_steps=3, but"):
        task.count("call", inputs, drawn)


def test_a_stored_pipeline_draws_as_the_documented_call(pipeline_folder):
    from diffusers import DiffusionPipeline

    task, rows = loaded("image_generation", pipeline_folder, **QUICK)
    assert (task.facts.real_weights, task.facts.architecture) == (True, "StableDiffusionPipeline")
    assert task.facts.weights_bytes == 4 * task.facts.parameters  # float32
    inputs = task.prepare(rows)
    noise = [torch.Generator().manual_seed(noise_seed(prompt, 0)) for prompt in inputs]
    expected = DiffusionPipeline.from_pretrained(pipeline_folder)(inputs, num_inference_steps=2, generator=noise).images
    for mine, other in zip(task.run("call", inputs).images, expected, strict=True):
        assert np.array_equal(np.asarray(mine), np.asarray(other))


def test_quality_is_stated_only_with_a_clip_model(pipeline_folder, clip_folder):
    task, rows = loaded("image_generation", pipeline_folder, **QUICK)
    images = answers(task, rows)
    unscored = task.score(images, rows)[0]
    assert unscored.value is None
    assert "quality_model" in unscored.meaningless
    task, rows = loaded("image_generation", pipeline_folder, **QUICK, quality_model=str(clip_folder))
    quality = task.score(images, rows)[0]
    assert quality.metric == "clip_score"
    assert quality.value == pytest.approx(clip_score(str(clip_folder), images, task.texts(rows)))


def test_the_clip_score_is_the_mean_cosine(clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    images = [Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")]
    prompts = ["a red square", "the sea"]
    model = CLIPModel.from_pretrained(clip_folder).eval()
    batch = CLIPProcessor.from_pretrained(clip_folder)(text=prompts, images=images, return_tensors="pt", padding=True)
    with torch.inference_mode():
        scaled = model(**batch).logits_per_image.diagonal()  # cosine times the learned scale
    expected = (100 * scaled / model.logit_scale.exp()).clamp(min=0).mean()
    assert clip_score(str(clip_folder), images, prompts) == pytest.approx(expected.item(), abs=1e-3)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path, pipeline_folder):
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        loaded("image_generation", tmp_path)
    index = json.loads((pipeline_folder / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "NoSuchModel"]}))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="NoSuchModel"):
        loaded("image_generation", tmp_path)


def test_a_pipeline_too_large_for_the_machine_is_refused():
    task = load_task(Parameters(task="image_generation", model="stabilityai/stable-diffusion-xl-base-1.0"))
    small = Machine("cpu", (8 * 10**9,), None, frozenset(), True)
    with pytest.raises(ModelError, match=r"3\.47 B parameters: 13\.9 GB"):
        task.find(task.request("cpu"), small)
