"""A release: what it says of its records, that it is made once, and what it says moved."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import shutil
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from release_builders import record_of

from energylab import published, release, store
from energylab.errors import CohortError, ReleaseError
from energylab.parameters import Parameters
from energylab.release.make import number

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def table_of(tmp_path_factory):
    """Write energies (Wh per 1,000 queries, two sessions each) as a CSV of one's own."""

    def write(energies, **columns):
        path = tmp_path_factory.mktemp("table") / "own.csv"
        with path.open("w", newline="") as file:
            names = ["task", "model", "energy_j", "queries", "session", *columns]
            rows = csv.DictWriter(file, names)
            rows.writeheader()
            for model, energy in energies.items():
                for session, factor in enumerate((0.99, 1.01)):
                    row = {"task": "summarization", "model": model, "energy_j": energy * factor * 3.6, "queries": 1}
                    rows.writerow({**row, "session": session, **columns})
        return path

    return write


@pytest.fixture(scope="module")
def made(table_of):
    """Release such a table under a name."""

    def make(energies, name="own-1", **options):
        return release.make([table_of(energies)], name=name, date="2026-01-02", draws=200, **options)

    return make


class TestPublished:
    def test_committed_release_is_what_is_made(self):
        made = release.make(["published:2025-02"], name="published-2025-02", date="2025-02-28", noise=0.01)
        assert release.read("published-2025-02") == made
        assert all("energy is imported, not measured" in cohort.not_official for cohort in made.cohorts)
        assert "AI Energy Score" in made.sources[0]
        later = release.make(["published:2025-12"], name="published-2025-12", date="2025-12-31", noise=0.01,
                             previous=made)  # fmt: skip
        assert release.read("published-2025-12").to_bytes() == later.to_bytes()


class TestRecords:
    def test_energy_and_evidence(self, tmp_path):
        records = [record_of("org/a", 4.0, session) for session in range(3)]
        records += [record_of("org/b", 9.0, session) for session in range(3)]
        for n, record in enumerate(records):
            store.write(record, tmp_path / str(n))
        made = release.make([tmp_path], name="r", date="2026-01-02", draws=200)
        (cohort,) = made.cohorts
        assert cohort.official
        assert [model.model for model in cohort.models] == ["org/a", "org/b"]
        for model, energy_wh in zip(cohort.models, (4.0, 9.0), strict=True):
            assert model.energy_wh == pytest.approx(energy_wh, rel=0.01)
            assert statistics.fmean(s.energy_wh for s in model.sessions) == pytest.approx(model.energy_wh)
            assert model.expanded.low_wh < model.repeatability.low_wh < model.energy_wh
        by_id = {record.record_id: record for record in records}
        for _, model in made.rated():
            for session in model.sessions:
                record = by_id[session.record_id]
                assert session.digest == record.digest()
                assert session.job_id == record.job_id
                assert len(session.windows) == len(record.windows)

    def test_same_records_elsewhere_give_the_same_bytes(self, tmp_path):
        for n, record in enumerate(record_of(f"org/{m}", 3.0 + m, s) for m in range(4) for s in range(2)):
            store.write(record, tmp_path / "one" / f"{n}")
            store.write(record, tmp_path / "two" / "deep" / f"{97 - n}")
        one, two = (
            release.make([tmp_path / root], name="r", date="2026-01-02", draws=500).to_bytes()
            for root in ("one", "two")
        )
        assert one == two
        assert str(tmp_path) not in one.decode()
        assert dt.datetime.now(dt.UTC).date().isoformat() not in one.decode()  # the records are of an earlier day

    def test_unofficial_says_why(self, tmp_path):
        for n in range(2):
            store.write(record_of(f"m{n}", 3.0 + n, source="random", kind="estimated"), tmp_path / str(n))
        (cohort,) = release.make([tmp_path], name="r", date="2026-01-02", draws=0).cohorts
        assert "energy is estimated, not measured" in cohort.not_official
        assert "model source is random, not hub" in cohort.not_official

    def test_phases_add_up_and_invalid_windows_are_named(self, tmp_path):
        store.write(record_of("org/a", 4.0, broken=True), tmp_path / "a")
        store.write(record_of("org/b", 8.0), tmp_path / "b")
        first = release.make([tmp_path], name="r", date="2026-01-02", draws=0).cohorts[0].models[0]
        scored = sum(phase.energy_wh for phase in first.phases if phase.scored)
        assert scored == pytest.approx(first.energy_wh)
        phases = {phase.phase: phase for phase in first.phases}
        assert phases["preprocess"].invalid_windows == 1
        assert phases["preprocess"].reasons == ("thermal_slowdown",)
        assert phases["decode"].energy_wh == pytest.approx(
            phases["generate"].energy_wh - phases["prefill"].energy_wh, rel=1e-9
        )

    def test_an_unmeasured_phase_leaves_no_energy(self, tmp_path):
        whole = record_of("org/a", 4.0)
        broken = whole.model_copy(update={"valid": False, "reasons": ("device lost",), "record_id": "lost"})
        for n, record in enumerate((whole, record_of("org/b", 8.0), broken.model_copy(update={"record_id": "x"}))):
            store.write(record, tmp_path / str(n))
        made = release.make([tmp_path], name="r", date="2026-01-02", draws=0)
        sessions = made.cohorts[0].models[0].sessions
        assert sorted((session.valid, session.energy_wh is None) for session in sessions) == [
            (False, True),
            (True, False),
        ]
        assert made.cohorts[0].official  # the invalid session gives no figure

    def test_command_holds_what_differs_from_the_defaults(self, tmp_path):
        store.write(record_of("org/a", 4.0), tmp_path / "a")
        store.write(record_of("org/b", 5.0), tmp_path / "b")
        parameters = (
            release.make([tmp_path], name="r", date="2026-01-02", draws=0).cohorts[0].models[0].sessions[0].parameters
        )
        assert parameters["model"] == "org/a"
        assert "output_folder" not in parameters
        assert "window_s" not in parameters

    def test_a_command_leaves_out_what_the_records_protocol_does_not_use(self, tmp_path):
        """Records of a published protocol were once made with a window's length, which it never used."""
        for name, energy_wh in (("a", 4.0), ("b", 5.0)):
            record = record_of(f"org/{name}", energy_wh)
            asked = {**record.parameters, "protocol": "published-2025-02", "window_s": 10.0, "idle_s": 10.0}
            store.write(record.model_copy(update={"parameters": asked}), tmp_path / name)
        made = release.make([tmp_path], name="r", date="2026-01-02", draws=0)
        parameters = made.cohorts[0].models[0].sessions[0].parameters
        assert (parameters["protocol"], "window_s" in parameters) == ("published-2025-02", False)
        assert Parameters.check(parameters).idle_s == 10.0


class TestCohorts:
    def two(self, tmp_path):
        for n, (model, source) in enumerate([("a", "random"), ("b", "random"), ("c", "random"), ("a-real", "path")]):
            store.write(record_of(model, 3.0 + n, source=source), tmp_path / str(n))
        return tmp_path

    def test_several_are_refused_with_their_difference(self, tmp_path):
        with pytest.raises(CohortError, match=r"model source=path(.|\n)*--cohort"):
            release.make([self.two(tmp_path)], name="r", date="2026-01-02")

    def test_largest_keeps_three_and_names_the_other(self, tmp_path):
        made = release.make([self.two(tmp_path)], name="r", date="2026-01-02", cohort="largest", draws=0)
        assert [model.model for model in made.cohorts[0].models] == ["a", "b", "c"]
        (left,) = made.left_out
        assert left.model == "a-real"
        assert "model source=path" in left.why

    def test_by_number(self, tmp_path):
        root = self.two(tmp_path)
        keys = store.read(root).groupby("cohort")["model"].nunique()
        small = number(keys.idxmin())
        made = release.make([root], name="r", date="2026-01-02", cohort=small, draws=0)
        assert [model.model for model in made.cohorts[0].models] == ["a-real"]
        with pytest.raises(CohortError, match="'nonsense' is not among"):
            release.make([root], name="r", date="2026-01-02", cohort="nonsense")


class TestFiles:
    def test_written_once(self, tmp_path, made):
        first = made({"a": 1, "b": 2})
        path = release.write(first, tmp_path)
        before = path.read_bytes()
        assert hashlib.sha256(before).hexdigest() == first.digest()
        assert release.read(path) == first
        assert release.write(first, tmp_path) == path
        with pytest.raises(ReleaseError, match="never overwritten"):
            release.write(made({"a": 1, "b": 3}), tmp_path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["own-1.json"]

    def test_a_release_of_schema_1_is_read_and_keeps_its_digest(self):
        path = REPOSITORY / "tests" / "fixtures" / "releases" / "schema-1.json"
        old = release.read(path)
        assert (old.schema_version, old.cohorts[0].models[0].rank_low) == (1, None)
        assert old.digest() == "5b220c4eb61a039c783f295a4243d48b114189b8becf400b30ea8179bf9b3c55"

    def test_shipped_releases_are_found_from_any_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        sizes = [len(list(release.read(f"published-{date}").rated())) for date in published.names()]
        assert sizes == [166, 206]

    def test_found_by_name_from_a_folder_below(self, tmp_path, made, monkeypatch):
        release.write(made({"a": 1, "b": 2}), tmp_path / "results" / "releases")
        (tmp_path / "notebooks").mkdir()
        monkeypatch.chdir(tmp_path / "notebooks")
        assert release.read("own-1").name == "own-1"
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
    )  # fmt: skip
    def test_spoilt(self, tmp_path, made, spoil, says):
        path = release.write(made({"a": 1, "b": 2}), tmp_path)
        path.write_text(spoil(path.read_text()))
        with pytest.raises(ReleaseError, match=says):
            release.read(path)

    @pytest.mark.parametrize(
        "bad",
        [
            {"name": "../up"},
            {"name": ""},
            {"date": "yesterday"},
            {"address": "javascript:alert(1)"},
            {"address": "ftp://x"},
        ],
    )
    def test_bad_fields_are_one_clear_error(self, table_of, bad):
        options = {"name": "r", "date": "2026-01-02", **bad}
        with pytest.raises(ReleaseError, match="cannot make this release"):
            release.make([table_of({"a": 1, "b": 2})], draws=0, **options)


class TestMoves:
    def test_joined_left_and_star_by_the_scale(self, made):
        before = made({"a": 1.0, "b": 2.0, "c": 10.0})
        now = made({"a": 1.0, "b": 2.0, "d": 2.4}, name="own-2", previous=before)
        found = {move.model: move for move in now.previous.moves}
        assert found["c"].what == "left"
        assert found["d"].what == "joined"
        assert (found["b"].what, found["b"].stars_before, found["b"].stars_now) == ("changed star", 5, 2)
        assert "the heaviest model is now d" in found["b"].why
        assert "a" not in found
        assert now.previous.digest == before.digest()

    def test_star_by_own_energy(self, made):
        before = made({"a": 1.0, "b": 2.0, "c": 10.0})
        (move,) = release.moves(before, made({"a": 1.0, "b": 5.0, "c": 10.0}, name="own-2"))
        assert (move.model, move.stars_before, move.stars_now) == ("b", 5, 3)
        assert "its energy went from 2 to 5 Wh (+150 %)" in move.why

    def test_equal_truths_seldom_differ(self, tmp_path):
        """Five sessions of CV 2 % before and after: 5 % of the models seem to differ, not 12 %."""
        rng, releases = np.random.default_rng(2), []
        for name in ("before", "now"):
            energy_j = np.repeat(np.geomspace(10, 1e6, 300), 5) * (1 + 0.02 * rng.standard_normal(1500))
            table = pd.DataFrame({"task": "t", "model": np.repeat([f"m{m}" for m in range(300)], 5),
                                  "energy_j": energy_j, "queries": 1, "session": range(1500)})  # fmt: skip
            table.to_csv(tmp_path / f"{name}.csv", index=False)
            releases.append(release.make([tmp_path / f"{name}.csv"], name=name, date="2026-01-02", draws=0, gain=0.0))
        differ = [move for move in release.moves(*releases) if "both figures' uncertainty" in move.why]
        assert 0.025 < len(differ) / 300 < 0.08

    def test_a_gain_is_shared_by_sessions_of_one_board_alone(self, tmp_path):
        def of(board, factor):
            for model, energy_wh in (("a", 1.0), ("b", 5.0 * factor), ("c", 10.0)):
                for session in range(3):
                    record = record_of(model, energy_wh, session, spread=0.001, board=board)
                    store.write(record, tmp_path / f"{board}-{factor}" / f"{model}{session}")
            return release.make([tmp_path / f"{board}-{factor}"], name="r", date="2026-01-02", draws=0)

        before = of("GPU-0", 1.0)
        assert [move.model for move in release.moves(before, of("GPU-0", 1.03))] == ["b"]
        assert release.moves(before, of("GPU-1", 1.03)) == ()

    def test_same_star_beyond_both_uncertainties(self, made):
        before = made({"a": 1.0, "b": 2.0, "c": 10.0})
        (move,) = release.moves(before, made({"a": 1.0, "b": 2.7, "c": 10.0}, name="own-2"))
        assert (move.what, move.stars_now) == ("same star", 5)

    def test_scheme(self, made):
        before = made({"a": 1.0, "b": 2.0, "c": 10.0})
        moves = release.moves(before, made({"a": 1.0, "b": 2.0, "c": 10.0}, name="own-2", scheme="log_width"))
        assert {move.model for move in moves} == {"b"}
        assert "scheme changed from equal_width" in moves[0].why

    def test_another_cohort_is_said_before_energies_are_compared(self, tmp_path):
        def of(kind, device, factor):
            for model, energy_wh in (("a", 1.0), ("b", 2.0), ("c", 10.0)):
                record = record_of(model, energy_wh * factor ** (model == "b"), kind=kind, device=device)
                store.write(record, tmp_path / kind / model)
            return release.make([tmp_path / kind], name=kind, date="2026-01-02", draws=0)

        before, now = of("measured", "H100", 1.0), of("estimated", "a CPU", 2.5)
        (move,) = release.moves(before, now)
        assert move.what == "changed star"
        assert move.why.startswith("another cohort (estimated on a CPU, before measured on H100): ")

    def test_nothing(self, made):
        assert release.moves(made({"a": 1.0, "b": 2.0}), made({"a": 1.0, "b": 2.0}, name="own-2")) == ()


class TestPeers:
    def test_stars_without_the_extremes(self, made):
        models = {model.model: model for model in made({"a": 1.0, "b": 2.0, "c": 3.0, "d": 100.0}).cohorts[0].models}
        without = {(peer.role, peer.peer): peer.stars for peer in models["b"].without}
        assert without == {("lightest", "a"): 5, ("heaviest", "d"): 3}  # bands of 1 to 3: 2.0 is in the third
        assert [peer.role for peer in models["a"].without] == ["heaviest"]

    def test_two_models_have_no_scale_without_one(self, made):
        assert all(model.without == () for model in made({"a": 1.0, "b": 2.0}).cohorts[0].models)


def test_copy_of_a_record_is_refused(tmp_path):
    store.write(record_of("a", 1.0), tmp_path / "a")
    store.write(record_of("b", 2.0), tmp_path / "b")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with pytest.raises(Exception, match="twice"):
        release.make([tmp_path], name="r", date="2026-01-02")
