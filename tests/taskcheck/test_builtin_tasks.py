"""Every task of this package, and the one from outside, keeps the contract."""

from pathlib import Path

import pytest

from energylab import taskcheck
from energylab.tasks import task_names

EXAMPLE = Path(__file__).parents[2] / "examples" / "fill_mask" / "fill_mask.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("task", [*task_names(), str(EXAMPLE)])
def test_a_task_keeps_the_contract(task):
    report = taskcheck.check(task)
    assert report.passed, report.text()
    tried = {finding.model for finding in report.findings} - {""}
    assert tried  # else no check of a phase has run
    assert {finding.check for finding in report.findings if finding.model in tried} >= {"window", "batches", "quality"}
