"""What a class says of its fields: their description, or the comment beside them in its source."""

from __future__ import annotations

import inspect
import io
import re
import textwrap
import tokenize

from pydantic import BaseModel


def of_fields(model: type[BaseModel]) -> dict[str, str]:
    """Return field names to what is said of them, base classes included.

    Parameters
    ----------
    model : type
        A pydantic model. ``Field(description=…)`` wins; else the comment at the end of the field's line, else the
        docstring's section Attributes.

    Returns
    -------
    dict of str to str
        Every field of the model, in order; empty where nothing is said.
    """
    beside: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            beside |= _attributes(base) | _beside(base)
    return {name: field.description or beside.get(name, "") for name, field in model.model_fields.items()}


def _beside(model: type[BaseModel]) -> dict[str, str]:
    """Read the trailing comments of the fields that the class itself states."""
    source = textwrap.dedent(inspect.getsource(model))
    found, name = {}, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.start[1] == 4 and token.string in model.model_fields:
            name = token.string
        elif token.type == tokenize.COMMENT and name and token.line.strip() != token.string:
            found[name] = token.string.lstrip("# ")
        elif token.type == tokenize.NEWLINE:
            name = ""
    return found


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Read the section Attributes of a numpydoc docstring."""
    _, _, section = inspect.cleandoc(model.__doc__ or "").partition("Attributes\n----------\n")
    found = re.findall(r"^(\w[\w, ]*?) ?(?::.*)?\n((?:    .*\n?)+)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for names, text in found for name in names.split(", ")}
