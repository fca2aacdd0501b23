"""What is seen while a phase runs, and that nothing is left behind."""

import sys

import pytest
import torch

from energylab.taskcheck.watch import watched


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(self.inner(x))


def test_passes_of_the_model_are_counted_from_outside():
    model = Model()
    with watched(Model, {}) as seen:
        model(torch.ones(1, 2))
        model(torch.ones(1, 2))
    assert seen.model_calls == 2
    assert seen.foreign == []


def test_foreign_work_names_its_line():
    with watched(Model, {}) as seen:
        print("x")
    assert seen.foreign
    assert seen.foreign[0].startswith("prints at test_watch.py line ")


def test_a_pass_that_fails_does_not_spoil_the_count():
    model = Model()
    with watched(Model, {}) as seen:
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 3))
        model(torch.ones(1, 2))
    assert seen.model_calls == 2


def test_nothing_is_left_behind():
    before = sys.getprofile()
    with pytest.raises(ZeroDivisionError), watched(Model, {}):
        raise ZeroDivisionError
    assert sys.getprofile() is before
    with watched(Model, {}) as seen:
        pass
    Model()(torch.ones(1, 2))
    assert seen.model_calls == 0
