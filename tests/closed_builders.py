"""Builders for closed models: a sealed run of a simulated H100, without Docker, driven through the real line.

`honest_run` measures once a process; tests alter copies of it and sign them again, as the owner of the key could.
"""

from __future__ import annotations

import functools
import json
import random
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_nvml import FakeBoard, FakeNvml

from energylab import tasks
from energylab.clock import ManualClock
from energylab.devices import board_facts, cpu_facts, list_boards
from energylab.meters import Instruments
from energylab.meters.estimate import EstimateMeter
from energylab.meters.nvml import NvmlMeter
from energylab.meters.nvml_library import Nvml
from energylab.parameters import Parameters
from energylab.protocol.workload import Batch, Workload
from energylab.record import ModelFacts, Quality
from energylab.tasks.base import Tokens
from energylab_portal.sealed import bundle, keys, statement
from energylab_portal.sealed import run as sealed
from energylab_portal.sealed.container import Plan
from energylab_portal.sealed.inside import Service
from energylab_portal.sealed.lines import HELLO, Line, Questions
from energylab_portal.sealed.statement import ClosedRun, Image, Seal, attest
from energylab_portal.sealed.verify import Official, OfficialImage
from energylab_portal.sealed.watch import WatchedMeter

H100 = "NVIDIA H100 80GB HBM3"
IMAGE = Image(
    digest=f"sha256:{'1' * 64}",
    layers=(f"sha256:{'2' * 64}", f"sha256:{'3' * 64}"),
    environment="installed",
    environment_digest=None,
    docker="20.10.24",
)
SEAL = Seal(
    network="none", read_only_root=True, dropped=("ALL",), added=(), no_new_privileges=True, privileged=False,
    user="65532:65532", pids_limit=512, memory_bytes=2**33, writable=("/tmp",),
)  # fmt: skip
OFFICIAL = Official(images=(OfficialImage(name="runner 1", digest=IMAGE.digest, layers=IMAGE.layers),), key_id="op")

PARAMETERS = {
    "task": "text_generation", "model_source": "path", "samples": 16, "runs": 3, "window_s": 4.0, "idle_s": 2.0,
    "warm_up_min_s": 3.0, "warm_up_max_s": 60.0,
}  # fmt: skip


class SteppedClock(ManualClock):
    """A simulated clock that calls its listeners about every `step_s` while it moves, with a real sampler's jitter."""

    def __init__(self, step_s: float = 0.25) -> None:
        super().__init__(1000.0)
        self.step_s = step_s
        self._random = random.Random(0)
        self.listeners: list[Callable[[], None]] = []
        self._next_s = self.now()

    def sleep(self, seconds: float) -> None:
        end_s = self.now() + max(float(seconds), 0.0)
        while self._next_s < end_s:
            super().sleep(self._next_s - self.now())
            self._next_s += self.step_s + abs(self._random.gauss(0, 2e-4))
            for listener in list(self.listeners):
                listener()
        super().sleep(end_s - self.now())


class SteppedMeter(WatchedMeter):
    """A watched meter that is sampled by a `SteppedClock`, not by a thread."""

    def open(self) -> None:
        self.inner.open()
        self.sample()
        self.clock.listeners.append(self.sample)

    def close(self) -> None:
        self.sample(last=True)
        self.clock.listeners.remove(self.sample)
        self.inner.close()


def stepped(meters, window_s: float, ours=set) -> tuple[SteppedMeter, ...]:
    """Wrap meters as `energylab_portal.sealed.watch.watched` does."""
    return tuple(SteppedMeter(meter, meter.clock.step_s, ours) for meter in meters)


class BoardWorkload(Workload):
    """A language model of 8 billion parameters on a simulated board: a known power, a little noise."""

    phases = ("preprocess", "prefill", "generate")

    def __init__(self, board: FakeBoard, lengths: list[float], new_tokens: int) -> None:
        self._board, self._lengths, self._new = board, lengths, new_tokens
        self._random = random.Random(7)
        self.queries = len(lengths)

    def prepare(self, phase: str, queries: tuple[int, ...]) -> Batch:
        return Batch(queries, queries)

    def run(self, phase: str) -> Callable[[Any], Any]:
        return lambda queries: self._work(phase, queries)

    def _work(self, phase: str, queries: tuple[int, ...]) -> tuple[int, ...]:
        noise = self._random.gauss(1, 0.01)
        seconds, power_w = {
            "preprocess": (0.02, self._board.idle_w + 15),
            "prefill": (0.02, 520.0),
            "generate": (0.02 + (self._new - 1) * 0.008, 430.0),
        }[phase]
        self._board.board.work(seconds * noise, power_w * self._random.gauss(1, 0.005))
        return queries

    def count(self, phase: str, batch: Batch, outputs: Any) -> Tokens:
        given = int(sum(self._lengths[query] for query in batch.queries))
        made = {"prefill": 1, "generate": self._new}.get(phase)
        return Tokens(given, None if made is None else made * len(batch.queries))

    def answers(self, batch: Batch, outputs: Any) -> dict[int, Any]:
        return {query: f"the secret answer number {query} of the owner" for query in batch.queries}


class SimulatedService(Service):
    """The service in the container, with a model that is a power trace."""

    def __init__(self, board: FakeBoard, **model: Any) -> None:
        super().__init__()
        self._board, self._model = board, model

    def do_load(self, parameters: dict[str, Any], device: str) -> dict[str, Any]:
        checked = Parameters.check(parameters)
        self.task = tasks.load_task(checked)
        self.rows, data = self.task.load_rows()
        lengths = [float(len(row["text"].split())) for row in self.rows]
        self.workload = BoardWorkload(self._board, lengths, self.task.new_tokens)
        facts = {
            "name": "model", "source": "path", "architecture": "SecretForCausalLM", "parameters": 8_000_000_000,
            "dtype": "float16", "weights_bytes": 16_000_000_000, **self._model,
        }  # fmt: skip
        return {
            "model": ModelFacts(**facts).model_dump(mode="json"),
            "data": data.model_copy(update={"covariates": {"input_tokens": tuple(lengths)}}).model_dump(mode="json"),
            "phases": list(self.workload.phases),
            "batch_size": 1,
            "settings": {**self.task.resolved_settings(), "runs": checked.runs},
            "boards": [self._board.uuid],
            "packages": {"torch": "2.13.0"},
            "python": "3.11.7",
        }

    def do_score(self) -> dict[str, Any]:
        quality = Quality(metric="bits_per_byte", value=0.8, queries=len(self.rows))
        return {"quality": [quality.model_dump(mode="json")], "extra": {}}


class StandIn:
    """A container that is a thread: the same line, the same service, no Docker."""

    def __init__(self, service: Service, talk: Callable[[socket.socket, Service], None] | None = None) -> None:
        self.service, self._talk = service, talk or talk_honestly
        self.image, self.seal = IMAGE, SEAL
        self.removed = False

    def start(self) -> Questions:
        host, inside = socket.socketpair()
        threading.Thread(target=self._talk, args=(inside, self.service), daemon=True).start()
        line = Line(host)
        line.receive(600)
        self._host = host
        return Questions(line, 600.0)

    def cpu_s(self) -> float:
        return getattr(getattr(self.service, "workload", None), "busy_s", 0.0)

    def processes(self) -> set[int]:
        return set()

    def remove(self) -> None:
        self.removed = True
        if hasattr(self, "_host"):
            self._host.close()


def talk_honestly(connection: socket.socket, service: Service) -> None:
    """Serve as the real runner does."""
    line = Line(connection)
    line.send(HELLO)
    while (question := line.receive()) is not None:
        line.send(service.handle(question))


def write_model(folder: Path, **config: Any) -> Path:
    """Write a model's folder: a configuration, and a small but whole safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"architectures": ["SecretForCausalLM"], "model_type": "secretlm", "vocab_size": 51_237, **config}
    (folder / "config.json").write_text(json.dumps(about), encoding="utf-8")
    header = json.dumps({"w": {"dtype": "F16", "shape": [50, 10], "data_offsets": [0, 1000]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(1000))
    return folder


def simulated_h100() -> tuple[SteppedClock, FakeBoard, Instruments]:
    """Make a simulated H100 with its clock, and what measures it."""
    clock = SteppedClock()
    board = FakeBoard(clock, name=H100, idle_w=72.0)
    library = FakeNvml(board)
    nvml = Nvml(library)
    with nvml.started():
        facts = board_facts(nvml, list_boards(nvml)[0], 0)
    meter = NvmlMeter(board.uuid, nvml=library, clock=clock)
    return clock, board, Instruments((facts,), (meter,), (), "a simulated board")


def make_request(folder: Path, key: keys.PrivateKey, model: Path, **changes: Any) -> sealed.Request:
    """Build a request for a sealed run of `model` into `folder`."""
    parameters = Parameters.check({**PARAMETERS, "model": str(model), **changes})
    folder.mkdir(parents=True, exist_ok=True)
    return sealed.Request(
        parameters, Plan("runner", model), "Closed model A", key, folder, attest(list(statement.ATTESTATIONS))
    )


def simulated(
    folder: Path, service: Any = SimulatedService, talk: Any = None, name: str = "Secret-Model-8B",
    config: dict[str, Any] | None = None, **changes: Any,
) -> tuple[sealed.Request, dict[str, Any]]:  # fmt: skip
    """Return a request for a sealed run on a simulated H100 into ``folder/out``, and what `sealed.run` takes beside."""
    _, board, instruments = simulated_h100()
    asked = make_request(folder / "out", owner(), write_model(folder / name, **(config or {})), **changes)
    return asked, {"container": StandIn(service(board), talk), "instruments": instruments, "watch": stepped}


@functools.cache
def owner() -> keys.PrivateKey:
    """Return a key pair made for this process."""
    with tempfile.TemporaryDirectory() as folder:
        return keys.make(Path(folder, "key.pem"))


def enrolled() -> dict[str, str]:
    """Return the owner's key as an operator enrols it."""
    return {owner().key_id: owner().public}


def big(run: ClosedRun, elements: int = 8_000_000_000, **more: Any) -> ClosedRun:
    """Give a run the weights of a large model in 16 bits: no test writes 16 GB."""
    held = {"files": 4, "bytes": 2 * elements + 512, "elements": {"F16": elements}, **more}
    return run.model_copy(update={"weights": run.weights.model_copy(update=held)})


@functools.cache
def honest_run() -> ClosedRun:
    """Measure an 8 B model on the simulated H100 once, through the line, the session and the real bundle."""
    with tempfile.TemporaryDirectory() as folder:
        asked, parts = simulated(Path(folder))
        return big(read(sealed.run(asked, **parts)))


def read(path: Path) -> ClosedRun:
    """Read what a bundle's file holds."""
    return statement.read(bundle.read(path.read_bytes()).payload)


def signed(run: ClosedRun, key: keys.PrivateKey | None = None) -> bytes:
    """Sign a run as the owner of the key can: whatever is in it."""
    return bundle.sign(statement.write(run), key or owner())


class BusyWorkload(BoardWorkload):
    """The same questions, answered by a simulated processor: a third of a core, more or less."""

    busy_s = 0.0

    def _work(self, phase: str, queries: tuple[int, ...]) -> tuple[int, ...]:
        seconds = 0.002 * self._random.gauss(1, 0.01)
        self._board.clock.sleep(seconds)
        self.busy_s += seconds * self._random.gauss(0.3, 0.02)
        return queries


class BusyService(SimulatedService):
    """A small model that counts."""

    def do_load(self, parameters: dict[str, Any], device: str) -> dict[str, Any]:
        loaded = super().do_load(parameters, device)
        self.workload = BusyWorkload(self._board, self.workload._lengths, self.task.new_tokens)
        return {**loaded, "boards": []}


@functools.cache
def processor_run() -> ClosedRun:
    """Measure a small model on a simulated processor once, by the estimate, through the line and the real bundle."""
    clock = SteppedClock(step_s=0.05)
    service = BusyService(FakeBoard(clock), parameters=500, weights_bytes=1000)
    quick = {"window_s": 0.4, "idle_s": 0.1, "warm_up_min_s": 0.1, "warm_up_max_s": 0.3, "runs": 2, "device": "cpu"}
    instruments = Instruments((cpu_facts(),), (EstimateMeter(clock=clock),), (), "a simulated processor")
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder, "Secret-Model-tiny"))
        request = make_request(Path(folder, "out"), owner(), model, meter="estimate", **quick)
        return read(sealed.run(request, container=StandIn(service), instruments=instruments, watch=stepped))
