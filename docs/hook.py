"""The MkDocs hook: pages made from the program itself and from files of the repository, and links that work in both."""

from __future__ import annotations

import inspect
import pkgutil
import posixpath
import re
from pathlib import Path

import typer
from mkdocs.structure.files import File
from pydantic import BaseModel
from typer.cli import get_docs_for_click

import energylab
from energylab import cli, energy, record, table, tasks
from energylab.parameters import Parameters
from energylab.studies.plan import SlurmSettings, StudyFile

ROOT = Path(__file__).resolve().parents[1]

#: Pages of the site that are files of the repository.
COPIES = {
    "index.md": "README.md",
    "portal.md": "energylab_portal/docs/portal.md",
    "sealed.md": "energylab_portal/docs/sealed.md",
    "figures.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}

#: Files whose content is a page of its own; a link to any other module leads to its room of the API.
SOURCES = {
    "energylab/cli.py": "commands.md",
    "energylab/parameters.py": "parameters.md",
    "energylab/record.py": "record.md",
    "energylab/table.py": "tables.md",
    "energylab/studies/plan.py": "study-file.md",
    "params/tasks": "tasks.md",
}

#: The models of a record.
RECORD = [one for one in vars(record).values() if isinstance(one, type) and getattr(one, "model_fields", None)]


def on_config(config):
    """Make the pages, and list those of the API at the end of the navigation."""
    config.extra["generated"] = made = pages()
    config.nav.append({"API": [path for path in made if path.startswith("api/")]})
    return config


def on_files(files, config):
    """Add every generated page as if it lay in docs/."""
    for path, text in config.extra["generated"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of the repository into links of the site, and a picture with two sources into two images."""
    source = COPIES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if not (ROOT / source).is_file():
        return markdown
    markdown = re.sub(r"<picture>.*?</picture>", _both, markdown, flags=re.DOTALL)
    made = config.extra["generated"]
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)", lambda link: _link(link, source, made), markdown)


def _both(match):
    dark, light, alt = (re.search(rf'{name}="(?:docs/)?([^"]+)"', match[0])[1] for name in ("srcset", "src", "alt"))
    return f"![{alt}]({light}#only-light)\n![{alt}]({dark}#only-dark)"


def _link(match, source, made):
    """Lead to the page of a file; the name of a file without a page stays as text, a link to nothing as it is."""
    text, target, anchor = match[1], match[2], match[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if ":" in target or not (ROOT / path).exists():
        return match[0]
    known = {file: page for page, file in COPIES.items()} | SOURCES
    room = re.sub(r"^energylab/(\w+).*", r"api/\1.md", path)
    page = known.get(path, path.removeprefix("docs/") if path.startswith("docs/") else room)
    return f"[{text}]({page}{anchor})" if page in made or path.startswith("docs/") else text


def pages():
    """Return all generated pages: path inside the site to Markdown."""
    root = typer.main.get_command(cli.app)
    context = root.context_class(root, info_name="energylab")
    return {
        **{page: (ROOT / file).read_text(encoding="utf-8") for page, file in COPIES.items()},
        "commands.md": get_docs_for_click(obj=root, ctx=context, name="energylab", title="Commands"),
        "parameters.md": _section(Parameters, "# Parameters"),
        "study-file.md": _section(StudyFile, "# Study file") + _section(SlurmSettings),
        "record.md": f"# Record\n\n{inspect.getdoc(record)}\n\n" + "".join(map(_section, RECORD)),
        "tables.md": f"# Tables\n\nA table of your own needs {', '.join(energy.REQUIRED)}.\n\n## The tidy table\n\n"
        f"{_columns(table.TIDY)}\n## The table of windows\n\n{_columns(table.WINDOWS)}",
        "tasks.md": "# Tasks\n\n" + "".join(map(_task, tasks.task_names())),
        **api(),
    }


def fields(model: type[BaseModel]) -> str:
    """Return the fields of a model as a table: what is said of each, its type, limits and default."""
    beside = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        beside |= dict(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(base), flags=re.MULTILINE))
    rows = []
    for name, field in model.model_fields.items():
        kind = inspect.formatannotation(field.annotation).replace("typing.", "")
        limits = "".join(f", {limit}" for limit in field.metadata)
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        meaning = field.description or beside.get(name, "")
        rows.append((f"`{name}`", meaning, re.sub(r"\b(\w+\.)+(?=\w)", "", kind) + limits, default))
    return _table(("name", "meaning", "type", "default"), rows)


def _section(model, title=""):
    return f"{title or f'## {model.__name__}'}\n\n{inspect.getdoc(model)}\n\n{fields(model)}\n"


def _columns(columns):
    rows = [(f"`{one.name}`", one.kind, one.unit, one.description) for one in columns]
    return _table(("column", "type", "unit", "meaning"), rows)


def _task(name):
    family, settings = tasks.load_settings(name)
    text = (ROOT / "params" / "tasks" / f"{name}.yaml").read_text(encoding="utf-8")
    return f"## {settings.title} {{ #{name} }}\n\n{inspect.getdoc(family)}\n\n```yaml\n{text}```\n\n"


def api() -> dict[str, str]:
    """Return a page of the public names, and one for every module or package; mkdocstrings fills in the docstrings."""
    public = {name: getattr(energylab, name) for name in energylab.__all__ if name != "__version__"}
    names = "".join(f"- [`energylab.{name}`][{one.__module__}.{one.__qualname__}]\n" for name, one in public.items())
    made = {"api/index.md": f"# API\n\nThe public names. All else may change between versions.\n\n{names}"}
    for found in pkgutil.walk_packages(energylab.__path__, "energylab."):
        if found.name.rpartition(".")[2] not in ("cli", "commands"):
            page = f"api/{found.name.split('.')[1]}.md"
            made.setdefault(page, f"---\nsearch:\n  boost: 0.3\n---\n# {found.name}\n")
            made[page] += f"\n::: {found.name}\n"
    return made


def _table(headings, rows):
    lines = ([str(cell).replace("|", "\\|") for cell in row] for row in (headings, ["---"] * len(headings), *rows))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
