"""Sentence similarity: the published work is measured; embeddings are pooled and compared outside the windows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from energylab.record import Quality
from energylab.tasks.base import Row, unscored
from energylab.tasks.models import moved
from energylab.tasks.text import TextTask

#: Poolings with their names in sentence-transformers: a mode and, in older files, a switch.
POOLINGS = {
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "cls": ("cls", "pooling_mode_cls_token"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}

#: Modules of a sentence-transformers model that are supported here; with any other module quality is not scored.
MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceSimilarity(TextTask):
    """Both sentences of a pair go through the encoder as one sequence, without pooling, as published.

    Quality is scored outside the windows: each sentence alone, pooled as in the checkpoint (mean if not stated), with
    the cosine of both.
    """

    columns = ("sentence1", "sentence2", "score")
    references = ("score",)
    head_class = "AutoModel"
    optional_parts = ("pooler",)

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return [row["sentence1"] for row in rows]

    def second_texts(self, rows: Sequence[Row]) -> list[str]:
        return [row["sentence2"] for row in rows]

    def keep(self, outputs: Any) -> Any:
        """Keep the first number of every sequence, which shows whether states are finite."""
        return outputs[0][:, 0, :1]

    def answers(self, inputs: Any, outputs: Any) -> list[None]:
        """Return None per query: the measured work gives no embedding, so `score` computes all cosines."""
        return [None] * len(outputs)

    def score(self, answers: Sequence[float] | Sequence[None], rows: Sequence[Row]) -> tuple[Quality, ...]:
        """Rank correlation (Spearman) of the answers with the references; cosines, computed here if None."""
        from scipy.stats import spearmanr

        meaningless = self.no_quality("spearman", rows)
        if meaningless is not None:
            return (meaningless,)
        if answers[0] is None:
            how, problem = read_pooling(self.origin)
            if problem:
                return (unscored("spearman", rows, problem),)
            answers = [self.cosine(row, how) for row in rows]
        if len(set(answers)) < 2:
            return (unscored("spearman", rows, "fewer than two different answers cannot be ranked"),)
        value = float(spearmanr(answers, [row["score"] for row in rows]).statistic)
        return (Quality(metric="spearman", value=value, queries=len(rows)),)

    def cosine(self, row: Row, how: str) -> float:
        import torch

        vectors = []
        for sentence in (row["sentence1"], row["sentence2"]):
            batch = self.processor([sentence], truncation=True, max_length=self.max_input_tokens, return_tensors="pt")
            with torch.inference_mode():
                states = self.model(**moved(batch, self.device))[0][0].float().cpu()  # (tokens, width)
            vectors.append({"mean": states.mean(dim=0), "cls": states[0], "last": states[-1]}[how])
        return float(torch.nn.functional.cosine_similarity(*vectors, dim=0))


def read_pooling(origin: Any) -> tuple[str, str | None]:
    """Return how a checkpoint pools its token states, and a reason if its embeddings cannot be computed."""
    if origin.architecture is not None:
        return origin.architecture.options.get("pooling", "mean"), None
    parts = _read_json(origin.folder / "modules.json") or []
    more = [one["type"] for one in parts if one["type"].rpartition(".")[2] not in MODULES]
    if more:
        return "mean", f"the model's embeddings need modules that are not supported: {', '.join(more)}"
    values = _read_json(origin.folder / "1_Pooling" / "config.json")
    if values is None:
        return "mean", None
    chosen = [
        how for how, (mode, switch) in POOLINGS.items() if values.get("pooling_mode") == mode or values.get(switch)
    ]
    return (chosen[0], None) if len(chosen) == 1 else ("mean", f"pooling {values} is not one of {', '.join(POOLINGS)}")


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
