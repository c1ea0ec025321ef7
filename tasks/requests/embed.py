"""Embeddings of a prompt."""

from typing import Literal

from darkroom.tasks.requests.prompted import Worded


class Embed(Worded):
    """Encode a prompt: a file of the role `embeddings`, which later jobs take as `prompt_embeds` in place of the texts.

    Guidance decides whether the negative prompt is among them. Nothing is drawn by lot.
    """

    kind: Literal["embed"] = "embed"
