"""Ten checks of a new task before it is measured.

Each check is one function, `file` to `session`: it examines the task through a `Bench` and yields every issue with a
fix; its docstring is printed in the report. The tasks of this package pass the same checks.
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
from typing import Annotated, Any

import typer

from energylab.errors import EnergylabError, TaskError
from energylab.parameters import Parameters
from energylab.paths import named_file
from energylab.record import SCORED_PHASES, Record
from energylab.tasks import find_file, load_settings, task_names, unused
from energylab.tasks.base import Row, Task, TaskSettings

QUERIES = 6  # queries of a check: enough for texts of different lengths in one batch
NEW_TOKENS = 5
TOLERANCE = 1e-4  # relative tolerance of numbers: sums in another order differ in the last digits of float32
SMALLEST = 1e-5  # absolute tolerance of numbers around zero

#: Seconds of a very short session, whose energies are not checked.
SHORT = {"window_s": 0.05, "idle_s": 0.05, "warm_up_min_s": 0.05, "warm_up_max_s": 0.3}

#: Functions of the interpreter that are not the model's work, by qualified name.
FOREIGN = {
    "open": "opens a file", "open_code": "opens a file", "print": "prints", "TextIOWrapper.write": "prints",
    "sleep": "sleeps", "collect": "collects garbage", "fork_exec": "starts a process", "system": "starts a process",
    "socket.connect": "uses the network", "warn": "warns",
}  # fmt: skip

#: An issue and its fix; without a fix, it is the reason why something could not be checked.
Problem = tuple[str, str | None]

WAITS: tuple[Problem, ...] = (("an earlier check must pass first", None),)


@dataclass(frozen=True)
class Finding:
    """The result of one check for one model."""

    check: str  # its name
    model: str  # the architecture it was run on; empty for checks without one
    asks: str  # what it checks
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> str:
        if not self.problems:
            return "passed"
        return "failed" if any(fix is not None for _, fix in self.problems) else "not tried"

    def lines(self) -> list[str]:
        """Return the finding as lines of text: the check, its issues and fixes."""
        mark = {"passed": "✓", "failed": "✗", "not tried": "·"}[self.status]
        text = [f"{mark} {self.check}{f' [{self.model}]' if self.model else ''}: {self.asks}"]
        for message, fix in self.problems:
            text += [f"    not tried: {message}"] if fix is None else [f"    issue: {message}", f"    fix:   {fix}"]
        return text


@dataclass(frozen=True)
class Report:
    """All findings on one task; `passed`: whether it may be measured."""

    task: str
    file: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == "failed")

    @property
    def passed(self) -> bool:
        return not self.failed

    def verdict(self) -> str:
        """Return in one sentence whether the task may be measured."""
        if self.passed:
            return f"{self.task}: {len(self.findings)} checks passed"
        issues = sum(fix is not None for finding in self.findings for _, fix in finding.problems)
        waiting = sum(finding.problems == WAITS for finding in self.findings)
        later = f"; {waiting} checks were not run, since an earlier one failed" if waiting else ""
        return f"{self.task}: {issues} issue{'s' * (issues != 1)} found{later}"

    def text(self) -> str:
        """Return the report as text for a terminal."""
        lines = [line for finding in self.findings for line in finding.lines()]
        return "\n".join([f"task {self.task} ({self.file})", *lines, self.verdict()])


class Bench:
    """One task and one small architecture (empty: none), created, loaded and run as in a session."""

    def __init__(self, name: str, model: str, params: str | Path | None = None) -> None:
        self.name, self.model, self.params = name, model, None if params is None else str(params)
        self.family, self.settings = load_settings(name, params)

    def parameters(self, **changes: Any) -> Parameters:
        """Return parameters of a check: few queries, few tokens, float32, sample data if there are any."""
        sample = self.settings.sample is not None and (self.settings.sample / "rows.jsonl").is_file()
        values = {"task": self.name, "model": self.model or "none", "params": self.params, "samples": QUERIES}
        values |= {"dtype": "float32", "device": "cpu", "data_source": "sample" if sample else "synthetic"}
        return Parameters.check({**values, "new_tokens": NEW_TOKENS, "diffusion_steps": 2, **changes})

    def make(self, settings: TaskSettings | None = None, **changes: Any) -> Task:
        """Create the task, unloaded."""
        return self.family(settings or self.settings, self.parameters(**changes))

    @cached_property
    def loaded(self) -> tuple[Task, list[Row]]:
        """The task with its model, and its queries, loaded once for all checks."""
        task = self.make()
        rows = task.load_rows()[0]
        task.load("cpu")
        return task, rows

    task = property(lambda self: self.loaded[0])
    rows = property(lambda self: self.loaded[1])
    last = property(lambda self: self.task.phases[-1])  # the phase whose outputs are the answers

    def ask(self, rows: Sequence[Row]) -> list[Any]:
        """Preprocess one batch, run the last phase and read the answers."""
        inputs = self.task.prepare(rows)
        return self.task.answers(inputs, self.task.run(self.last, inputs))

    def describe(self, error: Exception) -> str:
        """Return the message of an error; for errors not of energylab, also the line in the task's own files."""
        message = " ".join(str(error).split()) or "no message"
        if isinstance(error, EnergylabError):
            return message
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in self.files]
        where = f" at {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
        return f"{type(error).__name__}: {message}{where}"

    @cached_property
    def files(self) -> set[str]:
        """The files of the task's class and of its base classes outside energylab."""
        names = {kind.__module__ for kind in self.family.__mro__}
        names = {name for name in names if not name.startswith(("energylab.", "builtins"))} | {self.family.__module__}
        return {sys.modules[name].__file__ for name in names if getattr(sys.modules.get(name), "__file__", None)}

    def codes(self, *names: str) -> dict[CodeType, str]:
        """Return the code of the task's methods with these names, each with a text for its call."""
        methods = [(name, kind.__dict__.get(name)) for kind in self.family.__mro__ for name in names]
        return {method.__code__: f"calls {name}()" for name, method in methods if hasattr(method, "__code__")}


# ---- checks of the file and the class


def file(bench: Bench) -> Iterator[Problem]:
    """the YAML file is complete and fits the class"""
    from energylab.tasks.architectures import find_architecture

    settings, columns, references = bench.settings, getattr(bench.family, "columns", ()), bench.family.references
    if not columns or columns[len(columns) - len(references) :] != references:
        message = f"references {references} are not the last of columns {columns}"
        yield message, "list all columns of a row in columns, with those used only by scoring at the end"
    if settings.dataset is None:
        yield "the file names no published data set: the task can be measured, but its records are never official", None
    elif missing := [one for one in columns if one not in (*settings.dataset.columns, *references)]:
        yield f"dataset.columns lacks {', '.join(missing)}", "add them as `column of the task: column of the data set`"
    if not settings.check_models:
        fix = "name a small architecture of params/architectures/ for the task, such as check_models: [tiny-bert]"
        yield "check_models is empty, so the phases cannot be checked", fix
    for name in settings.check_models:
        try:
            find_architecture(name, bench.params, settings.architectures)
        except EnergylabError as error:
            fix = "choose an existing one, or add a row to a FAMILY.yaml in the folder named by `architectures:`"
            yield f"check_models: {error}", fix


def sample(bench: Bench) -> Iterator[Problem]:
    """sample data exist, are licensed and usable, and corrupt rows are refused before anything is measured"""
    from energylab.tasks.data import json_lines

    folder, least = bench.settings.sample, Parameters.model_fields["samples"].default
    if folder is None:
        fix = f"write at least {least} rows to sample/rows.jsonl and their licence to about.yaml; set `sample: sample`"
        yield "the file names no sample data, so the task cannot be tried without the published data set", fix
        return
    bench.make(samples=1, data_source="sample").load_rows()  # folder, licence, the first row
    rows = json_lines(folder / "rows.jsonl")
    if len(rows) < least:
        yield f"{folder.name}/rows.jsonl has {len(rows)} rows", f"write at least {least}, of different lengths"
    if len({json.dumps(row, sort_keys=True) for row in rows}) < len(rows):
        yield "some rows are repeated", "keep each row once: a repeated query adds no evidence"
    for column in bench.family.columns:
        absent = [number for number, row in enumerate(rows) if row.get(column) is None]
        if absent:
            yield f"{len(absent)} row(s) lack {column!r}, the first is row {absent[0]}", f"add {column!r} to each"
    bench.make(samples=len(rows), data_source="sample").load_rows()
    for what, corrupt in _corrupted(bench, folder, rows[:3]):
        yield from _refused(bench, folder, corrupt, what)


def _corrupted(bench: Bench, folder: Path, rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield rows with one corruption of the second row at a time, and too few rows, each with a description."""
    yield "fewer rows than `samples`", rows[:1]
    names = {file.name for file in folder.iterdir()}
    for column in (column for column in bench.family.columns if column not in bench.family.references):
        bad: dict[str, Any] = {"is null": None, "is a list": [1, 2]}
        value = rows[1].get(column)
        if isinstance(value, str):
            bad |= {"is a number": 7, "is empty": ""}
        if value in names:
            bad |= {"names a missing file": f"no-{value}", "names a broken file": "broken.bin"}
        yield f"a row without {column!r}", [rows[0], {k: v for k, v in rows[1].items() if k != column}, rows[2]]
        for what, instead in bad.items():
            yield f"a row whose {column!r} {what}", [rows[0], {**rows[1], column: instead}, rows[2]]


def _refused(bench: Bench, folder: Path, rows: list[Row], what: str) -> Iterator[Problem]:
    fix = "let check_row return what is wrong with a row, or None"
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
        except Exception as error:  # noqa: BLE001 - the task may raise anything, and each is a finding
            yield f"{what} raises {bench.describe(error)} instead of a DataError", fix
        else:
            yield f"{what} is accepted", fix


# ---- checks of the loaded task


def loading(bench: Bench) -> Iterator[Problem]:
    """creating the task does no work, its queries and its model can be loaded, and an unknown model is refused"""
    from energylab.devices import resolve_devices
    from energylab.protocol.workload import checked_phases

    bench.make()  # modules are imported by now
    with watched(bench, {}) as seen:
        bench.make()
    for what in seen:
        yield f"creating the task {what}", "move this work to load_rows, load or ready, which run once outside windows"
    checked_phases(bench.task)
    for name, values in bench.task.covariates(bench.rows).items():
        if len(values) != QUERIES:
            message = f"covariates[{name!r}] has {len(values)} values for {QUERIES} queries"
            yield message, "return exactly one number per row, in the order of the rows"
    try:
        bench.make(model="no-such-architecture").check("cpu", resolve_devices("cpu", 1))
    except EnergylabError:
        return
    yield "check() accepts a model that does not exist", "let check() find the model, so that a wrong name fails early"


def phases(bench: Bench) -> Iterator[Problem]:
    """phases do their work: preprocess prepares the rows, the others run the model at every call"""
    named, inputs = bench.task.phases, bench.task.prepare(bench.rows[:2])
    if not set(named) & (set(SCORED_PHASES) - {"preprocess", "total"}):
        yield f"no phase of {named} except preprocess is rated", "measure the model in forward, generate or call"
    if "prefill" in named and "generate" not in named:
        yield "there is a prefill but no generate", "add generate: prefill is a part of it that is measured separately"
    if "preprocess" in named:
        passes, once = _passes(lambda: bench.task.prepare(bench.rows[:1]))
        if passes:
            yield f"preprocess runs a network {passes} time(s)", "move what runs a network to the next phase"
        if bench.task.prepare(bench.rows[:1]) is once:
            yield "preprocess returns a stored object instead of working", "prepare the inputs at every call"
        if same(once, bench.task.prepare(bench.rows[1:2])):
            yield "two different queries give the same inputs", "prepare the inputs from the given rows"
    made = {}
    for phase in (one for one in named if one != "preprocess"):
        made[phase], again = (_passes(lambda phase=phase: bench.task.run(phase, inputs))[0] for _ in range(2))
        if made[phase] == 0:
            yield f"{phase} never runs a torch module", f"let run({phase!r}, inputs) call the model"
        elif again < made[phase]:
            message = f"{phase} ran the model {made[phase]} time(s), but only {again} at the next call"
            yield message, "compute the outputs at every call"
    generated = made.get("generate", NEW_TOKENS)
    if generated < NEW_TOKENS:
        message = f"generate ran the model {generated} time(s) for {NEW_TOKENS} new tokens"
        yield message, "generate exactly new_tokens tokens, with one pass per token"
    if made.get("prefill", 0) >= generated:
        yield "prefill runs the model as often as generate", "let prefill generate only the first token"


def _passes(call: Callable[[], Any]) -> tuple[int, Any]:
    """Return how often a call ran a whole model, and its result."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    depth = passes = 0

    def enter(*_: Any) -> None:
        nonlocal depth, passes
        passes += depth == 0
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
    try:
        result = call()
    finally:
        for hook in hooks:
            hook.remove()
    return passes, result


def window(bench: Bench) -> Iterator[Problem]:
    """only the model's work runs inside a window: no files, printing, logging, scoring or gradients"""
    from transformers import PreTrainedTokenizerBase as Tokenizer

    outside = bench.codes("answers", "score", "count", "covariates", "load_rows", "load", "extra")
    preparing = {Tokenizer.__call__.__code__: "tokenises", Tokenizer.decode.__code__: "decodes"}
    preparing |= bench.codes("prepare")
    for phase in bench.task.phases:
        given = bench.rows[:2] if phase == "preprocess" else bench.task.prepare(bench.rows[:2])
        outputs = bench.task.run(phase, given)  # imports what it needs
        with watched(bench, outside if phase in ("preprocess", "call") else {**outside, **preparing}) as seen:
            bench.task.run(phase, given)
        for what in seen:
            yield f"{phase} {what}", "prepare inputs before the windows, read and score answers after them"
        if any(getattr(one, "requires_grad", False) for _, one in leaves(outputs)):
            yield f"{phase} records gradients", "call the model under `with torch.inference_mode():`"


def batches(bench: Bench) -> Iterator[Problem]:
    """answers and token counts do not depend on the batch"""
    rows = bench.rows
    if getattr(bench.settings, "sampling", None) is not None:
        yield "answers are sampled at random, so those of a batch cannot be compared with single ones", None
        return
    alone, together = [bench.ask([row]) for row in rows], bench.ask(rows)
    if [len(answers) for answers in alone] != [1] * len(rows) or len(together) != len(rows):
        message = f"{len(rows)} queries gave {sum(map(len, alone))} answers one by one and {len(together)} together"
        yield message, "let answers() return exactly one answer per query, in the order of the rows"
        return
    fix = "pass the attention mask to the model, do not normalise over the batch, keep the order of the rows"
    differ = [number for number, one in enumerate(alone) if not same(one[0], together[number])]
    if differ:
        before, after = short(alone[differ[0]][0]), short(together[differ[0]])
        message = f"{len(differ)} of {len(rows)} answers change when the query is in a batch"
        yield f"{message}; query {differ[0]}: {before} alone, {after} together", fix
    elif _numbers_differ(bench):
        yield f"the outputs of {bench.last} for a query change when it is in a batch", fix
    counted, whole = [_counted(bench, [row]) for row in rows], _counted(bench, rows)
    for name in ("input", "output"):
        parts, total = [getattr(one, name) for one in counted], getattr(whole, name)
        if None not in (*parts, total) and sum(parts) != total:
            message = f"count() finds {sum(parts)} {name} tokens one by one and {total} together"
            yield message, "count tokens without padding: inputs['attention_mask'].sum()"


def _counted(bench: Bench, rows: Sequence[Row]) -> Any:
    inputs = bench.task.prepare(rows)
    return bench.task.count(bench.last, inputs, bench.task.run(bench.last, inputs))


def _numbers_differ(bench: Bench) -> bool:
    """Compare the raw outputs of a batch with those of single queries, where their shapes allow it."""
    inputs = bench.task.prepare(bench.rows)
    mask = inputs["attention_mask"].bool() if isinstance(inputs, Mapping) and "attention_mask" in inputs else None
    whole = [one for one in _tensors(bench, inputs) if one.shape[:1] == (len(bench.rows),)]
    for number, row in enumerate(bench.rows):
        for one, many in zip(_tensors(bench, bench.task.prepare([row])), whole, strict=False):
            by_token = mask is not None and many.shape[:2] == mask.shape and many.is_floating_point()
            beside = many[number][mask[number]] if by_token else many[number]
            if one.shape[:1] == (1,) and beside.shape == one.shape[1:] and not same(one[0], beside):
                return True
    return False


def _tensors(bench: Bench, inputs: Any) -> list[Any]:
    return [one for _, one in leaves(bench.task.run(bench.last, inputs)) if hasattr(one, "shape")]


def tokens(bench: Bench) -> Iterator[Problem]:
    """token counts are exact, and the requested number of tokens is generated"""
    task, inputs = bench.task, bench.task.prepare(bench.rows)
    known = task.covariates(bench.rows).get("input_tokens")
    if known is not None and "preprocess" in task.phases:
        counted = bench.task.count("preprocess", inputs, inputs).input
        if sum(known) != counted:
            message = f"covariates() returns {sum(known):g} input tokens, count() {counted}"
            yield message, "count special tokens in both, padding in none"
    for phase, each in (("prefill", 1), ("generate", NEW_TOKENS)):
        if phase in task.phases:
            yield from _generated(bench, phase, each * len(bench.rows), inputs)


def _generated(bench: Bench, phase: str, asked: int, inputs: Any) -> Iterator[Problem]:
    outputs = bench.task.run(phase, inputs)
    found = bench.task.count(phase, inputs, outputs).output
    if found != asked:
        message = f"{phase}: count() returns {found} output tokens instead of {asked}"
        yield message, "generate as many tokens as the parameter new_tokens, and count the generated tokens"
        return
    parts = outputs if isinstance(outputs, list) else [outputs]
    if getattr(bench.task, "open_ended", False):
        yield f"{phase} may take several passes, so its number of tokens is not fixed", None
    elif not all(len(getattr(one, "shape", ())) == 2 for one in parts):
        yield f"{phase} returns no tensor of token ids, so a missing token could not be tested", None
    else:
        shorter = [one[:, :-1] for one in parts]
        try:
            bench.task.count(phase, inputs, shorter if isinstance(outputs, list) else shorter[0])
        except EnergylabError:
            return
        fix = "raise TaskError in count() if the number of generated tokens is not new_tokens"
        yield f"{phase}: outputs with one token too few are accepted by count()", fix


def determinism(bench: Bench) -> Iterator[Problem]:
    """deterministic: the same seed gives the same queries, model and answers; another seed other queries"""
    first, again = bench.ask(bench.rows), bench.ask(bench.rows)
    anew = Bench(bench.name, bench.model, bench.params)
    if not same(first, again):
        fix = "put the model in evaluation mode, decode greedily, and do not change the inputs"
        yield f"the same inputs give other answers the second time: {short(first)}, then {short(again)}", fix
    elif not same(first, again := anew.ask(anew.rows)):
        message = f"loaded again with the same seed, the answers differ: {short(first)}, then {short(again)}"
        yield message, "draw random weights and all other random values from parameters.seed"
    tasks = [bench.make(data_source="synthetic", seed=seed) for seed in (0, 0, 1)]
    once, twice, other = (task.load_rows()[1].digest for task in tasks)
    if once != twice:
        yield "synthetic queries of the same seed differ", "draw only from numpy.random.default_rng(seed)"
    if once == other:
        yield "synthetic queries of two seeds are equal", "draw from numpy.random.default_rng(seed)"


def quality(bench: Bench) -> Iterator[Problem]:
    """quality is scored: right and wrong answers have different scores, and random weights have none"""
    answers, task, facts = bench.ask(bench.rows), bench.task, bench.task.facts
    found = bench.task.score(answers, bench.rows)
    if not found:
        fix = "return one Quality per metric, with value=None and a reason in `meaningless` if it is meaningless"
        yield "score() returns nothing, so models with poor answers would be rated best", fix
        return
    fix = "begin score() with `meaningless = self.no_quality(metric, rows)` and return it if it is not None"
    for one in (one for one in found if one.value is not None and not facts.real_weights):
        yield f"{one.metric} is {one.value:g} for a model with random weights", fix
    task.facts = facts.model_copy(update={"real_weights": True})  # as if the weights were real
    try:
        bare = [
            {name: value for name, value in row.items() if name not in bench.family.references} for row in bench.rows
        ]
        for one in bench.task.score(answers, bare) if bench.family.references else ():
            if one.value is not None:
                yield f"{one.metric} is {one.value:g} for rows without a reference", fix
        for one in (*found, *bench.task.score(answers, bench.rows), *bench.task.score(answers[:1], bench.rows[:1])):
            if not (one.meaningless if one.value is None else math.isfinite(one.value)):
                message = f"{one.metric} is {one.value} without a reason"
                yield message, "return a finite value, or None with a reason in `meaningless`"
        yield from _right_and_wrong(bench)
    finally:
        task.facts = facts


def _right_and_wrong(bench: Bench) -> Iterator[Problem]:
    right = bench.task.right_answers(bench.rows)
    if right is None:
        fix = "write right_answers(rows): the result of answers() for a model that is always right"
        message = "right_answers() returns None, so the score of right answers could not be checked"
        yield message, fix if bench.family.references else None
        return
    best = [one.value for one in bench.task.score(right, bench.rows)]
    shifted = ([*right[by:], *right[:by]] for by in range(1, len(right)))
    wrong = [answers for answers in shifted if not same(answers, right)]
    if None in best or not wrong:
        yield "right answers have no score, or are all equal, so they cannot be compared with wrong ones", None
    elif all([one.value for one in bench.task.score(answers, bench.rows)] == best for answers in wrong):
        fix = "compare each answer with its own row's reference in score()"
        yield f"right answers and other rows' answers both score {best[0]:g}", fix


def session(bench: Bench) -> Iterator[Problem]:
    """a short session writes a record with all phases and answers, which can be read again unchanged"""
    from energylab import measuring
    from energylab.energy import scored_totals

    unneeded = dict.fromkeys(unused(bench.parameters(), bench.family))
    parameters = bench.parameters(samples=4, runs=1, meter="estimate", **SHORT, **unneeded)
    record = measuring.measure(parameters=parameters)
    failed = {failure.message for window in record.windows for failure in window.failures}
    for message in sorted(failed):
        yield f"a query failed inside a window: {message}", "let check_row refuse such rows before measuring"
    plain = "let answers(), score(), extra() and resolved_settings() return plain numbers, texts, lists and mappings"
    if "unscored" in record.extra:
        yield f"the answers of a session were not scored: {record.extra['unscored']}", plain
    rated = {total.phase for total in scored_totals(record) if total.valid}
    lost = ", ".join(phase for phase in record.phases if phase in SCORED_PHASES and phase not in rated)
    if lost and not failed:
        fix = None if not record.valid else "name every phase once in phases"
        yield f"{lost} has no total: {'; '.join(record.reasons) or 'not measured'}", fix
    if Record.model_validate_json(record.model_dump_json()).digest() != record.digest():
        yield "the record changes when it is written and read again", plain


Check = Callable[[Bench], Iterator[Problem]]
BEFORE: tuple[Check, ...] = (file, sample)  # need the file and the class alone
AFTER: tuple[Check, ...] = (loading, phases, window, batches, tokens, determinism, quality, session)  # each model


def check(task: str, models: Iterable[str] = (), params: str | Path | None = None) -> Report:
    """Run all checks on a task, given by its name or the path of its file.

    `models` are architectures, by default those in the task's file (``check_models``); `params` is a folder with the
    layout of ``params/``. The report has one finding per check or, for checks that need a model, per check and model.
    """
    from energylab.tasks.models import quiet_imports

    first = Bench(task, "", params)
    with quiet_imports():
        findings = [_look(function, first) for function in BEFORE]
        for model in tuple(models) or first.settings.check_models:
            bench, of_model = Bench(task, model, params), []
            for function in AFTER:  # without loading no other check runs; the session needs all others
                needed = of_model if function is session else of_model[:1]
                waits = any(finding.status == "failed" for finding in needed)
                of_model.append(_look(function, bench, waits))
            findings += of_model
    return Report(first.settings.name, str(find_file(task, params)), tuple(findings))


def _look(function: Check, bench: Bench, waits: bool = False) -> Finding:
    found: list[Problem] = list(WAITS) if waits else []
    try:
        found.extend(() if waits else function(bench))  # what was found before an error stays found
    except Exception as error:  # noqa: BLE001 - the task may raise anything, and each is a finding
        found.append((bench.describe(error), "correct this first; the rest of this check could not run"))
    return Finding(function.__name__, bench.model, str(function.__doc__), tuple(found))


# ---- what happens while a phase runs, and how outputs are compared


@contextmanager
def watched(bench: Bench, methods: dict[CodeType, str]) -> Iterator[dict[str, None]]:
    """Collect work that is not the model's, with its line in the task's files; calls of `methods` are reported too."""
    seen: dict[str, None] = {}
    python = {logging.Logger.handle.__code__: "writes a log", **methods}

    def look(frame: FrameType | None, event: str, function: Any) -> None:
        what = FOREIGN.get(getattr(function, "__qualname__", "")) if event == "c_call" else None
        what = python.get(frame.f_code) if event == "call" else what
        if what is not None:
            while frame is not None and frame.f_code.co_filename not in bench.files:
                frame = frame.f_back
            where = "" if frame is None else f" at {Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
            seen[f"{what}{where}"] = None

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every tensor, picture, number and text inside a value, with its path."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if not hasattr(value, "shape") and isinstance(getattr(value, "data", None), Mapping):
        value = value.data  # a BatchEncoding
    if not isinstance(value, Mapping | list | tuple):
        yield path, value
        return
    for name, one in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from leaves(one, f"{path}/{name}")


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in structure and content; numbers within `TOLERANCE` or `SMALLEST`."""
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
    least = 1.0 if hasattr(a, "getpixel") else SMALLEST  # rounding may move a picture by one of its 256 levels
    return bool(np.allclose(x.astype(float), y.astype(float), rtol=TOLERANCE, atol=least, equal_nan=True))


def short(value: Any, width: int = 60) -> str:
    """Return a value as one short line of text."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


# ---- notebook and command line


def source(name: str | Path, lines: int | None = None) -> str:
    """Return a file of a task, or its first `lines`, as a block of Markdown for a notebook."""
    file = named_file(name, "file", TaskError)
    text = file.read_text(encoding="utf-8").rstrip().splitlines()
    shown = text if lines is None else [*text[:lines], *[f"… {len(text) - lines} more lines"] * (len(text) > lines)]
    language = {".py": "python", ".jsonl": "json"}.get(file.suffix, file.suffix.removeprefix("."))
    return "\n".join([f"```{language}", *shown, "```"])


commands = typer.Typer(help="List tasks, and check a new one.", no_args_is_help=True)
Params = Annotated[Path | None, typer.Option(help="Folder with the layout of params/; default: ./params or above.")]


def mount(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(commands, name="task")


@commands.command("list")
def task_list(params: Params = None) -> None:
    """List all tasks: those in params/tasks/ and those of installed packages."""
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
        list[str] | None, typer.Option(help="Architecture to use; default: check_models of the file.")
    ] = None,
    params: Params = None,
) -> None:
    """Check a task and print every issue with a fix; exit status 1 if there is one."""
    from energylab.tasks.models import quiet

    with quiet():
        report = check(name, model or (), params)
    typer.echo(report.text())
    sys.exit(0 if report.passed else 1)
