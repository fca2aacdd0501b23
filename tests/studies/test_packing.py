"""An archive holds all that is needed to read, cite and repeat a study, and is the same whoever packs it."""

from __future__ import annotations

import tarfile

import builders
import pytest
import yaml

from energylab import store
from energylab.errors import StudyError
from energylab.studies import packing
from energylab.studies.folder import Outcome


@pytest.fixture
def measured(study):
    """A study of three jobs: one measured, one invalid, one left."""
    planned, folder = study(title="Three small models", authors=["A. Researcher"], sweeps=[{"model": ["a", "b", "c"]}])
    folder.prepare(planned)
    for job, energy_j in zip(planned.jobs[:2], (2.0, None), strict=True):
        attempt = folder.job(job.id).new_attempt()
        store.write(builders.record(job.parameters, energy_j), attempt.path)
        attempt.close(Outcome.now("finished"))
    return planned, folder


def test_it_holds_study_records_table_versions_and_citation(measured, tmp_path):
    planned, folder = measured
    packing.pack(planned, folder, folder.states(planned), tmp_path / "s.tar.gz")
    with tarfile.open(tmp_path / "s.tar.gz") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    top = tmp_path / "out/fake"
    assert (top / "study.yaml").read_text() == planned.text
    assert sorted(path.parent.name for path in top.glob("records/*/record.json")) == sorted(
        j.id for j in planned.jobs[:2]
    )
    read = store.read(top / "records")
    assert read.energy_j.tolist() == pytest.approx(store.read(folder.path).energy_j.tolist(), nan_ok=True)
    assert store.read(top / "table.csv").job_id.nunique() == 2
    cited = yaml.safe_load((top / "CITATION.cff").read_text())
    assert (cited["title"], cited["authors"]) == ("Three small models", [{"name": "A. Researcher"}])
    assert "2 records of 3 planned jobs" in (top / "README.md").read_text()
    assert (top / "versions.txt").read_text() == "python==3\n"


def test_it_is_the_same_bytes_each_time(measured, tmp_path):
    planned, folder = measured
    states = folder.states(planned)
    first = packing.pack(planned, folder, states, tmp_path / "first.tar.gz").read_bytes()
    assert packing.pack(planned, folder, states, tmp_path / "second.tar.gz").read_bytes() == first


def test_a_study_without_a_record_is_not_packed(study, tmp_path):
    planned, folder = study(sweeps=[{"model": "a"}])
    with pytest.raises(StudyError, match="no record yet; run it first"):
        packing.pack(planned, folder, folder.states(planned), tmp_path / "s.tar.gz")


def test_versions_that_differ_are_counted():
    hosts = [
        builders.record().host.model_copy(update={"packages": {"torch": version}})
        for version in ("2.11", "2.12", "2.12")
    ]
    records = [builders.record(host=host) for host in hosts]
    assert packing.versions(records) == "python==3\ntorch==2.11  # 1 records with 2.11, 2 records with 2.12\n"
