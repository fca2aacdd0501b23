"""A file shown in a notebook."""

import pytest

from energylab import taskcheck
from energylab.errors import TaskError


def test_a_file_is_shown_whole_or_in_part_with_its_language(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("a = 1\nb = 2\nc = 3\n")
    assert taskcheck.source(file) == "```python\na = 1\nb = 2\nc = 3\n```"
    assert taskcheck.source(file, lines=1) == "```python\na = 1\n… 2 more lines\n```"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TaskError, match="no such file"):
        taskcheck.source(tmp_path / "none.py")


def test_an_unknown_public_name_is_refused():
    with pytest.raises(AttributeError, match="it has check, source, Report"):
        _ = taskcheck.chek
