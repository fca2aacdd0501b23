"""How submitted models are measured: one protocol for all, as a file an operator can read and edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from energylab.errors import PortalError, unknown_name
from energylab.paths import params_root
from energylab.studies.plan import GIVEN_BY_STUDY, SlurmSettings
from energylab_portal.schema import Submission
from energylab_portal.sealed.container import Plan
from energylab_portal.sealed.seal import Limits

#: Parameters that come from the submission itself.
_GIVEN = (*GIVEN_BY_STUDY, "task", "model", "model_source", "revision", "trust_remote_code", "device")


class Sealing(BaseModel):
    """The container for models that the operator allows to bring their own code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field("energylab-closed", description="that docker/setup.sh builds")
    memory_mb: int = Field(32_768, ge=256, description="main memory; the model must fit in it while it is loaded")
    processes: int = Field(1024, ge=16, description="processes and threads")
    scratch_mb: int = Field(1024, ge=16, description="of /tmp, in memory")
    step_limit_s: float = Field(3600.0, gt=0, description="longest time for one step, loading included")

    def plan(self, model: Path, data: Path, gpus: Sequence[str]) -> Plan:
        """Return what is to be started for a model's folder, a hub cache with the data, and boards by their UUIDs."""
        limits = Limits(memory_mb=self.memory_mb, processes=self.processes, scratch_mb=self.scratch_mb)
        return Plan(self.image, model, data, tuple(gpus), limits, self.step_limit_s)


class Protocol(BaseModel):
    """The content of ``params/portal/NAME.yaml``: a study without its models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    repeats: int = Field(3, ge=1, description="sessions of each model; 3 give an interval between sessions")
    parameters: dict[str, Any] = {}
    largest_gb: float = Field(400.0, gt=0, description="largest download of one model")
    time_limit_s: float = Field(24 * 3600.0, gt=0, description="of one session")
    slurm: SlurmSettings = SlurmSettings()
    sealed: Sealing = Sealing()

    def study(self, submission: Submission, own_code: bool = False) -> dict[str, Any]:
        """Return the study that measures a submission: its tasks, at the commit that was checked.

        Parameters
        ----------
        submission : Submission
        own_code : bool
            Whether code of the model's own may run: for the sealed container alone.
        """
        where = ", in the sealed container only" if own_code else ""
        model = {**self.model(submission.model, submission.commit), "trust_remote_code": own_code}
        return {
            "title": f"Submission {submission.name}: {submission.model}{where}",
            "repeats": self.repeats,
            "parameters": {**self.parameters, **model},
            "sweeps": [{"task": list(submission.task_names)}],
            "time_limit_s": self.time_limit_s,
            "slurm": self.slurm.model_dump(mode="json"),
        }

    def model(self, model: str, revision: str | None) -> dict[str, Any]:
        """Return the parameters that name a submitted model; code of its own is not run."""
        return {"model": model, "model_source": "hub", "revision": revision, "trust_remote_code": False}


def load(name: str | Path, params: str | None = None) -> Protocol:
    """Read a protocol: a file, or the name of one in ``params/portal/``.

    Raises
    ------
    UnknownNameError
        If there is no such file; names the nearest.
    PortalError
        Names the key that is wrong.
    """
    path = Path(name)
    folder = params_root(params) / "portal"
    if not path.is_file():
        path = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        raise unknown_name("protocol", str(name), [file.stem for file in folder.glob("*.yaml")], "or name a file")
    try:
        protocol = Protocol.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise PortalError(f"{path} is not a protocol: {error}") from error
    for key in protocol.parameters:
        if key in _GIVEN:
            raise PortalError(f"{path}: parameter {key!r} comes from the submission; remove it")
    return protocol
