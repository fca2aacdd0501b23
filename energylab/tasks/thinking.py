"""How a model is told to think, and where its thinking ends: data of each model family."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from energylab.errors import ParameterError, nearest
from energylab.tasks.architectures import Architecture, architectures


class ThinkingLevel(BaseModel):
    """One setting of the switch: whatever of these a family uses.

    Attributes
    ----------
    template : dict
        Arguments of the chat template: ``{enable_thinking: true}``, ``{reasoning_effort: high}``.
    system : str or None
        A system prompt.
    prefix : str
        Text the answer is made to begin with: ``<think>``.
    thinks : bool
        Whether the model thinks at this level: an answer without an end of thinking is then unfinished.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: dict[str, Any] = {}
    system: str | None = None
    prefix: str = ""
    thinks: bool = True


class Thinking(BaseModel):
    """``options: {thinking: …}`` of a family or a model in ``params/architectures/``.

    Attributes
    ----------
    default : str
        The level used when the parameter ``thinking`` is not given.
    levels : dict of str to ThinkingLevel
        Every level by name.
    end : str or None
        What the model writes between thinking and answer; None where it does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str
    levels: dict[str, ThinkingLevel] = Field(min_length=1)
    end: str | None = None

    def level(self, name: str | None, model: str) -> tuple[str, ThinkingLevel]:
        """Return the level called `name`, or the default one.

        Raises
        ------
        ParameterError
            If the family has no such level; names the nearest.
        """
        chosen = self.default if name is None else name
        if chosen not in self.levels:
            match = nearest(chosen, self.levels)
            meant = f"; did you mean {match!r}?" if match else "."
            raise ParameterError(f"thinking={chosen!r} for model {model!r}{meant} Allowed: {', '.join(self.levels)}")
        return chosen, self.levels[chosen]


#: A model that no family describes: its chat template as it is.
PLAIN = Thinking(default="template", levels={"template": ThinkingLevel()})


def find_thinking(model: str, model_type: str, params: str | None = None) -> Thinking:
    """Find how a model is told to think: by its own row, else by the family of its type, else not at all.

    Parameters
    ----------
    model : str
        Hub id or architecture name.
    model_type : str
        The configuration's type, for models that have no row.
    params : str, optional
        A folder laid out like ``params/``.

    Returns
    -------
    Thinking
        The model's levels; `PLAIN` when nothing is known of it.
    """
    known = architectures(params)
    if model in known:
        return _of(known[model])
    kin = [row for row in known.values() if row.model_type == model_type and "thinking" in row.family_options]
    return Thinking.model_validate(kin[0].family_options["thinking"]) if kin else PLAIN


def _of(architecture: Architecture) -> Thinking:
    stated = architecture.options.get("thinking")
    return Thinking.model_validate(stated) if stated else PLAIN
