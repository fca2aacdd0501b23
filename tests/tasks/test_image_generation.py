"""Image generation: pipelines with U-Net and transformer draw as documented, so many steps, in any batch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from energylab.errors import ModelError, TaskError
from energylab.parameters import Parameters
from energylab.tasks import load_task
from energylab.tasks.diffusion import clip_score
from energylab.tasks.tokenizers import local_tokenizer

MODELS = ["tiny-stable-diffusion", "tiny-latent-consistency", "tiny-stable-diffusion-xl", "tiny-pixart"]


def loaded(**values):
    task = load_task(Parameters(task="image_generation", **{"diffusion_steps": 2, **values}))
    rows, _ = task.load_rows()
    facts = task.load("cpu")
    return task, rows, facts


def pixels(images):
    return np.stack([np.asarray(image, dtype=int) for image in images])


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    task, _, _ = loaded(model="tiny-stable-diffusion", samples=1)
    task.model.save_pretrained(folder)
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


@pytest.mark.parametrize("model", MODELS)
def test_the_stated_steps_are_taken_and_counted(model):
    task, rows, facts = loaded(model=model, samples=2, diffusion_steps=3)
    assert task.phases == ("call",)
    assert facts.settings["diffusion_steps"] == 3
    inputs = task.prepare(rows)
    drawn = task.run("call", inputs)
    assert drawn.evaluations == len(task.model.scheduler.timesteps)
    task.count("call", inputs, drawn)
    with pytest.raises(TaskError, match=f"ran {drawn.evaluations - 1} times"):
        task.count("call", inputs, type(drawn)(drawn.images, drawn.evaluations - 1))
    with pytest.raises(TaskError, match="2 prompts gave 1"):
        task.count("call", inputs, type(drawn)(drawn.images[:1], drawn.evaluations))
    task.model(["another"], num_inference_steps=2)
    with pytest.raises(TaskError, match="3 steps were asked for"):
        task.count("call", inputs, drawn)


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_draws_as_its_prompts_one_by_one(model):
    task, rows, _ = loaded(model=model, samples=8, dtype="float32")
    together = task.run("call", task.prepare(rows)).images
    alone = [task.run("call", task.prepare([row])).images[0] for row in rows]
    assert np.abs(pixels(together) - pixels(alone)).max() <= 1  # one level of 255, from the order of sums
    assert len({image.tobytes() for image in alone}) == 8


def test_a_stored_pipeline_draws_as_the_documented_call(pipeline_folder):
    from diffusers import DiffusionPipeline

    task, rows, facts = loaded(model=str(pipeline_folder), model_source="path", samples=2)
    assert facts.real_weights
    assert facts.architecture == "StableDiffusionPipeline"
    assert facts.dtype == "float32"
    inputs = task.prepare(rows)
    reference = DiffusionPipeline.from_pretrained(pipeline_folder)
    reference.set_progress_bar_config(disable=True)
    from energylab.tasks.diffusion import noise_seed

    noise = [torch.Generator().manual_seed(noise_seed(prompt, 0)) for prompt in inputs]
    expected = reference(inputs, num_inference_steps=2, generator=noise).images
    assert np.array_equal(pixels(task.run("call", inputs).images), pixels(expected))
    random, _, random_facts = loaded(model="tiny-stable-diffusion", samples=2)
    assert facts.parameters == random_facts.parameters
    assert facts.weights_bytes == 4 * facts.parameters


def test_quality_is_stated_only_with_a_clip_model(pipeline_folder, clip_folder):
    path = {"model": str(pipeline_folder), "model_source": "path", "samples": 2}
    task, rows, _ = loaded(**path)
    images = task.run("call", task.prepare(rows)).images
    unscored = task.score(images, rows)[0]
    assert unscored.value is None
    assert "quality_model" in unscored.meaningless
    task, rows, _ = loaded(**path, quality_model=str(clip_folder))
    quality = task.score(images, rows)[0]
    assert quality.metric == "clip_score"
    assert quality.value == pytest.approx(clip_score(str(clip_folder), images, task.texts(rows)))
    task, rows, _ = loaded(model="tiny-stable-diffusion", samples=2, quality_model=str(clip_folder))
    assert "random weights" in task.score(images, rows)[0].meaningless


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
    parameters = Parameters(task="image_generation", model=str(tmp_path), model_source="path")
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        load_task(parameters).load("cpu")
    index = json.loads((pipeline_folder / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "NoSuchModel"]}))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="NoSuchModel"):
        load_task(parameters).load("cpu")


def test_a_pipeline_too_large_for_the_machine_is_refused():
    from energylab.tasks.machine import Machine

    parameters = Parameters(task="image_generation", model="stabilityai/stable-diffusion-xl-base-1.0")
    task = load_task(parameters)
    small = Machine("cpu", (8 * 10**9,), None, frozenset(), True)
    with pytest.raises(ModelError, match=r"3\.47 B parameters: 13\.9 GB"):
        task.find(task.request("cpu"), small)
