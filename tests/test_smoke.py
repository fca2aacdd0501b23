"""From a tiny model to a label: the whole path in seconds."""

import warnings

import energylab


def test_measure_read_rate(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, model in enumerate(("tiny-gpt2", "tiny-gpt-neox")):
            record = energylab.measure(
                task="text_generation", model=model, model_source="random", samples=2, runs=1, window_s=0.05,
                idle_s=0.05, warm_up_min_s=0.05, warm_up_max_s=0.1, meter="estimate", device="cpu", new_tokens=2,
                output_folder=tmp_path / str(number),
            )  # fmt: skip
            assert record.valid, record.reasons
        stars = energylab.rate(energylab.read(tmp_path))
    assert len(stars) == 2
    assert (stars["energy_wh"] > 0).all()
