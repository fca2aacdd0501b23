"""Builders for closed models: a sealed run of a simulated H100, without Docker, driven through the real line.

`honest_run` measures once a process; tests alter copies of it and sign them again, as the owner of the key could.
"""

from __future__ import annotations

import functools
import gc
import json
import random
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
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
from energylab.record import ModelFacts, Quality
from energylab.tasks.base import Row, Tokens
from energylab.tasks.text import TextGeneration
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


class BoardTask(TextGeneration):
    """A language model of 8 billion parameters on a simulated board: a known power, a little noise."""

    board: FakeBoard
    told: dict[str, Any]  # facts of the model, in place of its own

    def load(self, device: str) -> ModelFacts:
        self._random = random.Random(7)
        facts = {
            "name": "model", "source": "path", "architecture": "SecretForCausalLM", "parameters": 8_000_000_000,
            "dtype": "float16", "weights_bytes": 16_000_000_000, **self.told,
        }  # fmt: skip
        return ModelFacts(**facts)

    def prepare(self, rows: Sequence[Row]) -> list[str]:
        return self.texts(rows)

    def run(self, phase: str, inputs: Any) -> Any:
        noise, idle_w, steps = self._random.gauss(1, 0.01), self.board.idle_w, self.new_tokens - 1
        seconds, power_w = {
            "preprocess": (0.02, idle_w + 15), "prefill": (0.02, 520.0), "generate": (0.02 + steps * 0.008, 430.0),
        }[phase]  # fmt: skip
        self.board.board.work(seconds * noise, power_w * self._random.gauss(1, 0.005))
        return inputs

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        return {"input_tokens": tuple(float(len(text.split())) for text in self.texts(rows))}

    def count(self, phase: str, inputs: list[str], outputs: Any) -> Tokens:
        made = {"prefill": 1, "generate": self.new_tokens}[phase]
        return Tokens(sum(len(text.split()) for text in inputs), made * len(inputs))

    def answers(self, inputs: list[str], outputs: Any) -> list[str]:
        return ["a secret answer of the owner" for _ in inputs]

    def finite(self, inputs: Any, outputs: Any) -> bool:
        return True

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        return (Quality(metric="bits_per_byte", value=0.8, queries=len(rows)),)


class BusyTask(BoardTask):
    """The same questions, answered by a simulated processor: a third of a core, more or less."""

    busy_s = 0.0

    def run(self, phase: str, inputs: Any) -> Any:
        seconds = 0.002 * self._random.gauss(1, 0.01)
        self.board.clock.sleep(seconds)
        self.busy_s += seconds * self._random.gauss(0.3, 0.02)
        return inputs


class SimulatedService(Service):
    """The service in the container, with a model that is a power trace."""

    def __init__(self, board: FakeBoard, kind: type[BoardTask] = BoardTask, **model: Any) -> None:
        super().__init__(self._simulated)
        self.board, self.kind, self.model = board, kind, model

    def _simulated(self, parameters: Parameters) -> BoardTask:
        task = self.kind(tasks.load_task(parameters).settings, parameters)
        task.board, task.told = self.board, self.model
        return task

    def do_load(self, parameters: dict[str, Any], device: str) -> dict[str, Any]:
        loaded = super().do_load(parameters, device)
        gc.unfreeze()  # this process goes on to other tests
        return loaded


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
        return getattr(getattr(self.service, "task", None), "busy_s", 0.0)

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


@functools.cache
def processor_run() -> ClosedRun:
    """Measure a small model on a simulated processor once, by the estimate, through the line and the real bundle."""
    clock = SteppedClock(step_s=0.05)
    service = SimulatedService(FakeBoard(clock), BusyTask, parameters=70 * 10**9, weights_bytes=140 * 10**9)
    quick = {"window_s": 0.4, "idle_s": 0.1, "warm_up_min_s": 0.1, "warm_up_max_s": 0.3, "runs": 2, "device": "cpu"}
    instruments = Instruments((cpu_facts(),), (EstimateMeter(clock=clock),), (), "a simulated processor")
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder, "Secret-Model-tiny"))
        request = make_request(Path(folder, "out"), owner(), model, meter="estimate", **quick)
        return read(sealed.run(request, container=StandIn(service), instruments=instruments, watch=stepped))
