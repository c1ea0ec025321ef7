"""Prior preservation: what a training is to leave as it is, by pictures of the model's own."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Listed, Prompt, one_or_several
from darkroom.tasks.requests.base import JobRequest, Rule
from darkroom.tasks.tokens import least_tokens

MOST_PROMPTS, MOST_IMAGES = 100, 1000
Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MOST_PROMPTS), Listed, one_or_several()]


class Preserving(JobRequest):
    """Pictures of the class that the subject is of, which the model makes before it learns, and learns from beside.

    N. Ruiz et al., "DreamBooth" (arXiv:2208.12242), section 4.2; the fields have the names of diffusers' scripts.
    """

    about: ClassVar[str] = "prior preservation"

    class_prompts: Prompts | None = Field(
        default=None, description="what the model is to draw as before, such as: a picture of a star"
    )
    num_class_images: int = Field(
        default=100, ge=1, le=MOST_IMAGES, description="pictures of class_prompts that are made before the first step"
    )
    prior_loss_weight: float = Field(
        default=1.0, gt=0, le=100, allow_inf_nan=False, description="of the loss on them, beside that on the data set"
    )

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Prompts and pictures that the model does not make."""
        yield from super().rules(offer)
        yield self._class_kind_rule(offer)
        yield self._class_number_rule()
        yield self._class_prompts_rule(offer)

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """What is said of pictures that are not made."""
        yield from super().idle(offer)
        yield self._idle_class_rule()

    def class_size_faults(self, side: int, offer: ModelOffer) -> Iterator[Fault]:
        """What keeps the model from making squares with a side of so many pixels."""
        if self.class_prompts and side**2 > offer.limits.max_pixels:
            most = f"{offer.name}'s {offer.limits.max_pixels} pixels"
            yield Fault("resolution", "too_many_pixels", f"class_prompts ask for {side}x{side}, over {most}")

    def _class_kind_rule(self, offer: ModelOffer) -> Rule:
        if self.class_prompts and "txt2img" not in offer.kinds:
            yield Fault("class_prompts", "kind_not_supported", f"{offer.name} makes no pictures from a prompt alone")

    def _class_number_rule(self) -> Rule:
        if self.class_prompts and len(self.class_prompts) > self.num_class_images:
            why = f"{self.num_class_images} pictures are too few for {len(self.class_prompts)} class_prompts"
            yield Fault("num_class_images", "too_small", f"{why}; each needs one at least")

    def _class_prompts_rule(self, offer: ModelOffer) -> Rule:
        most = offer.limits.max_prompt_chars
        for place, prompt in enumerate(self.class_prompts or ()):
            if len(prompt) > most:
                yield Fault(
                    f"class_prompts.{place}", "too_long", f"{len(prompt)} characters, at most {most} are allowed"
                )
            elif least_tokens(prompt) > offer.prompt_tokens:
                why = f"has more tokens than the {offer.prompt_tokens} that {offer.name} reads; shorten it"
                yield Fault(f"class_prompts.{place}", "too_long", why)

    def _idle_class_rule(self) -> Rule:
        if self.class_prompts is None:
            for name in ("num_class_images", "prior_loss_weight"):
                if getattr(self, name) != Preserving.model_fields[name].default:
                    why = "is for pictures of class_prompts, and there are none: give some"
                    yield Fault(name, "no_class_prompts", why)
