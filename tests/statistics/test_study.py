"""Studies from records on disk, and sentences in the place of what cannot be said."""

import numpy as np
import pytest

import energylab
from energylab.clock import ManualClock
from energylab.errors import CohortError, StatisticsError
from energylab.meters.replay import ReplayMeter, SimulatedBoard
from energylab.statistics.components import nested_components
from energylab.statistics.study import Unsaid, read_study, said
from energylab.statistics.units import measured_windows

LENGTHS_S = np.random.default_rng(0).uniform(0.2, 0.8, 40)


def measure(folder, sessions=3, lengths_s=LENGTHS_S, model_power_w=400.0):
    """Measure a simulated board with the real protocol: sessions differ in power, queries in length."""
    for number in range(sessions):
        clock = ManualClock()
        board = SimulatedBoard(clock, 60.0)
        power_w = model_power_w * (1 + 0.01 * (number - 1))

        def work(query, board=board, power_w=power_w):
            board.work(lengths_s[query], power_w)

        energylab.measure(
            fn=work, queries=list(range(len(lengths_s))), meters=[ReplayMeter(board, clock, power_limit_w=700.0)],
            clock=clock, runs=3, window_s=2.0, idle_s=1.0, warm_up_min_s=1.0, repeat=number,
            output_folder=str(folder / str(number)),
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    measure(root)
    return root


def test_records_become_a_study(folder):
    study = read_study(folder)
    assert study.kind == "simulated"
    assert study.population == 40
    assert study.truth is None
    assert study.windows["session"].nunique() == 3
    assert study.overhead_j > 1.0 * 380 + 3 * 1.0 * 60 - 1
    per_window = study.meters.groupby(["session", "index"])["energy_j"].sum()
    windows = study.windows.set_index(["session", "index"])["energy_j"]
    assert per_window.sort_index().to_numpy() == pytest.approx(windows.sort_index().to_numpy())


def test_components_of_the_protocol_on_a_known_board(folder):
    components = nested_components(measured_windows(read_study(folder).windows))
    assert components.cv("session") == pytest.approx(0.01, rel=0.15)
    assert components.cv("query") == pytest.approx(LENGTHS_S.std() / LENGTHS_S.mean(), rel=0.25)


def test_unlike_data_sets_are_not_mixed(tmp_path):
    measure(tmp_path / "a", sessions=1)
    measure(tmp_path / "b", sessions=1, lengths_s=LENGTHS_S[:30])
    with pytest.raises(CohortError, match="2 values of data set"):
        read_study(tmp_path)


def test_a_model_that_is_not_there_is_named_with_those_that_are(folder):
    with pytest.raises(StatisticsError, match="there are: function / "):
        read_study(folder, model="another")


def test_said_passes_results_on_and_reasons_down():
    def refuse():
        raise StatisticsError("too few")

    assert said(max, 1, 2) == 2
    sentence = said(refuse)
    assert sentence == "Not from these data: too few"
    assert said(max, sentence, 3) is sentence
    assert isinstance(sentence, Unsaid)
    with pytest.raises(ZeroDivisionError):
        said(lambda: 1 / 0)
