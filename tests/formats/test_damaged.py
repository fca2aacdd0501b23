"""Damaged files: whatever stands in them, an import gives a record or one clear error, never a traceback."""

from __future__ import annotations

import copy
import json

import pytest
from format_builders import energy, runner_report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylab import store
from energylab.errors import EnergylabError
from energylab.formats import Asked, import_files
from energylab.record import SCORED_PHASES

FILES = {
    "optimum.json": {"preprocess": energy(0.1),
                     "prefill": energy(0.2, [0.1, 0.3]), "decode": energy(0.3, [0.2, 0.4])},
    "benchmark.json": {"config": {"backend": {"model": "m", "task": "text-generation", "device": "cuda",
                                              "device_ids": 0},
                                  "scenario": {"_target_": "x.EnergyStarScenario", "num_samples": 10,
                                               "input_shapes": {"batch_size": 1}, "generate_kwargs": {"a": 1}},
                                  "environment": {"gpu": ["H100"], "cpu": "c", "cpu_count": 2, "cpu_ram_mb": 1.0}},
                       "report": {"forward": energy(0.1)}},
    "batch.json": {"config": {"backend": {"model": "m"}, "scenario": {"name": "inference",
                                                                      "input_shapes": {"batch_size": 2}}},
                   "report": {"generate": energy(0.1)}},
    "runner.json": runner_report(),
    "summary.json": {"units": "Wh", "total": 7.3, "format": "optimum", "preprocess_wh": 0.1, "prefill_wh": 3.1,
                     "decode_wh": 4.1},
    "task.json": {"task": "chat", "configurations": [{"model_id": "m", "gpu_model": "H100", "num_gpus": 1,
                                                      "energy_per_request_joules": 9.0, "max_num_seqs": 8,
                                                      "parallelization": {"tensor_parallel": 1}}]},
    "own.json": {"forward": energy(0.1), "energylab": {"backend": {"model": "m", "task": "x", "device": "cuda",
                                                                   "device_ids": [0, 1]},
                                                       "scenario": {"name": "energy_star", "num_samples": 10},
                                                       "environment": {"gpu": ["H100", "H100"]}}},
}  # fmt: skip

ODD = st.sampled_from([None, "", "x", -1, 0, 1, 2.5, 1e308, True, [], {}, [1], [None], {"a": 1}, {"unit": 3}, "\x00"])


def places(value, path=()):
    """List the path of every node of a JSON value, its own included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def put(value, path, new):
    """Return a copy of `value` with the node at `path` replaced."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return changed


def check(file, out, data):
    """Import a file: it is refused with an error of this package, or whole, and valid only with energies above zero."""
    asked = Asked(task="x", model="m", queries=data.draw(st.sampled_from([None, 10])))
    try:
        found = import_files([file], out, asked)
    except EnergylabError:
        return
    for each in found:
        record = store.read_record(each.path)
        assert record == each.record
        assert record.energy_kind == "imported"
        rated = [window for window in record.windows if window.phase in SCORED_PHASES]
        assert record.valid == (bool(rated) and all(window.valid and window.energy_j > 0 for window in rated))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_odd_value_gives_a_record_or_one_error(name, data, write, tmp_path):
    path = data.draw(st.sampled_from(list(places(FILES[name]))))
    odd = put(FILES[name], path, data.draw(ODD))
    check(write(name, odd if isinstance(odd, str) else json.dumps(odd)), tmp_path / "out", data)


COLUMNS = {
    "emissions.csv": {"run_id": "r", "duration": "4.0", "gpu_energy": "0.5", "cpu_energy": "0.1",
                      "ram_energy": "0.1", "energy_consumed": "0.7", "gpu_count": "1", "gpu_model": "NVIDIA A",
                      "timestamp": "2026-01-01T00:00:00", "ram_total_size": "2.0", "cpu_count": "2",
                      "gpu_power": "300"},
    "leaderboard.csv": {"model": "m", "energy_wh_per_1000_queries": "1.0", "class": "A", "energy_score": "5"},
    "zeus.csv": {"start_time": "1.5", "window_name": "w", "elapsed_time": "2.0", "gpu0_energy": "1.0",
                 "gpu1_energy": "3.0"},
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_odd_cell_gives_a_record_or_one_error(name, data, write, tmp_path):
    odd = data.draw(st.sampled_from(["", "x", "-1", "0", "nan", "inf", "1e400", "1.5"]))
    row = {**COLUMNS[name], data.draw(st.sampled_from(list(COLUMNS[name]))): odd}
    check(write(name, ",".join(row) + "\n" + ",".join(row.values()) + "\n"), tmp_path / "out", data)
