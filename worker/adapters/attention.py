"""Cross-attention that also looks at a picture: an IP-Adapter's keys and values, each row of a call with its own.

Source: H. Ye et al., "IP-Adapter: Text Compatible Image Prompt Adapter" (2023), section 3.2: decoupled cross-attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as nnf

from darkroom.worker.errors import AdapterIncompatible

#: Ends the name of a cross-attention layer among `unet.attn_processors`; `attn1` looks at the picture itself.
_CROSS = ".attn2.processor"

OTHER_MODEL = "styles work with Stable Diffusion and models of SDXL's architecture"

Layers = Sequence[tuple[Tensor, Tensor]]


class StyleHolder:
    """What the call that is about to run has of styles; all processors of one denoiser look here.

    `style`: tokens (rows, tokens, cross-attention width) in the denoiser's dtype, and scales (rows, layers) in float32.
    None: no row of the call has a style, and nothing is computed.
    """

    def __init__(self) -> None:
        self.style: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def given(self, tokens: Tensor, scales: Tensor) -> Iterator[None]:
        """In the context calls have these; for the thread that calls the denoiser."""
        before, self.style = self.style, (tokens, scales)
        try:
            yield
        finally:
            self.style = before


class StyleProcessor:
    """diffusers' `AttnProcessor2_0`, bit for bit, in a call without styles; else the style's answer is added to it.

    It is no module: names in the denoiser's state dict stay. Nothing here depends on a number that only a tensor holds,
    and the layer's own number is a tensor, so that compiled blocks share their code.
    """

    def __init__(self, holder: StyleHolder, number: Tensor, key: Tensor, value: Tensor) -> None:
        self._holder, self._number, self._key, self._value = holder, number, key, value

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002  asked for by diffusers' blocks
    ) -> Tensor:
        """Hidden states (rows, places, width), as diffusers' attention calls its processor."""
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        rows, length = states.shape[:2]
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, length, rows)
            attention_mask = attention_mask.view(rows, attn.heads, -1, attention_mask.shape[-1])
        query = _in_heads(attn.to_q(hidden_states), attn.heads)
        if attn.fused_projections:
            key, value = attn.to_kv(states).chunk(2, dim=-1)
        else:
            key, value = attn.to_k(states), attn.to_v(states)
        answer = _answer(query, _in_heads(key, attn.heads), _in_heads(value, attn.heads), attention_mask)
        if self._holder.style is not None:
            answer = answer + self._styled(query, *self._holder.style)
        found: Tensor = attn.to_out[1](attn.to_out[0](answer))
        return found

    def _styled(self, query: Tensor, tokens: Tensor, scales: Tensor) -> Tensor:
        heads = query.shape[1]
        key, value = (_in_heads(nnf.linear(tokens, weight), heads) for weight in (self._key, self._value))
        scale = scales.index_select(1, self._number)[..., None]
        return (scale * _answer(query, key, value)).to(query.dtype)


def cross_attention(unet: Any) -> dict[str, Any]:
    """Cross-attention layers by the names of their processors, in the order in which adapters number them.

    Raises AdapterIncompatible for layers of another make than those of Stable Diffusion and SDXL.
    """
    names = [name for name in unet.attn_processors if name.endswith(_CROSS)]
    found = {name: unet.get_submodule(name.removesuffix(".processor")) for name in names}
    for name, layer in found.items():
        more = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k")
        if any(getattr(layer, one) for one in more) or layer.residual_connection or layer.rescale_output_factor != 1:
            raise AdapterIncompatible(
                f"unet: {name.removesuffix('.processor')} is no attention that takes a style", hint=""
            )
    return found


def install_style(unet: Any, layers: Layers) -> StyleHolder:
    """Gives each cross-attention layer its keys' and values' weights, each (width, cross-attention width).

    Once, after loading and tuning: diffusers' own fusing of projections sets other processors. The weights must lie on
    the denoiser's device, in its dtype. Raises AdapterIncompatible.
    """
    holder, found = StyleHolder(), cross_attention(unet)
    for number, (layer, (key, value)) in enumerate(zip(found.values(), layers, strict=True)):
        layer.set_processor(StyleProcessor(holder, torch.tensor([number], device=key.device), key, value))
    return holder


def _in_heads(states: Tensor, heads: int) -> Tensor:
    rows, _, width = states.shape
    return states.view(rows, -1, heads, width // heads).transpose(1, 2)


def _answer(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    found = nnf.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=0.0, is_causal=False)
    return found.transpose(1, 2).reshape(query.shape[0], -1, query.shape[1] * query.shape[3]).to(query.dtype)
