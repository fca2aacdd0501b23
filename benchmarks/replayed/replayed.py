"""A board that replays published energies: a task whose models take their published energy a query, and its meter.

The clock is the board's own, so that hours of measuring take seconds. Sessions deviate by 0.6 %, runs by 0.4 %, queries
by 50 %, as `SPREAD` says.
"""

from __future__ import annotations

import numpy as np

from energylab import published
from energylab.clock import ManualClock
from energylab.errors import ModelError
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.record import ModelFacts, Quality
from energylab.tasks.base import Task, TaskSettings

CLOCK = ManualClock()
BOARD = SimulatedBoard(CLOCK, idle_w=50.0)
POWER_W = 300.0
SPREAD = {"session": 0.006, "run": 0.004, "query": 0.5}


class Meter(ReplayMeter):
    """The counter of the board."""

    watches = ("cpu", "cuda")

    @classmethod
    def for_devices(cls, devices, parameters):
        """Return the one meter of the one board."""
        return [cls(BOARD, CLOCK, power_limit_w=700.0)]


class ReplayedSettings(TaskSettings):
    """`of` is the published task, `seconds` what a query of its lightest model takes here."""

    of: str
    seconds: float


class Replayed(Task):
    """Every query makes the board work for as long as its model's published energy asks."""

    phases = ("forward",)
    columns = ("query",)
    Settings = ReplayedSettings

    def check_row(self, row):
        """Take every row."""

    def synthesise(self, count, seed):
        """Number the queries."""
        return [{"query": str(number)} for number in range(count)]

    def check(self, device, facts):
        """Refuse a model without a published energy."""
        self.energies()

    def energies(self):
        """Return the published energies of the task by model, and refuse a model that is not among them."""
        table = published.load()
        found = table[table["task"] == self.settings.of].set_index("model")["energy_wh"]
        if self.parameters.model not in found:
            raise ModelError(f"model {self.parameters.model!r} has no published energy on {self.settings.of}")
        return found

    def load(self, device):
        """Draw what this session and its runs deviate by, and how long every query is."""
        found, name = self.energies(), self.parameters.model
        asked = self.parameters.star_probability is not None
        own = np.random.default_rng([self.parameters.repeat, asked, *name.encode()])
        lengths = np.exp(SPREAD["query"] * np.random.default_rng(list(name.encode())).standard_normal(self.samples))
        seconds = self.settings.seconds * found[name] / found.min()
        self.seconds = seconds * lengths / lengths.mean() * (1 + SPREAD["session"] * own.standard_normal())
        self.of_run, self.asked = 1 + SPREAD["run"] * own.standard_normal(10_000), 0
        return ModelFacts(name=name, source=self.parameters.model_source)

    @property
    def samples(self):
        """Queries of a run."""
        return self.parameters.samples or self.settings.samples

    def prepare(self, rows):
        """Return the numbers of the queries."""
        return [int(row["query"]) for row in rows]

    def features(self, rows):
        """Return them as one column."""
        return {"query": self.prepare(rows)}

    def call(self, phase, inputs):
        """Make the board work."""
        for query in inputs:
            BOARD.work(self.seconds[query] * self.of_run[self.asked // self.samples], POWER_W)
            self.asked += 1
        return inputs

    def finite(self, inputs, outputs):
        """There are no outputs but numbers of queries."""
        return True

    def answers(self, inputs, outputs):
        """Return one answer a query."""
        return outputs

    def score(self, answers, rows):
        """Nothing is right or wrong here."""
        return (Quality(metric="none", value=None, queries=len(rows), meaningless="the board replays energies"),)
