"""Which devices a study hands out, and what a job is shown of them."""

from __future__ import annotations

import pytest
from fake_nvml import FakeBoard, FakeNvml

from energylab.clock import ManualClock
from energylab.errors import StudyError
from energylab.meters.nvml_library import Nvml
from energylab.studies import devices


def boards(count):
    clock = ManualClock()
    return Nvml(FakeNvml(*(FakeBoard(clock, index) for index in range(count))))


@pytest.fixture(autouse=True)
def cuda_torch(monkeypatch):
    monkeypatch.setattr(devices, "torch_has_cuda", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_boards_are_handed_out_by_uuid_and_without_driver_or_cuda_the_cpu_is(monkeypatch):
    assert [name[:12] for name in devices._visible_gpus(boards(2))] == ["GPU-00000000", "GPU-00000001"]
    library = FakeNvml()
    library.fail("nvmlInit", 12)
    assert devices._visible_gpus(Nvml(library)) == []
    monkeypatch.setattr(devices, "torch_has_cuda", lambda: False)
    assert devices._visible_gpus(boards(2)) == []
    assert devices.available("auto") == ["cpu"]


@pytest.mark.parametrize("spec", ["", ",", "0,0", "cpu,0"])
def test_impossible_lists_are_refused(spec):
    with pytest.raises(StudyError, match="give 'auto', 'cpu', or GPU indices"):
        devices.available(spec)


def test_a_job_is_shown_its_own_devices_and_no_others():
    assert devices.environment(("2", "5"))["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert devices.environment(("cpu",))["CUDA_VISIBLE_DEVICES"] == ""
    assert devices.environment(("2",))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_device_that_is_not_here_is_refused_and_those_here_are_named():
    for spec in ("0", "1", "0,1", "cpu", "auto", "GPU-00000001"):
        devices.check_present(spec, boards(2))
    for spec, wrong in [("2", "'2'"), ("banana", "'banana'"), ("0,7", "'7'")]:
        with pytest.raises(StudyError, match=f"device {wrong} does not exist here; existing: cpu, 0 .*, 1 "):
            devices.check_present(spec, boards(2))
