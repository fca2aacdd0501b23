"""The last look before a bundle is written: nothing private may be in it, in no spelling that is easily undone."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylab.errors import BundleError

#: Shorter texts would be found everywhere; they are looked for as whole values only.
MIN_PART = 5
#: Shorter outputs (labels, single words) are looked for as whole values only.
MIN_OUTPUT = 12
#: Keys of a configuration that tell which library wrote it, not which model it is.
LIBRARY_KEYS = frozenset(
    ("transformers_version", "_diffusers_version", "torch_dtype", "dtype", "__version__", "pytorch")
)
#: Values of a configuration that say nothing of a model: looked for nowhere.
COMMON = frozenset(
    ("false", "float32", "float16", "bfloat16", "torch", "linear", "default", "transformers", "model", "models")
    + ("encoder", "decoder", "token", "tokenizer", "absolute", "cosine", "max_length", "right", "longest_first")
    + ("string", "special", "tokens", "normal", "dynamic", "eager")
)


@dataclass(frozen=True)
class Secret:
    """One thing that must not be in a bundle.

    Attributes
    ----------
    what : str
        What kind of thing: it is named in the refusal, its value never is.
    value : str
        The text.
    whole : bool
        Look for it as a whole value alone, not within longer texts.
    """

    what: str
    value: str
    whole: bool = False


def secrets_of(
    folder: Path, hashes: Mapping[str, str], answers: Mapping[int, str], names: Iterable[str]
) -> list[Secret]:
    """Collect what must stay private of one run.

    Parameters
    ----------
    folder : Path
        The model's folder: its name, its path, and the texts of its JSON files that identify it.
    hashes : mapping of str to str
        Path to sha256 of every weight file.
    answers : mapping of int to str
        The output of every query.
    names : iterable of str
        Further names to keep private.

    Returns
    -------
    list of Secret
    """
    found = [Secret("the model's name", folder.name), Secret("the model's path", str(folder))]
    found += [Secret("a private name", name) for name in names]
    found += [Secret("a hash of the weights", value) for value in hashes.values()]
    found += [Secret("a weight file's name", Path(name).stem) for name in hashes if not _usual(Path(name).stem)]
    found += [
        Secret("an output of a query", text, whole=len(text) < MIN_OUTPUT)
        for answer in answers.values()
        for text in (answer, *_parts(answer))
    ]
    for path in sorted(folder.glob("*config*.json")):
        found += [Secret(f"a value of {path.name}", text) for text in _identifying(path)]
    return [secret for secret in dict.fromkeys(found) if secret.value.strip()]


def _parts(answer: str) -> list[str]:
    """Return the texts within an output that has several (its reasoning, its answer)."""
    try:
        content = json.loads(answer)
    except ValueError:
        return []
    return list(_texts(list(content.values()))) if isinstance(content, dict) else []


def _usual(stem: str) -> bool:
    return bool(re.fullmatch(r"(model|pytorch_model|diffusion_pytorch_model|tf_model)([-.].*)?", stem))


def _identifying(path: Path) -> Iterator[str]:
    """Yield the texts and large numbers of a configuration: architectures, names, sizes of the vocabulary …"""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path.name} of the model cannot be read, so its values cannot be kept private: {error}"
        ) from None
    for value in _leaves(content, LIBRARY_KEYS):
        text = str(value)
        named = isinstance(value, str) and len(text) >= MIN_PART and text.lower() not in COMMON
        sized = isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 and value % 10_000 != 0
        if named or sized:
            yield text


def _leaves(value: Any, without: frozenset[str] = frozenset()) -> Iterator[Any]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [child for key, child in item.items() if key not in without]
        elif isinstance(item, list):
            stack += item
        else:
            yield item


def find(payload: bytes, secrets: Iterable[Secret], allowed: Iterable[str] = ()) -> list[str]:
    """Return what kinds of secret are in a statement; empty when none is.

    Parameters
    ----------
    payload : bytes
        The statement that is about to be signed.
    secrets : iterable of Secret
    allowed : iterable of str
        Texts that are public by the owner's choice or by the task, though a secret may equal them.

    Returns
    -------
    list of str
        What was found, never its value.
    """
    text = payload.decode("utf-8")
    content = json.loads(text)
    strings = {value for value in _texts(content)}
    numbers = {repr(value) for value in _leaves(_without_measurements(content)) if isinstance(value, int | float)}
    haystack = "\n".join(sorted(strings)).lower()
    squeezed = _squeeze(haystack)
    open_texts = {value.lower() for value in allowed}
    found = []
    for secret in secrets:
        if secret.value.lower() in open_texts:
            continue
        if _is_in(secret, haystack, squeezed, strings, numbers):
            found.append(secret.what)
    return list(dict.fromkeys(found))


def _is_in(secret: Secret, haystack: str, squeezed: str, strings: set[str], numbers: set[str]) -> bool:
    value = secret.value.strip()
    if secret.whole or _is_number(value):
        return value in numbers or value in strings
    if len(value) < MIN_PART:
        return any(value.lower() in re.split(r"\W+", text.lower()) for text in strings)
    squeezable = _squeeze(value)
    if len(squeezable) >= MIN_PART and squeezable in squeezed:
        return True
    return any(spelling.lower() in haystack for spelling in spellings(value))


def spellings(value: str) -> set[str]:
    """Return a text as it is, and as base64 (at every offset), hex, URL and JSON would write it."""
    raw = value.encode("utf-8", "surrogatepass")
    shifted = [base64.b64encode(b"\0" * offset + raw).decode().rstrip("=") for offset in range(3)]
    # the first and last characters of a shifted encoding depend on its neighbours
    inner = [text[4 if offset else 0 : -1] for offset, text in enumerate(shifted)]
    written = {value, raw.hex(), urllib.parse.quote(value), json.dumps(value)[1:-1]}
    return written | {text for text in inner if len(text) >= 2 * MIN_PART}


def _squeeze(text: str) -> str:
    """Keep letters and digits alone: ``My-Model_7B`` is found as ``my model 7b`` too."""
    return re.sub(r"[\W_]+", "", text.lower())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _texts(content: Any) -> Iterator[str]:
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, str):
            yield item


def _without_measurements(content: Any) -> Any:
    """Leave out readings, timelines and windows: a joule may equal a number of the model by chance."""
    predicate = content.get("predicate", {})
    kept = {name: value for name, value in predicate.items() if name not in ("readings", "timelines")}
    record = kept.get("record", {})
    kept["record"] = {name: value for name, value in record.items() if name not in ("windows", "idle", "warm_up")}
    return kept
