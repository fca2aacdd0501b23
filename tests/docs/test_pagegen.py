"""The page generator: types in words, comments of fields, commands, links of copied pages."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from docs_blocks import ROOT
from pagegen import api, commands, comments, copies, markdown, schema, types
from pagegen import tasks as task_pages
from pydantic import BaseModel, Field

from energylab import cli, formats, table, tasks
from energylab.studies.plan import StudyFile


class Base(BaseModel):
    """A base.

    Attributes
    ----------
    told, also : int
        What the docstring
        says.
    """

    told: int = 1
    also: int = 2
    beside: int = 3  # what the comment says


class Fields(Base):
    """Fields that are told of in three ways, and one that is not."""

    described: float = Field(0.5, gt=0, le=2, description="what the description says")  # not this
    # a comment above is not about the next field
    silent: str | None = None

    def method(self) -> None:
        """Hold a comment that is no field's."""
        told = 1  # noqa: F841 - not this either


def test_fields_are_told_by_description_comment_or_docstring():
    assert comments.of_fields(Fields) == {
        "told": "What the docstring says",
        "also": "What the docstring says",
        "beside": "what the comment says",
        "described": "what the description says",
        "silent": "",
    }


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (str | None, "str or None"),
        (Literal["A", "B", 3], '"A", "B" or 3'),
        (tuple[int, ...], "list of int"),
        (dict[str, float | None], "mapping of str to float or None"),
        (Annotated[float, Field(ge=0)], "float"),
        (Path, "Path"),
        (list[Base], "list of Base"),
    ],
)
def test_types_in_words(annotation, words):
    assert types.words(annotation) == words


def test_limits_and_defaults():
    field = Fields.model_fields["described"]
    assert types.limits(field) == "> 0, ≤ 2"
    assert types.default(field) == "0.5"


@pytest.mark.parametrize("model", [*schema.parts(), *schema.parts(StudyFile)], ids=lambda model: model.__name__)
def test_every_field_of_a_file_says_what_it_means(model):
    assert [name for name, said in comments.of_fields(model).items() if not said] == []


@pytest.mark.parametrize("name", tasks.task_names())
def test_every_setting_of_a_task_says_what_it_means(name):
    _, settings = tasks.load_settings(name)
    assert [field for field, said in comments.of_fields(type(settings)).items() if not said] == []
    page = task_pages.pages()[f"tasks/{name}.md"]
    assert all(
        f"`{field}`" in page for field in type(settings).model_fields if field not in ("name", "dataset", "sample")
    )


def test_commands_are_those_of_the_program():
    shown = {path.split()[1] for path in commands.paths()}
    assert shown == {*cli.MODULES, "doctor"}
    assert {"energylab study run", "energylab export table", "energylab publish"} <= set(commands.paths())


def test_a_command_page_shows_arguments_options_defaults_and_limits():
    toy = typer.Typer()

    @toy.command()
    def one(
        path: Annotated[Path, typer.Argument(help="Where to look.")],
        depth: Annotated[int, typer.Option(min=1, help="How deep.")] = 3,
        loud: Annotated[bool, typer.Option(help="Say more.")] = False,
        names: Annotated[list[str] | None, typer.Option(help="Which.")] = None,
    ) -> None:
        """Do one thing | well."""

    page = commands._described("toy one", typer.main.get_command(toy))
    assert "toy one PATH [OPTIONS]" in page
    assert "| `PATH` | Where to look. |" in page
    assert "| `--depth` | How deep. | int, at least 1 | `3` |" in page
    assert "| `--loud`, `--no-loud` | Say more. |  | `--no-loud` |" in page
    assert "| `--names` | Which. | text, repeatable |  |" in page


def test_links_of_copied_pages_become_links_of_the_site():
    text = "[a](docs/slurm.md#x) [b](CONTRIBUTING.md) [c](params/README.md) [d](https://x.org) [e](../CHANGELOG.md)"
    assert copies.adapted(text) == "[a](slurm.md#x) [b](contributing.md) c [d](https://x.org) [e](changelog.md)"


def test_no_figure_of_a_row_is_parted_from_its_unit():
    line = "≤ 0.5 % of it"
    text = f"| ≤ 0.5 %; 94 % (93 to 95) | in 3 min of 5 sessions |\n{line}"
    kept = f"| ≤~0.5~%; 94~% (93 to 95) | in 3~min of 5 sessions |\n{line}"
    assert copies.adapted(text) == kept.replace("~", "\u00a0")


def test_a_picture_becomes_one_image_for_each_scheme():
    text = '<picture>\n<source srcset="docs/assets/d.svg">\n<img alt="words" src="docs/assets/l.svg">\n</picture>'
    assert copies.adapted(text) == "![words](assets/l.svg#only-light)\n![words](assets/d.svg#only-dark)"


def test_a_table_escapes_bars():
    assert markdown.table(("a", "b"), [("x|y", "z\nz")]) == "| a | b |\n| --- | --- |\n| x\\|y | z z |\n"
    assert markdown.table(("a",), []) == ""


def test_every_public_name_of_the_package_says_what_it_is():
    found = [(module, name) for module in api.modules() for name in api.names(module)]
    assert len(found) > 300
    assert [f"{module}.{name}" for module, name in found if not api.doc_of(module, name)] == []


def test_a_column_that_ends_in_a_unit_has_it():
    units = {"_j": "J", "_s": "s", "_w": "W", "_c": "°C", "_tokens": "tokens"}  # what a name ends in is its unit
    for column in (*table.TIDY, *table.WINDOWS):
        ending = next((ending for ending in units if column.name.endswith(ending)), None)
        assert ending is None or column.unit == units[ending], column
        assert column.description.endswith("."), column


def test_every_format_is_told_of():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert {f"`{name}`" for name in formats.formats()} == set(re.findall(r"^\| (`[a-z0-9-]+`) \|", page, re.M))


def test_readmes_stand_where_a_newcomer_looks():
    for folder in ("notebooks", "params", "results", "reports", "tests", "benchmarks", "docker"):
        assert (ROOT / folder / "README.md").is_file(), folder
