"""The adapter's modules: CLIP's image encoder, small, a projection, and keys and values of each layer."""

from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import ImageProjection
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from darkroom.worker.adapters.attention import cross_attention
from ops.starter.style.pictures import SEEN
from ops.starter.training import device

#: The layer whose scale is the layout's; the counterpart of SDXL's `down_blocks.2.attentions.1`.
LAYOUT = "down_blocks.2.attentions.0."
EMBEDDING, TOKENS = 64, 4
_WIDTH = 96
#: CLIP's own, as its processor takes them.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def make_encoder() -> CLIPVisionModelWithProjection:
    """CLIP's image encoder, small."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=SEEN,
            patch_size=8,
            projection_dim=EMBEDDING,
            hidden_act="gelu",
        )
    )


class Adapter(nn.Module):
    """Encoder, projection, and the weights of keys and values of each layer of the denoiser."""

    def __init__(self, encoder: CLIPVisionModelWithProjection, unet: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = ImageProjection(EMBEDDING, unet.config.cross_attention_dim, TOKENS)
        layers = cross_attention(unet).values()
        self.keys = nn.ParameterList(layer.to_k.weight.detach().clone() for layer in layers)
        self.values = nn.ParameterList(layer.to_v.weight.detach().clone() for layer in layers)

    def tokens(self, pixels: Tensor, seen: Tensor) -> Tensor:
        """(rows, 4, width) of pictures (rows, 3, 64, 64); rows of which nothing is `seen` (rows, 1) have zeros."""
        found: Tensor = self.projection(self.encoder(pixels).image_embeds * seen)
        return found


def pixels(views: NDArray[np.uint8], rng: np.random.Generator | None = None) -> Tensor:
    """What the encoder reads of views (rows, 64, 64, 3); with `rng` noisier than drawings are, as other pictures."""
    shown = torch.from_numpy(views).permute(0, 3, 1, 2).float()
    if rng:
        noise = rng.normal(0, rng.uniform(0, 6), shown.shape)
        shown = shown + torch.from_numpy(noise.astype(np.float32))
    mean, std = (torch.tensor(of).view(1, 3, 1, 1) for of in (MEAN, STD))
    return ((shown / 255 - mean) / std).to(device())
