"""One image by two models, or in two jobs: who denoises up to where."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from darkroom.tasks.catalogue import Catalogue, Family, ModelName, ModelOffer, scheduler_id
from darkroom.tasks.errors import Fault
from darkroom.tasks.needs import FurtherModel, further_models
from darkroom.tasks.references import is_file_key
from darkroom.tasks.requests.checked import Checked
from darkroom.tasks.requests.further import further_model_faults
from darkroom.tasks.requests.hires import Enlarged
from darkroom.tasks.requests.parts import FromPicture

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

    @property
    def cuts(self) -> dict[str, float]:
        """Where the denoising is cut, by the fields that say so."""
        named = {"refiner.start": self.refiner.start if self.refiner else None, "denoising_end": self.denoising_end}
        return {field: place for field, place in named.items() if place is not None}

    def begins_at(self, _offer: ModelOffer) -> float:
        """The part of the noise that is gone at the first step."""
        return 0.0

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """Cuts where nothing can be cut, or nothing would be left to do."""
        yield from super().faults(offer)
        scheduler = scheduler_id(self.scheduler or offer.defaults.scheduler)
        begin = self.begins_at(offer)
        for field, place in self.cuts.items():
            if offer.family not in CUT:
                yield Fault(field.partition(".")[0], "not_supported", f"{offer.name} is {_UNCUT[offer.family]}")
            elif scheduler in _WHOLE:
                yield Fault(field.partition(".")[0], "not_supported", _WHOLE[scheduler])
            elif field != "denoising_start" and place <= begin:
                reason = f"is {place:g}, and denoising begins where {begin:g} of the noise is gone: give more"
                yield Fault(field, "too_small", reason)
        yield from self._of_an_end()
        if getattr(self, "prompt_embeds", None) is not None and (names := further_models(self)):
            reason = f"are of the job's own text encoders; those of {', '.join(names)} read a prompt: give the words"
            yield Fault("prompt_embeds", "not_supported", reason)

    def faults_beside(self, offer: ModelOffer, catalogue: Catalogue) -> Iterator[Fault]:
        """A refiner that does not exist, or cannot go on with the latents."""
        yield from super().faults_beside(offer, catalogue)
        if self.refiner:
            scheduler = scheduler_id(self.scheduler or offer.defaults.scheduler)
            steps = self.num_inference_steps or offer.defaults.num_inference_steps
            yield from further_model_faults(
                "refiner.model", self.refiner.model, offer, catalogue, self.extent(offer), scheduler, steps
            )

    def _of_an_end(self) -> Iterator[Fault]:
        if self.denoising_end is None:
            return
        if "latents" not in self.output or "image" in self.output:
            reason = "leaves noise in the picture: keep the latents, and nothing else, with output latents"
            yield Fault("denoising_end", "without_latents", reason)
        for field in ("hires", "refiner"):
            if getattr(self, field) is not None:
                yield Fault(
                    "denoising_end", "not_supported", f"leaves an unfinished image: {field} needs all of its steps"
                )


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

    @property
    def cuts(self) -> dict[str, float]:
        """The beginning, too."""
        start = {} if self.denoising_start is None else {"denoising_start": self.denoising_start}
        return start | super().cuts

    def begins_at(self, offer: ModelOffer) -> float:
        """Where another job ended, or where the strength begins."""
        if self.denoising_start is not None:
            return self.denoising_start
        return 1.0 - (offer.defaults.strength if self.strength is None else self.strength)

    def faults(self, offer: ModelOffer) -> Iterator[Fault]:
        """A picture to go on with, and a strength, which adds noise: what goes on has noise."""
        yield from super().faults(offer)
        if self.denoising_start is None:
            return
        if not is_file_key(self.image or ""):
            yield Fault("denoising_start", "without_latents", "goes on with latents: give another job's as image")
        if self.strength is not None:
            yield Fault("strength", "not_supported", "adds noise; what is gone on with has its own")

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """Without a strength where latents are gone on with."""
        values = super().filled(offer)
        return values if self.denoising_start is None else values | {"strength": None}
