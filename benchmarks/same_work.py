"""Do the published runner (optimum-benchmark 0.6.0, scenario energy_star) and energylab ask a model for the same work?

Every call of tiny models on local rows is traced on both sides; inputs, calls, generated tokens and FLOPs must agree.
The runner needs an environment of its own: ``pip install optimum-benchmark==0.6.0 "transformers<4.57" torch "pillow<12"
soundfile sentencepiece protobuf diffusers==0.36.0 accelerate``. What it asked is kept in tests/fixtures/same_work.json.

    PEER/bin/python benchmarks/same_work.py peer FOLDER [CASE ...]     # writes the kept trace anew
    python benchmarks/same_work.py ours FOLDER [CASE ...]              # prints the table; exit status 1 if one differs
"""

import contextlib
import functools
import inspect
import io
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

from same_work_fixtures import PLAN, make

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "tests" / "fixtures" / "same_work.json"
SAMPLES = 5
BASIC, FURTHER = (
    [(kind, model, data) for kind, models in PLAN[part].items() for model, sets in models.items() for data in sets]
    for part in ("cases", "further")
)
CASES = [*BASIC, *FURTHER]
PARTS = ["encoder", "vision_model", "qformer", "language_model", "text_decoder", "text_encoder", "unet", "vae"]
INPUTS = re.compile(
    "input_ids|pixel_values|pixel_mask|input_features|input_values|flattened_patches|decoder_input_ids|inputs_embeds|"
    "sample|token_type_ids"
)


class Trace:
    """What a model was asked: for every measured phase and query the calls of its large parts, new ids and FLOPs."""

    def __init__(self):
        self.phases, self.calls = {}, None

    def watch(self, model):
        """Record every call of a model or pipeline, and of its large parts."""
        import torch

        if hasattr(model, "set_experts_implementation"):  # the FLOP counter sees nothing of a grouped product
            model.set_experts_implementation("eager")
        named = dict(model.named_modules()) if isinstance(model, torch.nn.Module) else model.components
        for name, part in named.items():
            if isinstance(part, torch.nn.Module) and (not name or name.split(".")[-1] in PARTS):
                part.requires_grad_(False)  # the FLOP counter's hooks want it; nothing trains here
                wrapper = functools.partial(self._call, name.split(".")[-1] or "model", part.forward)
                part.forward = functools.wraps(part.forward)(wrapper)

    def _call(self, part, forward, *args, **kwargs):
        given = dict(inspect.signature(forward).bind_partial(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        shown = [
            n + str(list(v.shape)) for n, v in sorted(given.items()) if INPUTS.fullmatch(n) and hasattr(v, "shape")
        ]
        inner = part == "encoder" and all(one.startswith(("inputs_embeds", "pixel_values")) for one in shown)
        if self.calls is not None and shown and not inner:
            self.calls.append(f"{part}({' '.join(shown)})")
        return forward(*args, **kwargs)

    def ask(self, phase, call, counted=True):
        """Make one measured call of a phase, and record it; counting its operations takes five times its time."""
        from torch.ops import aten
        from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

        def attention(q, k, v, *args, out_shape=None, **kwargs):
            return sdpa_flop_count(q, k, v)

        self.calls = []
        custom = {aten._scaled_dot_product_flash_attention_for_cpu: attention}
        counter = FlopCounterMode(display=False, custom_mapping=custom)
        with counter if counted else contextlib.nullcontext():
            result = call()
        seen = {"calls": [f"{n} x {c}" for c, n in sorted(Counter(self.calls).items())]}
        if counted:
            seen["flops"] = counter.get_total_flops()
        if phase in ("prefill", "generate"):
            seen["ids"] = list((result[0] if isinstance(result, list) else result).shape)
        self.phases.setdefault(phase, []).append(seen)
        self.calls = None
        return result


def peer(case, folder):
    """Trace the published runner on one case: cpu, stored weights, no energy, one warm-up, else as published."""
    import datasets
    import soundfile
    from optimum_benchmark import Benchmark, BenchmarkConfig, EnergyStarConfig, InlineConfig, PyTorchConfig
    from optimum_benchmark.backends.pytorch.backend import PyTorchBackend
    from optimum_benchmark.scenarios.energy_star.scenario import EnergyStarScenario

    (_, task, more), trace, stage, load = PLAN["kinds"][case[0]], Trace(), [], PyTorchBackend.load
    datasets.disable_caching()
    datasets.Audio.decode_example = lambda self, value, **kw: dict(
        zip(("array", "sampling_rate"), soundfile.read(io.BytesIO(value["bytes"])), strict=True)
    )
    PyTorchBackend.load = lambda backend: (load(backend), trace.watch(backend.pretrained_model))[0]

    class Stage:
        def __init__(self, scenario, task_name):
            self.name = task_name

        def __enter__(self):
            stage.append(self.name)

        def __exit__(self, *_):
            stage.pop()

    EnergyStarScenario.track = lambda scenario, task_name: Stage(scenario, task_name)

    def measured(original, phase, backend, inputs, kwargs):
        call = functools.partial(original, backend, inputs, kwargs)
        return trace.ask(phase, call) if stage == [phase] else call()  # else it is the warm-up

    for phase in ("forward", "prefill", "generate", "call"):
        traced = functools.partial(measured, getattr(PyTorchBackend, phase), phase)
        setattr(PyTorchBackend, phase, functools.partialmethod(lambda backend, *a, traced=traced: traced(backend, *a)))
    given = {
        "dataset_name": str(make("data", case[2], folder)),
        "num_samples": SAMPLES,
        "energy": False,
        "warmup_runs": 1,
    }
    parts = {
        "backend": PyTorchConfig(task=task, model=str(make("models", case[1], folder)), device="cpu"),
        "scenario": EnergyStarConfig(**given, input_shapes={"batch_size": 1}, **more),
        "launcher": InlineConfig(),
    }
    Benchmark.launch(BenchmarkConfig(name="same_work", log_report=False, environment={}, **parts))
    return trace.phases


def ours(case, folder, protocol, counted=lambda phase, query: True):
    """Trace energylab on one case, as steady prepares it or as a published protocol does; `counted`: whose FLOPs."""
    import yaml

    from energylab.parameters import Parameters
    from energylab.tasks import hub, load_task

    name = PLAN["kinds"][case[0]][0]
    settings = yaml.safe_load((ROOT / "params" / "tasks" / f"{name}.yaml").read_text(encoding="utf-8"))
    settings["dataset"]["id"], settings["sample"] = str(make("data", case[2], folder)), None
    settings |= {"pad_to_largest": True} if name == "object_detection" else {}  # as release 0.6.0 does
    file = Path(folder) / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    hub.resolve_commit = lambda *a, **k: None  # the data set is a folder
    stored = {"model": str(make("models", case[1], folder)), "model_source": "path", "data_source": "hub"}
    task = load_task(Parameters(task=str(file), samples=SAMPLES, protocol=protocol, device="cpu", **stored))
    rows, trace = task.load_rows()[0], Trace()
    task.open("cpu")
    table = None if protocol == "steady" else task.prepare_all(rows)
    task.load("cpu")
    trace.watch(task.model)
    for phase in [phase for phase in task.phases if phase != "preprocess"]:
        for number, row in enumerate(rows):
            inputs = task.prepare([row]) if table is None else task.fetch(table, [number])
            trace.ask(phase, functools.partial(task.run, phase, inputs), counted(phase, number))
    return trace.phases


def compare(theirs, mine):
    """Return where calls or new tokens differ, and our FLOPs over theirs, of the queries that were counted."""
    if set(theirs) != set(mine):
        return [f"phases {sorted(theirs)}, ours {sorted(mine)}"], float("nan")
    wrong = [
        f"{phase} {number}: {a['calls']} {a.get('ids')}, ours {b['calls']} {b.get('ids')}"
        for phase in theirs
        for number, (a, b) in enumerate(zip(theirs[phase], mine[phase], strict=True))
        if (a["calls"], a.get("ids")) != (b["calls"], b.get("ids"))
    ]
    pairs = [pair for phase in theirs for pair in zip(theirs[phase], mine[phase], strict=True) if "flops" in pair[1]]
    return wrong, sum(b["flops"] for _, b in pairs) / sum(a["flops"] for a, _ in pairs)


def traced_apart(case, folder):
    """Trace the runner in a process of its own, so that no patch touches the next case; an error is a finding."""
    found = folder / "found.json"
    if os.fork() == 0:
        try:
            found.write_text(json.dumps(peer(case, folder)))
        except Exception as error:  # noqa: BLE001 - whatever stops the runner is what it does
            found.write_text(json.dumps({"error": f"{type(error).__name__}: {str(error)[:150]}"}))
        os._exit(0)
    os.wait()
    return json.loads(found.read_text())


def main(side, folder, *wanted):
    """Trace every case of one side, or those named; ours is compared with what is kept."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if side == "peer":  # imported once, not in the process of every case
        import optimum_benchmark.backends.pytorch.backend
        import optimum_benchmark.scenarios.energy_star.scenario  # noqa: F401
    folder = Path(folder).resolve()
    kept, bad = json.loads(KEPT.read_text()) if KEPT.is_file() else {}, False
    for case in CASES:
        name = " ".join(case)
        if wanted and name not in wanted:
            continue
        if side == "peer":
            kept[name] = traced_apart(case, folder)
            KEPT.write_text(json.dumps(kept, indent=0) + "\n")
            print(name, kept[name].get("error", "traced"), flush=True)
            continue
        for protocol in ("steady", "published-2025-02"):
            mine = ours(case, folder, protocol)
            wrong, flops = compare(kept[name], mine) if "error" not in kept[name] else ([kept[name]["error"]], 0.0)
            reason = PLAN["exceptions"].get(name)
            bad |= bool(wrong) and reason is None
            print(f"| {name} | {protocol} | {reason or wrong or 'equal'} | {flops:.4f} |", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
