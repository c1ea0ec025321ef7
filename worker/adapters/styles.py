"""What the rows of one model's calls bring of its style adapter: all of them, so that those with and without share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from darkroom.worker.adapters.attention import StyleHolder
from darkroom.worker.adapters.rows import Rows
from darkroom.worker.adapters.style import StyleAdapter
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.extras import Extra
from darkroom.worker.caches import Cache

DRAWN = 0.5  # scale of all layers in a trial


@dataclass(frozen=True, slots=True)
class StyleWish:
    """Pictures (RGB), their weights, and the scales of what carries a style and what a layout."""

    pictures: Sequence[Image.Image]
    weights: Sequence[float]
    style: float
    layout: float


class Styles:
    """A style adapter, as the catalogue names it, in the service of images. Thread-safe.

    `digests`: SHA-256 of its files, by their names; `revision` is a commit, or "local".
    """

    def __init__(
        self, name: str, digests: Mapping[str, str], revision: str, adapter: StyleAdapter, engine: Engine
    ) -> None:
        """Looks at a picture of nothing. Raises what model calls raise."""
        self.name, self.digests, self.revision = name, digests, revision
        self._adapter, self._engine = adapter, engine
        self._seen = Cache[torch.Tensor]()
        self._nothing = engine.call(adapter.nothing)
        engine.streams.finish()  # it is used by all threads
        self._scales = adapter.scales(0, 0)
        self.plain = Extra(
            (torch.zeros_like(self._nothing[:, :1, :1]).expand_as(self._nothing), self._scales), whole=True
        )

    @property
    def holder(self) -> StyleHolder:
        """What the denoiser looks at."""
        return self._adapter.holder

    def worn(self, rows: Rows, wish: StyleWish) -> Rows:
        """The rows of a plain image with this style; where there is guidance, it leads away from no picture.

        Each picture is looked at once, in a model call of its own. Raises what model calls raise.
        """
        for picture in wish.pictures if len(wish.pictures) > 1 else ():
            self._engine.call(self._adapter.look, picture, self._seen)
        tokens = self._engine.call(self._adapter.embed, wish.pictures, wish.weights, self._seen)
        self._engine.streams.finish()  # whoever finds a picture in the cache knows of no event to wait for
        scales = self._adapter.scales(wish.style, wish.layout)
        loras = rows.single[:-1]
        positive, negative = (Extra((found, scales), 1, whole=True) for found in (tokens, self._nothing))
        return Rows((*loras, positive), (*loras, negative))

    def drawn(self) -> Extra:
        """Tokens by lot, in all layers: for trials before the first job."""
        drawn = torch.Generator().manual_seed(0)
        tokens = torch.randn(self._nothing.shape, generator=drawn).to(self._nothing)
        return Extra((tokens, torch.full_like(self._scales, DRAWN)), 1, whole=True)
