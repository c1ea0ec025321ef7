"""What a measurement ran on; without torch, so that the measuring client stays small."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

VERSIONS = ("torch", "diffusers", "celery")


class Machine(BaseModel):
    """`boot` tells two machines of one kind apart."""

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: int
    gpu: str
    versions: str
    boot: str


def this_machine() -> Machine:
    """The one that this runs on; `gpu` is empty without one."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu_name(),
        versions=", ".join(f"{name} {version(name)}" for name in VERSIONS),
        boot=_read("/proc/sys/kernel/random/boot_id") or platform.node(),
    )


def gpu_name() -> str:
    """Of the first NVIDIA GPU, empty without one."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
