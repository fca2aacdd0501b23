"""Bundles that were changed at random: bytes of the file, and values of the statement, signed again or not."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import json
import operator
import random
from collections.abc import Iterator
from typing import Any

from energylab.errors import BundleError
from energylab.record import canonical_json
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed import statement
from energylab_portal.sealed.keys import PrivateKey

ODD = (
    None, True, False, 0, 1, -1, 2**63, -(2**63), 1e308, -1e308, 1e-308, 0.1, "", "x", "\u202e", "nvml", "cuda", [], {},
    [[]], {"a": 1}, "sha256:", "0" * 64, 10**19,
)  # fmt: skip


def mutated_bytes(bundle: bytes, rng: random.Random) -> bytes:
    """Change a file in one to four places: bits, bytes, stretches left out, doubled or swapped, the end cut off."""
    data = bytearray(bundle)
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(data)), rng.randrange(len(data))
        upto = min(len(data), at + rng.choice((1, 1, 1, 4, 64, 1000)))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                del data[at:upto]
            case 3:
                data[at:at] = data[at:upto]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 3, 50)))
            case 5:
                del data[at + 1 :]
            case 6:
                data[at], data[other] = data[other], data[at]
        data = data or bytearray(b"{")
    return bytes(data) if bytes(data) != bundle else bytes(data) + b" "


def mutated_statement(bundle: bytes, rng: random.Random) -> bytes:
    """Change values of the run, and keep the old signature."""
    content = json.loads(bundle)
    return canonical_json({**content, "payload": base64.b64encode(_altered(bundle, rng)).decode()})


def mutated_and_signed(bundle: bytes, rng: random.Random, key: PrivateKey) -> bytes:
    """Change values of the run, and sign it anew."""
    return bundles.sign(_altered(bundle, rng), key)


def _altered(bundle: bytes, rng: random.Random) -> bytes:
    """Change one to three values of the run; state ids and digests anew where its schema still holds."""
    before = _payload(bundle)
    while True:
        content = json.loads(before)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            _change(*_of_a_field(content["predicate"], _fields(before), rng), rng)
        content["subject"] = statement._subject(content["predicate"])
        payload = canonical_json(content)
        with contextlib.suppress(BundleError):  # of another shape: signed as it is
            payload = statement.write(statement.read(payload))
        if payload != before:
            return payload


def changed_fields(bundle: bytes, other: bytes) -> set[str]:
    """Return the fields of the run in which two bundles differ: ``record.windows.[].energy_j``."""
    before, after = ({at: repr(value) for at, value in _leaves(_payload(one))} for one in (bundle, other))
    return {_named(at) for at in before.keys() | after.keys() if before.get(at) != after.get(at)}


def _payload(bundle: bytes) -> bytes:
    return base64.b64decode(json.loads(bundle)["payload"])


@functools.lru_cache(maxsize=1)
def _fields(payload: bytes) -> tuple[tuple[tuple, ...], ...]:
    """Return the places of every field of the run, one tuple a field: as likely, however many values it has."""
    places: dict[str, list[tuple]] = {}
    for at, _ in _walk(json.loads(payload)["predicate"]):
        places.setdefault(_named(at), []).append(at)
    return tuple(tuple(some) for _, some in sorted(places.items()))


def _walk(value: Any, at: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield every value below one, with its place."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield (*at, key), child
        yield from _walk(child, (*at, key))


def _leaves(payload: bytes) -> Iterator[tuple[tuple, Any]]:
    for at, value in _walk(json.loads(payload)["predicate"]):
        if not (value and isinstance(value, dict | list)):
            yield at, value


def _named(at: tuple) -> str:
    return ".".join("[]" if isinstance(key, int) else key for key in at)


def _of_a_field(content: Any, fields: tuple, rng: random.Random) -> tuple[Any, Any]:
    """Return what holds a value of a field, and its key there; another field's where an earlier change took it away."""
    while True:
        *above, key = rng.choice(rng.choice(fields))
        with contextlib.suppress(KeyError, IndexError, TypeError):
            parent = functools.reduce(operator.getitem, above, content)
            parent[key]
            return parent, key


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    kind, number = rng.randrange(4), isinstance(parent[key], int | float) and not isinstance(parent[key], bool)
    if kind == 1 and isinstance(parent, dict):
        del parent[key]
    elif kind == 2 and number:
        parent[key] = max(min(parent[key] * rng.choice((0, -1, 0.5, 0.9, 1.001, 1.1, 2, 1e6)), 1e308), -1e308)
    elif kind == 3 and isinstance(parent, list):
        parent.insert(0, copy.deepcopy(parent[key]))
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD))
