"""A task whose model runs behind a server: prompts are sent over HTTP; answers and token counts are returned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from energylab.errors import ModelError, ServedError, TaskError, nearest
from energylab.parameters import Parameters
from energylab.record import DataFacts, DeviceFacts, ModelFacts, Quality
from energylab.serving.asking import LARGEST_CACHED, asked_together, fixed_length, without_cache
from energylab.serving.client import Client, Reply
from energylab.serving.processes import ServerProcesses
from energylab.tasks import load_task
from energylab.tasks.base import Row, Task, Tokens, unscored
from energylab.tasks.models import quiet
from energylab.tasks.reasoning import Reasoning, find_thinking
from energylab.tasks.text import TextGeneration

#: Server programs, recognised by a word in their command line or in the owner of their models.
PROGRAMS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "llama-server": "llama.cpp"}


class ServedTask(Task):
    """A text generation or reasoning task on a model behind a server.

    The server tokenises, so there is one phase: ``generate``, from the prompt sent to the answer's end.
    """

    phases = ("generate",)

    def __init__(self, family: Task, parameters: Parameters) -> None:
        super().__init__(family.settings, parameters)
        self.family = family
        self.columns = family.columns
        if not isinstance(family, TextGeneration):
            raise TaskError(
                f"task {family.settings.name!r} cannot be measured behind a server; with model_source='endpoint' "
                "choose text_generation or reasoning"
            )
        self.open_ended = isinstance(family, Reasoning)
        self.api = parameters.endpoint_api or ("chat" if self.open_ended else "completions")
        if self.open_ended and self.api == "completions":
            raise TaskError("endpoint_api='completions': reasoning needs the chat template; use 'chat' or leave it out")
        self.processes = ServerProcesses(parameters.endpoint, parameters.server_pid)
        self.client = Client(
            parameters.endpoint, parameters.model, self.api, self.new_tokens, parameters.request_timeout_s
        )
        self.prompt_cache = "unknown"
        self._rows: list[Row] = []
        self._lock: IO[bytes] | None = None

    @property
    def concurrency(self) -> int:
        return self.parameters.concurrency

    def resolved_settings(self) -> dict[str, Any]:
        """Return the value of every setting that affects the work; those of the server are as the user states them."""
        p = self.parameters
        stated = {name: getattr(p, name) or "as served" for name in ("dtype", "quantisation", "attention")}
        asked = {"concurrency": p.concurrency, "endpoint_api": self.api, "new_tokens": self.new_tokens}
        thinking = {"thinking": p.thinking or "as served"} if self.open_ended else {}
        return {"samples": p.samples, **asked, **stated, **thinking, "prompt_salt": self.client.salt == "prompt"}

    def overridden(self) -> tuple[str, ...]:
        more = {"thinking": self.parameters.thinking is not None, "prompt_salt": self.client.salt == "prompt"}
        return tuple(sorted([*super().overridden(), *(name for name, differs in more.items() if differs)]))

    # ---- rows, as in the family

    def load_rows(self) -> tuple[list[Row], DataFacts]:
        self._rows, facts = self.family.load_rows()
        return self._rows, facts

    def check_row(self, row: Row) -> str | None:
        return self.family.check_row(row)

    def synthesise(self, count: int, seed: int) -> list[Row]:
        return self.family.synthesise(count, seed)

    def prompts(self, rows: Sequence[Row]) -> list[str]:
        return [row["text"] for row in rows]

    def prepare(self, rows: Sequence[Row]) -> list[str]:
        return self.prompts(rows)

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Return the length of every prompt in bytes, since only the server knows its tokens."""
        return {"input_bytes": tuple(float(len(prompt.encode())) for prompt in self.prompts(rows))}

    # ---- finding out which requests the server supports

    def check(self, device: str, facts: Sequence[DeviceFacts]) -> None:
        self.processes.find()
        self._models()
        self._thinking()

    def load(self, device: str) -> ModelFacts:
        """Reserve the server for this session, and find out how it gives exactly the stated number of tokens."""
        self._lock = reserve(self.processes.find())
        try:
            self.family.facts = self._load()  # needed by its score()
        except BaseException:
            self.close()  # otherwise the next session would wait for a server that is not in use
            raise
        return self.family.facts

    def _load(self) -> ModelFacts:
        p, owners = self.parameters, self._models()
        more, system = self._thinking()
        way, client = self._agree(replace(self.client, system=system, more=more), owners)
        short = replace(client, new_tokens=1, more={**more, **fixed_length(1).get(way, {})})
        prompts = self.prompts(self._rows or self.load_rows()[0])
        self.prompt_cache, self.client, known_by = without_cache(client, short, prompts)
        settings = {
            "server": self._program(owners),
            "server_version": self.client.version(),
            "api": self.api,
            "fixed_length": way,
            "thinking": p.thinking,
            "prompt_cache": self.prompt_cache,
            "prompt_cache_known_by": known_by,
            "salt": self.client.salt,
        }
        stated = {"dtype": p.dtype, "quantisation": p.quantisation, "attention": p.attention}
        return ModelFacts(name=p.model, source="endpoint", settings=settings, **stated)

    def _models(self) -> dict[str, str]:
        try:
            return self.client.models()
        except ServedError as error:
            raise ModelError(str(error)) from None

    def _thinking(self) -> tuple[dict[str, Any], str | None]:
        """Return the fields that the thinking switch adds to a request, and its system prompt."""
        p = self.parameters
        if p.thinking is None:
            return {}, None
        _, level = find_thinking(p.model, "", p.params).level(p.thinking, p.model)
        if level.prefix:
            raise ModelError(
                f"thinking={p.thinking!r} begins the answer with {level.prefix!r}, which a server cannot do; choose "
                "another level"
            )
        return ({"chat_template_kwargs": level.template} if level.template else {}), level.system

    def _agree(self, client: Client, owners: dict[str, str]) -> tuple[str, Client]:
        """Return the first way to state the number of tokens that the server obeys, tried on a short prompt."""
        ways = {"open-ended": {}} if self.open_ended else fixed_length(self.new_tokens)
        refused = []
        for name, more in ways.items():
            candidate = replace(client, more={**client.more, **more})
            try:
                self.check_reply(asked_together(candidate, ["Hello"])[0])
            except ServedError as error:
                if error.silent or not error.usage:  # another way would not help
                    raise ModelError(f"{self.parameters.endpoint}: {error}") from None
                refused.append(f"- {name}: {error}")
                continue
            return name, candidate
        match = nearest(self.parameters.model, owners)
        meant = f"; did you mean {match!r}?" if match and self.parameters.model not in owners else ""
        raise ModelError(
            f"the server at {self.parameters.endpoint} does not answer for model {self.parameters.model!r}{meant} "
            f"It has: {', '.join(owners) or 'none'}. It answered:\n" + "\n".join(refused)
        )

    def _program(self, owners: dict[str, str]) -> str:
        words = f"{owners.get(self.parameters.model, '')} {self.processes.command()}".lower()
        known = next((program for mark, program in PROGRAMS.items() if mark in words), None)
        return known or ("transformers serve" if "transformers" in words and "serve" in words else "unknown")

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- answers

    def call(self, phase: str, inputs: Sequence[str]) -> list[Reply]:
        """Send all prompts at once and wait for every answer. Windows use a steady load instead."""
        return asked_together(self.client, inputs)

    def synchronize(self) -> None:
        """Do nothing: this process uses no device."""

    def check_reply(self, reply: Reply) -> None:
        """Refuse an answer with a wrong number of tokens, or whose prompt came from a cache."""
        wrong = reply.output_tokens > self.new_tokens if self.open_ended else reply.output_tokens != self.new_tokens
        if wrong or reply.output_tokens < 1:
            stated = f"at most {self.new_tokens}" if self.open_ended else f"exactly {self.new_tokens}"
            raise ServedError(f"the server counts {reply.output_tokens} new token(s) instead of {stated}")
        if self.prompt_cache == "off" and (reply.cached_tokens or 0) > LARGEST_CACHED * reply.input_tokens:
            raise ServedError(
                f"the server took {reply.cached_tokens} of {reply.input_tokens} prompt tokens from its cache against "
                "the request; start it without prefix caching (vLLM: --no-enable-prefix-caching)"
            )

    def count(self, phase: str, inputs: Any, outputs: Any) -> Tokens:
        return Tokens(sum(reply.input_tokens for reply in outputs), sum(reply.output_tokens for reply in outputs))

    def finite(self, inputs: Any, outputs: Any) -> bool:
        """Return True: a server returns no logits to check."""
        return True

    def answers(self, inputs: Any, outputs: Any) -> list[Any]:
        """Return the text of every answer; for reasoning, with thinking tokens if the server reports them."""
        if not self.open_ended:
            return [reply.text for reply in outputs]
        return [
            {
                "text": reply.text,
                "thinking_tokens": reply.thinking_tokens,
                "answer_tokens": reply.output_tokens - (reply.thinking_tokens or 0),
                "unfinished": reply.output_tokens >= self.new_tokens,
            }
            for reply in outputs
        ]

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Score reasoning as the family does; text generation is not scored, since a server reports no likelihoods."""
        if self.open_ended:
            return self.family.score(answers, rows)
        return (unscored("bits_per_byte", rows, "a server reports no likelihoods of the texts"),)

    def extra(self, answers: Sequence[Any]) -> dict[str, Any]:
        return self.family.extra(answers)


def reserve(pids: Sequence[int]) -> IO[bytes]:
    """Wait until no other session of energylab uses a server, and lock it until the returned file is closed.

    Two sessions at once would measure each other's load. The operating system releases the lock when the session ends.
    """
    import fcntl

    path = Path(tempfile.gettempdir()) / f"energylab-server-{min(pids)}-{os.getuid()}.lock"
    file = path.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def store_random(model: str, folder: str | Path, task: str = "text_generation", dtype: str = "float32") -> Path:
    """Write an architecture with random weights and its tokenizer into a folder, to be served.

    Parameters
    ----------
    model : str
        Name of an architecture in ``params/architectures/``.
    folder : path
        Created if it does not exist; can be used as `model` with ``model_source='path'``.
    task : str
        Its task.
    dtype : str
        Precision of the stored weights.
    """
    loaded = load_task(Parameters.check({"task": task, "model": model, "dtype": dtype, "new_tokens": 1}))
    loaded.load("cpu")
    folder = Path(folder)
    try:
        with quiet():
            for part in (loaded.model, loaded.processor):
                part.save_pretrained(folder)
    except OSError as error:
        raise ModelError(f"cannot write the model to {folder}: {error.strerror}; choose another folder") from error
    return folder
