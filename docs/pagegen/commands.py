"""One page a command of the command line, from typer itself."""

from __future__ import annotations

import inspect

import typer

from energylab.cli import app
from pagegen.markdown import code, one_line, page, table


def pages() -> dict[str, str]:
    """Return a page of all commands, and one for every command or group of commands."""
    root = typer.main.get_command(app)
    made = {"commands/index.md": _index(root)}
    for name, command in sorted(root.commands.items()):
        made[f"commands/{name}.md"] = _command_page(f"energylab {name}", command)
    return made


def paths(command: object = None, before: str = "energylab") -> list[str]:
    """Return every command that can be called, in words: ``energylab study run``."""
    command = typer.main.get_command(app) if command is None else command
    children = getattr(command, "commands", None)
    if children is None:
        return [before]
    return [path for name, child in sorted(children.items()) for path in paths(child, f"{before} {name}")]


def _index(root) -> str:
    rows = []
    for name, command in sorted(root.commands.items()):
        for path in paths(command, f"energylab {name}"):
            child = _find(root, path)
            rows.append((f"[{code(path)}]({name}.md{_anchor(path, command)})", one_line(child.help)))
    return page(
        "# Commands",
        "Every command of `energylab`, made from the program itself. `--help` after any of them says the same. "
        "A command that fails says in one message what is wrong, what is allowed and what to do next, and ends "
        "with status 2.",
        table(("command", "what it does"), rows),
    )


def _find(root, path: str):
    command = root
    for name in path.split()[1:]:
        command = command.commands[name]
    return command


def _anchor(path: str, top) -> str:
    return "#" + path.replace(" ", "-") if hasattr(top, "commands") else ""


def _command_page(path: str, command) -> str:
    if not hasattr(command, "commands"):
        return page(f"# {path}", _described(path, command))
    parts = [f"# {path}", inspect.cleandoc(command.help or "")]
    for child in paths(command, path):
        parts += [f"## {child}", _described(child, _find_below(command, child, path))]
    return page(*parts)


def _find_below(group, path: str, before: str):
    command = group
    for name in path.removeprefix(before).split():
        command = command.commands[name]
    return command


def _described(path: str, command) -> str:
    context = command.context_class(command, info_name=path)
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join([path, *(_argument_name(each) for each in arguments), "[OPTIONS]" if options else ""])
    return page(
        inspect.cleandoc(command.help or ""),
        f'```text title="Usage"\n{usage.strip()}\n```',
        table(("argument", "meaning"), [(code(_argument_name(each)), each.help or "") for each in arguments]),
        table(("option", "meaning", "values", "default"), [_option(each, context) for each in options]),
    )


def _argument_name(parameter) -> str:
    name = (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _option(parameter, context) -> tuple[str, str, str, str]:
    names = ", ".join(code(name) for name in [*parameter.opts, *parameter.secondary_opts])
    wanted = "required" if parameter.required else _default(parameter)
    return names, parameter.help or "", "" if parameter.is_flag else _values(parameter, context), wanted


def _values(parameter, context) -> str:
    """Return an option's type in words: ``text``, ``svg, png or pdf``, ``int, at least 1``."""
    kind = parameter.display_type(context).strip("<>").removeprefix("list[").removesuffix("]")
    word = {"str": "text"}.get(kind, kind.removesuffix(" range").replace("|", ", "))
    limits = [f"at least {parameter.min}"] * (parameter.min is not None)
    limits += [f"at most {parameter.max}"] * (parameter.max is not None)
    return ", ".join([word, *limits, *["repeatable"] * parameter.multiple])


def _default(parameter) -> str:
    value = parameter.default
    if value is None or value == [] or value == ():
        return ""
    if parameter.is_flag:
        return (
            code(parameter.opts[0])
            if value
            else (code(parameter.secondary_opts[0]) if parameter.secondary_opts else "")
        )
    return code(getattr(value, "value", value))
