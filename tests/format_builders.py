"""Reports of other programs, built with stated energies in the shape their code writes."""

from __future__ import annotations


def energy(gpu_kwh, measures=None, cpu_kwh=1e-4):
    """Build one target of an optimum-benchmark report; with `measures`, repeats whose mean is the energy."""

    def parts(gpu):
        return {"unit": "kWh", "cpu": cpu_kwh, "ram": 2e-5, "gpu": gpu, "total": cpu_kwh + 2e-5 + gpu}

    target = {"memory": None, "latency": None, "throughput": None, "energy": parts(gpu_kwh), "efficiency": None}
    return target if measures is None else {**target, "measures": [parts(gpu) for gpu in measures]}


def mean(values):
    """Return the mean, as the program that writes reports does."""
    return sum(values) / len(values)


def runner_report(gpu_wh=12.5, failed=0, **changes):
    """Build the AI Energy Score runner's report."""
    parts = {"gpu": gpu_wh, "cpu": 1.25, "ram": 0.5, "total": gpu_wh + 1.75}
    energies = {f"{part}_energy_{unit}": value / scale for part, value in parts.items()
                for unit, scale in (("wh", 1), ("kwh", 1000))}  # fmt: skip
    return {
        "config": {"name": "ai_energy_benchmark", "backend": "pytorch", "model": "openai/gpt-oss-20b",
                   "dataset": "EnergyStarAI/text_generation", "num_samples": 50, "device_ids": [0, 1]},
        "summary": {"total_prompts": 50, "successful_prompts": 50 - failed, "failed_prompts": failed,
                    "total_duration_seconds": 130.0, "total_prompt_tokens": 18450, "total_completion_tokens": 500},
        "energy": {"energy_wh": gpu_wh, **energies, "duration_seconds": 131.0, **changes},
        "gpu_stats": {"gpu_0": {"memory_total_mb": 81559.0}, "gpu_1": {"memory_total_mb": 81559.0}},
        "metrics_metadata": {"name": "codecarbon", "version": "3.0.4"},
    }  # fmt: skip
