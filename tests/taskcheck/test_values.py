"""Comparing what tasks return."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from energylab.taskcheck.values import same, short, tensors


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x", "x"),
        (1.0, 1.00005),
        (0.0, 5e-6),
        (3, 3.0),
        (float("nan"), float("nan")),
        ([{"a": 1.0}], ({"a": 1.00001},)),
        (torch.ones(2), np.ones(2)),
        (np.float32(2.0), 2.0),
        (Pair(1, [2.0]), Pair(1, [2.00001])),
        (Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2))),
        (None, None),
    ],
)
def test_equal_values(a, b):
    assert same(a, b)
    assert same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x", "y"),
        (1.0, 1.001),
        (0.0, 1e-3),
        ("1", 1),
        (True, 1),
        (None, 0),
        ([1], [1, 1]),
        ({"a": 1}, {"b": 1}),
        (torch.ones(2), torch.ones(3)),
        (Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), "white")),
        (Pair(1, 2), Pair(1, 3)),
    ],
)
def test_different_values(a, b):
    assert not same(a, b)
    assert not same(b, a)


def test_every_tensor_is_found_wherever_it_lies():
    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    found = list(tensors({"a": [one, "text"], "b": Pair(two, (three, None))}))
    assert [len(tensor) for tensor in found] == [1, 2, 3]


def test_a_long_value_is_cut():
    assert len(short("x" * 500)) == 60
    assert short([1, 2]) == "[1, 2]"
