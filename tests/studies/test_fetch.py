"""Models and data are fetched from a hub at one commit, and jobs then run offline on exactly that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import builders
import pytest
import torch
import transformers
import yaml
from stand_in_hub import StandInHub

from energylab import store
from energylab.errors import StudyError
from energylab.studies import pack
from energylab.studies import plan as planning
from energylab.studies.run import run
from energylab.studies.state import JobState
from energylab.tasks.architectures import find_architecture
from energylab.tasks.tokenizers import local_tokenizer

DATA = "EnergyStarAI/text_generation"


@pytest.fixture
def hub():
    """A hub with one small model and one data set."""
    stand_in = StandInHub()
    stand_in.add("model", "someone/small").commit(model_files())
    rows = "".join(json.dumps({"text": f"text number {n}"}) + "\n" for n in range(8)).encode()
    stand_in.add("dataset", DATA).commit({"train.jsonl": rows})
    yield stand_in
    stand_in.close()


def model_files(seed: int = 0) -> dict[str, bytes]:
    """Return the files of a tiny language model."""
    torch.manual_seed(seed)
    config = find_architecture("tiny-gpt2").build_config()
    with tempfile.TemporaryDirectory() as folder:
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        local_tokenizer(config, "gpt").save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


@pytest.fixture
def energylab(workplace, hub, tmp_path):
    """Return a function that runs the command line against the hub, from an empty cache."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "energylab.cli", "study", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


def write(workplace, **content):
    builders.write_notebook(workplace / "real.ipynb", builders.MEASURE)
    study = {
        "notebook": str(workplace / "real.ipynb"),
        "parameters": {"task": "text_generation", "dtype": "float32", "samples": 4, "runs": 1, "new_tokens": 2},
        "sweeps": [{"model": "someone/small", "model_source": "hub", "data_source": "hub", "meter": "estimate"}],
        **content,
    }
    (workplace / "locked.yaml").write_text(yaml.safe_dump(study))


def test_what_was_fetched_is_measured_without_the_hub_even_when_it_has_moved_on(workplace, hub, energylab):
    write(workplace)
    model, data = hub.repositories["model", "someone/small"], hub.repositories["dataset", DATA]
    commits = model.branches["main"], data.branches["main"]
    fetched = energylab("fetch", "locked.yaml")
    assert fetched.returncode == 0, fetched.stderr
    model.commit(model_files(seed=1))
    hub.requests.clear()
    ran = energylab("run", "locked.yaml", "--devices", "cpu")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert hub.requests == []
    (path,) = Path("results/locked").glob("*/attempt-0/record.json")
    record = store.read_record(path)
    assert (record.model.commit, record.data.commit) == commits
    assert record.parameters["revision"] == commits[0]


def test_a_gated_model_says_how_to_log_in_and_nothing_is_frozen(workplace, hub, energylab):
    hub.add("model", "someone/gated", gated=True).commit(model_files())
    write(workplace, sweeps=[{"model": "someone/gated", "model_source": "hub"}])
    refused = energylab("fetch", "locked.yaml")
    assert refused.returncode == 2
    assert "hf auth login" in refused.stderr
    assert not Path("results/locked/lock.yaml").exists()


def frozen(**commits: str) -> planning.Lock:
    models = tuple(planning.LockedModel(model=model, revision=None, commit=commit) for model, commit in commits.items())
    data = (planning.LockedData(task="sentence_similarity", name="d", commit="c" * 40, digest="0"),)
    return planning.Lock(created_utc=datetime(2026, 1, 1, tzinfo=UTC), energylab="0", models=models, data=data)


def test_freezing_a_revision_does_not_change_the_id_of_what_was_measured(study, instant):
    planned, folder = study(sweeps=[{"model": ["a", "c"]}, {"model": "b", "model_source": "random"}])
    run(planned, folder, instant(), limit=2)
    locked = planning.freeze(planned, frozen(a="f" * 40, c="e" * 40))
    assert [job.id for job in locked.jobs] == [job.id for job in planned.jobs]
    assert run(locked, folder, instant()).attempts == 1, "what was measured before is not measured again"
    assert {state.status for state in folder.states(locked).values()} == {"done"}
    assert folder.unplanned(locked) == []
    by_model = {job.parameters.model: job for job in locked.jobs}
    assert by_model["a"].values["revision"] == by_model["a"].parameters.revision == "f" * 40


def test_a_model_that_was_added_after_the_fetch_and_a_foreign_lock_are_refused(study):
    planned, folder = study(sweeps=[{"model": ["a", "new"]}])
    with pytest.raises(StudyError, match=r"'new'.*energylab study fetch"):
        planning.freeze(planned, frozen(a="f" * 40))
    folder.prepare(planned)
    folder.lock_file.write_text("models: 3")
    with pytest.raises(StudyError, match="is not a lock"):
        _ = folder.lock


def test_records_on_other_data_than_frozen_are_named(study):
    planned, _ = study(sweeps=[{"model": "a"}])

    def strays(commit):
        data = builders.record().data.model_copy(update={"source": "hub", "commit": commit})
        record = builders.record(planned.jobs[0].parameters, data=data)
        return pack.strays(frozen(a="f" * 40), {planned.jobs[0]: JobState("done", record=record)})

    (line,) = strays("e" * 40)
    assert "e" * 40 in line
    assert "c" * 40 in line
    assert strays("c" * 40) == []
