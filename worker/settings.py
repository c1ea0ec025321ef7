"""The worker's settings: environment variables with the prefix DARKROOM_, read here and nowhere else."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from darkroom.tasks.settings import Settings

MemoryMode = Literal["full", "vae_tiling", "attention_slicing", "model_offload", "sequential_offload"]


class WorkerSettings(Settings):
    """What a worker process needs besides Redis and storage; command-line options win over these."""

    catalogue: Path | None = Field(default=None, description="the operator's own catalogue file (JSON)")
    models_dir: Path = Field(
        default=Path.home() / ".cache" / "darkroom" / "models", description="where pulled models lie"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="auto: bf16 on CUDA, float32 on a CPU, fp16 on MPS"
    )
    memory: MemoryMode = Field(default="full", description="how the model is held in device memory")
    threads: int = Field(default=0, ge=0, description="CPU threads of the model's calls; 0: all cores")
    concurrency: int = Field(default=0, ge=0, description="jobs in flight in one process; 0: by device")
    lease_seconds: float = Field(default=30.0, ge=2, description="how long a silent worker keeps a job")
    drain_seconds: float = Field(default=20.0, ge=0, description="what a worker that stops gives jobs near their end")
    call_seconds: float = Field(default=300.0, gt=0, description="the longest call of the model; over it, it has hung")
    storage_patience: float = Field(default=600.0, ge=0, description="seconds a job waits for a store that is away")
    preview_every: float = Field(default=1.0, ge=0, description="seconds between previews of a job; 0: none")
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    lifeline: bool = Field(default=False, description="stop when standard input ends: the parent is gone")
