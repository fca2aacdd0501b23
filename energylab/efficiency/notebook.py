"""The parameters of ``notebooks/07-efficiency.ipynb``, and each of its steps as one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from energylab.efficiency import limits as calibration
from energylab.efficiency import sweep as sweeping
from energylab.efficiency.pareto import front
from energylab.efficiency.sweep import Sweep, listed
from energylab.efficiency.table import table
from energylab.efficiency.work import Shape, shape_of
from energylab.errors import ModelError, ParameterError
from energylab.parameters import NotebookParameters, Parameters
from energylab.paths import results_root

if TYPE_CHECKING:
    import pandas as pd

    from energylab.efficiency.limits import Limits

#: Lists of the notebook: its parameter, the knob it turns, and the kind of its values.
LISTS = {
    "batch_sizes": ("batch_size", int),
    "dtypes": ("dtype", str),
    "quantisations": ("quantisation", str),
    "attentions": ("attention", str),
    "output_lengths": ("new_tokens", int),
}

#: Parameters handed on to every session as they are.
HANDED_ON = (
    "model", "model_source", "data_source", "samples", "runs", "window_s", "idle_s", "warm_up_min_s", "warm_up_max_s",
    "max_relative_bound", "meter",
)  # fmt: skip


class EfficiencyParameters(NotebookParameters):
    """What the notebook can be told. Lists are text, their values separated by commas; an empty one is not tried."""

    model: str = Field("tiny-llama", description="architecture name, folder or hub id of a decoder")
    model_source: str = Field("random", description="random | path | hub; quantisation needs stored weights")
    data_source: str = Field("sample", description="hub | sample | synthetic")
    name: str = Field("efficiency", description="name of the study: its records are kept in results/NAME")
    devices: str = Field("auto", description="auto | cpu | a GPU by index or UUID: one device is used")
    dtype: str = Field("float32", description="precision of the base; text generation is published in float16")
    new_tokens: int = Field(16, ge=1, description="length of the base's answers, in tokens")
    batch_sizes: str = Field("8", description="queries a batch; the base asks one at a time")
    dtypes: str = Field("bfloat16", description="further precisions")
    quantisations: str = Field("", description="int8, fp8, bitsandbytes-4bit …")
    attentions: str = Field(
        "eager", description="eager, sdpa, flash_attention_2 …; the base takes the library's choice"
    )
    output_lengths: str = Field("4", description="further lengths of answers, in tokens")
    concurrencies: str = Field(
        "", description="requests at once on `transformers serve`, e.g. 1,4,16; empty: no server"
    )
    compile: bool = Field(False, description="torch.compile in the optimised track; a GPU compiles without being asked")
    samples: int = Field(8, ge=1, description="queries of one run; 100 or more for a real model")
    runs: int = Field(3, ge=2, description="runs of each session: two or more, to tell differences from noise")
    repeats: int = Field(1, ge=1, description="sessions of each setting: 3 for intervals between sessions")
    window_s: float = Field(0.1, gt=0, description="shortest window in seconds; 10 where a counter ticks every 100 ms")
    idle_s: float = Field(0.1, gt=0, description="seconds each idle level is observed; 10 on a GPU")
    warm_up_min_s: float = Field(0.1, ge=0, description="shortest warm-up in seconds; 10 on a GPU")
    warm_up_max_s: float = Field(0.5, gt=0, description="longest warm-up in seconds; 300 on a GPU")
    max_relative_bound: float = Field(0.05, gt=0, lt=1, description="largest error bound of a window, relative")
    calibration_s: float = Field(0.2, gt=0, description="window of the device's limits in seconds; 5 on a GPU")
    meter: str = Field("auto", description="auto | nvml | rapl | estimate …: the meter that is scored")

    @field_validator("batch_sizes", "output_lengths", "concurrencies")
    @classmethod
    def _counts(cls, text: str) -> str:
        try:
            counts = listed(text, int)
        except ParameterError as error:
            raise ValueError(str(error)) from None
        if any(count < 1 for count in counts):
            raise ValueError(f"every value of {text!r} must be 1 or more")
        return text

    @property
    def base(self) -> dict[str, Any]:
        """The parameters of the base's session."""
        own = {"task": "text_generation", "dtype": self.dtype, "new_tokens": self.new_tokens, "batch_size": 1}
        return own | {name: getattr(self, name) for name in HANDED_ON}

    @property
    def knobs(self) -> dict[str, list[Any]]:
        """Every knob with the values to try."""
        return {knob: listed(getattr(self, name), kind) for name, (knob, kind) in LISTS.items()}

    @property
    def folder(self) -> Path:
        """Where the study's records, and the device's limits, are kept."""
        return results_root() / self.name


def check(namespace: dict[str, Any]) -> EfficiencyParameters:
    """Check the notebook's parameters and those of every session, before anything is measured.

    Raises
    ------
    ParameterError
        Names each bad parameter, its value and what is allowed.
    """
    asked = EfficiencyParameters.from_notebook(namespace)
    sweeping.plan(asked.name, asked.base, sweeping.settings(asked.base, asked.knobs, asked.compile), asked.repeats)
    return asked


def measure(asked: EfficiencyParameters) -> Sweep:
    """Measure every setting that has no record yet; with `concurrencies`, those of a server too."""
    tried = sweeping.settings(asked.base, asked.knobs, asked.compile)
    inside = sweeping.run(asked.name, asked.base, tried, asked.devices, asked.repeats)
    loads = listed(asked.concurrencies, int)
    if not loads:
        return inside
    with sweeping.endpoint_of(asked.model, asked.model_source, asked.dtype, asked.folder / "model") as (endpoint, name):
        served = {key: value for key, value in asked.base.items() if key != "batch_size"}
        served |= {"model": name, "model_source": "endpoint", "endpoint": endpoint}
        behind = sweeping.run(
            f"{asked.name}-served", served, sweeping.served_settings(loads), asked.devices, asked.repeats
        )
    return Sweep((*inside.records, *behind.records), (*inside.missing, *behind.missing))


def calibrate(asked: EfficiencyParameters) -> Limits:
    """Measure the device's limits in every precision of the sweep, after the sweep, or read those measured before."""
    dtypes = list(dict.fromkeys([asked.dtype, *listed(asked.dtypes)]))
    return calibration.calibrate(asked.folder / "limits.json", dtypes, asked.devices, asked.calibration_s)


def compare(asked: EfficiencyParameters, sweep: Sweep, limits: Limits) -> pd.DataFrame:
    """Return the table of all settings with the Pareto front marked.

    Raises
    ------
    ModelError
        If the base itself could not be measured: there is nothing to compare with. Says why.
    """
    if not sweep.records or sweep.records[0][0].knob != "base":
        raise ModelError(
            f"the base was not measured: {dict((one.label, why) for one, why in sweep.missing).get('base')}"
        )
    return front(table(sweep, limits, shape(asked)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries say when they are imported out of the notebook: none of it is about this model."""
    import logging
    import warnings

    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def shape(asked: EfficiencyParameters) -> Shape | None:
    """Return the model's shape; None, with a warning that says why, where its least work is not known."""
    import warnings

    try:
        with _quiet():
            return shape_of(Parameters.check(asked.base))
    except ModelError as error:
        warnings.warn(f"how far figures are from the device's limits is not known: {error}", stacklevel=2)
        return None
