"""A release: what it says of its records, that it is made once, and what it says moved."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from release_builders import record_of, released, write_all

from energylab import published, release, store
from energylab.errors import CohortError, DataError, ReleaseError
from energylab.parameters import Parameters
from energylab.release.make import number

DAY = "2026-01-02"


@pytest.fixture
def made(tmp_path):
    """Release a table of energies in Wh per 1,000 queries, each from two sessions, under a name."""

    def make(energies, name="own-1", **options):
        rows = [
            ("summarization", model, energy * factor * 3.6, 1, session)
            for model, energy in energies.items()
            for session, factor in enumerate((0.99, 1.01))
        ]
        table = pd.DataFrame(rows, columns=["task", "model", "energy_j", "queries", "session"])
        table.to_csv(tmp_path / "own.csv", index=False)
        return release.make([tmp_path / "own.csv"], **{"name": name, "date": DAY, "draws": 200, **options})

    return make


def first_model(records, folder):
    return released(records, folder).cohorts[0].models[0]


def test_the_committed_releases_are_what_is_made():
    made = release.make(["published:2025-02"], name="published-2025-02", date="2025-02-28", noise=0.01)
    assert release.read("published-2025-02") == made
    assert all("energy is imported, not measured" in cohort.not_official for cohort in made.cohorts)
    assert "AI Energy Score" in made.sources[0]
    later = release.make(["published:2025-12"], name="published-2025-12", date="2025-12-31", noise=0.01, previous=made)
    assert release.read("published-2025-12").to_bytes() == later.to_bytes()


class TestRecords:
    def test_energy_and_evidence(self, tmp_path):
        energies = {"org/a": 4.0, "org/b": 9.0}
        records = [record_of(model, wh, session) for model, wh in energies.items() for session in range(3)]
        (cohort,) = released(records, tmp_path, draws=200).cohorts
        assert cohort.official
        assert [model.model for model in cohort.models] == list(energies)
        by_id = {record.record_id: record for record in records}
        for model in cohort.models:
            assert model.energy_wh == pytest.approx(energies[model.model], rel=0.01)
            assert statistics.fmean(s.energy_wh for s in model.sessions) == pytest.approx(model.energy_wh)
            assert model.expanded.low_wh < model.repeatability.low_wh < model.energy_wh
            for session in model.sessions:
                record = by_id[session.record_id]
                assert (session.digest, session.job_id) == (record.digest(), record.job_id)
                assert len(session.windows) == len(record.windows)

    def test_same_records_elsewhere_give_the_same_bytes(self, tmp_path):
        records = [record_of(f"org/{m}", 3.0 + m, s) for m in range(4) for s in range(2)]
        one = released(records, tmp_path / "one", draws=500).to_bytes()
        assert one == released(records[::-1], tmp_path / "two" / "deep", draws=500).to_bytes()
        assert str(tmp_path) not in one.decode()
        assert dt.datetime.now(dt.UTC).date().isoformat() not in one.decode()  # the records are of an earlier day

    def test_unofficial_says_why(self, tmp_path):
        records = [record_of(f"m{n}", 3.0 + n, source="random", kind="estimated") for n in range(2)]
        (cohort,) = released(records, tmp_path).cohorts
        assert {"energy is estimated, not measured", "model source is random, not hub"} <= set(cohort.not_official)

    def test_phases_add_up_and_invalid_windows_are_named(self, tmp_path):
        model = first_model([record_of("org/a", 4.0, broken=True), record_of("org/b", 8.0)], tmp_path)
        assert sum(phase.energy_wh for phase in model.phases if phase.scored) == pytest.approx(model.energy_wh)
        phases = {phase.phase: phase for phase in model.phases}
        assert (phases["preprocess"].invalid_windows, phases["preprocess"].reasons) == (1, ("thermal_slowdown",))
        decode_wh = phases["generate"].energy_wh - phases["prefill"].energy_wh
        assert phases["decode"].energy_wh == pytest.approx(decode_wh, rel=1e-9)

    def test_an_invalid_session_gives_no_energy_and_spoils_no_other(self, tmp_path):
        whole = record_of("org/a", 4.0)
        broken = whole.model_copy(update={"valid": False, "reasons": ("device lost",), "record_id": "x"})
        (cohort,) = released([whole, record_of("org/b", 8.0), broken], tmp_path).cohorts
        found = [(session.valid, session.energy_wh is None) for session in cohort.models[0].sessions]
        assert sorted(found) == [(False, True), (True, False)]
        assert cohort.official

    @pytest.mark.parametrize("protocol", ["steady", "published-2025-02"])
    def test_the_command_holds_what_differs_from_the_defaults_and_its_protocol_uses(self, tmp_path, protocol):
        """Records of a published protocol were once made with a window's length, which it never used."""
        record = record_of("org/a", 4.0)
        asked = {**record.parameters, "protocol": protocol, "idle_s": 10.0}
        asked |= {"window_s": 10.0} if protocol != "steady" else {}
        records = [record.model_copy(update={"parameters": asked}), record_of("org/b", 5.0)]
        (session,) = first_model(records, tmp_path).sessions
        assert not {"output_folder", "window_s"} & set(session.parameters)
        checked = Parameters.check(session.parameters)
        assert (checked.model, checked.protocol, checked.idle_s) == ("org/a", protocol, 10.0)

    def test_a_copy_of_a_record_is_refused(self, tmp_path):
        write_all([record_of("a", 1.0), record_of("b", 2.0)], tmp_path)
        shutil.copytree(tmp_path / "0000", tmp_path / "copy")
        with pytest.raises(DataError, match="twice"):
            release.make([tmp_path], name="r", date=DAY)


class TestCohorts:
    @pytest.fixture
    def two(self, tmp_path):
        sources = {"a": "random", "b": "random", "c": "random", "a-real": "path"}
        return write_all([record_of(model, 3.0, source=source) for model, source in sources.items()], tmp_path)

    def test_several_are_refused_with_their_difference(self, two):
        with pytest.raises(CohortError, match=r"model source=path(.|\n)*--cohort"):
            release.make([two], name="r", date=DAY)
        with pytest.raises(CohortError, match="'nonsense' is not among"):
            release.make([two], name="r", date=DAY, cohort="nonsense")

    def test_one_is_chosen_by_its_size_or_number_and_the_other_is_named(self, two):
        made = release.make([two], name="r", date=DAY, cohort="largest", draws=0)
        assert [model.model for model in made.cohorts[0].models] == ["a", "b", "c"]
        (left,) = made.left_out
        assert left.model == "a-real"
        assert "model source=path" in left.why
        small = number(store.read(two).groupby("cohort")["model"].nunique().idxmin())
        made = release.make([two], name="r", date=DAY, cohort=small, draws=0)
        assert [model.model for model in made.cohorts[0].models] == ["a-real"]


class TestFiles:
    def test_written_once(self, tmp_path, made):
        first, folder = made({"a": 1, "b": 2}), tmp_path / "releases"
        path = release.write(first, folder)
        before = path.read_bytes()
        assert hashlib.sha256(before).hexdigest() == first.digest()
        assert release.read(path) == first
        assert release.write(first, folder) == path
        with pytest.raises(ReleaseError, match="never overwritten"):
            release.write(made({"a": 1, "b": 3}), folder)
        assert path.read_bytes() == before
        assert [p.name for p in folder.iterdir()] == ["own-1.json"]

    def test_a_release_of_schema_1_is_read_and_keeps_its_digest(self):
        old = release.read(Path(__file__).parent / "fixtures" / "releases" / "schema-1.json")
        assert (old.schema_version, old.cohorts[0].models[0].rank_low) == (1, None)
        assert old.digest() == "5b220c4eb61a039c783f295a4243d48b114189b8becf400b30ea8179bf9b3c55"

    def test_found_by_name_from_a_folder_below_and_shipped_ones_from_any(self, tmp_path, made, monkeypatch):
        release.write(made({"a": 1, "b": 2}), tmp_path / "results" / "releases")
        (tmp_path / "notebooks").mkdir()
        monkeypatch.chdir(tmp_path / "notebooks")
        assert release.read("own-1").name == "own-1"
        assert [len(list(release.read(f"published-{date}").rated())) for date in published.names()] == [166, 206]
        with pytest.raises(ReleaseError, match="known: own-1, published-2025-02, published-2025-12"):
            release.read("own-2")

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda text: text[: len(text) // 2], "truncated or not JSON"),
            (lambda text: text.replace('"schema_version": 2', '"schema_version": 99'), "newer than"),
            (lambda text: '{"hello": 1}', "is not a release"),
            (lambda text: text.replace('"stars": 5', '"stars": 7'), "is not a release"),
        ],
        ids=["cut short", "newer schema", "foreign", "seven stars"],
    )
    def test_spoilt(self, tmp_path, made, spoil, says):
        path = release.write(made({"a": 1, "b": 2}), tmp_path)
        path.write_text(spoil(path.read_text()))
        with pytest.raises(ReleaseError, match=says):
            release.read(path)

    @pytest.mark.parametrize(
        "bad", [{"name": "../up"}, {"name": ""}, {"date": "yesterday"}, {"address": "javascript:alert(1)"}], ids=str
    )
    def test_bad_fields_are_one_clear_error(self, made, bad):
        with pytest.raises(ReleaseError, match="cannot make this release"):
            made({"a": 1, "b": 2}, **bad)


class TestMoves:
    BEFORE = {"a": 1.0, "b": 2.0, "c": 10.0}  # noqa: RUF012

    def test_joined_left_and_star_by_the_scale(self, made):
        before = made(self.BEFORE)
        now = made({"a": 1.0, "b": 2.0, "d": 2.4}, name="own-2", previous=before)
        found = {move.model: (move.what, move.stars_before, move.stars_now) for move in now.previous.moves}
        assert found == {"c": ("left", 1, None), "d": ("joined", None, 1), "b": ("changed star", 5, 2)}
        assert "the heaviest model is now d" in next(move.why for move in now.previous.moves if move.model == "b")
        assert now.previous.digest == before.digest()

    @pytest.mark.parametrize(
        ("b_wh", "options", "moved", "why"),
        [
            (5.0, {}, ("changed star", 5, 3), "its energy went from 2 to 5 Wh (+150 %)"),
            (2.7, {}, ("same star", 5, 5), "more than both figures' uncertainty"),
            (2.0, {"scheme": "log_width"}, ("changed star", 5, 4), "scheme changed from equal_width"),
            (2.0, {}, None, ""),
        ],
        ids=["own energy", "beyond both uncertainties", "scheme", "nothing"],
    )
    def test_what_moved_one_model(self, made, b_wh, options, moved, why):
        moves = release.moves(made(self.BEFORE), made({**self.BEFORE, "b": b_wh}, name="own-2", **options))
        found = [(move.model, (move.what, move.stars_before, move.stars_now)) for move in moves]
        assert found == ([("b", moved)] if moved else [])
        assert all(why in move.why for move in moves)

    def test_equal_truths_seldom_differ(self, tmp_path):
        """Five sessions of CV 2 % before and after: 5 % of the models seem to differ, not 12 %."""
        rng, releases = np.random.default_rng(2), []
        for name in ("before", "now"):
            energy_j = np.repeat(np.geomspace(10, 1e6, 300), 5) * (1 + 0.02 * rng.standard_normal(1500))
            table = pd.DataFrame({"task": "t", "model": np.repeat([f"m{m}" for m in range(300)], 5),
                                  "energy_j": energy_j, "queries": 1, "session": range(1500)})  # fmt: skip
            table.to_csv(tmp_path / f"{name}.csv", index=False)
            releases.append(release.make([tmp_path / f"{name}.csv"], name=name, date=DAY, draws=0, gain=0.0))
        differ = [move for move in release.moves(*releases) if "both figures' uncertainty" in move.why]
        assert 0.025 < len(differ) / 300 < 0.08

    def test_a_gain_is_shared_by_sessions_of_one_board_alone(self, tmp_path):
        def of(board, factor):
            records = [
                record_of(model, energy_wh, session, spread=0.001, board=board)
                for model, energy_wh in (("a", 1.0), ("b", 5.0 * factor), ("c", 10.0))
                for session in range(3)
            ]
            return released(records, tmp_path / f"{board}-{factor}")

        before = of("GPU-0", 1.0)
        assert [move.model for move in release.moves(before, of("GPU-0", 1.03))] == ["b"]
        assert release.moves(before, of("GPU-1", 1.03)) == ()

    def test_another_cohort_is_said_before_energies_are_compared(self, tmp_path):
        def of(kind, device, b_wh):
            energies = {**self.BEFORE, "b": b_wh}
            records = [record_of(model, wh, kind=kind, device=device) for model, wh in energies.items()]
            return released(records, tmp_path / kind)

        (move,) = release.moves(of("measured", "H100", 2.0), of("estimated", "a CPU", 5.0))
        assert move.what == "changed star"
        assert move.why.startswith("another cohort (estimated on a CPU, before measured on H100): ")


def test_stars_without_the_lightest_and_the_heaviest_model(made):
    models = {model.model: model for model in made({"a": 1.0, "b": 2.0, "c": 3.0, "d": 100.0}).cohorts[0].models}
    without = {(peer.role, peer.peer): peer.stars for peer in models["b"].without}
    assert without == {("lightest", "a"): 5, ("heaviest", "d"): 3}  # bands of 1 to 3: 2.0 is in the third
    assert [peer.role for peer in models["a"].without] == ["heaviest"]
    assert all(model.without == () for model in made({"a": 1.0, "b": 2.0}).cohorts[0].models)  # two: no scale is left


def test_a_task_of_ones_own_is_measured_again_by_its_file(tmp_path):
    record = record_of("org/a", 1.0)
    own = record.model_copy(update={"parameters": {**record.parameters, "task": "mine/language_id.yaml"}})
    (session,) = released([own], tmp_path).cohorts[0].models[0].sessions
    assert session.parameters["task"] == "language_id.yaml"
