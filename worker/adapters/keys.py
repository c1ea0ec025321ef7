"""The names of tensors in a LoRA file taken apart: part of the model, layer, and which of the layer's tensors it is."""

import re
from dataclasses import dataclass
from typing import Literal

Naming = Literal["kohya", "diffusers", "peft"]
Role = Literal["down", "up", "alpha"]

#: Ends of the names of a layer's two matrices, by who writes them: sd-scripts and LyCORIS, diffusers, peft.
_MATRIX = re.compile(
    r"(?:\.lora_(?P<kohya>down|up)"
    r"|(?:[._]lora|\.lora_linear_layer)\.(?P<diffusers>down|up)"
    r"|\.lora_(?P<peft>[AB])(?:\.[^.]+)?)\.weight\Z"
)
_ALPHA = re.compile(r"(?:[._]lora|\.lora_linear_layer)?\.alpha\Z")
_ROLES: dict[str, Role] = {"down": "down", "A": "down", "up": "up", "B": "up"}

#: How names of a part begin, in sd-scripts, LyCORIS, diffusers and ComfyUI.
_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "lycoris_": "unet",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "diffusion_model.": "unet",
    "model.diffusion_model.": "unet",
}

#: How peft's own files begin, which say nothing of the part and keep alpha in another file.
PEFT = "base_model.model."


@dataclass(frozen=True, slots=True)
class Key:
    """`layer` is the file's name of it, without that of its part; `part` is None where the file does not say."""

    part: str | None
    layer: str
    role: Role
    naming: Naming | None  # None of an alpha


def read_key(name: str) -> Key | None:
    """A tensor's name, if it is one of a LoRA."""
    if found := _MATRIX.search(name):
        naming = found.lastgroup
        assert naming is not None
        return Key(*_place(name[: found.start()]), _ROLES[found[naming]], naming)  # type: ignore[arg-type]
    if found := _ALPHA.search(name):
        return Key(*_place(name[: found.start()]), "alpha", None)
    return None


def part_of(name: str) -> str | None:
    """The part of the model that a name begins with."""
    return _place(name)[0]


def _place(stem: str) -> tuple[str | None, str]:
    stem = stem.removeprefix(PEFT).replace(".processor.", ".")  # of diffusers before 0.17
    for prefix, part in _PREFIXES.items():
        if stem.startswith(prefix):
            return part, stem.removeprefix(prefix)
    return None, stem
