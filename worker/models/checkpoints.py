"""Whether one file is a whole model of its family in the key layout of the original releases; if not, what it is."""

import re

from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.models.families import FamilySpec
from darkroom.worker.models.families.inpainting import MASKED, PLAIN
from darkroom.worker.models.weights import WeightsFile

_UNET, _VAE = "model.diffusion_model.", ("first_stage_model.", "vae.")
_SD_TEXT, _SDXL_TEXT = "cond_stage_model.", "conditioner.embedders."

#: Prefixes of all that is loaded from such a file.
LOADED = (_UNET, *_VAE, _SD_TEXT, _SDXL_TEXT)

#: Prefixes, one of each group, by which the parts of a model are known; and the parts that they are.
_PARTS: dict[Family, dict[str, tuple[str, ...]]] = {
    "sd": {"unet": (_UNET,), "vae": _VAE, "text_encoder": (_SD_TEXT,)},
    "sdxl": {
        "unet": (_UNET,),
        "vae": _VAE,
        "text_encoder": (f"{_SDXL_TEXT}0.",),
        "text_encoder_2": (f"{_SDXL_TEXT}1.",),
    },
}
_PARTS["playground"] = _PARTS["sdxl"]
_PARTS["sdxl-refiner"] = {"unet": (_UNET,), "vae": _VAE, "text_encoder_2": (f"{_SDXL_TEXT}0.model.",)}

#: Files that are often taken for models, by the names of their tensors.
_OTHERS = (
    (
        r"lora_(unet|te\d?)_|[._](lora_(down|up|A|B)|hada_w|lokr_w)|\.lora\.",
        "a LoRA: it changes a model and is none",
    ),
    (r"control_model\.|controlnet_|zero_convs\.", "a ControlNet: it guides a model and is none"),
    (r"^(emb_params|clip_[lg]|string_to_param)$", "a textual inversion: an embedding for prompts, no model"),
    (r"ip_adapter\.|image_proj\.", "an IP-Adapter: it guides a model and is none"),
    (
        r"double_blocks\.|joint_blocks\.|double_layers\.",
        "a diffusion transformer, which no family here runs",
    ),
    (r"^(down_blocks|mid_block|up_blocks|encoder|decoder)\.", "one part of a model, not all of it"),
)

_CHANNELS = {
    5: "a depth model (its denoiser takes 5 channels)",
    8: "a model for editing by instruction (its denoiser takes 8 channels)",
}

#: What quantizing programs leave beside the weights.
_QUANTIZED = r"\.(scale_weight|weight_scale|scale_input|comfy_quant|absmax|quant_map)$|^scaled_fp8$|\.quant_state\."


_WHOLE = "name one file with all parts of a model of the entry's `family`: denoiser, text encoders and VAE"


def check_checkpoint(spec: FamilySpec, file: WeightsFile) -> None:
    """Raises ModelIncompatible for a file that is no whole model of the family, and says what it looks like."""
    lacks = [part for part, prefixes in _PARTS[spec.name].items() if not _any_starts(file, prefixes)]
    if lacks:
        raise ModelIncompatible(f"{file.path}: {_looks_like(spec, file, lacks)}", hint=_WHOLE)
    quantized = [name for name in file.names if re.search(_QUANTIZED, name)]
    if quantized:
        raise ModelIncompatible(
            f"{file.path}: quantized weights are not supported ({quantized[0]})", hint="use the fp16 or bf16 weights"
        )
    first = file.tensor(f"{_UNET}input_blocks.0.0.weight")
    channels = first.shape[1] if first and len(first.shape) > 1 else 4
    if channels not in (PLAIN, MASKED):
        known = _CHANNELS.get(channels, f"its denoiser takes {channels} channels")
        raise ModelIncompatible(
            f"{file.path}: {known}; one with {PLAIN} or {MASKED} is needed", hint="use the model's base version"
        )


def _looks_like(spec: FamilySpec, file: WeightsFile, lacks: list[str]) -> str:
    if not _any_starts(file, (_UNET,)):
        found = [what for pattern, what in _OTHERS if any(re.search(pattern, name) for name in file.names)]
        return f"this is {found[0]}" if found else f"it has no weights for the {', '.join(lacks)}"
    if spec.name != "sd" and _any_starts(file, (_SD_TEXT,)):
        return "this is a model of Stable Diffusion 1 or 2, of the family `sd`"
    if _any_starts(file, (f"{_SDXL_TEXT}0.model.",)):
        return "this is SDXL's refiner, of the family `sdxl-refiner`"
    if spec.name in ("sd", "sdxl-refiner") and _any_starts(file, (f"{_SDXL_TEXT}1.",)):
        return "this is a model of SDXL's kind, of the family `sdxl`"
    return f"it has no weights for the {', '.join(lacks)}"


def _any_starts(file: WeightsFile, prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in file.names)
