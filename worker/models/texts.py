"""Whose embeddings are a model's own: what encoded them decides, and in which dtype."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.models.loading import LoadedModel

#: Files that have no say in embeddings. What is left are text encoders and tokenizers; of a single file all of it.
_NO_SAY = ("unet/", "vae/", "scheduler/", "preview.json", "model_index.json")


@dataclass(frozen=True)
class TextSpace:
    """The text encoders of a model. `digest`: of the digests of their files, those of tokenizers, and of LoRAs that
    the model always has.

    `width` and `pooled` (0: none) are the embeddings' sizes.
    """

    family: str
    model: str
    digest: str
    width: int
    pooled: int
    chunk: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: LoadedModel) -> Self:
        """Of a loaded model."""
        files = {name: sha for name, sha in model.digests.items() if not name.startswith(_NO_SAY)}
        files |= dict(_own_loras(model.entry))
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        encoders = [model.components[name] for name in model.family.encoders]
        width = sum(encoder.config.hidden_size for encoder in encoders)
        pools = hasattr(encoders[-1], "text_projection")  # the others give no pooled embeddings
        pooled = encoders[-1].config.projection_dim if pools else 0
        chunk = model.components[model.family.tokenizers[0]].model_max_length
        entry, placement = model.entry, model.placement
        return cls(entry.family, entry.name, digest, width, pooled, chunk, encoders[-1].dtype, placement.device)

    def about(self) -> dict[str, object]:
        """What a file of embeddings says of them."""
        return {"family": self.family, "model": self.model, "encoders_sha256": self.digest}

    def differences(self, about: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """What keeps embeddings from being this model's."""
        if about.get("family") != self.family:
            yield f"they are of the family {str(about.get('family'))[:40]}, {self.model} is of {self.family}"
        elif about.get("encoders_sha256") != self.digest:
            yield f"they are of other text encoders (of {str(about.get('model'))[:64]}) than {self.model} has"
        for name, shape in shapes.items():
            wanted = self.pooled if name.startswith(("pooled", "negative_pooled")) else self.width
            if shape[-1] != wanted or (len(shape) == 3 and shape[1] % self.chunk):
                yield f"{name} has the shape {shape}, {self.model} takes {self._form(name)}"

    def _form(self, name: str) -> str:
        return f"(1, {self.pooled})" if "pooled" in name else f"(1, {self.chunk} n, {self.width})"


def _own_loras(entry: ModelEntry) -> Iterator[tuple[str, str]]:
    """Those that change text encoders."""
    here = {offer.name: offer for offer in entry.loras}
    for use in entry.own_loras:
        if use.name in here and here[use.name].text:
            yield f"lora {use.name}", f"{here[use.name].sha256} {use.scale:g}"
