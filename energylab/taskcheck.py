"""The gate for a new task: ten assertions on the task itself, each answered in words.

A task passes when what it measures is what it says. Each check is one function, `file` to `session`: it looks at the
task through a `Bench`, yields every `Issue`, and its docstring is what the report prints. The same checks hold the
tasks of this package.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType
from typing import Annotated, Any, Literal, NamedTuple

import typer

from energylab.errors import EnergylabError, TaskError
from energylab.parameters import Parameters
from energylab.paths import named_file
from energylab.record import SCORED_PHASES, Record
from energylab.tasks import find_file, load_settings, task_names, unused
from energylab.tasks.base import Row, Task, TaskSettings

QUERIES = 6  # of a check: enough for texts of different lengths in one batch
NEW_TOKENS = 5
TOLERANCE = 1e-4  # of numbers, relative: sums in another order differ in the last digits of float32
SMALLEST = 1e-5  # absolute, for numbers around zero

#: Seconds: a session that is over at once, by the meter that every machine has. Its energies are not looked at.
SHORT = {"window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}

#: Functions of the interpreter that are no model's work, by qualified name.
FOREIGN = {
    "open": "opens a file",
    "open_code": "opens a file",
    "print": "prints",
    "TextIOWrapper.write": "prints or writes text",
    "sleep": "sleeps",
    "collect": "collects garbage",
    "fork_exec": "starts a process",
    "system": "starts a process",
    "socket.connect": "talks to the network",
    "warn": "warns",
}


class Issue(NamedTuple):
    """One thing that is wrong and what to do about it; or, without a fix, one that could not be looked at."""

    message: str
    fix: str | None = None


class TheirError(Exception):
    """What the task's own code raised; says what, where, and while what was done."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check for one model."""

    check: str  # its name
    model: str  # the architecture it was tried on; empty for checks that need none
    asks: str  # what it asks, in words
    status: Literal["passed", "failed", "not seen", "waits"]  # waits: an earlier check must pass first
    issues: tuple[Issue, ...] = ()

    def lines(self) -> list[str]:
        """Return the finding as lines of text: what was asked, what is wrong, how to fix it."""
        mark = {"passed": "✓", "failed": "✗", "not seen": "·", "waits": "…"}[self.status]
        text = [f"{mark} {self.check}{f' [{self.model}]' if self.model else ''}: {self.asks}"]
        for message, fix in self.issues:
            text += [f"    not seen: {message}"] if fix is None else [f"    issue: {message}", f"    fix:   {fix}"]
        return text


@dataclass(frozen=True)
class Report:
    """Every finding on one task; `passed` says whether it may be measured."""

    task: str
    file: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether nothing failed, hence nothing waits."""
        return not self.failed

    def verdict(self) -> str:
        """Say in one sentence whether the task may be measured."""
        if self.passed:
            return f"{self.task}: {len(self.findings)} checks passed"
        issues = sum(issue.fix is not None for finding in self.findings for issue in finding.issues)
        waiting = sum(finding.status == "waits" for finding in self.findings)
        later = f"; {waiting} checks wait for the fix" if waiting else ""
        return f"{self.task}: {issues} issue{'s' * (issues != 1)} found{later}"

    def text(self) -> str:
        """Return the report as text for a terminal."""
        lines = [line for finding in self.findings for line in finding.lines()]
        return "\n".join([f"task {self.task} ({self.file})", *lines, self.verdict()])


class Bench:
    """One task and one small architecture (empty: none), made, loaded and run as the protocol does."""

    def __init__(self, name: str, model: str, params: str | Path | None = None) -> None:
        self.name, self.model = name, model
        self.params = None if params is None else str(params)
        self.family, self.settings = load_settings(name, params)
        self.references = tuple(getattr(self.family, "references", ()))

    def parameters(self, **changes: Any) -> Parameters:
        """Return parameters of a check: few queries, few tokens, float32, the sample data where there is some."""
        sample = self.settings.sample is not None and (self.settings.sample / "rows.jsonl").is_file()
        values = {"task": self.name, "model": self.model or "none", "params": self.params, "samples": QUERIES}
        values |= {"dtype": "float32", "device": "cpu", "data_source": "sample" if sample else "synthetic"}
        return Parameters.check({**values, "new_tokens": NEW_TOKENS, "diffusion_steps": 2, **changes})

    def make(self, settings: TaskSettings | None = None, **changes: Any) -> Task:
        """Create the task, unloaded."""
        return self.call("__init__", self.family, settings or self.settings, self.parameters(**changes))

    def load(self) -> tuple[Task, list[Row]]:
        """Create the task and load its queries and its model."""
        task = self.make()
        rows, _ = self.call("load_rows", task.load_rows)
        self.call("load", task.load, "cpu")
        return task, rows

    @cached_property
    def loaded(self) -> tuple[Task, list[Row]]:
        """The task with its model, and its queries: loaded once for all checks."""
        return self.load()

    task = property(lambda self: self.loaded[0])
    rows = property(lambda self: self.loaded[1])
    last = property(lambda self: self.task.phases[-1])  # the phase whose outputs are the answers

    def inputs(self, rows: Sequence[Row]) -> Any:
        """Preprocess rows, as the protocol does outside the windows."""
        return self.call("prepare", self.task.prepare, rows)

    def run(self, phase: str, inputs: Any) -> Any:
        """Run one phase as the protocol does inside a window."""
        return self.call("run", self.task.run, phase, inputs)

    def ask(self, rows: Sequence[Row]) -> list[Any]:
        """Preprocess, run the last phase and read the answers: one batch from rows to answers."""
        inputs = self.inputs(rows)
        return self.call("answers", self.task.answers, inputs, self.run(self.last, inputs))

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[Any, ...]:
        """Score answers by the task."""
        return self.call("score", self.task.score, answers, rows)

    def call(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call one method of the task; what it raises becomes one sentence with the line in the task's own file."""
        try:
            return method(*arguments)
        except Exception as error:  # noqa: BLE001 - a stranger's class may raise anything, and each is a finding
            raise TheirError(f"{self.describe(error)} (while {what}() runs)") from error

    def describe(self, error: Exception) -> str:
        """Say what was raised, and at which line of the task's own files; errors of energylab speak for themselves."""
        message = " ".join(str(error).split()) or "no message"
        if isinstance(error, EnergylabError):
            return message
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in self.files]
        where = f" at {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
        return f"{type(error).__name__}: {message}{where}"

    @cached_property
    def files(self) -> set[str]:
        """The files of the task's class: its module's, and those of its bases that are not energylab's."""
        names = {kind.__module__ for kind in self.family.__mro__}
        names = {name for name in names if not name.startswith(("energylab.", "builtins"))} | {self.family.__module__}
        return {sys.modules[name].__file__ for name in names if getattr(sys.modules.get(name), "__file__", None)}

    def codes(self, *names: str) -> dict[CodeType, str]:
        """Return the code of the task's methods of these names, each with the words for its call."""
        methods = [(name, kind.__dict__.get(name)) for kind in self.family.__mro__ for name in names]
        return {method.__code__: f"calls {name}()" for name, method in methods if hasattr(method, "__code__")}


# ---- checks of the file and the class


def file(bench: Bench) -> Iterator[Issue]:
    """the YAML file is whole and fits the class"""
    from energylab.tasks.architectures import find_architecture

    settings, columns = bench.settings, tuple(getattr(bench.family, "columns", ()))
    if not columns or columns[len(columns) - len(bench.references) :] != bench.references:
        message = f"references {bench.references} are not the last of columns {columns}"
        yield Issue(message, "name the columns every row has in columns, those that only scoring needs last")
    published = settings.dataset.columns if settings.dataset is not None else columns
    missing = [column for column in columns if column not in (*published, *bench.references)]
    if missing:
        fix = "add them: the task's column name, then the published data set's"
        yield Issue(f"dataset.columns lacks {', '.join(missing)}", fix)
    for name in (name for name in ("title", "version") if not str(getattr(settings, name)).strip()):
        yield Issue(f"{name} is empty", f"give the task a {name}: pages and cohorts show it")
    if settings.dataset is None:
        yield Issue("the file names no published data set: the task can be measured, but no record is ever official")
    if not settings.check_models:
        fix = "name a small architecture of params/architectures/ that can do the task: check_models: [tiny-bert]"
        yield Issue("check_models is empty: no model can be tried, and no check of the phases can run", fix)
    for name in settings.check_models:
        try:
            find_architecture(name, bench.params, settings.architectures)
        except EnergylabError as error:
            fix = "choose one that exists, or add a row to a FAMILY.yaml in the folder that `architectures:` names"
            yield Issue(f"check_models: {error}", fix)


def sample(bench: Bench) -> Iterator[Issue]:
    """sample data is there, licensed and usable, and a spoilt row is refused before anything is measured"""
    from energylab.tasks.data import json_lines

    folder, least = bench.settings.sample, Parameters.model_fields["samples"].default
    if folder is None:
        fix = f"write {least} rows or more to rows.jsonl, say so with `sample: sample`, and name their licence"
        yield Issue("the file names no sample data: nobody can try the task without the published data set", fix)
        return
    bench.call("load_rows", bench.make(samples=1, data_source="sample").load_rows)  # folder, licence, the first row
    rows = bench.call("load_rows", json_lines, folder / "rows.jsonl")
    if len(rows) < least:
        yield Issue(f"{folder.name}/rows.jsonl has {len(rows)} rows", f"write at least {least}, of different lengths")
    if len({json.dumps(row, sort_keys=True) for row in rows}) < len(rows):
        yield Issue("some rows are there twice", "leave each row in once: a repeated query is no further evidence")
    for column in bench.family.columns:
        absent = [number for number, row in enumerate(rows) if row.get(column) is None]
        if absent:
            yield Issue(f"{len(absent)} row(s) lack {column!r}, the first is row {absent[0]}", f"give each a {column}")
    bench.call("load_rows", bench.make(samples=len(rows), data_source="sample").load_rows)
    for what, spoilt in _spoilt(bench, folder, rows[:3]):
        yield from _refused(bench, folder, spoilt, what)


def _spoilt(bench: Bench, folder: Path, rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Spoil the second row in every way, one at a time; and leave all but the first out."""
    yield "fewer rows than were asked for", rows[:1]
    names = {file.name for file in folder.iterdir()}
    for column in (column for column in bench.family.columns if column not in bench.references):
        bad: dict[str, Any] = {"is null": None, "is a list": [1, 2]}
        value = rows[1].get(column)
        if isinstance(value, str):
            bad |= {"is a number": 7, "is empty": ""}
        if value in names:
            bad |= {"names a file that is not there": f"no-{value}", "names a broken file": "broken.bin"}
        yield f"a row without {column!r}", [rows[0], {k: v for k, v in rows[1].items() if k != column}, rows[2]]
        for what, instead in bad.items():
            yield f"a row whose {column!r} {what}", [rows[0], {**rows[1], column: instead}, rows[2]]


def _refused(bench: Bench, folder: Path, rows: list[Row], what: str) -> Iterator[Issue]:
    fix = "let check_row return what is wrong with a row, and None when nothing is; load rows by data.load_rows"
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy)
        (copy / "broken.bin").write_bytes(b"neither a picture nor a sound")
        (copy / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        task = bench.make(bench.settings.model_copy(update={"sample": copy}), samples=3, data_source="sample")
        try:
            task.load_rows()
        except EnergylabError:
            return
        except Exception as error:  # noqa: BLE001 - a stranger's class may raise anything, and each is a finding
            yield Issue(f"{what} raises {bench.describe(error)}, not one clear error", fix)
        else:
            yield Issue(f"{what} is accepted", fix)


# ---- checks of the loaded task


def loading(bench: Bench) -> Iterator[Issue]:
    """creating the task does no work, its queries and its model load, and an unknown model is refused by name"""
    from energylab.devices import resolve_devices
    from energylab.protocol.workload import checked_phases

    bench.make()  # modules are imported by now
    with watched(bench, {}) as seen:
        bench.make()
    for what in dict.fromkeys(seen.foreign):
        fix = "move this work to load_rows, load or ready: they are called once a session, outside every window"
        yield Issue(f"creating the task {what}", fix)
    task, rows = bench.loaded
    bench.call("phases", checked_phases, task)
    for name, values in bench.call("covariates", task.covariates, rows).items():
        if len(values) != len(rows):
            fix = "return exactly one number a row, in the order of the rows"
            yield Issue(f"covariates[{name!r}] has {len(values)} values for {len(rows)} queries", fix)
    try:
        bench.make(model="no-such-architecture").check("cpu", resolve_devices("cpu", 1))
    except EnergylabError:
        return
    fix = "let check() find the model as energylab.tasks.models.prepare does, so that a wrong name ends a session early"
    yield Issue("check() accepts a model that does not exist", fix)


def phases(bench: Bench) -> Iterator[Issue]:
    """phases do what they say: preprocess prepares the rows, the others run the model anew each time"""
    named = bench.task.phases
    if not set(named) & (set(SCORED_PHASES) - {"preprocess", "total"}):
        yield Issue(f"no phase of {named} is rated but preprocess", "measure the model in forward, generate or call")
    if "prefill" in named and "generate" not in named:
        yield Issue("there is a prefill and no generate", "prefill is a part of generate, measured apart: add generate")
    if "preprocess" in named:
        yield from _preprocess(bench)
    inputs = bench.inputs(bench.rows[:2])
    passes = {phase: [_passes(bench, phase, inputs) for _ in range(2)] for phase in named if phase != "preprocess"}
    for phase, (first, again) in passes.items():
        if first == 0:
            yield Issue(
                f"{phase} never runs a torch module",
                f"let run({phase!r}, inputs) call the model and return its outputs",
            )
        elif again < first:
            fix = "compute the outputs anew each time: the protocol repeats a phase to fill its window"
            yield Issue(f"{phase} ran the model {first} time(s), and {again} when called again", fix)
    made = passes.get("generate", [NEW_TOKENS])[0]
    if made < NEW_TOKENS:
        fix = "generate exactly new_tokens tokens, one pass each, as the tasks of this package do"
        yield Issue(f"generate ran the model {made} time(s) for {NEW_TOKENS} new tokens", fix)
    if "prefill" in passes and "generate" in passes and passes["prefill"][0] >= made:
        yield Issue("prefill runs the model as often as generate", "let prefill give the first token alone")


def _preprocess(bench: Bench) -> Iterator[Issue]:
    first, second = bench.rows[:1], bench.rows[1:2]
    with watched(bench, {}) as seen:
        once = bench.inputs(first)
    if seen.model_calls:
        fix = "move what runs a network to the next phase: preprocess is the work of the host"
        yield Issue(f"preprocess runs a network {seen.model_calls} time(s)", fix)
    if bench.inputs(first) is once:
        fix = "make the inputs anew each time: work done before the window is not measured"
        yield Issue("preprocess hands out the same object again: it did its work before the window", fix)
    if same(once, bench.inputs(second)):
        yield Issue("two different queries give the same inputs", "make the inputs from the rows that are given")


def _passes(bench: Bench, phase: str, inputs: Any) -> int:
    with watched(bench, {}) as seen:
        bench.run(phase, inputs)
    return seen.model_calls


def window(bench: Bench) -> Iterator[Issue]:
    """nothing inside a window but the model's work: no file, no print, no log, no scoring, no gradients"""
    from transformers import PreTrainedTokenizerBase as Tokenizer

    outside = bench.codes("answers", "score", "count", "covariates", "load_rows", "load", "extra")
    preparing = {Tokenizer.__call__.__code__: "tokenises", Tokenizer.decode.__code__: "decodes"}
    preparing |= bench.codes("prepare")
    for phase in bench.task.phases:
        given = bench.rows[:2] if phase == "preprocess" else bench.inputs(bench.rows[:2])
        outputs = bench.run(phase, given)  # imports what it needs
        with watched(bench, outside if phase in ("preprocess", "call") else {**outside, **preparing}) as seen:
            bench.run(phase, given)
        for what in dict.fromkeys(seen.foreign):
            fix = "leave it out of the phase: inputs are prepared before the windows, answers read and scored after"
            yield Issue(f"{phase} {what}", fix)
        if any(getattr(one, "requires_grad", False) for _, one in leaves(outputs)):
            fix = "put the call of the model under `with torch.inference_mode():`"
            yield Issue(f"{phase} records gradients, as for training", fix)


def batches(bench: Bench) -> Iterator[Issue]:
    """batch 1 equals batch N: the same answers, the same tokens"""
    rows = bench.rows
    if getattr(bench.settings, "sampling", None) is not None:
        yield Issue("answers are drawn at random, so those of a batch cannot be compared with single ones")
        return
    alone, together = [bench.ask([row]) for row in rows], bench.ask(rows)
    if [len(answers) for answers in alone] != [1] * len(rows) or len(together) != len(rows):
        message = f"{len(rows)} queries gave {sum(map(len, alone))} answers one by one and {len(together)} together"
        yield Issue(message, "let answers() return exactly one answer a query, in the order of the rows")
        return
    fix = "pass the attention mask to the model, normalise nothing over the batch, keep the order of the rows"
    differ = [number for number, one in enumerate(alone) if not same(one[0], together[number])]
    if differ:
        before, after = short(alone[differ[0]][0]), short(together[differ[0]])
        message = f"{len(differ)} of {len(rows)} answers change when the query is in a batch"
        yield Issue(f"{message}; query {differ[0]}: {before} alone, {after} together", fix)
    elif _numbers_differ(bench):
        yield Issue(f"the numbers that {bench.last} returns for a query change when it is in a batch", fix)
    counted = [_counted(bench, [row]) for row in rows]
    for name, parts, whole in zip(("input", "output"), zip(*counted, strict=True), _counted(bench, rows), strict=True):
        if None not in (*parts, whole) and sum(parts) != whole:
            message = f"count() finds {sum(parts)} {name} tokens one by one and {whole} together"
            yield Issue(message, "count what is not padding: inputs['attention_mask'].sum()")


def _counted(bench: Bench, rows: Sequence[Row]) -> tuple[int | None, int | None]:
    inputs = bench.inputs(rows)
    tokens = bench.call("count", bench.task.count, bench.last, inputs, bench.run(bench.last, inputs))
    return tokens.input, tokens.output


def _numbers_differ(bench: Bench) -> bool:
    """Compare raw outputs, finer than answers, where those of a batch can be laid beside those of single queries."""
    rows, inputs = bench.rows, bench.inputs(bench.rows)
    mask = inputs["attention_mask"].bool() if isinstance(inputs, Mapping) and "attention_mask" in inputs else None
    whole = [one for _, one in leaves(bench.run(bench.last, inputs)) if getattr(one, "shape", ())[:1] == (len(rows),)]
    for number, row in enumerate(rows):
        alone = [one for _, one in leaves(bench.run(bench.last, bench.inputs([row]))) if hasattr(one, "shape")]
        for one, many in zip(alone, whole, strict=False):
            by_token = mask is not None and many.shape[:2] == mask.shape and many.is_floating_point()
            beside = many[number][mask[number]] if by_token else many[number]
            if one.shape[:1] == (1,) and beside.shape == one.shape[1:] and not same(one[0], beside):
                return True
    return False


def tokens(bench: Bench) -> Iterator[Issue]:
    """token counts are exact: those given, and where it generates those asked for, no more and no fewer"""
    task, inputs = bench.task, bench.inputs(bench.rows)
    known = bench.call("covariates", task.covariates, bench.rows).get("input_tokens")
    if known is not None and "preprocess" in task.phases:
        counted = bench.call("count", task.count, "preprocess", inputs, inputs).input
        if sum(known) != counted:
            fix = "count the tokens of every query as the model is given them: special tokens in, padding out"
            yield Issue(f"covariates() says {sum(known):g} input tokens, count() finds {counted}", fix)
    for phase, each in (("prefill", 1), ("generate", NEW_TOKENS)):
        if phase in task.phases:
            yield from _generated(bench, phase, each, inputs)


def _generated(bench: Bench, phase: str, each: int, inputs: Any) -> Iterator[Issue]:
    outputs, asked = bench.run(phase, inputs), each * len(bench.rows)
    found = bench.call("count", bench.task.count, phase, inputs, outputs).output
    if found != asked:
        fix = "generate new_tokens, the parameter's, and count what was generated"
        yield Issue(f"{phase}: count() finds {found} output tokens, {asked} were asked for", fix)
        return
    parts = outputs if isinstance(outputs, list) else [outputs]
    if getattr(bench.task, "open_ended", False):
        yield Issue(f"{phase} may take more passes than one, so its number of tokens is open")
        return
    if not all(len(getattr(one, "shape", ())) == 2 for one in parts):
        yield Issue(f"{phase} returns no tensor of ids, so that a missing token could not be tried")
        return
    shorter = [one[:, :-1] for one in parts]
    try:
        bench.task.count(phase, inputs, shorter if isinstance(outputs, list) else shorter[0])
    except EnergylabError:
        return
    fix = "raise TaskError in count() when the model generated another number than new_tokens"
    yield Issue(f"{phase}: outputs with one token too few are counted as if nothing were wrong", fix)


def determinism(bench: Bench) -> Iterator[Issue]:
    """deterministic: the same seed gives the same queries, model and answers; another seed other queries"""
    first, again = bench.ask(bench.rows), bench.ask(bench.rows)
    anew = Bench(bench.name, bench.model, bench.params)
    if not same(first, again):
        fix = "put the model in evaluation mode, decode greedily, and leave the inputs as they are"
        yield Issue(f"the same inputs give other answers the second time: {short(first)}, then {short(again)}", fix)
    elif not same(first, again := anew.ask(anew.rows)):
        message = f"loaded again with the same seed it answers differently: {short(first)}, then {short(again)}"
        yield Issue(message, "draw random weights and anything else from parameters.seed")
    tasks = [bench.make(data_source="synthetic", seed=seed) for seed in (0, 0, 1)]
    (rows, once), (_, twice), (_, other) = [bench.call("load_rows", task.load_rows) for task in tasks]
    if len(rows) != QUERIES:
        message = f"{QUERIES} synthetic queries were asked for, {len(rows)} made"
        yield Issue(message, "let synthesise(count, seed) return exactly count rows")
    if once.digest != twice.digest:
        yield Issue("synthetic queries of the same seed differ", "draw from numpy.random.default_rng(seed) alone")
    if once.digest == other.digest:
        yield Issue("synthetic queries of two seeds are equal", "draw from numpy.random.default_rng(seed)")


def quality(bench: Bench) -> Iterator[Issue]:
    """quality is scored: right answers score otherwise than wrong ones, and random weights score nothing"""
    answers, task, facts = bench.ask(bench.rows), bench.task, bench.task.facts
    found = bench.score(answers, bench.rows)
    if not found:
        fix = "return a Quality a metric; with value=None and the reason in meaningless where it means nothing"
        yield Issue("score() returns nothing: energy without quality rewards the worst model", fix)
        return
    fix = "begin score() with `meaningless = self.no_quality(metric, rows)` and return it if it is not None"
    for one in (one for one in found if one.value is not None and not facts.real_weights):
        yield Issue(f"{one.metric} is {one.value:g} for a model with random weights", fix)
    task.facts = facts.model_copy(update={"real_weights": True})  # let it take its weights for real ones
    try:
        bare = [{name: value for name, value in row.items() if name not in bench.references} for row in bench.rows]
        for one in bench.score(answers, bare) if bench.references else ():
            if one.value is not None:
                yield Issue(f"{one.metric} is {one.value:g} for rows without a reference", fix)
        for one in (*found, *bench.score(answers, bench.rows), *bench.score(answers[:1], bench.rows[:1])):
            if not (one.meaningless if one.value is None else math.isfinite(one.value)):
                message = f"{one.metric} is {one.value} and no reason is given"
                yield Issue(message, "give a finite value, or None with the reason in meaningless")
        yield from _right_and_wrong(bench)
    finally:
        task.facts = facts


def _right_and_wrong(bench: Bench) -> Iterator[Issue]:
    right = bench.call("right_answers", bench.task.right_answers, bench.rows)
    if right is None:
        fix = "write right_answers(rows): what answers() would give for a model that is always right"
        yield Issue(
            "right_answers() returns None, so that right answers could not be scored", fix if bench.references else None
        )
        return
    best = [one.value for one in bench.score(right, bench.rows)]
    shifted = ([*right[by:], *right[:by]] for by in range(1, len(right)))
    wrong = [answers for answers in shifted if not same(answers, right)]
    if None in best or not wrong:
        yield Issue("right answers have no score here, or all are the same: wrong ones could not be told from them")
    elif all([one.value for one in bench.score(answers, bench.rows)] == best for answers in wrong):
        fix = "compare each answer with its own row's reference in score()"
        yield Issue(f"right answers and other rows' answers both score {best[0]:g}", fix)


def session(bench: Bench) -> Iterator[Issue]:
    """a short session leaves a record: every phase measured, every query answered, and it reads back as it was"""
    from energylab import measuring
    from energylab.energy import scored_totals

    left_out = dict.fromkeys(unused(bench.parameters(), bench.family))
    parameters = bench.parameters(samples=4, runs=1, meter="estimate", **SHORT, **left_out)
    record = bench.call("measure", lambda: measuring.measure(parameters=parameters))
    failed = {failure.message for window in record.windows for failure in window.failures}
    for message in sorted(failed):
        yield Issue(f"a query failed inside a window: {message}", "let check_row refuse such a row beforehand")
    plain = "let answers(), score(), extra() and resolved_settings() give plain numbers, texts, lists and mappings"
    if "unscored" in record.extra:
        yield Issue(f"the answers of a session were not scored: {record.extra['unscored']}", plain)
    rated = {total.phase for total in scored_totals(record) if total.valid}
    lost = ", ".join(phase for phase in record.phases if phase in SCORED_PHASES and phase not in rated)
    if lost and not failed:
        fix = None if not record.valid else "name every phase once in phases"
        yield Issue(f"{lost} has no total: {'; '.join(record.reasons) or 'not measured'}", fix)
    if Record.model_validate_json(record.model_dump_json()).digest() != record.digest():
        yield Issue("the record does not read back as it was", plain)


Check = Callable[[Bench], Iterator[Issue]]
BEFORE: tuple[Check, ...] = (file, sample)  # need the file and the class alone
AFTER: tuple[Check, ...] = (loading, phases, window, batches, tokens, determinism, quality, session)  # each model


def check(task: str, models: Iterable[str] = (), params: str | Path | None = None) -> Report:
    """Hold a task against the contract.

    Parameters
    ----------
    task : str
        A name, or the path of a task's YAML file.
    models : iterable of str, optional
        Architectures to try it on; by default those the task's file names (``check_models``).
    params : path, optional
        A folder laid out like ``params/``.

    Returns
    -------
    Report
        One finding a check, and a model where it needs one; ``report.passed`` says whether the task may be measured.

    Raises
    ------
    EnergylabError
        If there is no such task, or its file or class cannot be read at all.
    """
    from energylab.tasks.models import quiet_imports

    first = Bench(task, "", params)
    with quiet_imports():
        findings = [_look(function, first) for function in BEFORE]
        for model in tuple(models) or first.settings.check_models:
            bench, of_model = Bench(task, model, params), []
            for function in AFTER:  # when it does not load the rest waits, and the session for all others
                needed = of_model if function is session else of_model[:1]
                waits = any(finding.status == "failed" for finding in needed)
                of_model.append(_look(function, bench, waits))
            findings += of_model
    return Report(first.settings.name, str(find_file(task, params)), tuple(findings))


def _look(function: Check, bench: Bench, waits: bool = False) -> Finding:
    about = function.__name__, bench.model, str(function.__doc__)
    if waits:
        return Finding(*about, "waits")
    found: list[Issue] = []
    try:
        found.extend(function(bench))  # what was found before an error stays found
    except TheirError as error:
        found.append(Issue(str(error), "correct this first: the rest of this check could not be run"))
    failed = any(issue.fix is not None for issue in found)
    return Finding(*about, "failed" if failed else "not seen" if found else "passed", tuple(found))


# ---- what happens while a phase runs, and how outputs are compared


@dataclass
class Seen:
    """What was seen of one phase."""

    foreign: list[str]  # work that is not the model's, each with the line that asked for it
    model_calls: int = 0  # how often a whole module was called from outside any other: the passes of the model
    depth: int = 0


@contextmanager
def watched(bench: Bench, methods: dict[CodeType, str]) -> Iterator[Seen]:
    """Watch this thread and the models it calls; `methods` are Python functions whose call is to be reported."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    seen, files = Seen([]), bench.files
    python = {logging.Logger.handle.__code__: "writes a log", **methods}

    def look(frame: FrameType | None, event: str, function: Any) -> None:
        what = FOREIGN.get(getattr(function, "__qualname__", "")) if event == "c_call" else None
        what = python.get(frame.f_code) if event == "call" else what
        if what is not None:
            while frame is not None and frame.f_code.co_filename not in files:
                frame = frame.f_back
            where = "" if frame is None else f" at {Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
            seen.foreign.append(f"{what}{where}")

    def enter(*_: Any) -> None:
        seen.model_calls += seen.depth == 0
        seen.depth += 1

    def leave(*_: Any) -> None:
        seen.depth -= 1

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)
        for handle in handles:
            handle.remove()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every tensor, picture, number and text inside a value, with where it stands."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if not hasattr(value, "shape") and isinstance(getattr(value, "data", None), Mapping):
        value = value.data  # a BatchEncoding
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list | tuple):
        inner = list(enumerate(value))
    else:
        yield path, value
        return
    for name, one in inner:
        yield from leaves(one, f"{path}/{name}")


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal in form and content, numbers within `TOLERANCE` or `SMALLEST`."""
    left, right = list(leaves(a)), list(leaves(b))
    return [path for path, _ in left] == [path for path, _ in right] and all(
        _same_leaf(x, y) for (_, x), (_, y) in zip(left, right, strict=True)
    )


def _same_leaf(a: Any, b: Any) -> bool:
    import numpy as np

    if type(a) is not type(b) and not (isinstance(a, int | float) and isinstance(b, int | float)):
        return False
    a, b = (one.detach().cpu().float() if hasattr(one, "detach") else one for one in (a, b))
    x, y = np.asarray(a), np.asarray(b)
    if x.shape != y.shape or not np.issubdtype(x.dtype, np.number):
        return bool(x.shape == y.shape and (x == y).all())
    scale = 255.0 if hasattr(a, "getpixel") else 1.0  # pictures in levels
    return bool(np.allclose(x / scale, y / scale, rtol=TOLERANCE, atol=SMALLEST, equal_nan=True))


def short(value: Any, width: int = 60) -> str:
    """Write a value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


# ---- notebook and command line


def source(name: str | Path, lines: int | None = None) -> str:
    """Return a file of a task as a block of Markdown for a notebook: all of it, or its first `lines`."""
    file = named_file(name, "file", TaskError)
    text = file.read_text(encoding="utf-8").rstrip().splitlines()
    shown = text if lines is None else [*text[:lines], *[f"… {len(text) - lines} more lines"] * (len(text) > lines)]
    language = {".py": "python", ".jsonl": "json"}.get(file.suffix, file.suffix.removeprefix("."))
    return "\n".join([f"```{language}", *shown, "```"])


commands = typer.Typer(help="List tasks, and check one that is new.", no_args_is_help=True)
Params = Annotated[Path | None, typer.Option(help="A folder laid out like params/; by default ./params, upward.")]


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(commands, name="task")


@commands.command("list")
def task_list(params: Params = None) -> None:
    """List every task by name: those in params/tasks/ and those that installed packages bring."""
    for name in (names := task_names(params)):
        start = f"{name:<{max(map(len, names))}}  "
        try:
            family, settings = load_settings(name, params)
        except EnergylabError as error:
            typer.echo(f"{start}cannot be read: {error}")
            continue
        where = find_file(name, params)
        typer.echo(f"{start}{settings.version:<9} {' + '.join(family.phases):<31} {settings.title} ({where})")


@commands.command("check")
def task_check(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or the path of its YAML file.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Architecture to try it on; by default check_models of the file.")
    ] = None,
    params: Params = None,
) -> None:
    """Hold a task against the contract, and say what is wrong and how to fix it; ends with 1 if anything is."""
    from energylab.tasks.models import quiet

    with quiet():
        report = check(name, model or (), params)
    typer.echo(report.text())
    sys.exit(0 if report.passed else 1)
