"""Noise on latents, what the denoiser is asked, and how far its answer is off, by what the model predicts.

As diffusers trains (examples/dreambooth/train_dreambooth_lora_sdxl.py and examples/text_to_image): its schedulers have
the formulas. All draws are made on the CPU from the example's key, so that every device is asked the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDPMScheduler, EDMEulerScheduler
from diffusers.training_utils import compute_snr

from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.training import EPSILON, V


@dataclass(frozen=True)
class Question:
    """`sample` (n, 4, h, w) and `times` (n,) are what the denoiser is given; `noisy` are the noised latents, `sigmas`
    (n, 1, 1, 1) their noise levels under EDM. `target` (n, 4, h, w) is what the answer is held against.
    """

    sample: torch.Tensor
    times: torch.Tensor
    target: torch.Tensor
    noisy: torch.Tensor
    weights: torch.Tensor
    sigmas: torch.Tensor | None = None


class Objective(Protocol):
    """What a model is trained to do."""

    def ask(self, latents: torch.Tensor, keys: Sequence[int]) -> Question:
        """Latents (n, 4, h, w) in float32 with the noise of these keys."""

    def losses(self, question: Question, answer: torch.Tensor) -> torch.Tensor:
        """Of each example, (n,) in float32; `answer` (n, 4, h, w) is the denoiser's."""


def objective_of(template: Any, *, min_snr_gamma: float | None, noise_offset: float) -> Objective:
    """That of a model with this scheduler. Raises ModelIncompatible for a model that predicts something else."""
    if "EDM" in type(template).__name__:
        return Edm(EDMEulerScheduler.from_config(template.config), noise_offset)
    scheduler = DDPMScheduler.from_config(template.config)
    predicts = scheduler.config.prediction_type
    if predicts not in (EPSILON, V):
        raise ModelIncompatible(
            f"scheduler_config.json: the model predicts {predicts!r}; training knows {EPSILON} and {V}",
            hint="train on another model",
        )
    return Diffusion(scheduler, min_snr_gamma, noise_offset)


@dataclass(frozen=True)
class Diffusion:
    """Models that predict noise or v at one of 1,000 time steps.

    Min-SNR weighting: T. Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023),
    section 3.4.
    """

    scheduler: Any
    min_snr_gamma: float | None
    noise_offset: float

    def ask(self, latents: torch.Tensor, keys: Sequence[int]) -> Question:
        """As in the protocol."""
        times, noise = _drawn(latents, keys, self.scheduler.config.num_train_timesteps, self.noise_offset)
        noisy = self.scheduler.add_noise(latents, noise, times)
        v = self.scheduler.config.prediction_type == V
        target = self.scheduler.get_velocity(latents, noise, times) if v else noise
        return Question(noisy, times, target, noisy, self._weights(times, v=v))

    def losses(self, question: Question, answer: torch.Tensor) -> torch.Tensor:
        """As in the protocol."""
        return question.weights * _squares(answer.float() - question.target)

    def _weights(self, times: torch.Tensor, *, v: bool) -> torch.Tensor:
        if self.min_snr_gamma is None:
            return torch.ones(len(times), device=times.device)
        snr = compute_snr(self.scheduler, times)
        weights: torch.Tensor = snr.clamp(max=self.min_snr_gamma) / (snr + 1) if v else self.min_snr_gamma / snr
        return weights.clamp(max=1)


@dataclass(frozen=True)
class Edm:
    """Models under EDM, whose answer gives the latents without noise; weighted by the preconditioning alone.

    T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), section 5. The paper's
    further weight is left out as in diffusers, for its numbers at low noise (huggingface/diffusers, pull request 7126).
    """

    scheduler: Any
    noise_offset: float

    def ask(self, latents: torch.Tensor, keys: Sequence[int]) -> Question:
        """As in the protocol."""
        places, noise = _drawn(latents, keys, self.scheduler.config.num_train_timesteps, self.noise_offset)
        sigmas = self.scheduler.sigmas.to(latents.device)[places].view(-1, 1, 1, 1)
        times = self.scheduler.timesteps.to(latents.device)[places]
        noisy = latents + noise * sigmas
        sample = self.scheduler.precondition_inputs(noisy, sigmas)
        return Question(sample, times, latents, noisy, torch.ones(len(keys), device=latents.device), sigmas)

    def losses(self, question: Question, answer: torch.Tensor) -> torch.Tensor:
        """As in the protocol."""
        denoised = self.scheduler.precondition_outputs(question.noisy, answer.float(), question.sigmas)
        return _squares(denoised - question.target)


def _drawn(latents: torch.Tensor, keys: Sequence[int], steps: int, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Time steps (n,) and noise like the latents.

    With an `offset` each channel of the noise is moved as a whole, too (N. Guttenberg, "Diffusion with Offset Noise").
    The time step is drawn first: it is the same for every size of the picture.
    """
    times, noise = [], []
    for key in keys:
        generator = torch.Generator().manual_seed(key)
        times.append(torch.randint(steps, (1,), generator=generator))
        drawn = torch.randn(latents.shape[1:], generator=generator)
        if offset:
            drawn = drawn + offset * torch.randn((latents.shape[1], 1, 1), generator=generator)
        noise.append(drawn)
    return torch.cat(times).to(latents.device), torch.stack(noise).to(latents.device)


def _squares(difference: torch.Tensor) -> torch.Tensor:
    return difference.square().flatten(1).mean(1)
