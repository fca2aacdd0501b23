"""Sentence similarity: embed both sentences of a pair, compare the cosine with what people said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from energylab.errors import ModelError
from energylab.record import Quality
from energylab.tasks import models
from energylab.tasks.base import Row
from energylab.tasks.models import moved
from energylab.tasks.text import TextTask, longest_input

#: Poolings, and what sentence-transformers calls them: as a mode, and, in older files, as a switch.
POOLINGS = {
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "cls": ("cls", "pooling_mode_cls_token"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}


#: Parts of a sentence-transformers model that the forward phase computes; another one would be left out in silence.
MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceSimilarity(TextTask):
    """Both sentences of every pair go through the encoder in one batch; the embedding is pooled and normalised.

    The forward phase is what the model's own library computes: encoder, pooling as the checkpoint says
    (``1_Pooling/config.json``; the mean where it says nothing), Euclidean norm 1.
    """

    phases = ("preprocess", "forward")
    columns = ("sentence1", "sentence2", "score")
    references = ("score",)
    may_miss = ("pooler",)

    pooling: str = "mean"

    def auto_class(self, config: Any) -> str:
        """Any encoder, or decoder used as one."""
        return "AutoModel"

    def ready(self, loaded: models.Loaded) -> dict[str, Any]:
        """Take pooling and longest input from the checkpoint."""
        self.pooling, limit = _pooling(loaded)
        limits = [limit, longest_input(loaded.config, self.processor)]
        self.max_input_tokens = min((value for value in limits if value), default=None)
        return {"pooling": self.pooling, "max_input_tokens": self.max_input_tokens}

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Return first sentences, then second sentences: one batch of ``2 * len(rows)`` texts."""
        return [row["sentence1"] for row in rows] + [row["sentence2"] for row in rows]

    def covariates(self, rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
        """Count the tokens of both sentences of every pair."""
        single = super().covariates(rows)
        half = len(rows)
        return {name: tuple(a + b for a, b in zip(v[:half], v[half:], strict=True)) for name, v in single.items()}

    def forward(self, inputs: Any) -> Any:
        """Return embeddings of Euclidean norm 1, shape (2 * queries, width)."""
        import torch

        with torch.inference_mode():
            batch = moved(inputs, self.device)
            states = self.model(**batch).last_hidden_state
            pooled = pool(states, batch["attention_mask"], self.pooling)
            return torch.nn.functional.normalize(pooled, dim=1)

    def answers(self, inputs: Any, outputs: Any) -> list[float]:
        """Return the cosine of every pair."""
        first, second = outputs.float().cpu().chunk(2)
        return [float(value) for value in (first * second).sum(dim=1)]

    def score(self, answers: Sequence[float], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Rank correlation (Spearman) of the cosines with the references."""
        from scipy.stats import spearmanr

        metric = "spearman"
        meaningless = self.no_quality(metric, rows)
        if meaningless is None and len(set(answers)) > 1:
            value = float(spearmanr(answers, [row["score"] for row in rows]).statistic)
            return (Quality(metric=metric, value=value, queries=len(rows)),)
        why = "fewer than two different answers cannot be ranked"
        return (meaningless or Quality(metric=metric, value=None, queries=len(rows), meaningless=why),)


def pool(states: Any, mask: Any, how: str) -> Any:
    """Reduce token states to one vector a sentence.

    Parameters
    ----------
    states : torch.Tensor
        Shape (sentences, tokens, width).
    mask : torch.Tensor
        Shape (sentences, tokens), 1 for real tokens.
    how : {"mean", "cls", "last"}
        Mean over real tokens, the first token, or the last real one.

    Returns
    -------
    torch.Tensor
        Shape (sentences, width).
    """
    import torch

    if how == "cls":
        return states[:, 0]
    if how == "last":
        positions = torch.arange(mask.shape[1], device=mask.device) * mask
        return states[torch.arange(len(states), device=mask.device), positions.argmax(dim=1)]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _pooling(loaded: models.Loaded) -> tuple[str, int | None]:
    """Read pooling and longest sentence the way sentence-transformers stores them."""
    if loaded.origin.architecture is not None:
        return loaded.origin.architecture.options.get("pooling", "mean"), None
    folder = loaded.origin.folder
    _refuse_more_modules(loaded.origin)
    file, limits = folder / "1_Pooling" / "config.json", folder / "sentence_bert_config.json"
    limit = json.loads(limits.read_text(encoding="utf-8")).get("max_seq_length") if limits.is_file() else None
    if not file.is_file():
        return "mean", limit
    values = json.loads(file.read_text(encoding="utf-8"))
    chosen = [
        how for how, (mode, switch) in POOLINGS.items() if values.get("pooling_mode") == mode or values.get(switch)
    ]
    if len(chosen) != 1:
        raise ModelError(f"model {loaded.origin.name!r}: pooling {values} is not one of {', '.join(POOLINGS)}")
    return chosen[0], limit


def _refuse_more_modules(origin: models.Origin) -> None:
    """Refuse a model whose own library computes more than encoder, pooling and norm: its energy would be too low."""
    file = origin.folder / "modules.json"
    listed = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    more = [one["type"] for one in listed if one["type"].rpartition(".")[2] not in MODULES]
    if more:
        raise ModelError(
            f"model {origin.name!r} has parts that this task does not compute ({', '.join(more)}); choose a model made "
            f"of {', '.join(MODULES)} alone"
        )
