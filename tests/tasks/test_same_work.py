"""A model is asked for the published runner's work: its trace is kept, and the same rows are asked here, both ways."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
SPEC = importlib.util.spec_from_file_location("same_work", ROOT / "benchmarks" / "same_work.py")
same_work = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(same_work)
KEPT = json.loads(same_work.KEPT.read_text(encoding="utf-8"))
LONGEST = 3  # of the five queries
SLOW = ("whisper", "whisper_said", "pix2struct", "diffusion")


def asked(protocol, cases):
    """Return the cases that can be equal, those of pictures and sound beyond the basic ones marked slow."""
    for case in cases:
        slow = case[1] in SLOW or (case in same_work.FURTHER and case[0] in ("img", "det", "cap", "asr"))
        if " ".join(case) not in same_work.PLAN["exceptions"]:
            marks = [pytest.mark.slow] * slow
            yield pytest.param(case, protocol, marks=marks, id=f"{' '.join(case)} {protocol}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("same_work")


@pytest.mark.parametrize(
    ("case", "protocol"), [*asked("steady", same_work.BASIC), *asked("published-2025-02", same_work.CASES)]
)
def test_inputs_calls_and_tokens_are_the_published_runners(case, protocol, folder, monkeypatch):
    monkeypatch.setattr("energylab.tasks.hub.resolve_commit", lambda *a, **k: None)

    def counted(phase, query):  # a hundred tokens take long under the counter; all calls are compared of every query
        return query == LONGEST or (protocol != "steady" and phase != "generate")

    wrong, flops = same_work.compare(KEPT[" ".join(case)], same_work.ours(case, folder, protocol, counted))
    assert not wrong
    if " ".join(case) not in same_work.PLAN["other_flops"]:
        assert flops == pytest.approx(1.0, abs=1e-3)


def test_every_exception_is_a_deviation_that_makes_a_record_unofficial(folder, monkeypatch):
    """GIT and BLIP-2 by the library, CTC by the runner: no list of the benchmark's own."""
    from energylab.parameters import Parameters
    from energylab.tasks import load_task

    for name in [*same_work.PLAN["exceptions"], *same_work.PLAN["other_flops"]]:
        kind, model, _ = name.split()
        stored = {"model": str(same_work.make("models", model, folder)), "model_source": "path"}
        task = load_task(Parameters(task=same_work.PLAN["kinds"][kind][0], samples=1, device="cpu", **stored))
        task.open("cpu")
        assert task.deviations(), name
    plain = load_task(Parameters(task="text_classification", model="tiny-bert"))
    plain.open("cpu")
    assert plain.deviations() == ()
