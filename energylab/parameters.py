"""Parameters of one session: names, types, defaults and allowed values, for the notebook and for studies."""

from __future__ import annotations

import difflib
import hashlib
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from energylab.errors import ParameterError, nearest, problem_text
from energylab.record import canonical_json

#: Measuring protocols and their versions, part of the cohort. Records from before protocols had names are steady 1.
PROTOCOLS = {"steady": "2", "published-2025-02": "1", "published-2025-12": "1"}

#: First part of what a job's id is the hash of; it stays, so that jobs of earlier records keep their ids.
ID_VERSION = "1"

#: Parameters that say where to write, where to run or how often it was tried: not part of a job's identity.
NOT_IDENTITY = ("output_folder", "record", "device", "params", "attempt", "server_pid", "peers")

#: Parameters that name a folder of this machine: no part of a record, which others read.
FOLDERS = ("output_folder", "record", "params")

#: Parameters younger than the first records: at their defaults they are no part of a job's identity, so that the jobs
#: of earlier records keep their ids.
ADDED = ("protocol", "endpoint", "endpoint_api", "concurrency", "request_timeout_s", "cache", "star_probability")

#: What only the steady protocol uses: a published one warms up, cuts windows and ends as its runner does.
STEADY_ONLY = ("window_s", "warm_up_min_s", "warm_up_max_s", "precision_target", "star_probability", "peers")


def of_protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that their protocol uses."""
    steady = values.get("protocol", "steady") == "steady"
    return {name: value for name, value in values.items() if steady or name not in STEADY_ONLY}


#: What a server was started with, and a request cannot change.
OF_THE_SERVER = ("batch_size", "compile", "cache", "trust_remote_code", "extra_meters")


class NotebookParameters(BaseModel):
    """The parameters of a notebook, frozen and checked; each notebook's own are a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build parameters from plain values; missing names keep their default.

        Raises
        ------
        ParameterError
            Names each bad parameter, its value, what is allowed and the nearest known name.
        """
        unknown = [name for name in values if name not in cls.model_fields]
        if unknown:
            raise ParameterError("\n".join(_unknown(name, cls.model_fields) for name in unknown))
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = (_explain(problem, values, cls.model_fields) for problem in error.errors())
            raise ParameterError("\n".join(problems)) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Check the parameters that a notebook's cells left in `namespace` (its ``globals()``).

        Papermill only logs names it does not know, so an unknown name of its cell is refused, and so is any other
        variable that looks like a misspelt parameter. What else a notebook, an extension or a startup file sets is
        nobody's parameter. Raises as `check`, and says where an unknown name was set.
        """
        cells, known = namespace.get("In"), cls.model_fields
        strange = {name for name, value in namespace.items() if name not in known and _plain(name, value)}
        if cells is None:  # no notebook's: a plain mapping
            return cls.check({name: value for name, value in namespace.items() if name in {*known, *strange}})
        origins = {name: _origin(name, cells) for name in strange}
        wrong = [
            _unknown(name, known, origins[name])
            for name in sorted(strange)
            if origins[name] == INJECTED or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
        ]
        if wrong:
            raise ParameterError("\n".join(wrong))
        return cls.check({name: namespace[name] for name in known if name in namespace})


class Parameters(NotebookParameters):
    """Parameters of ``notebooks/01-benchmark.ipynb`` and of `energylab.measure`, frozen and checked.

    ``None`` always means "as the task's YAML file says". The defaults are a smoke run of seconds on any CPU;
    a session of full length has ``samples=1000, runs=10, window_s=10`` on hub weights and hub data.
    """

    task: str = Field(
        "sentence_similarity", description="which task: a name in params/tasks/, or the path of its YAML file"
    )
    model: str = Field("sentence-transformers/all-MiniLM-L6-v2", description="hub id, folder, or architecture name")
    model_source: Literal["hub", "path", "random", "endpoint"] = Field(
        "random",
        description="hub | path | random (true architecture, random weights, no download) | endpoint",
    )
    protocol: Literal["steady", "published-2025-02", "published-2025-12"] = Field(
        "steady", description="steady (ours) | published-2025-02 | published-2025-12 (as the published runners measure)"
    )
    revision: str | None = Field(None, description="hub revision; pass it with -r so that it stays text")
    data_source: Literal["hub", "sample", "synthetic"] = Field(
        "sample", description="hub (published data) | sample (in this repository) | synthetic (seeded)"
    )
    samples: int = Field(16, ge=1, description="queries of one run; published: 1000")
    runs: int = Field(2, ge=1, description="runs of this session; published: 10")
    window_s: float = Field(0.25, gt=0, description="shortest window in seconds; 10 where a counter ticks every 100 ms")
    batch_size: int | None = Field(None, ge=1, description="queries a batch; None: the task's (published: 1)")
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(None, description="precision; None: the task's")
    new_tokens: int | None = Field(None, ge=1, description="tokens to generate; None: the task's")
    diffusion_steps: int | None = Field(None, ge=1, description="denoising steps; None: the task's (published: 30)")
    thinking: str | None = Field(None, description="reasoning switch or effort level; None: the model family's default")
    quantisation: str | None = Field(None, description="int8 | fp8 | bitsandbytes-4bit …; None: as the checkpoint")
    attention: str | None = Field(None, description="eager | sdpa | flash_attention_2 …; None: the library's choice")
    compile: bool = Field(False, description="torch.compile the model")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    cache: Literal["static"] | None = Field(
        None, description="static: keys and values of fixed size, which compiles decoding on a GPU; None: as they grow"
    )
    endpoint: str | None = Field(
        None, description="address of an OpenAI-compatible server on this host, e.g. http://127.0.0.1:8000/v1"
    )
    endpoint_api: Literal["completions", "chat"] | None = Field(
        None, description="completions | chat; None: chat for reasoning, else completions"
    )
    concurrency: int = Field(1, ge=1, description="requests a server is kept busy with, all slots full")
    server_pid: int | None = Field(None, ge=1, description="process id of the server; None: who listens on its port")
    request_timeout_s: float = Field(300.0, gt=0, description="seconds of silence after which a query has failed")
    quality_model: str | None = Field(None, description="folder or hub id of the CLIP model that scores images")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:0 …")
    gpus: int = Field(1, ge=1, description="devices the model is spread over; their energy is summed")
    meter: str = Field("auto", description="auto | nvml | rapl | codecarbon | estimate …: the meter that is scored")
    extra_meters: str = Field("", description="more meters on the same windows, separated by commas")
    cpu_core_w: float = Field(
        12.0, gt=0, description="watts of one busy core in the estimate meter's power model (12: Green Algorithms)"
    )
    idle_s: float = Field(0.5, gt=0, description="seconds each idle level is observed; 10 on a GPU")
    warm_up_min_s: float = Field(0.3, ge=0, description="shortest warm-up in seconds")
    warm_up_max_s: float = Field(5.0, gt=0, description="longest warm-up in seconds; 300 on a GPU")
    max_attempts: int = Field(3, ge=1, description="times a block of queries is measured before its total is given up")
    max_relative_bound: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="largest error bound of a window, relative; tick-aligned edges are used to meet it",
    )
    precision_target: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="stop when the 95 % interval's relative half-width is below this; None: all runs",
    )
    star_probability: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="stop when the star among `peers` is right with this probability; None: all runs",
    )
    peers: str | None = Field(
        None, description="folder of records of the same cohort: whose scale a star is on, and how far sessions differ"
    )
    seed: int = Field(0, ge=0, description="order of queries, synthetic data, dithered window starts")
    repeat: int = Field(0, ge=0, description="number of this session among those of the same setting")
    attempt: int = Field(0, ge=0, description="number of this try among those of the same job")
    params: str | None = Field(None, description="folder laid out like params/; None: ./params, upward")
    output_folder: str | None = Field(None, description="folder of record.json; None: results/notebook/JOB_ID")
    record: str | None = Field(None, description="show this record.json and measure nothing")

    @field_validator("*")
    @classmethod
    def _not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and not value.strip() and info.field_name != "extra_meters":
            raise ValueError("must not be empty")
        return value

    @model_validator(mode="after")
    def _served(self) -> Parameters:
        served = self.model_source == "endpoint"
        if served and self.endpoint is None:
            raise ValueError("model_source='endpoint' needs endpoint=, the address of a server on this host")
        if served and self.protocol != "steady":
            raise ValueError(f"protocol={self.protocol!r} measures a model loaded here; a server is measured by steady")
        for name in OF_THE_SERVER if served else ("endpoint", "endpoint_api", "concurrency", "server_pid"):
            if getattr(self, name) != type(self).model_fields[name].default:
                outside = "cannot be set from outside a server: start the server with it"
                needs = f"needs model_source='endpoint', not {self.model_source!r}"
                raise ValueError(f"{name}={getattr(self, name)!r} {outside if served else needs}")
        return self

    @model_validator(mode="after")
    def _of_the_protocol(self) -> Parameters:
        unused = [name for name in STEADY_ONLY if getattr(self, name) != type(self).model_fields[name].default]
        if self.protocol != "steady" and unused:
            given = ", ".join(f"{name}={getattr(self, name)!r}" for name in unused)
            raise ValueError(f"protocol={self.protocol!r} does not use {given}: take it out, or use protocol='steady'")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Parameters:
        if self.star_probability is not None and self.precision_target is not None:
            raise ValueError("precision_target and star_probability are two reasons to stop: give one of them")
        if self.star_probability is not None and self.peers is None:
            raise ValueError("star_probability needs peers=, the folder of a study to be rated among")
        if self.peers is not None and self.star_probability is None and self.precision_target is None:
            raise ValueError("peers= is for star_probability or precision_target: give one of them, or take it out")
        if self.warm_up_max_s < self.warm_up_min_s:
            raise ValueError(f"warm_up_max_s={self.warm_up_max_s:g} is below warm_up_min_s={self.warm_up_min_s:g}")
        if self.revision is not None and self.model_source != "hub":
            raise ValueError(f"revision={self.revision!r} needs model_source='hub', not {self.model_source!r}")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The part that says what is measured: no path, no device index, no attempt.

        A model folder, a task's file and a meter's file count by their names: what was moved elsewhere is still the
        same job.
        """
        default = [name for name in ADDED if getattr(self, name) == type(self).model_fields[name].default]
        identity = self.model_dump(exclude={*NOT_IDENTITY, *default}) | {"task": self.task_name}
        for name in ("meter", "extra_meters"):
            identity[name] = ",".join(part.rpartition("/")[2] for part in identity[name].split(","))
        if self.model_source == "path":
            identity["model"] = Path(self.model).name
        return identity

    @property
    def task_name(self) -> str:
        """The task's name: of one that is named by its file, the file's."""
        return Path(self.task).stem if self.task.endswith((".yaml", ".yml")) else self.task

    @property
    def job_id(self) -> str:
        """Sixteen hex digits: the hash of task, parameters (protocol among them, unless it is steady) and repeat."""
        return hashlib.sha256(canonical_json([ID_VERSION, self.identity])).hexdigest()[:16]


#: Where a name was set: by papermill, in a cell that it injects.
INJECTED = "given to papermill"


def _plain(name: str, value: Any) -> bool:
    """Tell whether a global may be a parameter: a plain value, its name not private, IPython's or papermill's own."""
    plain = (str, int, float, bool, list, tuple, dict, types.NoneType)
    return isinstance(value, plain) and not name.startswith(("_", "PAPERMILL_")) and name not in ("In", "Out")


def _origin(name: str, cells: Sequence[str]) -> str:
    """Say where a notebook's variable was set: the last of the executed `cells` that assigns it."""
    assigns = re.compile(rf"^\s*{re.escape(name)}\s*(:[^=\n]+)?=(?!=)", re.MULTILINE)
    number = next((n for n in reversed(range(len(cells))) if assigns.search(cells[n])), None)
    if number is None:
        return "set outside the notebook's cells, for example by an IPython startup file"
    return INJECTED if cells[number].startswith("# Parameters\n") else f"set in cell [{number}]"


def _unknown(name: str, known: Mapping[str, Any], origin: str = "") -> str:
    match = nearest(name, known)
    meant = f"; did you mean {match!r}?" if match else "."
    text = f"unknown parameter {name!r}{f' ({origin})' if origin else ''}{meant} Allowed: {', '.join(known)}."
    return text + (" If it is a variable of your own, rename it." if origin not in ("", INJECTED) else "")


def _explain(problem: Mapping[str, Any], values: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    if not problem["loc"]:
        return problem_text(problem)
    name = str(problem["loc"][0])
    value, field = values.get(name), fields[name]
    text = f"parameter {name}={reprlib.repr(value)} ({type(value).__name__}): {problem_text(problem)}"
    if problem["type"] == "string_type" and isinstance(value, (int, float)):
        text += f"; papermill reads it as a number: pass it as text with `-r {name} VALUE`"
    elif problem["type"] == "literal_error" and (match := nearest(str(value), problem["ctx"]["expected"].split("'"))):
        text += f"; did you mean {match!r}?"
    return f"{text.rstrip('.')}{'' if text.endswith('?') else '.'} Meaning: {field.description}"
