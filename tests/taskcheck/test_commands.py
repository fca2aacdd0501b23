"""The commands: what they print, and how they end."""

import broken
from typer.testing import CliRunner

from energylab.cli import app
from energylab.tasks import task_names


def call(*arguments):
    return CliRunner().invoke(app, ["task", *arguments])


def test_every_task_is_listed_with_its_phases():
    result = call("list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == set(task_names())
    assert "preprocess + prefill + generate" in lines["text_generation"]


def test_a_task_that_cannot_be_read_is_listed_with_the_reason(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "torn.yaml").write_text("title: [")
    result = call("list", "--params", str(tmp_path))
    assert "torn  cannot be read: " in result.stdout


def test_a_task_that_keeps_the_contract_ends_well():
    result = call("check", str(broken.EXAMPLE / "fill_mask.yaml"), "--model", "tiny-bert")
    assert result.exit_code == 0, result.stdout
    assert "fill_mask keeps the contract: 12 checks passed" in result.stdout
    assert "tiny-roberta" not in result.stdout


def test_a_task_that_does_not_says_what_to_mend(tmp_path):
    result = call("check", broken.write(tmp_path, "def score(self, answers, rows):\n    return ()"))
    assert result.exit_code == 1
    assert "wrong: score() returns nothing" in result.stdout
    assert "mend:  return a Quality" in result.stdout
    assert "does not keep the contract yet: 1 thing(s) to mend" in result.stdout
