"""Tasks broken in one place each: the check that is for it finds it, says what is wrong, and names the line."""

import json
import re
import time

import broken
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from energylab import taskcheck
from energylab.cli import app
from energylab.errors import EnergylabError, TaskError
from energylab.taskcheck import Bench, same
from energylab.tasks import task_names


def of_phases(*phases):
    return f"def fit(self):\n    facts = super().fit()\n    self.phases = {phases}\n    return facts"


#: Check -> what is wrong, by name: body of the class, and what the check says.
FILL_MASK = {
    "loading": {
        "covariates": (
            "def covariates(self, rows):\n    return {'input_tokens': (1.0,)}",
            "has 1 values for 6 queries",
        ),
        "unknown phase": (of_phases("preprocess", "forwrd"), "did you mean 'forward'"),
        "any model": ("def check(self, device, facts):\n    pass", "accepts a model that does not exist"),
        "raises": ("def ready(self):\n    return self.modell", "AttributeError.*broken.py line"),
    },
    "phases": {
        "kept outputs": (
            "def call(self, phase, inputs):\n"
            "    kept = self.__dict__.setdefault('kept', {})\n"
            "    key = str(inputs['input_ids'].tolist())\n"
            "    if key not in kept:\n"
            "        kept[key] = super().call(phase, inputs)\n"
            "    return kept[key]",
            "forward ran the model 1 time.*and 0 when called again",
        ),
        "network in preprocess": (
            "def prepare(self, rows):\n"
            "    inputs = super().prepare(rows)\n"
            "    with torch.inference_mode():\n"
            "        self.model(**inputs)\n"
            "    return inputs",
            "preprocess runs a network 1 time",
        ),
        "kept inputs": (
            "def prepare(self, rows):\n"
            "    kept = self.__dict__.setdefault('kept', {})\n"
            "    if str(rows) not in kept:\n"
            "        kept[str(rows)] = super().prepare(rows)\n"
            "    return kept[str(rows)]",
            "hands out the same object",
        ),
        "one input for all": (
            "def texts(self, rows):\n    return ['a ' + self.processor.mask_token for row in rows]",
            "two different queries give the same inputs",
        ),
        "nothing rated": (of_phases("preprocess"), "no phase of .* is rated but preprocess"),
    },
    "window": {
        "prints": (
            "def call(self, phase, inputs):\n    print('x')\n    return super().call(phase, inputs)",
            "forward prints",
        ),
        "opens": (
            "def call(self, phase, inputs):\n    open(__file__).close()\n    return super().call(phase, inputs)",
            "forward opens a file at broken.py line 15",
        ),
        "sleeps": (
            "def call(self, phase, inputs):\n    time.sleep(0)\n    return super().call(phase, inputs)",
            "sleeps",
        ),
        "collects": (
            "def call(self, phase, inputs):\n    gc.collect(0)\n    return super().call(phase, inputs)",
            "collects garbage",
        ),
        "logs": (
            "def call(self, phase, inputs):\n    logging.getLogger('x').error('y')\n"
            "    return super().call(phase, inputs)",
            "writes a log",
        ),
        "tokenises": (
            "def call(self, phase, inputs):\n    self.processor(['x'])\n    return super().call(phase, inputs)",
            "forward tokenises",
        ),
        "reads its answers": (
            "def call(self, phase, inputs):\n"
            "    outputs = super().call(phase, inputs)\n"
            "    self.answers(inputs, outputs)\n"
            "    return outputs",
            r"forward calls answers\(\)",
        ),
        "prints in preprocess": (
            "def prepare(self, rows):\n    print('x')\n    return super().prepare(rows)",
            "preprocess prints",
        ),
        "gradients": (
            "def call(self, phase, inputs):\n    return self.keep(self.model(**inputs.to(self.device)))",
            "records gradients",
        ),
    },
    "batches": {
        "no attention mask": (
            "def call(self, phase, inputs):\n"
            "    with torch.inference_mode():\n"
            "        return self.keep(self.model(input_ids=inputs['input_ids']))",
            "change when it is in a batch",
        ),
        "other order": (
            "def answers(self, inputs, outputs):\n    return super().answers(inputs, outputs)[::-1]",
            "answers change when the query is in a batch",
        ),
        "one answer a batch": (
            "def answers(self, inputs, outputs):\n    return super().answers(inputs, outputs)[:1]",
            "6 answers one by one and 1 together",
        ),
        "padding counted": (
            "def count(self, phase, inputs, outputs):\n    return Tokens(input=inputs['input_ids'].numel())",
            "input tokens one by one and",
        ),
    },
    "tokens": {
        "one too many": (
            "def covariates(self, rows):\n"
            "    return {'input_tokens': tuple(n + 1 for n in super().covariates(rows)['input_tokens'])}",
            r"covariates\(\) says \d+ input tokens, count\(\) finds \d+",
        ),
    },
    "determinism": {
        "training mode": (
            "def ready(self):\n    self.model.train()\n    return super().ready()",
            "other answers the second time",
        ),
        "seed ignored": (
            "def synthesise(self, count, seed):\n    return super().synthesise(count, 0)",
            "synthetic queries of two seeds are equal",
        ),
        "no seed": (
            "def synthesise(self, count, seed):\n    return super().synthesise(count, random.randrange(10**9))",
            "synthetic queries of the same seed differ",
        ),
        "other weights": (
            "def ready(self):\n"
            "    for tensor in self.model.parameters():\n"
            "        torch.nn.init.normal_(tensor, std=0.1)\n"
            "    return super().ready()",
            "loaded again with the same seed it answers differently",
        ),
        "too few": (
            "def synthesise(self, count, seed):\n    return super().synthesise(count + 1, seed)",
            "6 synthetic queries were asked for, 7 made",
        ),
    },
    "quality": {
        "constant": (
            "def score(self, answers, rows):\n"
            "    none = self.no_quality('accuracy', rows)\n"
            "    return (none or Quality(metric='accuracy', value=0.5, queries=len(rows)),)",
            "both score 0.5",
        ),
        "of random weights": (
            "def score(self, answers, rows):\n"
            "    right = [a == row.get('word') for a, row in zip(answers, rows)]\n"
            "    return (Quality(metric='accuracy', value=sum(right) / len(rows), queries=len(rows)),)",
            "for a model with random weights",
        ),
        "nothing": ("def score(self, answers, rows):\n    return ()", "returns nothing"),
        "no number": (
            "def score(self, answers, rows):\n"
            "    none = self.no_quality('accuracy', rows)\n"
            "    return (none or Quality.model_construct(metric='accuracy', value=float('nan'), queries=6),)",
            "accuracy is nan",
        ),
        "not of one": (
            "def score(self, answers, rows):\n    return super().score(answers, rows) if 1 / (len(rows) - 1) else ()",
            "ZeroDivisionError.*broken.py line 15 .while score",
        ),
        "no right answers": ("def right_answers(self, rows):\n    return None", "returns None, so that"),
        "no reason": (
            "def score(self, answers, rows):\n    return (Quality(metric='accuracy', value=None, queries=len(rows)),)",
            "is None and no reason is given",
        ),
    },
    "session": {
        "no plain record": (
            "def extra(self, answers):\n    return {'first': torch.ones(1)}",
            "were not scored: PydanticSerializationError.*torch.Tensor",
        ),
        "fails on the third": (
            "def call(self, phase, inputs):\n"
            "    self.seen = getattr(self, 'seen', 0) + 1\n"
            "    if self.parameters.meter == 'estimate':\n"
            "        raise TaskError('worn out')\n"
            "    return super().call(phase, inputs)",
            "worn out",
        ),
    },
    "loading ": {
        "reads": (
            "def __init__(self, settings, parameters):\n"
            "    super().__init__(settings, parameters)\n"
            "    self.words = open(__file__).read()",
            "creating the task opens a file at broken.py line 16",
        ),
    },
    "sample": {
        "all accepted": ("def check_row(self, row):\n    return None", "a row whose 'text' is null is accepted"),
        "raises": (
            "def check_row(self, row):\n    return None if row['text'].strip() else 'empty'",
            "'text' is null raises AttributeError.*broken.py line 15",
        ),
    },
}

GENERATION = {
    "phases": {
        "no generation": (
            "def call(self, phase, inputs):\n"
            "    first = super().call('prefill', inputs)\n"
            "    made_up = torch.zeros((len(first), 4), dtype=int)\n"
            "    return first if phase == 'prefill' else torch.cat([first, made_up], 1)",
            "generate ran the model 1 time",
        ),
        "prefill is generate": (
            "def call(self, phase, inputs):\n"
            "    made = super().call('generate', inputs)\n"
            "    return made[:, :-4] if phase == 'prefill' else made",
            "prefill runs the model as often",
        ),
        "prefill alone": (of_phases("preprocess", "prefill"), "a prefill and no generate"),
    },
    "tokens": {
        "more than asked": (
            "new_tokens = 7",
            "count.* finds 42 output tokens, 30 were asked for",
        ),
        "not counted": (
            "def check_new_tokens(self, phase, found):\n    pass",
            "one token too few are counted as if nothing were wrong",
        ),
        "counted wrong": (
            "def count(self, phase, inputs, outputs):\n"
            "    tokens = super().count(phase, inputs, outputs)\n"
            "    return Tokens(tokens.input, tokens.output and tokens.output + 1)",
            "output tokens, (6|30) were asked for",
        ),
    },
}


def cases(table):
    for check, tasks in table.items():
        for name, (body, message) in tasks.items():
            yield pytest.param(check.strip(), body, message, id=f"{check}: {name}")


def issues(task, check, model=""):
    """Return what one check finds, as the report words it."""
    finding = taskcheck._look(getattr(taskcheck, check), Bench(task, model))
    assert finding.status == "failed", finding
    text = "\n".join(finding.lines())
    assert text.count("fix:") == text.count("issue:") > 0
    return text


@pytest.mark.parametrize(("check", "body", "message"), [*cases(FILL_MASK)])
def test_what_is_wrong_is_found(check, body, message, tmp_path):
    assert re.search(message, issues(broken.write(tmp_path, body), check, "tiny-bert"))


@pytest.mark.parametrize(("check", "body", "message"), [*cases(GENERATION)])
def test_what_is_wrong_with_a_task_that_generates_is_found(check, body, message, tmp_path):
    assert re.search(message, issues(broken.write(tmp_path, body, base="TextGeneration"), check, "tiny-llama"))


@pytest.mark.parametrize(
    ("changes", "check", "message"),
    [
        ({"check_models": None}, "file", "check_models is empty"),
        ({"check_models": ["tiny-brt"]}, "file", "did you mean 'tiny-bert'"),
        ({"title": " "}, "file", "title is empty"),
        ({"dataset": {"id": "someone/texts", "columns": {}}}, "file", "dataset.columns lacks text"),
        ({"sample": None}, "sample", "names no sample data"),
        ({"sample": "elsewhere"}, "sample", "has no sample data"),
    ],
)
def test_what_a_file_lacks_is_named(changes, check, message, tmp_path):
    assert message in issues(broken.write(tmp_path, **changes), check)


def test_references_stand_last(tmp_path):
    assert "are not the last of columns" in issues(broken.write(tmp_path, "columns = ('word', 'text')"), "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:5], "has 5 rows"),
        (lambda rows: [*rows, rows[0]], "there twice"),
        (lambda rows: [*rows, {"text": "A ___."}], "lack 'word', the first is row 18"),
        (lambda rows: [*rows, {"text": "no blank", "word": "x"}], "0 blanks"),
        (lambda rows: [*rows, "text"], "line 19 is no object"),
    ],
)
def test_a_poor_sample_is_found(change, message, tmp_path):
    task, file = broken.write(tmp_path), tmp_path / "sample" / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, change(rows))))
    assert message in issues(task, "sample")


def test_a_sample_without_a_licence_is_found(tmp_path):
    task = broken.write(tmp_path)
    (tmp_path / "sample" / "about.yaml").write_text("about: mine")
    assert "names no licence" in issues(task, "sample")


def test_when_the_model_does_not_load_the_rest_waits(tmp_path):
    report = taskcheck.check(broken.write(tmp_path, "head_class = 'AutoModelForNothing'"))
    waiting = [finding.check for finding in report.findings if finding.status == "waits"]
    assert waiting == ["phases", "window", "batches", "tokens", "determinism", "quality", "session"]
    assert report.verdict() == "broken: 1 issue found; 7 checks wait for the fix"


def test_the_first_draft_fails_where_its_comments_say():
    report = taskcheck.check(str(broken.EXAMPLE / "first_draft.yaml"))
    assert {finding.check for finding in report.failed} == {"sample", "window", "batches", "quality"}


def test_what_cannot_be_read_at_all_is_one_error(tmp_path):
    task = broken.write(tmp_path, "def (")
    with pytest.raises(EnergylabError, match="cannot be imported"):
        taskcheck.check(task)
    with pytest.raises(TaskError, match="no such file"):
        taskcheck.check(str(tmp_path / "nothing.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("task", [*task_names(), str(broken.EXAMPLE / "fill_mask.yaml")])
def test_every_task_of_this_package_and_the_example_pass(task):
    report = taskcheck.check(task)
    assert report.passed, report.text()
    tried = {finding.model for finding in report.findings} - {""}
    assert tried  # else no check of a phase has run
    assert len({finding.check for finding in report.findings}) == 10


# ---- what a newcomer sees


def call(*arguments):
    return CliRunner().invoke(app, ["task", *arguments])


def test_every_task_is_listed_with_its_phases(tmp_path):
    result = call("list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == set(task_names())
    assert "preprocess + prefill + generate" in lines["text_generation"]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "torn.yaml").write_text("title: [")
    assert "torn  cannot be read: " in call("list", "--params", str(tmp_path)).stdout


def test_a_task_that_passes_ends_well_and_another_says_what_to_fix(tmp_path):
    result = call("check", str(broken.EXAMPLE / "fill_mask.yaml"), "--model", "tiny-bert")
    assert result.exit_code == 0, result.stdout
    assert "fill_mask: 10 checks passed" in result.stdout
    assert "tiny-roberta" not in result.stdout
    result = call("check", broken.write(tmp_path, "def score(self, answers, rows):\n    return ()"))
    assert result.exit_code == 1
    assert "issue: score() returns nothing" in result.stdout
    assert "fix:   return a Quality" in result.stdout
    assert "broken: 1 issue found" in result.stdout


def test_a_notebook_shows_a_file_or_its_first_lines(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("a = 1\nb = 2\nc = 3\n")
    assert taskcheck.source(file) == "```python\na = 1\nb = 2\nc = 3\n```"
    assert taskcheck.source(file, lines=1) == "```python\na = 1\n… 2 more lines\n```"
    with pytest.raises(TaskError, match="no such file"):
        taskcheck.source(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1.0, 1.00001, True),
        (1.0, 1.001, False),
        ("a", "a", True),
        (1, "1", False),
        ({"text": "a", "score": 0.5}, {"text": "a", "score": 0.500001}, True),
        ([1, 2], [1, 2, 3], False),
        (torch.ones(2), torch.ones(2) * (1 + 1e-6), True),
        (torch.ones(2), torch.ones(3), False),
        (np.array([float("nan")]), np.array([float("nan")]), True),
        (None, None, True),
        (time, json, False),
    ],
)
def test_two_answers_are_the_same(a, b, equal):
    assert same(a, b) is equal
