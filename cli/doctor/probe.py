"""What torch sees of this machine, asked in a short process: the asking one stays small and holds no GPU."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field

from darkroom.cli.errors import ExtraMissing, WorkerFailed
from darkroom.tasks import DarkroomError
from darkroom.worker.settings import WorkerSettings

SECONDS = 120


@dataclass(frozen=True, slots=True)
class Probe:
    """Devices, best first, and the names of the GPUs; what the settings choose, or why that cannot be."""

    devices: list[str]
    gpus: list[str] = field(default_factory=list)
    chosen: str = ""
    fault: str = ""
    hint: str = ""
    cuda_build: bool = False


def probe() -> Probe:
    """Asks. Raises ExtraMissing without torch, WorkerFailed where torch itself fails."""
    command = [sys.executable, "-m", "darkroom.cli.doctor.probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise WorkerFailed(f"torch did not tell its devices within {SECONDS} s", 1, hint="check the driver") from None
    if done.returncode == 0:
        return Probe(**json.loads(done.stdout.splitlines()[-1]))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if "No module named 'torch'" in last:
        raise ExtraMissing("torch")
    raise WorkerFailed(f"torch cannot be used: {last}", 1, hint="install it again, in the build for this machine")


def _look() -> Probe:
    import torch

    from darkroom.worker.models.device import choose_placement, devices

    found = devices()
    gpus = [torch.cuda.get_device_name(name) for name in found if name.startswith("cuda")]
    built = torch.version.cuda is not None
    try:
        placement = choose_placement(WorkerSettings())
    except DarkroomError as error:
        return Probe(found, gpus, fault=error.message, hint=error.hint, cuda_build=built)
    dtype = str(placement.dtype).removeprefix("torch.")
    chosen = f"{placement.device}, {dtype}, memory {placement.memory}, {placement.threads} threads"
    return Probe(found, gpus, chosen, cuda_build=built)


if __name__ == "__main__":
    print(json.dumps(asdict(_look())))
