"""What every family says about itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelIncompatible

Components = Mapping[str, Any]


class Encode(Protocol):
    """The family's prompt encoding; see `FamilySpec.encode_prompt`."""

    def __call__(
        self, pipe: Any, prompt: str, negative_prompt: str | None, guidance: bool, device: torch.device | None = None
    ) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class FamilySpec:
    """One family. `components` are diffusers' names with the one class that each may be loaded as.

    `options` are the pipeline's arguments that the model decides, `fixed` those that Darkroom decides. `upcasts_vae`:
    the family's pipelines honour `force_upcast` of a VAE that overflows in float16.
    """

    name: Family
    components: dict[str, type[Any]]
    schedulers: dict[str, type[Any]]
    pipelines: dict[str, type[Any]]
    options: tuple[str, ...]
    fixed: dict[str, Any]
    upcasts_vae: bool
    encode_prompt: Encode
    check: Callable[[Components], None]

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the text encoders, in the order in which the pipelines use them."""
        return tuple(name for name in self.components if name.startswith("text_encoder"))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the components that have weights, in the order of use."""
        return (*self.encoders, "unet", "vae")

    def pipeline(self, name: str, components: Components, options: Mapping[str, Any] | None = None) -> Any:
        """A pipeline over these components (a scheduler among them); costs about 2 ms, loads nothing.

        `options` are the model's own from `model_index.json`, such as `force_zeros_for_empty_prompt`.
        """
        return self.pipelines[name](**components, **self.fixed, **(options or {}))

    def count_tokens(self, tokenizer: Any, prompt: str) -> int:
        """Tokens of the prompt itself, without start and end; what exceeds `prompt_tokens` is not read."""
        return len(tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def require(condition: bool, name: Family, message: str, part: str = "unet") -> None:
    """Raises ModelIncompatible, which names the config of the part, unless the condition holds."""
    if not condition:
        raise ModelIncompatible(f"{part}/config.json: not a model of the family {name}: {message}")
