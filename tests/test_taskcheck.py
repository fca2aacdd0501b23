"""Tasks broken in one place each: the check that is for it finds it, says what is wrong, and names the line."""

import json
import re
import shutil

import broken
import pytest
import yaml
from typer.testing import CliRunner

from energylab import taskcheck
from energylab.cli import app
from energylab.errors import EnergylabError, TaskError
from energylab.taskcheck import Bench
from energylab.tasks import task_names
from energylab.tasks.architectures import merged


def of_phases(*phases):
    return f"def fit(self):\n    facts = super().fit()\n    self.phases = {phases}\n    return facts"


def before_call(statement):
    return f"def call(self, phase, inputs):\n    {statement}\n    return super().call(phase, inputs)"


def with_rows(lines):
    return f"def prepare(self, rows):\n{lines}"


#: What is wrong, by name: the check that is for it, the body of the class, and what the check says.
FILL_MASK = {
    "covariates of one": (
        "loading", "def covariates(self, rows):\n    return {'input_tokens': (1.0,)}", "has 1 values for 6 queries",
    ),
    "any model": ("loading", "def check(self, device, facts):\n    pass", "accepts a model that does not exist"),
    "raises": ("loading", "def ready(self):\n    return self.modell", "AttributeError.*broken.py line"),
    "reads when created": (
        "loading",
        "def __init__(self, settings, parameters):\n"
        "    super().__init__(settings, parameters)\n"
        "    self.words = open(__file__).read()",
        "creating the task opens a file at broken.py line 16",
    ),
    "kept outputs": (
        "phases",
        "def call(self, phase, inputs):\n"
        "    kept = self.__dict__.setdefault('kept', {})\n"
        "    key = str(inputs['input_ids'].tolist())\n"
        "    if key not in kept:\n"
        "        kept[key] = super().call(phase, inputs)\n"
        "    return kept[key]",
        "forward ran the model 1 time.*but only 0 at the next call",
    ),
    "network in preprocess": (
        "phases",
        with_rows("    self.model(**super().prepare(rows))\n    return super().prepare(rows)"),
        "preprocess runs a network 1 time",
    ),
    "kept inputs": (
        "phases",
        with_rows(
            "    kept = self.__dict__.setdefault('kept', {})\n"
            "    if str(rows) not in kept:\n"
            "        kept[str(rows)] = super().prepare(rows)\n"
            "    return kept[str(rows)]"
        ),
        "returns a stored object",
    ),
    "one input for all": (
        "phases",
        "def texts(self, rows):\n    return ['a ' + self.processor.mask_token for row in rows]",
        "two different queries give the same inputs",
    ),
    "nothing rated": ("phases", of_phases("preprocess"), "no phase of .* except preprocess is rated"),
    "prefill alone": ("phases", of_phases("prefill", "forward"), "a prefill but no generate"),
    "opens": ("window", before_call("open(__file__).close()"), "forward opens a file at broken.py line 15"),
    "reads its answers": (
        "window", before_call("self.answers(inputs, super().call(phase, inputs))"), r"forward calls answers\(\)",
    ),
    "prints": ("window", with_rows("    print('x')\n    return super().prepare(rows)"), "preprocess prints"),
    "gradients": (
        "window",
        "def call(self, phase, inputs):\n    return self.keep(self.model(**inputs.to(self.device)))",
        "records gradients",
    ),
    "no attention mask": (
        "batches",
        "def call(self, phase, inputs):\n"
        "    with torch.inference_mode():\n"
        "        return self.keep(self.model(input_ids=inputs['input_ids']))",
        "change when it is in a batch",
    ),
    "one answer a batch": (
        "batches",
        "def answers(self, inputs, outputs):\n    return super().answers(inputs, outputs)[:1]",
        "6 answers one by one and 1 together",
    ),
    "padding counted": (
        "batches",
        "def count(self, phase, inputs, outputs):\n    return Tokens(input=inputs['input_ids'].numel())",
        "input tokens one by one and",
    ),
    "one token too many": (
        "tokens",
        "def covariates(self, rows):\n"
        "    return {'input_tokens': tuple(n + 1 for n in super().covariates(rows)['input_tokens'])}",
        r"covariates\(\) returns \d+ input tokens, count\(\) \d+",
    ),
    "training mode": (
        "determinism",
        "def ready(self):\n    self.model.train()\n    return super().ready()",
        "other answers the second time",
    ),
    "seed ignored": (
        "determinism",
        "def synthesise(self, count, seed):\n    return super().synthesise(count, 0)",
        "synthetic queries of two seeds are equal",
    ),
    "no seed": (
        "determinism",
        "def synthesise(self, count, seed):\n    return super().synthesise(count, random.randrange(10**9))",
        "synthetic queries of the same seed differ",
    ),
    "other weights": (
        "determinism",
        "def ready(self):\n"
        "    for tensor in self.model.parameters():\n"
        "        torch.nn.init.normal_(tensor, std=0.1)\n"
        "    return super().ready()",
        "loaded again with the same seed, the answers differ",
    ),
    "constant score": (
        "quality",
        "def score(self, answers, rows):\n"
        "    none = self.no_quality('accuracy', rows)\n"
        "    return (none or Quality(metric='accuracy', value=0.5, queries=len(rows)),)",
        "both score 0.5",
    ),
    "score of random weights": (
        "quality",
        "def score(self, answers, rows):\n"
        "    right = [a == row.get('word') for a, row in zip(answers, rows)]\n"
        "    return (Quality(metric='accuracy', value=sum(right) / len(rows), queries=len(rows)),)",
        "for a model with random weights",
    ),
    "score without a reason": (
        "quality",
        "def score(self, answers, rows):\n    return (Quality(metric='accuracy', value=None, queries=len(rows)),)",
        "is None without a reason",
    ),
    "no plain record": (
        "session",
        "def extra(self, answers):\n    return {'first': torch.ones(1)}",
        "were not scored: PydanticSerializationError.*torch.Tensor",
    ),
    "query that fails": (
        "session",
        "def call(self, phase, inputs):\n    raise TaskError('worn out')",
        "worn out",
    ),
    "all rows accepted": (
        "sample", "def check_row(self, row):\n    return None", "a row whose 'text' is null is accepted",
    ),
    "check that raises": (
        "sample",
        "def check_row(self, row):\n    return None if row['text'].strip() else 'empty'",
        "'text' is null raises AttributeError.*broken.py line 15",
    ),
}  # fmt: skip

GENERATION = {
    "no generation": (
        "phases",
        "def call(self, phase, inputs):\n"
        "    first = super().call('prefill', inputs)\n"
        "    made_up = torch.zeros((len(first), 4), dtype=int)\n"
        "    return first if phase == 'prefill' else torch.cat([first, made_up], 1)",
        "generate ran the model 1 time",
    ),
    "prefill is generate": (
        "phases",
        "def call(self, phase, inputs):\n"
        "    made = super().call('generate', inputs)\n"
        "    return made[:, :-4] if phase == 'prefill' else made",
        "prefill runs the model as often",
    ),
    "more than asked": ("tokens", "new_tokens = 7", "count.* returns 42 output tokens instead of 30"),
    "not counted": (
        "tokens",
        "def check_new_tokens(self, phase, found):\n    pass",
        "one token too few are accepted by count",
    ),
}  # fmt: skip


def issues(task, check, model=""):
    """Return what one check finds, as the report words it."""
    finding = taskcheck._look(getattr(taskcheck, check), Bench(task, model))
    assert finding.status == "failed", finding
    text = "\n".join(finding.lines())
    assert text.count("fix:") == text.count("issue:") > 0
    return text


@pytest.mark.parametrize("name", FILL_MASK)
def test_what_is_wrong_is_found(name, tmp_path):
    check, body, message = FILL_MASK[name]
    assert re.search(message, issues(broken.write(tmp_path, body), check, "tiny-bert"))


@pytest.mark.parametrize("name", GENERATION)
def test_what_is_wrong_with_a_task_that_generates_is_found(name, tmp_path):
    check, body, message = GENERATION[name]
    assert re.search(message, issues(broken.write(tmp_path, body, base="TextGeneration"), check, "tiny-llama"))


@pytest.mark.parametrize(
    ("changes", "check", "message"),
    [
        ({"check_models": None}, "file", "check_models is empty"),
        ({"check_models": ["tiny-brt"]}, "file", "did you mean 'tiny-bert'"),
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
        (lambda rows: [*rows, rows[0]], "are repeated"),
        (lambda rows: [*rows, {"text": "A ___."}], "lack 'word', the first is row 18"),
        (lambda rows: [*rows, {"text": "no blank", "word": "x"}], "0 blanks"),
        (lambda rows: [*rows, "text"], "line 19 is not a JSON object"),
    ],
)
def test_a_poor_sample_is_found(change, message, tmp_path):
    task, file = broken.write(tmp_path), tmp_path / "sample" / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, change(rows))))
    assert message in issues(task, "sample")


def test_when_the_model_does_not_load_the_rest_waits(tmp_path):
    report = taskcheck.check(broken.write(tmp_path, "head_class = 'AutoModelForNothing'"))
    waiting = [finding.check for finding in report.findings if finding.problems == taskcheck.WAITS]
    assert waiting == ["phases", "window", "batches", "tokens", "determinism", "quality", "session"]
    assert report.verdict() == "broken: 1 issue found; 7 checks were not run, since an earlier one failed"


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


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"vocab_size": 2000, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
#: Decoder families that place and hide padding in different ways, shrunk: these values and those of `SMALL`.
FAMILIES = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "falcon": {},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt_neox": {},
    "gpt_oss": {"num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}

#: Task -> small models beside those its file names, each with something of its own.
OTHERS = {
    "image_captioning": "tiny-git tiny-pix2struct tiny-blip-2 tiny-blip-2-t5",
    "image_classification": "tiny-convnext tiny-resnet tiny-swin",
    "image_generation": "tiny-latent-consistency tiny-stable-diffusion-xl tiny-pixart",
    "object_detection": "tiny-yolos",
    "speech_recognition": "tiny-hubert tiny-speech-to-text",
    "text_generation": "tiny-gpt2 tiny-mixtral tiny-qwen3 " + " ".join(f"small-{family}" for family in FAMILIES),
}


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """A folder laid out like params/, with a small model of further families."""
    root = tmp_path_factory.mktemp("params")
    for part in ("tasks", "samples", "architectures"):
        shutil.copytree(broken.ROOT / "params" / part, root / part)
    for family, changes in FAMILIES.items():
        file = root / "architectures" / f"{family}.yaml"
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        row = next(row for row in values["models"] if row.get("tasks"))
        config = merged(merged(values.get("config", {}), row.get("config", {})), {**SMALL, **changes})
        values |= {"config": {}, "models": [{"model": f"small-{family}", "parameters": 1, "config": config}]}
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(root)


@pytest.mark.parametrize(
    ("task", "model"), [(task, model) for task, names in OTHERS.items() for model in names.split()]
)
def test_other_small_models_pass_what_depends_on_the_model(task, model, params):
    """Batch 1 equals batch N though shorter texts are padded; exactly the stated tokens; nothing else in windows."""
    bench = Bench(task, model, params)
    for check in (taskcheck.window, taskcheck.batches, taskcheck.tokens):
        finding = taskcheck._look(check, bench)
        assert finding.status != "failed", finding.lines()
    alone = [bench.ask([row])[0] for row in bench.rows]
    assert task not in ("text_generation", "image_generation") or not taskcheck.same(alone[0], alone[1])


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
    assert "fix:   return one Quality per metric" in result.stdout
    assert "broken: 1 issue found" in result.stdout


def test_a_notebook_shows_a_file_or_its_first_lines(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("a = 1\nb = 2\nc = 3\n")
    assert taskcheck.source(file) == "```python\na = 1\nb = 2\nc = 3\n```"
    assert taskcheck.source(file, lines=1) == "```python\na = 1\n… 2 more lines\n```"
    with pytest.raises(TaskError, match="no such file"):
        taskcheck.source(tmp_path / "none.py")
