"""Embeddings of a prompt."""

from collections.abc import Iterator
from typing import Literal

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.errors import Fault
from darkroom.tasks.requests.base import Rule
from darkroom.tasks.requests.loras import Adapted
from darkroom.tasks.requests.prompted import Worded


class Embed(Adapted, Worded):
    """Encode a prompt: a file of the role `embeddings`, which later jobs take as `prompt_embeds` in place of the texts.

    Guidance decides whether the negative prompt is among them. Nothing is drawn by lot.
    """

    kind: Literal["embed"] = "embed"

    def idle(self, offer: ModelOffer) -> Iterator[Rule]:
        """LoRAs that leave the text encoders as they are."""
        yield from super().idle(offer)
        yield self._idle_loras_rule(offer)

    def _idle_loras_rule(self, offer: ModelOffer) -> Rule:
        for number, lora, there in self.offered(offer):
            if not there.text:
                reason = f"{lora.name} changes no text encoder: give it to the job that takes the embeddings"
                yield Fault(f"loras.{number}.name", "lora_without_text", reason)
