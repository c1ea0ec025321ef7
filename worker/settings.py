"""The worker's settings: environment variables with the prefix DARKROOM_, read here and nowhere else."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from darkroom.tasks.message import LANES
from darkroom.tasks.settings import Settings

MemoryMode = Literal["full", "vae_tiling", "attention_slicing", "model_offload", "sequential_offload"]
Speedup = Literal["channels_last", "fuse", "compile", "graphs"]

Size = tuple[int, int]  # width and height in pixels

#: In the order in which they are applied.
SPEEDUPS: tuple[Speedup, ...] = get_args(Speedup)


def _names(value: object) -> object:
    """`fuse, compile` as it stands in a variable; `auto` for itself, `none` for no name."""
    if not isinstance(value, str):
        return value
    names = [name for part in value.split(",") if (name := part.strip().lower())]
    if names in (["auto"], ["none"]):
        return "auto" if names == ["auto"] else []
    if unknown := [name for name in names if name not in SPEEDUPS]:
        raise ValueError(
            f"{', '.join(unknown)} cannot be used so: write auto or none alone, "
            f"or of {', '.join(SPEEDUPS)} with commas between them"
        )
    return names


def _sizes(value: object) -> object:
    """`1024x1024, 768x1344` as it stands in a variable."""
    if not isinstance(value, str):
        return value
    found = [part.strip().lower().split("x") for part in value.split(",") if part.strip()]
    if not all(len(sides) == 2 and all(side.isdecimal() for side in sides) for sides in found):
        raise ValueError("write sizes as 1024x1024, with commas between them")
    return [tuple(map(int, sides)) for sides in found]


def _lanes(value: object) -> object:
    """`interactive, bulk` as it stands in a variable."""
    if not isinstance(value, str):
        return value
    names = [name for part in value.split(",") if (name := part.strip().lower())]
    if unknown := [name for name in names if name not in LANES]:
        raise ValueError(f"no such lane: {', '.join(unknown)}; write of {', '.join(LANES)} with commas between them")
    return names


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
    threads: int = Field(default=0, ge=0, le=256, description="CPU threads of the model's calls; 0: all cores")
    concurrency: int = Field(default=0, ge=0, description="jobs in flight in one process; 0: by device")
    urgent_places: int = Field(
        default=1, ge=0, le=64, description="interactive jobs that begin though others are in all places"
    )
    lanes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_lanes)] = Field(
        default=LANES, min_length=1, description="whose jobs are taken: interactive, bulk, training"
    )
    bulk_share: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="of what is started, and of the model's time, that bulk has beside interactive",
    )
    training_share: float = Field(
        default=0.1, ge=0, lt=1, description="of the model's time, that a training has while pictures are made"
    )
    max_batch: int = Field(
        default=0,
        ge=0,
        le=64,
        description="rows of the largest denoiser call, two an image under guidance; 0: by device",
    )
    batch_window: float = Field(
        default=0.1, ge=0, le=10, description="seconds that the model may stand still for company at most"
    )
    speedups: Annotated[frozenset[Speedup] | Literal["auto"], NoDecode, BeforeValidator(_names)] = Field(
        default="auto", description="auto, none, or of channels_last, fuse, compile, graphs, with commas between them"
    )
    warm_sizes: Annotated[tuple[Size, ...], NoDecode, BeforeValidator(_sizes)] = Field(
        default=(), description="sizes tried, compiled and recorded before the first job; none: the model's own"
    )
    lease_seconds: float = Field(default=15.0, ge=2, description="how long a silent worker keeps a job")
    drain_seconds: float = Field(default=20.0, ge=0, description="what a worker that stops gives jobs near their end")
    call_seconds: float = Field(default=300.0, gt=0, description="the longest call of the model; over it, it has hung")
    warm_seconds: float = Field(
        default=900.0, gt=0, description="how long a start may make no progress at trying its models"
    )
    storage_patience: float = Field(default=600.0, ge=0, description="seconds a running job waits for its store")
    lora_pages: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="of rank 8, in the bank of LoRAs, 16 at least; 0: by device",
    )
    preview_every: float = Field(default=1.0, ge=0, description="seconds between previews of a job; 0: none")
    metrics_port: int = Field(default=0, ge=0, le=65_000, description="serve Prometheus metrics there; 0: none")
    metrics_host: str = Field(default="127.0.0.1", description="the address to serve metrics at")
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    lifeline: bool = Field(default=False, description="stop when standard input ends: the parent is gone")
    incarnation: str = Field(default="", pattern="^[0-9a-f]*$", description="by which the parent tells this process")
