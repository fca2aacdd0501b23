"""Image captioning: BLIP, GIT, Pix2Struct and BLIP-2 caption as documented, exactly so many tokens, in any batch."""

import io

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration, BlipProcessor

from energylab.errors import TaskError
from energylab.parameters import Parameters
from energylab.tasks import load_task

MODELS = ["tiny-blip", "tiny-git", "tiny-pix2struct", "tiny-blip-2", "tiny-blip-2-t5"]


def loaded(**values):
    task = load_task(Parameters(task="image_captioning", **{"new_tokens": 5, **values}))
    rows, _ = task.load_rows()
    facts = task.load("cpu")
    return task, rows, facts


@pytest.mark.parametrize("model", MODELS)
def test_captions_are_those_of_the_documented_call(model):
    """The model's pages show: image processor, then ``generate`` on what it returns."""
    task, rows, _ = loaded(model=model, samples=2)
    inputs = task.prepare(rows)
    mine = task.answers(inputs, task.run("generate", inputs))
    for row, text in zip(rows, mine, strict=True):
        pixels = task.image_processor(images=Image.open(io.BytesIO(row["image"])).convert("RGB"), return_tensors="pt")
        ids = task.model.generate(**pixels, do_sample=False, num_beams=1, min_new_tokens=5, max_new_tokens=5)
        assert task.processor.batch_decode(ids[:, task.prompt_length :], skip_special_tokens=True)[0].strip() == text


@pytest.mark.parametrize("model", MODELS)
def test_exactly_the_stated_number_of_tokens_is_generated(model):
    task, rows, _ = loaded(model=model, samples=3)
    inputs = task.prepare(rows)
    assert task.count("preprocess", inputs, inputs).output is None
    assert task.count("prefill", inputs, task.run("prefill", inputs)).output == 3
    outputs = task.run("generate", inputs)
    assert task.count("generate", inputs, outputs).output == 15
    with pytest.raises(TaskError, match="4 token"):
        task.count("generate", inputs, [ids[:, :-1] for ids in outputs])


def test_a_stored_model_is_loaded_captions_and_is_scored(tmp_path):
    task, rows, _ = loaded(model="tiny-blip", samples=2)
    processor = BlipProcessor(task.image_processor, task.processor)
    task.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, rows, facts = loaded(model=str(tmp_path), model_source="path", samples=2)
    assert facts.real_weights
    assert facts.architecture == "BlipForConditionalGeneration"
    inputs = again.prepare(rows)
    outputs = again.run("generate", inputs)
    assert torch.equal(outputs[0], task.run("generate", inputs)[0])
    # the documented way, from the files alone
    reader, model = AutoProcessor.from_pretrained(tmp_path), BlipForConditionalGeneration.from_pretrained(tmp_path)
    pixels = reader(images=[Image.open(io.BytesIO(row["image"])).convert("RGB") for row in rows], return_tensors="pt")
    ids = model.eval().generate(**pixels, do_sample=False, num_beams=1, max_new_tokens=5)
    free = [text.strip() for text in reader.batch_decode(ids[:, 1:], skip_special_tokens=True)]
    assert again.answers(inputs, outputs) == free
    assert again.score([row["caption"] for row in rows], rows)[0].value == pytest.approx(1.0)
    quality = again.score(["a car", rows[1]["caption"]], [{"caption": ["a red car", "nothing like it"]}, rows[1]])[0]
    # one of two words more in the nearer reference: precision 1, recall 2/3, F 0.8
    assert quality.value == pytest.approx((0.8 + 1.0) / 2)
