"""Prior preservation: what a training is to leave as it is, by pictures of the model's own."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.fields import Listed, Prompt, one_or_several
from darkroom.tasks.requests.base import JobRequest, Rule, length_faults
from darkroom.tasks.sizes import square_faults
from darkroom.tasks.tokens import least_tokens
from darkroom.tasks.training import MOST_CLASS_PROMPTS, ClassImages

Prompts = Annotated[list[Prompt], Field(max_length=MOST_CLASS_PROMPTS), Listed, one_or_several()]


class Preserving(JobRequest):
    """Pictures of the class that the subject is of, which the model makes before it learns, and learns from beside.

    N. Ruiz et al., "DreamBooth" (arXiv:2208.12242), section 4.2; the fields have the names of diffusers' scripts.
    """

    about: ClassVar[str] = "prior preservation"

    class_prompts: Prompts | None = Field(
        default=None,
        description="what the model is to draw as before, such as: a picture of a star; default: the model's",
    )
    num_class_images: ClassImages | None = Field(
        default=None,
        description="pictures of class_prompts that are made before the first step; 0: none; default: the model's",
    )
    prior_loss_weight: float = Field(
        default=1.0, gt=0, le=100, allow_inf_nan=False, description="of the loss on them, beside that on the data set"
    )

    def rules(self, offer: ModelOffer) -> Iterator[Rule]:
        """Prompts and pictures that the model does not make."""
        yield from super().rules(offer)
        yield self._class_kind_rule(offer)
        yield self._class_number_rule(offer)
        yield self._class_prompts_rule(offer)

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """What is said of pictures that are not made."""
        yield from super().idle(offer)
        yield self._idle_class_rule(offer)

    def filled(self, offer: ModelOffer) -> dict[str, Any]:
        """What the model's recipe says."""
        prompts = self._class_prompts(offer)
        images = self._class_images(offer) if prompts else 0
        return super().filled(offer) | {"class_prompts": prompts[:images] or None, "num_class_images": images}

    def class_size_faults(self, side: int, offer: ModelOffer) -> Iterator[Fault]:
        """What keeps the model from making squares with a side of so many pixels."""
        if self._class_prompts(offer):
            yield from square_faults("class_prompts", side, offer)

    def _class_kind_rule(self, offer: ModelOffer) -> Rule:
        if self.class_prompts and "txt2img" not in offer.kinds:
            yield Fault("class_prompts", "kind_not_supported", f"{offer.name} makes no pictures from a prompt alone")

    def _class_prompts(self, offer: ModelOffer) -> list[str]:
        """Those of the request, or of the model's recipe; none where no pictures of them are wanted."""
        if self.num_class_images == 0:
            return []
        return offer.training.class_prompts if self.class_prompts is None else self.class_prompts

    def _class_images(self, offer: ModelOffer) -> int:
        """As many as wanted; else as the model's recipe says, and one of each prompt at least."""
        if self.num_class_images is not None:
            return self.num_class_images
        return max(offer.training.num_class_images, len(self.class_prompts or ()))

    def _class_number_rule(self, offer: ModelOffer) -> Rule:
        images = self._class_images(offer)
        if self.class_prompts and len(self.class_prompts) > images:
            why = f"{images} pictures are too few for {len(self.class_prompts)} class_prompts"
            yield Fault("num_class_images", "too_small", f"{why}; each needs one at least")

    def _class_prompts_rule(self, offer: ModelOffer) -> Rule:
        for place, prompt in enumerate(self.class_prompts or ()):
            field = f"class_prompts.{place}"
            if faults := [*length_faults(field, prompt, offer)]:
                yield from faults
            elif least_tokens(prompt) > offer.prompt_tokens:
                why = f"has more tokens than the {offer.prompt_tokens} that {offer.name} reads; shorten it"
                yield Fault(field, "too_long", why)

    def _idle_class_rule(self, offer: ModelOffer) -> Rule:
        if not self._class_prompts(offer):
            for name in ("num_class_images", "prior_loss_weight"):
                if getattr(self, name) not in (0, Preserving.model_fields[name].default):
                    why = "is for pictures of class_prompts, and there are none: give some"
                    yield Fault(name, "no_class_prompts", why)
