"""What the settings ask for, held against this machine."""

from pathlib import Path

import pytest
import torch

from darkroom.worker.errors import DeviceUnavailable
from darkroom.worker.models import device
from darkroom.worker.models.device import (
    Placement,
    choose_placement,
    default_max_batch,
    devices,
    environment,
    images_at_a_time,
)
from darkroom.worker.settings import MemoryMode, WorkerSettings

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def test_a_cpu_runs_in_float32_on_all_of_its_cores() -> None:
    placement = choose_placement(WorkerSettings(device="cpu"))
    assert (placement.device.type, placement.dtype, placement.memory) == ("cpu", torch.float32, "full")
    assert placement.threads == device.available_cpus() >= 1


def test_auto_takes_the_best_device() -> None:
    assert str(choose_placement(WorkerSettings()).device) == devices()[0]


@needs_no_cuda
@pytest.mark.parametrize("wish", ["cuda", "cuda:3", "tpu", ""])
def test_a_device_that_is_not_there_is_refused_with_what_is(wish: str) -> None:
    with pytest.raises(DeviceUnavailable, match=r"there is (mps, )?cpu"):
        choose_placement(WorkerSettings(device=wish))


@pytest.mark.parametrize("mode", ["model_offload", "sequential_offload"])
def test_offload_needs_cuda(mode: MemoryMode) -> None:
    with pytest.raises(DeviceUnavailable, match="needs a CUDA device") as caught:
        choose_placement(WorkerSettings(device="cpu", memory=mode))
    assert "vae_tiling" in caught.value.hint


def test_float16_on_a_cpu_is_refused_and_bfloat16_is_not() -> None:
    with pytest.raises(DeviceUnavailable, match="float16 does not run on a CPU"):
        choose_placement(WorkerSettings(device="cpu", dtype="float16"))
    assert choose_placement(WorkerSettings(device="cpu", dtype="bfloat16")).dtype == torch.bfloat16


def test_threads_can_be_set() -> None:
    assert choose_placement(WorkerSettings(device="cpu", threads=3)).threads == 3


@pytest.mark.parametrize(
    ("kind", "mode", "rows", "images"),
    [("cpu", "full", 8, 8), ("cuda", "full", 32, 32), ("mps", "vae_tiling", 8, 8), ("cuda", "model_offload", 32, 1)],
)
def test_images_at_a_time_by_device(kind: str, mode: MemoryMode, rows: int, images: int) -> None:
    placement = Placement(torch.device(kind), torch.float32, mode, 1)
    assert default_max_batch(placement) == rows
    assert images_at_a_time(placement, rows) == images
    assert images_at_a_time(placement, 1) == 1


@pytest.mark.parametrize(
    ("quota", "cpus"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota_bounds_the_threads(tmp_path: Path, quota: str, cpus: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    assert device._cgroup_quota(path) == cpus


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert device._cgroup_quota(tmp_path / "absent") is None


def test_environment_names_what_the_bits_depend_on(placement: Placement) -> None:
    found = environment(placement)
    assert found["threads"] == placement.threads
    assert found["torch"] == torch.__version__
    assert {"device", "cpu_capability", "matmul_precision", "diffusers", "transformers", "safetensors"} <= found.keys()
    assert environment()["threads"] == torch.get_num_threads()


def test_the_build_of_torch_is_told_whatever_its_package_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "version", lambda _: "2.13.0")  # as the CUDA build's metadata
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    device.installed.cache_clear()
    try:
        assert environment()["torch"] == "2.13.0+cu130"
    finally:
        device.installed.cache_clear()
