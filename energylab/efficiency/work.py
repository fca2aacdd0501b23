"""The least work an answer needs of a decoder: each weight read once a step, each multiplication done once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from energylab.energy import totals
from energylab.errors import ModelError
from energylab.parameters import Parameters
from energylab.record import Record
from energylab.tasks import load_settings, models


@dataclass(frozen=True)
class Shape:
    """What of a decoder's shape its least work depends on.

    Attributes
    ----------
    body : int
        Weights every token passes: all but the table of embeddings and the output layer.
    head : int
        Weights of the output layer, needed once for each new token.
    parameters : int
        All parameters.
    kv_values : int
        Numbers kept of each token: keys and values of all layers.
    attention_flop : int
        Operations for each pair of tokens in attention, all layers.
    """

    body: int
    head: int
    parameters: int
    kv_values: int
    attention_flop: int


@dataclass(frozen=True)
class Work:
    """The least work of one query.

    Attributes
    ----------
    flop : float
        Floating-point operations.
    read_bytes : float
        Bytes read from memory: weights once a step and batch, keys and values of earlier tokens once a step.
    """

    flop: float
    read_bytes: float


def shape_of(parameters: Parameters) -> Shape:
    """Return the shape of a decoder, from its configuration alone: no weight is loaded.

    Raises
    ------
    ModelError
        If it is a mixture of experts, of which a token passes only a part, or its configuration does not say.
    """
    _, settings = load_settings(parameters.task, parameters.params)
    request = models.ModelRequest.of(parameters, settings, "cpu")
    origin = models.locate(request)
    config = models.read_config(origin)
    from transformers import AutoModelForCausalLM

    skeleton = models.build_skeleton(config, AutoModelForCausalLM, origin)
    text = config.get_text_config(decoder=True)
    if any(getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ModelError(
            f"model {origin.name!r} is a mixture of experts: how much of it a token needs depends on the token"
        )
    table = skeleton.get_input_embeddings().weight
    head = skeleton.get_output_embeddings().weight
    tied = bool(getattr(text, "tie_word_embeddings", False))
    total = skeleton.num_parameters()
    body = total - table.numel() - (0 if tied else head.numel())
    return Shape(body, head.numel(), total, *_attention(text))


def _attention(text: Any) -> tuple[int, int]:
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    return 2 * layers * keys * width, 4 * layers * heads * width


def least_work(shape: Shape, record: Record) -> Work | None:
    """Return the least work of one query of a record; None where its tokens are not known.

    Two operations a weight and token (a multiplication and an addition) [1]_; the prompt passes the body at once, and
    the output layer works for new tokens alone. The weights are read once for the prompt and once for every further
    token, shared by the batch. Norms, activations, and writing are left out: it is a lower bound.

    References
    ----------
    .. [1] Kaplan et al. (2020), Scaling Laws for Neural Language Models, https://arxiv.org/abs/2001.08361, section 2.1.
    """
    total = next((one for one in totals(record) if one.phase == "generate"), None)
    if total is None or not total.input_tokens or not total.output_tokens:
        return None
    prompt, new = total.input_tokens / total.queries, total.output_tokens / total.queries
    batch = record.task.settings.get("concurrency") or record.task.settings.get("batch_size") or 1
    batch = min(batch, total.queries) if record.model.source != "endpoint" else batch
    fed = prompt + new - 1
    pairs = fed * (fed + 1) / 2
    flop = 2 * shape.body * fed + 2 * shape.head * new + shape.attention_flop * pairs
    weight_bytes, value_bytes = bytes_of(record, shape)
    weights = new * (shape.body + shape.head) * weight_bytes / batch
    cached = shape.kv_values * value_bytes * sum(prompt + step for step in range(1, round(new)))
    return Work(flop=flop, read_bytes=weights + cached)


#: Bytes of one number of each precision.
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def bytes_of(record: Record, shape: Shape) -> tuple[float, float]:
    """Return the bytes of one weight as stored (quantised ones are smaller), and of one key or value."""
    value = BYTES[record.model.dtype or "float32"]
    stored = record.model.weights_bytes
    return (stored / shape.parameters if stored else value), value
