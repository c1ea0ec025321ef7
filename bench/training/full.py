"""A training of a denoiser of SDXL's full size with random weights on a GPU, beside a bare loop on the same batches.

What is encoded are no pictures: latents, captions and pooled captions are drawn where they are used.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler

from bench.loras.flight import ratio
from bench.serving.geometry import SDXL, Geometry, random_denoiser
from bench.table import Row
from bench.training.bare import BareLoop
from bench.training.subject import options
from darkroom.tasks.catalogue import Defaults, FolderSource, Limits, ModelEntry
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families import family
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.checkpoint import unpack
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.trainer import Trainer

#: "tiny" tries all of it where there is no GPU.
GEOMETRIES = {
    "sdxl": SDXL,
    "tiny": replace(
        SDXL,
        unet={
            **SDXL.unet,
            "sample_size": 8,
            "block_out_channels": (32, 64, 64),
            "layers_per_block": 1,
            "transformer_layers_per_block": 1,
            "attention_head_dim": (2, 4, 4),
            "cross_attention_dim": 32,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        },
    ),
}
BATCHES = (1, 4)
UNTIMED = 3  # steps in which kernels are chosen, and memory is asked for
TOKENS = 77
PACE, MEMORY = 0.95, 1.05
APART = {torch.float32: 1e-5, torch.bfloat16: 1e-2}

_SCHEDULER = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
)

Begin = Callable[[Any], Callable[[], float]]  # from a denoiser, what makes a step and gives its loss


def full(name: str, device: torch.device, rounds: int, steps: int) -> list[Row]:
    """Rounds of both in turn by batch, with gradient checkpointing and without; `steps` of a round are timed."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    placement = Placement(device, dtype, "full", torch.get_num_threads())
    rows = [Row(f"{name}'s denoiser in {str(dtype).removeprefix('torch.')}, beside a bare loop", on)]
    for checkpointing, size in product((False, True), BATCHES):
        asked = options(UNTIMED + steps, batch_size=size, gradient_checkpointing=checkpointing)
        rows += _beside(Subject(GEOMETRIES[name], placement, asked), rounds)
    return rows


class Subject:
    """A denoiser, the same whenever it is made, and what it is trained on."""

    def __init__(self, geometry: Geometry, placement: Placement, asked: TrainingOptions) -> None:
        self.placement, self.asked, self._geometry = placement, asked, geometry
        unet, rows, on = geometry.unet, asked.batch_size, placement.device
        side, width = unet["sample_size"], unet["cross_attention_dim"]
        pooled = unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
        generator = torch.Generator(on).manual_seed(asked.seed)
        self._latents = torch.randn((rows, 4, side, side), generator=generator, device=on)
        states = torch.randn((rows, TOKENS, width), generator=generator, device=on).to(placement.dtype)
        said = torch.randn((rows, pooled), generator=generator, device=on).to(placement.dtype)
        self._conditioning = Conditioning(states, said)
        self._pixels = side * 8
        self._sizes = torch.tensor([[self._pixels, self._pixels, 0, 0, self._pixels, self._pixels]] * rows, device=on)

    def batch(self, step: int, _micro: int) -> Batch:
        """The same examples each step, with noise and time steps of its own."""
        rows = self.asked.batch_size
        keys = tuple(range(step * rows, (step + 1) * rows))
        return Batch(self._latents, keys, conditioning=self._conditioning, sizes=self._sizes)

    def denoiser(self) -> Any:
        return random_denoiser(self._geometry, str(self.placement.device), self.placement.dtype)

    def trainer(self, denoiser: Any) -> Trainer:
        """As a session has it, of a model that is nothing but its denoiser."""
        side = self._pixels
        entry = ModelEntry(
            name="random-sdxl",
            family="sdxl",
            source=FolderSource(path=Path()),
            defaults=Defaults(width=side, height=side, num_inference_steps=20, guidance_scale=5.0, scheduler="ddpm"),
            limits=Limits(min_side=side, max_side=side, max_pixels=side * side),
            schedulers=["ddpm"],
        )
        parts = {"unet": denoiser, "scheduler": _SCHEDULER}
        model = LoadedModel(entry, family("sdxl"), parts, self.placement, "random", {})
        return Trainer(model, self.asked, self.batch)

    def ours(self, denoiser: Any) -> Callable[[], float]:
        """The trainer's steps."""
        trainer = self.trainer(denoiser)
        return lambda: trainer.advance().loss

    def bare(self, weights: Mapping[str, torch.Tensor]) -> Begin:
        """The bare loop's, from these weights of a LoRA."""

        def begin(denoiser: Any) -> Callable[[], float]:
            loop = BareLoop(denoiser, _SCHEDULER, self.asked, self.batch)
            loop.begin(weights)
            return loop.advance

        return begin


@dataclass(frozen=True)
class Trained:
    """One training: the median of the timed steps' seconds, all losses, and the most memory beyond the denoiser's, in
    bytes; None where a device does not count it.
    """

    seconds: float
    losses: list[float]
    memory: int | None


def _beside(subject: Subject, rounds: int) -> list[Row]:
    weights = unpack(subject.trainer(subject.denoiser()).checkpoint()).lora
    ways: list[tuple[list[Trained], Begin]] = [([], subject.ours), ([], subject.bare(weights))]
    for number in range(rounds):
        for found, begin in ways if number % 2 else reversed(ways):
            found.append(_trained(subject, begin))
    (ours, _), (bare, _) = ways
    asked = subject.asked
    what = f"{asked.batch_size} a step" + (", gradient checkpointing" if asked.gradient_checkpointing else "")
    return [_pace(what, ours, bare), *_memory(what, ours, bare), _apart(what, ours, bare, subject.placement.dtype)]


def _trained(subject: Subject, begin: Begin) -> Trained:
    """From the start, with nothing of an earlier one in memory."""
    device, denoiser = subject.placement.device, subject.denoiser()
    before = _emptied(device)
    advance = begin(denoiser)
    seconds, losses = list[float](), list[float]()
    for _ in range(subject.asked.steps):
        began = time.perf_counter()
        losses.append(advance())
        _finish(device)
        seconds.append(time.perf_counter() - began)
    memory = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
    return Trained(statistics.median(seconds[UNTIMED:]), losses, memory)


def _emptied(device: torch.device) -> int:
    """Bytes that are taken."""
    gc.collect()
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _pace(what: str, ours: list[Trained], bare: list[Trained]) -> Row:
    rate = ratio([one.seconds for one in bare], [one.seconds for one in ours])
    own = 1 / statistics.median(one.seconds for one in ours)
    return Row(f"{what}: steps a second", f"{rate:.3f} ({own:.2f} /s)", f">= {PACE}", rate >= PACE)


def _memory(what: str, ours: list[Trained], bare: list[Trained]) -> list[Row]:
    pairs = [(one.memory, other.memory) for one, other in zip(ours, bare, strict=True) if one.memory and other.memory]
    if not pairs:
        return []
    own, more = statistics.median(one for one, _ in pairs), statistics.median(one / other for one, other in pairs)
    value = f"{more:.3f} ({own / 2**30:.2f} GiB)"
    return [Row(f"{what}: memory beyond the denoiser's", value, f"<= {MEMORY}", more <= MEMORY)]


def _apart(what: str, ours: list[Trained], bare: list[Trained], dtype: torch.dtype) -> Row:
    pairs = [pair for one, other in zip(ours, bare, strict=True) for pair in zip(one.losses, other.losses, strict=True)]
    apart = max(abs(one - other) for one, other in pairs)
    most = APART[dtype]
    return Row(f"{what}: losses of {len(pairs)} steps, most apart", f"{apart:.1e}", f"<= {most:.0e}", apart <= most)
