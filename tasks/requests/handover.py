"""One image by two models, or in two jobs: who denoises up to where."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from darkroom.tasks.catalogue import Catalogue, Family, ModelName, ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.needs import FurtherModel, further_models
from darkroom.tasks.references import is_file_key
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.further import Further
from darkroom.tasks.requests.hires import Enlarged
from darkroom.tasks.requests.parts import FromPicture
from darkroom.tasks.steps import steps_left

#: Families whose denoising can be cut, as diffusers' pipelines of SDXL do it.
CUT: tuple[Family, ...] = ("sdxl", "sdxl-refiner")
_UNCUT: dict[Family, str] = {
    "sd": "of the family sd, whose pipelines have no part of a schedule",
    "playground": "of the family playground, whose schedulers count noise levels and not the time steps that are cut",
}

#: Schedulers that cannot be handed over, and why.
_WHOLE = {
    "pndm": "PNDM begins with a step that it makes twice, so the second part would lack one",
    "dpmpp_sde": "DPM++ SDE makes each step in two stages, and the cut may fall between them",
}


class Refiner(Checked):
    """The model that goes on with the latents, and from where on."""

    model_config = ConfigDict(revalidate_instances="always")

    model: Annotated[ModelName, FurtherModel()] = Field(description="a catalogue name, such as sdxl-refiner")
    start: float = Field(
        default=0.8, gt=0, lt=1, allow_inf_nan=False, description="part of the noise that is gone by then"
    )


class HandedOver(Enlarged):
    """What of the denoising is another model's, or another job's."""

    about: ClassVar[str] = "a second pass, or another model"

    refiner: Refiner | None = Field(default=None, description="another model makes the last steps")
    denoising_end: float | None = Field(
        default=None, gt=0, lt=1, allow_inf_nan=False, description="stop where so much of the noise is gone, of 1"
    )

    #: The fields that say where the denoising is cut.
    cuts: ClassVar[tuple[str, ...]] = ("refiner", "denoising_end")

    def cut(self, field: str) -> float | None:
        """The place that such a field says."""
        if field == "refiner":
            return self.refiner.start if self.refiner else None
        place: float | None = getattr(self, field)
        return place

    def begins_at(self, _offer: ModelOffer) -> float:
        """The part of the noise that is gone at the first step."""
        return 0.0

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Cuts where nothing can be cut, or nothing would be left to do."""
        yield from super().rules(offer)
        yield from (self._cut_rule(field, offer) for field in self.cuts)
        yield from (self._place_rule(field, offer) for field in self.cuts if field != "denoising_start")
        yield self._end_output_rule()
        yield from (self._unfinished_rule(field) for field in ("hires", "refiner"))
        yield self._embeds_rule()

    def rules_beside(self, offer: ModelOffer, catalogue: Catalogue) -> Iterator[Rule]:
        """A refiner that does not exist, or cannot go on with the latents."""
        yield from super().rules_beside(offer, catalogue)
        if refiner := self.readable("refiner"):
            further = Further("refiner.model", refiner.model, offer, catalogue)
            yield from further.rules(
                size=lambda: self.extent(offer),
                scheduler=lambda: self.asked_scheduler(offer),
                steps=lambda: self.asked_steps(offer),
            )

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """A refiner whose work nobody sees."""
        yield from super().idle(offer)
        yield self._idle_refiner_rule()

    def _cut_rule(self, field: str, offer: ModelOffer) -> Rule:
        if self.cut(field) is None:
            return
        if offer.family not in CUT:
            yield Fault(field, "not_supported", f"{offer.name} is {_UNCUT[offer.family]}")
        elif (scheduler := self.asked_scheduler(offer)) in _WHOLE:
            yield Fault(field, "not_supported", _WHOLE[scheduler])

    def _place_rule(self, field: str, offer: ModelOffer) -> Rule:
        place = self.cut(field)
        if place is None or offer.family not in CUT or self.asked_scheduler(offer) in _WHOLE:
            return
        if place <= (begin := self.begins_at(offer)):
            reason = f"is {place:g}, and denoising begins where {begin:g} of the noise is gone: give more"
            yield Fault("refiner.start" if field == "refiner" else field, "too_small", reason)

    def _end_output_rule(self) -> Rule:
        if self.denoising_end is not None and self.output != ["latents"]:
            reason = "leaves noise in the picture: keep the latents, and nothing else, with output latents"
            yield Fault("denoising_end", "without_latents", reason)

    def _unfinished_rule(self, field: str) -> Rule:
        if self.denoising_end is not None and getattr(self, field) is not None:
            reason = f"leaves an unfinished image: {field} needs all of its steps"
            yield Fault("denoising_end", "not_supported", reason)

    def _embeds_rule(self) -> Rule:
        if getattr(self, "prompt_embeds", None) is None:
            return
        if names := further_models(self):
            reason = f"are of the job's own text encoders; those of {', '.join(names)} read a prompt: give the words"
            yield Fault("prompt_embeds", "not_supported", reason)

    def _idle_refiner_rule(self) -> Rule:
        if self.refiner and self.hires and self.hires.strength == 1:
            reason = "refines the first pass, of which strength 1 of hires leaves nothing but the size"
            yield Fault("refiner", "from_noise", reason)


class HandedOverPicture(HandedOver, FromPicture):
    """The same, where denoising begins with a picture, or with what another job left."""

    about: ClassVar[str] = "a picture to begin with"

    denoising_start: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="go on with what another job left at its denoising_end",
    )

    cuts: ClassVar[tuple[str, ...]] = ("denoising_start", *HandedOver.cuts)

    def begins_at(self, offer: ModelOffer) -> float:
        """Where another job ended, or where the strength begins."""
        if self.denoising_start is not None:
            return self.denoising_start
        return 1.0 - self.asked_strength(offer)

    def asked_strength(self, offer: ModelOffer) -> float:
        """As asked for; else the model's own."""
        return offer.defaults.strength if self.strength is None else self.strength

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """A picture to go on with, and a strength, which adds noise: what goes on has noise."""
        yield from super().rules(offer)
        yield self._goes_on_rule()
        yield self._noise_rule()

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """Cuts where strength leaves no step."""
        yield from super().idle(offer)
        yield from (self._idle_cut_rule(field, offer) for field in self.cuts if field != "denoising_start")

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Without a strength where latents are gone on with."""
        values = super().filled(offer)
        return values if self.denoising_start is None else values | {"strength": None}

    def _goes_on_rule(self) -> Rule:
        if self.denoising_start is not None and not is_file_key(self.image or ""):
            yield Fault("denoising_start", "without_latents", "goes on with latents: give another job's as image")

    def _noise_rule(self) -> Rule:
        if self.denoising_start is not None and self.strength is not None:
            yield Fault("strength", "not_supported", "adds noise; what is gone on with has its own")

    def _idle_cut_rule(self, field: str, offer: ModelOffer) -> Rule:
        if self.cut(field) is None or self.denoising_start is not None:
            return
        steps, strength = self.asked_steps(offer), self.asked_strength(offer)
        if not steps_left(steps, strength):
            reason = f"of {steps} steps strength {strength:g} leaves none: give more of either"
            yield Fault(field, "no_steps", reason)
