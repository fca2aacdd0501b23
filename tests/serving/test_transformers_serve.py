"""A real server: ``transformers serve`` with a tiny model, measured from the notebook's own entry point."""

from __future__ import annotations

import importlib.util

import psutil
import pytest

import energylab
from energylab import measuring
from energylab.energy import totals
from energylab.errors import EnergylabError
from energylab.parameters import Parameters
from energylab.serving.processes import NEEDED, ServerProcesses, transformers_serve
from energylab.show import served_table
from energylab.tasks.served import store_random

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; pip install 'energylab[serving]'"),
]
QUICK = {"model_source": "endpoint", "samples": 4, "runs": 1, "window_s": 0.3, "idle_s": 0.1, "warm_up_max_s": 0.5}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve a tiny chat model; return its folder and its endpoint."""
    folder = store_random("tiny-qwen3", tmp_path_factory.mktemp("models") / "tiny", task="reasoning")
    with transformers_serve(folder) as endpoint:
        yield str(folder), endpoint


def cpu_s(endpoint):
    times = [psutil.Process(pid).cpu_times() for pid in ServerProcesses(endpoint).tree()]
    return sum(one.user + one.system for one in times)


def test_the_energy_is_that_of_the_servers_processes(served):
    model, endpoint = served
    values = {**QUICK, "task": "text_generation", "model": model, "endpoint": endpoint, "new_tokens": 8}
    before = cpu_s(endpoint)
    record = energylab.measure(**values, concurrency=2, meter="estimate", cpu_core_w=10.0, device="cpu")
    spent = cpu_s(endpoint) - before
    assert record.valid, record.reasons
    (total,) = totals(record)
    assert total.output_tokens == 4 * 8
    assert record.model.settings["fixed_length"] == "generation_config"
    assert record.model.settings["server"] == "transformers serve"
    (window,) = (window for window in record.windows if window.valid)
    cores = len(psutil.Process(ServerProcesses(endpoint).find()[0]).cpu_affinity())
    static_j = 0.2 * 10.0 * cores * window.duration_s
    busy_s = (window.energy_j - static_j) / (0.8 * 10.0)
    assert 0 < busy_s < spent  # the server's time within the window is part of all it spent
    table = served_table(record)["value"]
    assert "J, estimated" in table["energy per new token"]
    assert "median" in table["time to first token"]


def test_reasoning_ends_by_itself_and_says_how_it_was_asked(served):
    model, endpoint = served
    values = {**QUICK, "task": "reasoning", "model": model, "endpoint": endpoint, "new_tokens": 12}
    parameters = measuring.check(values)
    record = energylab.measure(parameters=parameters)
    assert record.valid, record.reasons
    (total,) = totals(record)
    assert 0 < total.output_tokens <= 4 * 12
    assert record.model.settings["api"] == "chat"
    assert record.quality[0].metric == "exact_match"


def test_a_model_the_server_does_not_have_is_refused(served):
    _, endpoint = served
    values = {**QUICK, "task": "text_generation", "model": "no/such", "endpoint": endpoint, "new_tokens": 8}
    with pytest.raises(EnergylabError, match="does not answer for model 'no/such'"):
        energylab.measure(parameters=Parameters.check(values))
