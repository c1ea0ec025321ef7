"""What denoising reads of a request: every default filled in, no field that may be missing."""

from dataclasses import dataclass, replace
from typing import Any, Self

from darkroom.tasks.catalogue import SCHEDULERS, Limits, ModelOffer
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.requests import JobRequest
from darkroom.tasks.requests.handover import Refiner
from darkroom.tasks.requests.hires import Hires
from darkroom.tasks.requests.loras import Lora
from darkroom.tasks.requests.parts import Output, OutputFormat
from darkroom.tasks.requests.prompted import LongPrompt, Syntax
from darkroom.tasks.requests.stylize import Style
from darkroom.tasks.sizes import before_enlargement, source_limits
from darkroom.worker.models.words import Words


@dataclass(frozen=True, slots=True)
class Asked:
    """One job's wish, apart from its seeds. `width` and `height` None: those of the source picture, within `limits`.

    Where the denoising is cut the kind has it `counted`: steps of the own model, and those that are `handed` on.
    `loras` are for what this `model` does, not for others that have a part in it.
    """

    prompt: str
    negative_prompt: str | None
    width: int | None
    height: int | None
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    strength: float
    limits: Limits
    output_format: OutputFormat = "png"
    prompt_2: str | None = None
    negative_prompt_2: str | None = None
    clip_skip: int | None = None
    prompt_syntax: Syntax | None = None
    long_prompt: LongPrompt | None = None
    guidance_rescale: float | None = None
    original_size: list[int] | None = None
    crop: list[int] | None = None
    target_size: list[int] | None = None
    output: tuple[Output, ...] = ("image",)
    prompt_embeds: str | None = None
    hires: Hires | None = None
    refiner: Refiner | None = None
    denoising_start: float | None = None
    denoising_end: float | None = None
    counted: int | None = None
    handed: int = 0
    model: str = ""
    loras: tuple[Lora, ...] = ()
    styles: tuple[Style, ...] = ()
    style_scale: float = 0.0
    layout_scale: float = 0.0

    @classmethod
    def of(cls, request: JobRequest, offer: ModelOffer) -> Self:
        """What a request with every default filled in (`darkroom.tasks.validate.resolve`) wishes of this model.

        Raises InvalidRequest with every fault: a default that is missing, a kind or scheduler that is not offered.
        """
        values: dict[str, Any] = {name: getattr(request, name, None) for name in cls.__dataclass_fields__}
        form = values["output_format"] = values["output_format"] or "png"
        values["handed"] = 0
        if values["denoising_start"] is not None:
            values["strength"] = 1.0  # of the rest
        values["output"] = tuple(values["output"] or ("image",))
        values |= {"model": offer.name} | {name: tuple(values[name] or ()) for name in ("loras", "styles")}
        values |= {name: values[name] or 0.0 for name in ("style_scale", "layout_scale")}
        limits, hires = source_limits(form, offer.limits), values["hires"]
        values["limits"] = before_enlargement(hires.scale, limits) if hires else limits
        if "image" not in request.references:
            values["strength"] = 1.0  # pure noise
        faults = [*_missing(request, values), *_not_offered(request.kind, values["scheduler"], offer)]
        if faults:
            raise InvalidRequest(faults)
        return cls(**{**values, "prompt": values["prompt"] or ""})

    @classmethod
    def of_words(cls, request: JobRequest, offer: ModelOffer) -> Self:
        """Of a kind that has a prompt, and does not denoise. Raises InvalidRequest for a kind that is not offered."""
        plain = cls.without_denoising(request, offer)
        names = cls.__dataclass_fields__.keys() & type(request).model_fields.keys()
        values: dict[str, Any] = {name: getattr(request, name) for name in names}
        values |= {"model": offer.name, "loras": tuple(values.get("loras") or ())}
        return replace(plain, **values)

    @classmethod
    def without_denoising(cls, request: JobRequest, offer: ModelOffer) -> Self:
        """Of a kind that has no prompt, steps or scheduler. Raises InvalidRequest for a kind that is not offered."""
        if faults := _not_offered(request.kind, None, offer):
            raise InvalidRequest(faults)
        form: OutputFormat = getattr(request, "output_format", "png")
        size = getattr(request, "width", None), getattr(request, "height", None)
        return cls("", None, *size, 0, 1.0, "", 0.0, source_limits(form, offer.limits), form)

    @property
    def guidance(self) -> bool:
        """Whether the denoiser also runs on the negative prompt; up to a scale of 1 it has no say (diffusers' rule)."""
        return self.guidance_scale > 1

    @property
    def words(self) -> Words:
        """What the text encoders read."""
        guided = self.guidance
        return Words(
            prompt=self.prompt,
            prompt_2=self.prompt_2,
            negative_prompt=self.negative_prompt if guided else None,
            negative_prompt_2=self.negative_prompt_2 if guided else None,
            guidance=guided,
            clip_skip=self.clip_skip,
            syntax=self.prompt_syntax or "plain",
            long=self.long_prompt or "cut",
        )

    @property
    def conditions(self) -> dict[str, Any]:
        """What the family's pipelines are told besides, under their names; only what was asked for.

        They count sizes as height and width, corners from the top.
        """
        named = {
            "original_size": self.original_size,
            "crops_coords_top_left": self.crop,
            "target_size": self.target_size,
        }
        pairs: dict[str, Any] = {name: (pair[1], pair[0]) for name, pair in named.items() if pair is not None}
        for name in ("denoising_start", "denoising_end"):
            if (place := getattr(self, name)) is not None:
                pairs[name] = place
        return pairs | ({"guidance_rescale": self.guidance_rescale} if self.guidance_rescale else {})

    @property
    def steps(self) -> int:
        """Denoising steps of the job's model, in the first pass."""
        return self.left if self.counted is None else self.counted

    @property
    def left(self) -> int:
        """Denoising steps that `strength` leaves: none means that the source only goes through the VAE."""
        return min(int(self.num_inference_steps * self.strength), self.num_inference_steps)

    @property
    def second(self) -> Self | None:
        """The second pass, if there is one; its size comes with the first picture."""
        if self.hires is None:
            return None
        steps, strength = self.hires.steps or self.num_inference_steps, self.hires.strength
        whole = replace(self, counted=None, handed=0, refiner=None, denoising_start=None, denoising_end=None)
        return replace(whole, num_inference_steps=steps, strength=strength, hires=None, width=None, height=None)

    @property
    def rest(self) -> Self:
        """What is handed on to the refiner."""
        start = self.refiner.start if self.refiner else None
        return replace(self, counted=self.handed, handed=0, refiner=None, denoising_start=start, denoising_end=None)

    @property
    def all_steps(self) -> int:
        """Denoising steps of both passes, whoever makes them."""
        return self.steps + self.handed + (self.second.steps if self.second else 0)

    @property
    def from_noise(self) -> bool:
        """Whether the picture starts from noise alone.

        At full strength diffusers would still start from the source: leading-spaced schedulers do not reach pure noise.
        """
        return self.strength >= 1.0 and self.denoising_start is None


def _missing(request: JobRequest, values: dict[str, Any]) -> list[Fault]:
    needed = [] if values["prompt_embeds"] else ["prompt"]
    needed += ["num_inference_steps", "guidance_scale", "scheduler", "strength"]
    if "image" not in request.references:
        needed += ["width", "height"]
    unset = [name for name in needed if values[name] is None]
    return [Fault(name, "missing", "has no value: the request was not resolved") for name in unset]


def _not_offered(kind: str, scheduler: str | None, offer: ModelOffer) -> list[Fault]:
    faults = []
    if kind not in offer.kinds:
        faults.append(Fault("kind", "kind_not_supported", offer.does))
    if scheduler is not None and scheduler not in offer.schedulers:
        label = SCHEDULERS[scheduler][0] if scheduler in SCHEDULERS else repr(scheduler)
        fitting = ", ".join(offer.schedulers)
        faults.append(Fault("scheduler", "scheduler_not_supported", f"{label} does not fit {offer.name}: {fitting}"))
    return faults
