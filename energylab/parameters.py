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

#: First part of the hashed text of a job's id; unchanged, so that jobs of earlier records keep their ids.
ID_VERSION = "1"

#: Parameters that are not part of a job's identity: where to write or run, and the number of the attempt.
NOT_IDENTITY = ("output_folder", "record", "device", "params", "attempt", "server_pid", "peers")

#: Parameters that name a folder of this machine; not stored in records, which others read.
FOLDERS = ("output_folder", "record", "params")

#: Parameters added after the first records: at their defaults they are not part of a job's identity, so that the jobs
#: of earlier records keep their ids.
ADDED = ("protocol", "endpoint", "endpoint_api", "concurrency", "request_timeout_s", "cache", "star_probability")

#: Parameters that only the steady protocol uses; published protocols warm up, cut windows and end as their runners do.
STEADY_ONLY = ("window_s", "warm_up_min_s", "warm_up_max_s", "precision_target", "star_probability", "peers")


def of_protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that their protocol uses."""
    steady = values.get("protocol", "steady") == "steady"
    return {name: value for name, value in values.items() if steady or name not in STEADY_ONLY}


#: Settings that are fixed when a server is started.
OF_THE_SERVER = ("batch_size", "compile", "cache", "trust_remote_code", "extra_meters")


class NotebookParameters(BaseModel):
    """The parameters of a notebook, frozen and checked; every notebook has a subclass."""

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
        """Check the parameters that a notebook's cells set in `namespace` (its ``globals()``).

        Papermill only logs unknown names, so an unknown name in its cell is refused, and so is any other variable that
        looks like a misspelt parameter. Other variables (of the notebook, an extension, a startup file) are ignored.
        Raises as `check`, and says where an unknown name was set.
        """
        cells, known = namespace.get("In"), cls.model_fields
        strange = {name for name, value in namespace.items() if name not in known and _plain(name, value)}
        if cells is None:  # a plain mapping, not a notebook's globals
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

    With the defaults, a trial run takes seconds on any CPU; a session of full length has ``samples=1000, runs=10,
    window_s=10`` on hub weights and hub data. For settings of a task, None means the value in the task's YAML file.
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
        "steady", description="steady | published-2025-02 | published-2025-12 (as the published runners measure)"
    )
    revision: str | None = Field(None, description="hub revision; give it with -r so that it stays text")
    data_source: Literal["hub", "sample", "synthetic"] = Field(
        "sample", description="hub (published data) | sample (in this repository) | synthetic (seeded)"
    )
    samples: int = Field(16, ge=1, description="queries of one run; published: 1000")
    runs: int = Field(2, ge=1, description="runs of this session; published: 10")
    window_s: float = Field(0.25, gt=0, description="shortest window in seconds; 10 for a counter with steps of 100 ms")
    batch_size: int | None = Field(None, ge=1, description="queries per batch; None: the task's (published: 1)")
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(None, description="precision; None: the task's")
    new_tokens: int | None = Field(None, ge=1, description="tokens to generate; None: the task's")
    diffusion_steps: int | None = Field(None, ge=1, description="denoising steps; None: the task's (published: 30)")
    thinking: str | None = Field(None, description="reasoning switch or effort level; None: the model family's default")
    quantisation: str | None = Field(None, description="int8 | fp8 | bitsandbytes-4bit …; None: as in the checkpoint")
    attention: str | None = Field(None, description="eager | sdpa | flash_attention_2 …; None: the library's choice")
    compile: bool = Field(False, description="torch.compile the model")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    cache: Literal["static"] | None = Field(
        None, description="static: cache of fixed size, so that decoding is compiled on a GPU; None: a growing cache"
    )
    endpoint: str | None = Field(
        None, description="address of an OpenAI-compatible server on this host, e.g. http://127.0.0.1:8000/v1"
    )
    endpoint_api: Literal["completions", "chat"] | None = Field(
        None, description="completions | chat; None: chat for reasoning, else completions"
    )
    concurrency: int = Field(1, ge=1, description="requests to a server at a time")
    server_pid: int | None = Field(None, ge=1, description="process id of the server; None: the one on its port")
    request_timeout_s: float = Field(300.0, gt=0, description="a query has failed after this many seconds of silence")
    quality_model: str | None = Field(None, description="folder or hub id of the CLIP model that scores images")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:0 …")
    gpus: int = Field(1, ge=1, description="devices the model is spread over; their energy is summed")
    meter: str = Field("auto", description="auto | nvml | rapl | codecarbon | estimate …: its energy is rated")
    extra_meters: str = Field("", description="more meters on the same windows, for comparison, separated by commas")
    cpu_core_w: float = Field(
        12.0, gt=0, description="watts of one busy core in the estimate meter's power model (12: Green Algorithms)"
    )
    idle_s: float = Field(0.5, gt=0, description="seconds over which each idle level is measured; 10 on a GPU")
    warm_up_min_s: float = Field(0.3, ge=0, description="shortest warm-up in seconds")
    warm_up_max_s: float = Field(5.0, gt=0, description="longest warm-up in seconds; 300 on a GPU")
    max_attempts: int = Field(3, ge=1, description="attempts at a block of queries before its total is unavailable")
    max_relative_bound: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="largest relative error bound of a window; readings wait for a counter step if needed",
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
        None, description="folder of records of the same cohort: they set the scale of stars and the session spread"
    )
    seed: int = Field(0, ge=0, description="seed of query order, synthetic data and dithered window starts")
    repeat: int = Field(0, ge=0, description="number of this session among those with the same settings")
    attempt: int = Field(0, ge=0, description="number of this attempt at the same job")
    params: str | None = Field(None, description="folder with the layout of params/; None: ./params here or above")
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
            raise ValueError(f"protocol={self.protocol!r} cannot measure a server; use protocol='steady'")
        for name in OF_THE_SERVER if served else ("endpoint", "endpoint_api", "concurrency", "server_pid"):
            if getattr(self, name) != type(self).model_fields[name].default:
                outside = "cannot be set for a running server: start the server with it, and leave it out here"
                needs = f"needs model_source='endpoint', not {self.model_source!r}"
                raise ValueError(f"{name}={getattr(self, name)!r} {outside if served else needs}")
        return self

    @model_validator(mode="after")
    def _of_the_protocol(self) -> Parameters:
        unused = [name for name in STEADY_ONLY if getattr(self, name) != type(self).model_fields[name].default]
        if self.protocol != "steady" and unused:
            given = ", ".join(f"{name}={getattr(self, name)!r}" for name in unused)
            raise ValueError(f"protocol={self.protocol!r} does not use {given}: leave it out, or use protocol='steady'")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Parameters:
        if self.star_probability is not None and self.precision_target is not None:
            raise ValueError("precision_target and star_probability exclude each other: give one of them")
        if self.star_probability is not None and self.peers is None:
            raise ValueError("star_probability needs peers=, the folder of a study to be rated among")
        if self.peers is not None and self.star_probability is None and self.precision_target is None:
            raise ValueError("peers= needs star_probability or precision_target: give one of them, or leave it out")
        if self.warm_up_max_s < self.warm_up_min_s:
            least = f"at least warm_up_min_s={self.warm_up_min_s:g}"
            raise ValueError(f"warm_up_max_s={self.warm_up_max_s:g} must be {least}")
        if self.revision is not None and self.model_source != "hub":
            raise ValueError(f"revision={self.revision!r} needs model_source='hub', not {self.model_source!r}")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The parameters that define what is measured, without paths, device index and attempt.

        Model folders and files of tasks and meters count by their names, so that moved files give the same job.
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
        """The task's name; if the task is given as a file, the name of the file."""
        return Path(self.task).stem if self.task.endswith((".yaml", ".yml")) else self.task

    @property
    def job_id(self) -> str:
        """Sixteen hex digits: the hash of task, parameters and repeat."""
        return hashlib.sha256(canonical_json([ID_VERSION, self.identity])).hexdigest()[:16]


#: Origin of a name that papermill set, in the cell it injects.
INJECTED = "given to papermill"


def _plain(name: str, value: Any) -> bool:
    """Whether a global may be a parameter: a plain value whose name is not private, IPython's or papermill's."""
    plain = (str, int, float, bool, list, tuple, dict, types.NoneType)
    return isinstance(value, plain) and not name.startswith(("_", "PAPERMILL_")) and name not in ("In", "Out")


def _origin(name: str, cells: Sequence[str]) -> str:
    """Return where a notebook's variable was set: the last of the executed `cells` that assigns it."""
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
        text += f"; papermill reads it as a number: give it as text with `-r {name} VALUE`"
    elif problem["type"] == "literal_error" and (match := nearest(str(value), problem["ctx"]["expected"].split("'"))):
        text += f"; did you mean {match!r}?"
    return f"{text.rstrip('.')}{'' if text.endswith('?') else '.'} Meaning: {field.description}"
