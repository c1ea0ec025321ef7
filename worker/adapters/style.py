"""A style: pictures as tokens that each cross-attention layer of the denoiser looks at, beside the prompt's.

Which layers carry the style of a picture and which its layout: H. Wang et al., "InstantStyle: Free Lunch towards
Style-Preserving in Text-to-Image Generation" (2024), section 3.2, for SDXL; for Stable Diffusion 1.5 the layers of
"style transfer" and "composition" in https://github.com/cubiq/ComfyUI_IPAdapter_plus (`IPAdapterPlus.py`), which counts
them as the denoiser calls them: down, middle, up.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from torch import Tensor

from darkroom.tasks.catalogue import Family
from darkroom.worker.adapters.attention import OTHER_MODEL, StyleHolder, cross_attention, install_style
from darkroom.worker.adapters.image_encoder import ImageEncoder, load_encoder
from darkroom.worker.adapters.projection import encoder_width, token_count
from darkroom.worker.adapters.style_file import Blocks, read_style
from darkroom.worker.caches import Cache
from darkroom.worker.errors import AdapterIncompatible
from darkroom.worker.models.device import OFFLOAD_MODES, Placement
from darkroom.worker.models.memory import place

_SDXL = Blocks(style={"up_blocks.0.attentions.1.": 1.0}, layout={"down_blocks.2.attentions.1.": 1.0})
_SD = Blocks(
    style={
        "down_blocks.0.": 1.0,
        "down_blocks.1.": 1.0,
        "up_blocks.1.attentions.2.": 1.0,
        "up_blocks.2.": 1.0,
        "up_blocks.3.": 1.0,
    },
    layout={"down_blocks.2.attentions.0.": 0.25, "down_blocks.2.attentions.1.": 1.0},
)
_BLOCKS: dict[Family, Blocks] = {"sd": _SD, "sdxl": _SDXL, "playground": _SDXL, "sdxl-refiner": _SDXL}


class StyleAdapter:
    """An IP-Adapter with its image encoder, in the processors of one denoiser.

    `holder.given` sets what calls of the denoiser have, around each one, on the thread that calls it.
    `embed` runs modules: on the engine's thread, as text encoders are run.
    """

    def __init__(
        self, holder: StyleHolder, encoder: ImageEncoder, projection: Any, shares: Tensor, placement: Placement
    ) -> None:
        self.holder = holder
        self._encoder, self._projection, self._shares, self._placement = encoder, projection, shares, placement
        self._nothing: Tensor | None = None

    @property
    def tokens(self) -> int:
        """How many each row has."""
        return token_count(self._projection)

    @property
    def layers(self) -> int:
        """How many scales each row has."""
        return self._shares.shape[1]

    def scales(self, style: float, layout: float) -> Tensor:
        """(1, layers) float32 on the denoiser's device: of each layer, by what it carries; 0 for the rest."""
        asked = torch.tensor([style, layout], dtype=torch.float32)
        return (asked[:, None] * self._shares).sum(dim=0, keepdim=True).to(self._placement.device)

    def look(self, picture: Image.Image, kept: Cache[Tensor] | None = None) -> Tensor:
        """What the encoder says of the picture; `kept` has what it said before, by the picture's content."""

        def encode() -> Tensor:
            return self._states(self._encoder.preprocessor(picture))

        return kept.get(_digest(picture), encode) if kept else encode()

    def embed(
        self, pictures: Sequence[Image.Image], weights: Sequence[float], kept: Cache[Tensor] | None = None
    ) -> Tensor:
        """Tokens (1, tokens, cross-attention width) of the weighted mean of what the encoder says of the pictures.

        `kept`: see `look`. Raises ValueError where the weights have no sum.
        """
        total = sum(weights)
        if not total > 0:
            raise ValueError("the weights of a style's pictures must have a sum above 0")
        seen = [self.look(picture, kept) for picture in pictures]
        mean = torch.stack([tensor * (weight / total) for tensor, weight in zip(seen, weights, strict=True)]).sum(dim=0)
        return self._project(mean)

    def nothing(self) -> Tensor:
        """Tokens (1, tokens, cross-attention width) of no picture: what guidance leads away from, as in training.

        As diffusers' `encode_image`: an embedding of zeros, or the states of an even grey.
        """
        if self._nothing is None:
            grey = torch.zeros(1, 3, self._encoder.preprocessor.side, self._encoder.preprocessor.side)
            seen = self._states(grey)
            self._nothing = self._project(torch.zeros_like(seen) if self._is_plain else seen)
        return self._nothing

    @property
    def _is_plain(self) -> bool:
        return isinstance(self._projection, ImageProjection)

    @torch.no_grad()
    def _states(self, pixels: Tensor) -> Tensor:
        """Embedding (1, width), or states of patches (1, patches, width)."""
        pixels = pixels.to(self._placement.device, self._encoder.module.dtype)
        found = self._encoder.module(pixels, output_hidden_states=not self._is_plain)
        return found.image_embeds if self._is_plain else found.hidden_states[-2]  # type: ignore[no-any-return]

    @torch.no_grad()
    def _project(self, seen: Tensor) -> Tensor:
        found: Tensor = self._projection(seen)
        return found.to(self._placement.dtype)


def load_style(path: Path, encoder: Path, family: Family, unet: Any, placement: Placement) -> StyleAdapter:
    """The IP-Adapter in file `path` with the image encoder in folder `encoder`, installed into the denoiser.

    Once, after the model was loaded, placed and tuned. Raises an AdapterError naming the file.
    """
    loaded, made = load_encoder(encoder, placement.dtype), read_style(path, unet)
    config = loaded.module.config
    plain = isinstance(made.projection, ImageProjection)
    found, wanted = config.projection_dim if plain else config.hidden_size, encoder_width(made.projection)
    if found != wanted:
        raise AdapterIncompatible(
            f"{path}: reads {wanted} numbers of a picture, and the image encoder in {encoder} gives {found}",
            hint="name the image encoder that the IP-Adapter was trained with",
        )
    shares = layer_shares(family, unet, made.blocks)
    projection = made.projection.to(placement.dtype).eval().requires_grad_(requires_grad=False)
    modules = {"image_encoder": loaded.module, "image_projection": projection}
    if placement.memory in OFFLOAD_MODES:
        place(modules, placement)
    else:
        for module in modules.values():
            module.to(placement.device)
    weights = [
        (key.to(placement.device, placement.dtype), value.to(placement.device, placement.dtype))
        for key, value in made.layers
    ]
    return StyleAdapter(install_style(unet, weights), loaded, projection, shares, placement)


def layer_shares(family: Family, unet: Any, blocks: Blocks | None = None) -> Tensor:
    """(2, layers) float32: which share of the style's scale, and of the layout's, each cross-attention layer gets.

    `blocks`: an adapter's own, else the family's. Raises AdapterIncompatible where no layer carries the style.
    """
    blocks, names = blocks or _BLOCKS[family], list(cross_attention(unet))
    shares = torch.tensor([[_share(name, which) for name in names] for which in (blocks.style, blocks.layout)])
    if not shares[0].any():
        raise AdapterIncompatible(
            f"unet: none of its layers carries a style ({', '.join(blocks.style)})", hint=OTHER_MODEL
        )
    return shares


def _share(name: str, shares: Any) -> float:
    return next((share for start, share in shares.items() if name.startswith(start)), 0.0)


def _digest(picture: Image.Image) -> str:
    """SHA-256 of a picture's content."""
    head = f"{picture.mode} {picture.width}x{picture.height} "
    return hashlib.sha256(head.encode() + picture.tobytes()).hexdigest()
