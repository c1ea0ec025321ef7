"""Where the model runs and in what form: device, dtype, memory mode and threads, decided once for the process."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from darkroom.worker.batching.threads import cores
from darkroom.worker.errors import DeviceUnavailable
from darkroom.worker.settings import MemoryMode, Size, Speedup, WorkerSettings

#: Modes that keep weights in the host's memory and bring them to a CUDA device when they are used.
OFFLOAD_MODES: frozenset[MemoryMode] = frozenset({"model_offload", "sequential_offload"})

#: Packages whose versions an image's bits depend on.
RECORDED_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "pillow")

#: What `auto` stands for on a CUDA device: what takes no time at the start, and always gives some.
AUTO_SPEEDUPS: frozenset[Speedup] = frozenset({"graphs"})

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_AUTO_DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16, "mps": torch.float16}


@dataclass(frozen=True, slots=True)
class Placement:
    """What `choose_placement` decided; `threads` counts the CPU threads of one model call, `speedups` is for `tune`.

    `warm_sizes`: what to be ready for; none: the model's own size.
    """

    device: torch.device
    dtype: torch.dtype
    memory: MemoryMode
    threads: int
    speedups: frozenset[Speedup] = frozenset()
    warm_sizes: tuple[Size, ...] = ()


def choose_placement(settings: WorkerSettings) -> Placement:
    """The settings' wishes held against this machine. Raises DeviceUnavailable naming what is there."""
    device = _device(settings.device)
    if settings.memory in OFFLOAD_MODES and device.type != "cuda":
        raise DeviceUnavailable(
            f"memory mode {settings.memory} needs a CUDA device, the worker runs on {device}",
            hint="use --memory full, vae_tiling or attention_slicing",
        )
    threads = settings.threads or available_cpus()
    dtype, speedups = _dtype(settings.dtype, device), _speedups(settings, device)
    return Placement(device, dtype, settings.memory, threads, speedups, settings.warm_sizes)


def devices() -> list[str]:
    """The devices of this machine that a worker can run on, best first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def default_max_batch(placement: Placement) -> int:
    """Rows of the largest denoiser call; memory may make it smaller."""
    return {"cuda": 32}.get(placement.device.type, 8)


def images_at_a_time(placement: Placement, max_batch: int) -> int:
    """Images in the making in one process: as many as fill two of the largest calls under guidance, two rows each.

    Of images of several sizes half as many would rarely fill a call. As many jobs are held by default: each has one
    image at least, and what is beside the model's work is hidden behind it.
    """
    if placement.memory in OFFLOAD_MODES:
        return 1  # the hooks move modules under whoever runs beside
    return max_batch


def environment(placement: Placement | None = None) -> dict[str, str | int]:
    """What must be alike for the same bits: threads, CPU or GPU, versions, attention and TF32 settings.

    Without a placement the thread count is the calling thread's: torch keeps one for every thread.
    """
    device = placement.device if placement else torch.device("cpu")
    found: dict[str, str | int] = {
        "device": device.type,
        "threads": placement.threads if placement else torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        **{package: installed(package) for package in RECORDED_PACKAGES},
    }
    if placement and placement.speedups:
        found["speedups"] = ", ".join(sorted(placement.speedups))
    if placement and "compile" in placement.speedups:
        found["compiled_sizes"] = ", ".join(f"{width}x{height}" for width, height in sorted(placement.warm_sizes))
    return found | _cuda_environment(device) if device.type == "cuda" else found


@cache
def installed(package: str) -> str:
    """Its full version; kept, since reading it parses the package's metadata, a millisecond for each package and job.

    Torch says itself which build it is: the metadata of 2.13.0+cu130 may tell of 2.13.0, and bits differ from +cpu's.
    """
    return str(torch.__version__) if package == "torch" else version(package)


def available_cpus() -> int:
    """CPUs that this process may use: its affinity mask, and the container's quota where that is smaller."""
    allowed = cores()
    return max(1, min(allowed, _cgroup_quota() or allowed))


def _cgroup_quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole CPUs of the cgroup v2 quota ("200000 100000" is 2), or None where there is none."""
    try:
        quota, period = path.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return None


def _device(wish: str) -> torch.device:
    found = devices()
    if wish == "auto":
        return torch.device(found[0])
    name = "cuda:0" if wish == "cuda" else wish
    if name not in found:
        raise DeviceUnavailable(
            f"no device {wish!r} here; there is {', '.join(found)}",
            hint="choose one of these with --device; for CUDA, check the driver and that torch is a CUDA build",
        )
    return torch.device(name)


def _speedups(settings: WorkerSettings, device: torch.device) -> frozenset[Speedup]:
    offloads = settings.memory in OFFLOAD_MODES
    if settings.speedups == "auto":
        return AUTO_SPEEDUPS if device.type == "cuda" and not offloads else frozenset()
    if settings.speedups and offloads:
        raise DeviceUnavailable(
            f"memory mode {settings.memory} moves weights about, which {', '.join(sorted(settings.speedups))} forbids",
            hint="leave DARKROOM_SPEEDUPS at auto, or use --memory full",
        )
    if "fuse" in settings.speedups and settings.memory == "attention_slicing":
        raise DeviceUnavailable(
            "memory mode attention_slicing and the speedup fuse each put their own attention in place of the other's",
            hint="leave one of them out",
        )
    if "graphs" in settings.speedups and device.type != "cuda":
        raise DeviceUnavailable(
            f"graphs are CUDA's, the worker runs on {device}", hint="leave DARKROOM_SPEEDUPS at auto"
        )
    return settings.speedups


def _dtype(wish: str, device: torch.device) -> torch.dtype:
    if wish == "auto":
        old_gpu = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float16 if old_gpu else _AUTO_DTYPE[device.type]
    if wish == "float16" and device.type == "cpu":
        raise DeviceUnavailable("float16 does not run on a CPU", hint="use --dtype float32, or bfloat16")
    return _DTYPES[wish]


def _cuda_environment(device: torch.device) -> dict[str, str | int]:
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": torch.backends.cudnn.version() or 0,  # type: ignore[no-untyped-call]
        "tf32_convolutions": int(torch.backends.cudnn.allow_tf32),
        "flash_attention": int(torch.backends.cuda.flash_sdp_enabled()),  # type: ignore[no-untyped-call]
        "memory_efficient_attention": int(torch.backends.cuda.mem_efficient_sdp_enabled()),  # type: ignore[no-untyped-call]
    }
