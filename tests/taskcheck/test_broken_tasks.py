"""Tasks broken in one place each: the check that is for it catches it, says what is wrong, and names the line."""

import json
import re

import broken
import pytest

from energylab import taskcheck
from energylab.errors import EnergylabError, TaskError

#: Check -> what is wrong, by name: body of the class, and what the check says.
FILL_MASK = {
    "loading": {
        "covariates": (
            "def covariates(self, rows):\n    return {'input_tokens': (1.0,)}",
            "has 1 values for 6 queries",
        ),
        "unknown phase": ("phases = ('preprocess', 'forwrd')", "did you mean 'forward'"),
        "no method": ("phases = ('preprocess', 'generate')", "no method generate"),
        "any model": ("def check(self, device, facts):\n    pass", "accepts a model that does not exist"),
        "raises": ("def ready(self, loaded):\n    return loaded.modell", "AttributeError.*broken.py line"),
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
            "def preprocess(self, rows):\n"
            "    inputs = self.tokenise(rows)\n"
            "    with torch.inference_mode():\n"
            "        self.model(**inputs)\n"
            "    return inputs",
            "preprocess runs a network 1 time",
        ),
        "kept inputs": (
            "def preprocess(self, rows):\n"
            "    kept = self.__dict__.setdefault('kept', {})\n"
            "    return kept.setdefault(str(rows), None) or kept.update({str(rows): self.tokenise(rows)}) or "
            "kept[str(rows)]",
            "hands out the same object",
        ),
        "one input for all": (
            "def texts(self, rows):\n    return ['a ' + self.processor.mask_token for row in rows]",
            "two different queries give the same inputs",
        ),
        "nothing rated": ("phases = ('preprocess',)", "no phase of .* is rated but preprocess"),
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
            "def preprocess(self, rows):\n    print('x')\n    return self.tokenise(rows)",
            "preprocess prints",
        ),
        "gradients": (
            "def call(self, phase, inputs):\n    return self.model(**inputs.to(self.device))",
            "records gradients",
        ),
    },
    "batches": {
        "no attention mask": (
            "def call(self, phase, inputs):\n"
            "    with torch.inference_mode():\n"
            "        return self.model(input_ids=inputs['input_ids'])",
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
            "def ready(self, loaded):\n    loaded.model.train()\n    return super().ready(loaded)",
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
            "def ready(self, loaded):\n"
            "    for tensor in loaded.model.parameters():\n"
            "        torch.nn.init.normal_(tensor, std=0.1)\n"
            "    return super().ready(loaded)",
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
            "both score accuracy = 0.5",
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
            "ZeroDivisionError.*broken.py line 15 .while a single answer is scored",
        ),
        "no right answers": ("def right_answers(self, rows):\n    return None", "returns None though the rows"),
        "no reason": (
            "def score(self, answers, rows):\n    return (Quality(metric='accuracy', value=None, queries=len(rows)),)",
            "neither a value nor a reason",
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
    "creation": {
        "reads": (
            "def __init__(self, settings, parameters):\n"
            "    super().__init__(settings, parameters)\n"
            "    self.words = open(__file__).read()",
            "creating the task opens a file at broken.py line 16",
        ),
    },
    "refusal": {
        "all accepted": ("def check_row(self, row):\n    return None", "'text' is empty is accepted"),
        "raises": (
            "def check_row(self, row):\n    return None if row['text'].strip() else 'empty'",
            "'text' is null raises AttributeError.*broken.py line 15",
        ),
    },
}

GENERATION = {
    "phases": {
        "no generation": (
            "def generate(self, inputs):\n"
            "    made_up = torch.zeros((len(inputs['input_ids']), 4), dtype=int)\n"
            "    return torch.cat([self.prefill(inputs), made_up], 1)",
            "generate ran the model 1 time",
        ),
        "prefill is generate": (
            "def prefill(self, inputs):\n    return self.generate(inputs)[:, :-4]",
            "prefill runs the model as often",
        ),
        "prefill alone": ("phases = ('preprocess', 'prefill')", "a prefill and no generate"),
    },
    "tokens": {
        "more than asked": (
            "new_tokens = 7",
            r"new_tokens=5 was asked for, resolved_settings\(\) says 7",
        ),
        "not counted": (
            "def check_new_tokens(self, phase, found):\n    pass",
            "one token too few are counted as if nothing were wrong",
        ),
        "counted wrong": (
            "def count(self, phase, inputs, outputs):\n"
            "    tokens = super().count(phase, inputs, outputs)\n"
            "    return Tokens(tokens.input, tokens.output and tokens.output + 1)",
            "output tokens, 1 a query for 6 queries were asked for",
        ),
    },
}


def cases(table):
    for check, tasks in table.items():
        for name, (body, said) in tasks.items():
            yield pytest.param(check, body, said, id=f"{check}: {name}")


def found(report, check):
    return "\n".join(line for finding in report.failed if finding.check == check for line in finding.lines())


def holds(report, check, said):
    assert not report.passed
    text = found(report, check)
    assert re.search(said, text), report.text()
    assert text.count("mend:") == text.count("wrong:") > 0


@pytest.mark.parametrize(("check", "body", "said"), [*cases(FILL_MASK)])
def test_what_is_wrong_is_caught(check, body, said, tmp_path):
    holds(taskcheck.check(broken.write(tmp_path, body)), check, said)


@pytest.mark.parametrize(("check", "body", "said"), [*cases(GENERATION)])
def test_what_is_wrong_with_a_task_that_generates_is_caught(check, body, said, tmp_path):
    holds(taskcheck.check(broken.write(tmp_path, body, base="TextGeneration")), check, said)


@pytest.mark.parametrize(
    ("changes", "check", "said"),
    [
        ({"check_models": None}, "settings", "check_models is empty"),
        ({"check_models": ["tiny-brt"]}, "settings", "did you mean 'tiny-bert'"),
        ({"title": " "}, "settings", "title is empty"),
        ({"dtype": "float31"}, "settings", "choose one of float32"),
        ({"dataset": {"id": "someone/texts", "columns": {}}}, "settings", "dataset.columns lacks text"),
        ({"sample": None}, "sample", "names no sample data"),
        ({"sample": "elsewhere"}, "sample", "rows.jsonl is not there"),
    ],
)
def test_what_a_file_lacks_is_named(changes, check, said, tmp_path):
    changes = {"check_models": (), **changes}
    holds(taskcheck.check(broken.write(tmp_path, **changes)), check, said)


def test_references_stand_last(tmp_path):
    report = taskcheck.check(broken.write(tmp_path, "columns = ('word', 'text')", check_models=()))
    holds(report, "settings", "are not the last of columns")


def rows_of(folder):
    return [json.loads(line) for line in (folder / "sample" / "rows.jsonl").read_text().splitlines()]


def sampled(folder, rows=None, about=None):
    task = broken.write(folder, check_models=())
    if rows is not None:
        (folder / "sample" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if about is not None:
        (folder / "sample" / "about.yaml").write_text(about)
    return taskcheck.check(task)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:5], "has 5 rows"),
        (lambda rows: [*rows, rows[0]], "there twice"),
        (lambda rows: [*rows, {"text": "A ___."}], "lack 'word', the first is row 18"),
        (lambda rows: [*rows, {"text": "no blank", "word": "x"}], "0 blanks"),
        (lambda rows: [*rows, "text"], "line 19 is no object"),
    ],
)
def test_a_poor_sample_is_caught(change, said, tmp_path):
    broken.write(tmp_path)
    holds(sampled(tmp_path, rows=change(rows_of(tmp_path))), "sample", said)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("", "missing or empty"),
        ("about: mine", "licence is None"),
        ("{licence: TODO, about: mine}", "licence is 'TODO'"),
        ("licence: CC0-1.0", "does not say where"),
        ("{licence", "is no YAML"),
    ],
)
def test_a_sample_without_a_licence_is_caught(about, said, tmp_path):
    holds(sampled(tmp_path, about=about), "sample", said)


def test_when_the_model_does_not_load_the_rest_waits(tmp_path):
    report = taskcheck.check(broken.write(tmp_path, "head_class = 'AutoModelForNothing'"))
    waiting = [finding.check for finding in report.findings if finding.status == "waits"]
    assert waiting == ["phases", "window", "batches", "tokens", "determinism", "quality", "session"]
    assert "7 checks wait" in report.verdict()


def test_only_the_guilty_check_fails(tmp_path):
    report = taskcheck.check(broken.write(tmp_path, FILL_MASK["window"]["sleeps"][0]))
    assert [finding.check for finding in report.failed] == ["window"]


def test_the_first_draft_fails_where_its_comments_say():
    report = taskcheck.check(str(broken.EXAMPLE / "first_draft.yaml"))
    assert {finding.check for finding in report.failed} == {"refusal", "window", "batches", "quality"}


def test_what_cannot_be_read_at_all_is_one_error(tmp_path):
    task = broken.write(tmp_path, "def (")
    with pytest.raises(EnergylabError, match="cannot be imported"):
        taskcheck.check(task)
    with pytest.raises(TaskError, match="no such file"):
        taskcheck.check(str(tmp_path / "nothing.yaml"))
