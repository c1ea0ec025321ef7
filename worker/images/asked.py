"""What generation reads of a request: every default filled in, no field that may be missing."""

from dataclasses import dataclass
from typing import Any, Self, cast

from darkroom.tasks.catalogue import SCHEDULERS, Kind, Limits, ModelOffer
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.validate import source_limits


@dataclass(frozen=True, slots=True)
class Asked:
    """One job's wish, apart from its seeds. `width` and `height` None: those of the source picture, within `limits`."""

    kind: Kind
    prompt: str
    negative_prompt: str | None
    width: int | None
    height: int | None
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    strength: float
    limits: Limits

    @classmethod
    def of(cls, request: Any, offer: ModelOffer) -> Self:
        """What a request with every default filled in (`darkroom.tasks.validate.resolve`) wishes of this model.

        Raises InvalidRequest with every fault: a default that is missing, a kind or scheduler that is not offered.
        """
        values = {name: getattr(request, name, None) for name in cls.__dataclass_fields__}
        values["limits"] = source_limits(request, offer.limits)
        if values["kind"] != "img2img":
            values["strength"] = 1.0  # pure noise
        faults = [*_missing(values), *_not_offered(values, offer)]
        if faults:
            raise InvalidRequest(faults)
        return cls(**cast("dict[str, Any]", values))

    @property
    def guidance(self) -> bool:
        """Whether the denoiser also runs on the negative prompt; up to a scale of 1 it has no say (diffusers' rule)."""
        return self.guidance_scale > 1

    @property
    def steps(self) -> int:
        """Denoising steps that `strength` leaves: none means that the source only goes through the VAE."""
        return min(int(self.num_inference_steps * self.strength), self.num_inference_steps)

    @property
    def from_noise(self) -> bool:
        """Whether the picture starts from noise alone.

        At full strength diffusers would still start from the source: leading-spaced schedulers do not reach pure noise.
        """
        return self.strength >= 1.0


def _missing(values: dict[str, Any]) -> list[Fault]:
    needed = ["prompt", "num_inference_steps", "guidance_scale", "scheduler", "strength"]
    if values["kind"] == "txt2img":
        needed += ["width", "height"]
    unset = [name for name in needed if values[name] is None]
    return [Fault(name, "missing", "has no value: the request was not resolved") for name in unset]


def _not_offered(values: dict[str, Any], offer: ModelOffer) -> list[Fault]:
    faults = []
    if values["kind"] not in offer.kinds:
        faults.append(Fault("kind", "kind_not_supported", f"{offer.name} does {', '.join(offer.kinds)}"))
    name = values["scheduler"]
    if name is not None and name not in offer.schedulers:
        label = SCHEDULERS[name][0] if name in SCHEDULERS else repr(name)
        fitting = ", ".join(offer.schedulers)
        faults.append(Fault("scheduler", "scheduler_not_supported", f"{label} does not fit {offer.name}: {fitting}"))
    return faults
