"""What every family says about itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from darkroom.tasks.catalogue import Family
from darkroom.tasks.requests import KINDS
from darkroom.tasks.requests.sampled import Sampled
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.families.encoding import Encoded, encode
from darkroom.worker.models.families.inpainting import MASKED, PLAIN
from darkroom.worker.models.words import Words

Components = Mapping[str, Any]


@dataclass(frozen=True)
class FamilySpec:
    """One family. `components` are diffusers' names with the one class that each may be loaded as.

    `options` are the pipeline's arguments that the model decides, `fixed` those that Darkroom decides. `upcasts_vae`:
    the family's pipelines honour `force_upcast` of a VAE that overflows in float16. `normalises_latents`: they honour
    a VAE's `latents_mean` and `latents_std`. `works_on`: the family whose latents they are, if not its own.
    `read_layer`: which layer of the text encoders is read, counted from the last one, 1.
    """

    name: Family
    components: dict[str, type[Any]]
    schedulers: dict[str, type[Any]]
    pipelines: dict[str, type[Any]]
    options: tuple[str, ...]
    fixed: dict[str, Any]
    upcasts_vae: bool
    normalises_latents: bool
    check: Callable[[Components], None]
    read_layer: int = 1
    works_on: Family | None = None

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the text encoders, in the order in which the pipelines use them."""
        return tuple(name for name in self.components if name.startswith("text_encoder"))

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Names of the tokenizers, in the order of the text encoders."""
        return tuple(name for name in self.components if name.startswith("tokenizer"))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the components that have weights, in the order of use."""
        return (*self.encoders, "unet", "vae")

    def pipeline(self, name: str, components: Components, options: Mapping[str, Any] | None = None) -> Any:
        """A pipeline over these components (a scheduler among them); costs about 2 ms, loads nothing.

        `options` are the model's own from `model_index.json`, such as `force_zeros_for_empty_prompt`.
        """
        return self.pipelines[name](**components, **self.fixed, **(options or {}))

    def encode_prompt(self, pipe: Any, words: Words, device: torch.device | None = None) -> Encoded:
        """Prompts as keyword arguments of the pipelines' calls: embeddings (1, 77, 768) for `sd` (1024 wide for 2.x).

        (1, 77, 2048) and pooled ones (1, 1280) for the others. Of a long prompt 77 more for each further chunk.
        """
        return encode(pipe, list(zip(self.tokenizers, self.encoders, strict=True)), self.read_layer, words, device)

    def count_tokens(self, tokenizer: Any, prompt: str) -> int:
        """Tokens of the prompt itself, without start and end; what exceeds `prompt_tokens` is not read."""
        return len(tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def beyond(components: Components) -> frozenset[str]:
    """The kinds of job that the denoiser cannot do: one of 9 channels needs a mask at each call."""
    if components["unet"].config.in_channels != MASKED:
        return frozenset()
    denoising = {name: kind.model_fields for name, kind in KINDS.items() if issubclass(kind, Sampled)}
    return frozenset(name for name, fields in denoising.items() if "mask" not in fields)


def require_channels(components: Components, name: Family) -> None:
    """Raises ModelIncompatible for a denoiser of other channels than those that pipelines give it."""
    channels = components["unet"].config.in_channels
    message = f"the denoiser takes {channels} channels; {PLAIN}, or {MASKED} of an inpainting model, are needed"
    require(channels in (PLAIN, MASKED), name, message)


def require(condition: bool, name: Family, message: str, part: str = "unet") -> None:
    """Raises ModelIncompatible, which names the config of the part, unless the condition holds."""
    if not condition:
        raise ModelIncompatible(f"{part}/config.json: not a model of the family {name}: {message}")
