"""Objects by name, by dotted path and by file."""

import pytest

from energylab.errors import EnergylabError, UnknownNameError
from energylab.registry import Registry, import_file

THINGS = Registry("thing", {"path": "pathlib:Path"})


def test_a_name_a_dotted_path_and_a_file_give_an_object(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    pass\n")
    assert THINGS.get("path").__name__ == "Path"
    assert THINGS.get("fractions:Fraction").__name__ == "Fraction"
    assert THINGS.get(f"{file}:Mine").__name__ == "Mine"


def test_a_file_is_imported_once_and_again_when_it_changes(tmp_path):
    import os

    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    first = import_file(str(file))
    assert import_file(str(file)) is first
    file.write_text("x = 2\n")
    os.utime(file, ns=(1, 1))
    assert import_file(str(file)).x == 2


def test_a_file_is_found_from_a_folder_below(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("x = 3\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert import_file("mine.py").x == 3


@pytest.mark.parametrize("text", ["import nothing_like_it", "x = ", "raise ValueError('no')", "1 + 'a'", "y = z"])
def test_a_file_that_cannot_be_imported_says_why(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(EnergylabError, match="cannot be imported"):
        THINGS.get(f"{tmp_path / 'mine.py'}:Mine")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(EnergylabError, match="no such file"):
        THINGS.get(f"{tmp_path / 'none.py'}:Mine")
    with pytest.raises(UnknownNameError, match="did you mean 'path'"):
        THINGS.get("pth")


@pytest.mark.parametrize(
    "where",
    [
        "energylab.meters:METERS",
        "energylab.ratings.schemes:REGISTRY",
    ],
)
def test_another_package_adds_to_every_registry_by_entry_point(where, tmp_path, monkeypatch):
    registry = THINGS.get(where)
    (tmp_path / "mine_by_entry_point.py").write_text("class Mine:\n    pass\n")
    facts = tmp_path / "mine-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[{registry.group}]\nmine = mine_by_entry_point:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mine" in registry.names()
    assert registry.get("mine").__name__ == "Mine"
