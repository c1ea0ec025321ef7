"""The two scales of latents: the one that schedulers work in, and the VAE's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch


@dataclass(frozen=True)
class LatentScale:
    """How latents (rows, 4, h/8, w/8) get from one scale to the other: exactly as the family's pipelines take them.

    `mean` and `std` are one value a channel, None where only the factor counts.
    """

    factor: float
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, vae_config: Any, *, normalised: bool) -> Self:
        """Of a VAE's config; `normalised`: the family's pipelines look at its `latents_mean` and `latents_std`."""
        mean, std = vae_config.get("latents_mean"), vae_config.get("latents_std")
        if not normalised or mean is None or std is None:
            return cls(vae_config.scaling_factor)
        return cls(vae_config.scaling_factor, tuple(mean), tuple(std))

    def to_vae(self, latents: torch.Tensor) -> torch.Tensor:
        """What the VAE decodes, of latents as a scheduler leaves them."""
        if self.mean is None or self.std is None:
            return latents / self.factor
        return latents * _of_channels(self.std, latents) / self.factor + _of_channels(self.mean, latents)

    def from_vae(self, latents: torch.Tensor) -> torch.Tensor:
        """What a scheduler adds noise to, of latents as the VAE encodes them."""
        if self.mean is None or self.std is None:
            return self.factor * latents
        return (latents - _of_channels(self.mean, latents)) * self.factor / _of_channels(self.std, latents)


@dataclass(frozen=True)
class LatentSpace:
    """Whose latents a model works with, and in which scale: those of the same family and scale are its own, too."""

    family: str
    model: str
    scale: LatentScale

    def about(self) -> dict[str, object]:
        """For a file's metadata."""
        vae = {"scaling_factor": self.scale.factor, "latents_mean": self.scale.mean, "latents_std": self.scale.std}
        return {"family": self.family, "model": self.model, **vae}

    def differences(self, about: Mapping[str, object]) -> list[str]:
        """What metadata say that is another's, in words; what they leave out is no difference, but for the family."""
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in self.about().items()}
        names = ["family", *(name for name in own if name in about and name not in ("family", "model"))]
        return [f"{name} {about.get(name)!r}, not {own[name]!r}" for name in names if about.get(name) != own[name]]


def _of_channels(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values).view(1, len(values), 1, 1).to(like.device, like.dtype)
