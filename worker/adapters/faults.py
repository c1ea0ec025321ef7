"""What is wrong with a LoRA file, all of it at once, and what the file seems to be."""

import re
from collections.abc import Iterable

from darkroom.tasks.adapters import MOST_RANK
from darkroom.worker.adapters.lora_file import FileLayer, LoraFile
from darkroom.worker.adapters.passing import NUMBERS, REAL
from darkroom.worker.errors import AdapterIncompatible

_NAMED, _LONGEST = 3, 120  # names of a fault that are told, and characters of one

#: Other ways to change a model, by the names of their tensors.
_TECHNIQUES = {
    "DoRA is not run": r"\.dora_scale\Z|lora_magnitude_vector",
    "LoHa (Hadamard products) is not run": r"\.hada_",
    "LoKr (Kronecker products) is not run": r"\.lokr_",
    "a matrix in the middle (the Tucker form of LoCon) is not run": r"\.lora_mid\b",
    "changes of whole weights (`diff`) are not run": r"\.diff(?:_b)?(?:\.weight)?\Z",
    "changes of biases are not run": r"\.lora(?:_[AB]|_up|_down|\.up|\.down|_linear_layer\.\w+)(?:\.[^.]+)?\.bias\Z",
    "changes of norms are not run": r"\.[wb]_norm\Z",
    "IA3 is not run": r"\.on_input\Z|\.ia3_l\b|\Alora_(?:unet|te\d?)_[^.]+\.weight\Z",
    "OFT and BOFT are not run": r"[._]b?oft_",
    "GLoRA is not run": r"\.(?:a|b|bm)[12]\.weight\Z",
    "AdaLoRA is not run": r"\.lora_E\b",
    "changes of token embeddings are not run": r"\.lora_embedding_[AB]",
    "embeddings of new words (`bundle_emb`) are not read": r"\Abundle_emb\.",
    "quantized weights are not run": r"\.(?:scale_weight|weight_scale|comfy_quant|absmax|quant_map)\Z|scaled_fp8\Z",
}
_TECHNIQUE = re.compile("|".join(f"({pattern})" for pattern in _TECHNIQUES.values()))

#: Files that are taken for LoRAs, by the names of their tensors.
_OTHERS = {
    "a ControlNet": r"\A(control_model|controlnet_\w+|zero_convs|lllite_\w+|lora_controlnet|input_hint_block)\b",
    "an IP-Adapter": r"\A(ip_adapter|image_proj)\.",
    "a T2I-Adapter": r"\A(adapter\.)?(body|conv_in)\..*block\d?\.",
    "a textual inversion": r"\A(emb_params|clip_[lg]|string_to_param.*|<.*>)\Z",
    "a whole model": r"\A(model\.diffusion_model|cond_stage_model|conditioner)\.",
    "a VAE": r"\A(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|up|down)",
    "a text encoder": r"\A(text_model|transformer\.resblocks)\.",
    "a denoiser": r"\A(down_blocks|mid_block|up_blocks|input_blocks|double_blocks|joint_blocks)\.",
}

_TRANSFORMER = re.compile(
    r"\A(base_model\.model\.)?(transformer\.|lora_transformer_)|(double|single|joint)_blocks|single_transformer_blocks"
)
_HERE = re.compile(
    r"(\A|[._])((down|up|input|output)_blocks|mid(dle)?_block|conv_(in|out)|out[._]2|time_embed(ding)?|add_embedding|"
    r"label_emb|encoder[._]layers|text_projection)([._]|\Z)"
)
_CROSS = re.compile(r"attn2[._]to_[kv]\Z")
_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL", 1280: "SDXL's refiner"}
_WORDS = {
    "Stable Diffusion 1": r"\Asd[_-]?v?1|stable-diffusion-v1",
    "Stable Diffusion 2": r"\Asd[_-]?v?2|stable-diffusion-v2",
    "SDXL": r"sdxl|stable-diffusion-xl|pony|illustrious|noobai",
    "Flux": r"flux",
    "Stable Diffusion 3": r"\Asd[_-]?v?3|stable-diffusion-3",
}
_BASES = ("ss_base_model_version", "modelspec.architecture")


class Faults:
    """Collects what is wrong, by what is wrong."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, what: str, *which: str) -> None:
        """What is wrong, with these names and perhaps others."""
        if which:
            self._found.setdefault(what, []).extend(which)

    def lines(self) -> list[str]:
        """A line for each thing that is wrong, with the first few names and how many more there are."""
        return [f"{what}: {few(which)}" for what, which in self._found.items()]


def few(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..." for name in names[:_NAMED]) + more


def own_faults(file: LoraFile, max_rank: int = MOST_RANK) -> Faults:
    """What no model could do with the file. Raises AdapterIncompatible for one that is no LoRA at all."""
    faults, left, techniques = Faults(), [], list(_TECHNIQUES)
    for name in file.others:
        if found := _TECHNIQUE.search(name):
            faults.add(techniques[(found.lastindex or 1) - 1], repr(name))
        else:
            left.append(name)
    if not faults and not any(layer.down or layer.up for layer in file.layers):
        raise AdapterIncompatible(f"{file.path}: {_instead(left)}")
    faults.add("what is no part of a LoRA", *map(repr, left))
    faults.add("two tensors for one place", *map(repr, file.twice))
    for layer in file.layers:
        _check_tensors(layer, faults, max_rank)
    return faults


def seems_for(file: LoraFile) -> str | None:
    """The family of models that the file seems to be made for, by its metadata, names and widths."""
    said = base_of(file) or ""
    for family, pattern in _WORDS.items():
        if re.search(pattern, said.lower()):
            return family
    if any(_TRANSFORMER.search(tensor.name) for tensor in file.weights.tensors):
        return "a diffusion transformer, such as Flux or Stable Diffusion 3"
    widths = {layer.down.shape[1] for layer in file.layers if _gives_width(layer) and layer.down is not None}
    if len(widths) == 1 and (width := widths.pop()) in _WIDTHS:
        return _WIDTHS[width]
    return "SDXL" if any(layer.part == "text_encoder_2" for layer in file.layers) else None


def of_no_model(file: LoraFile) -> bool:
    """Whether no layer has a name that layers of the models here have, and nothing else tells of the model."""
    return seems_for(file) is None and not any(_HERE.search(layer.name) for layer in file.layers)


def base_of(file: LoraFile) -> str | None:
    """The model that it was trained on, in the words of its metadata."""
    return next((file.metadata[key] for key in _BASES if file.metadata.get(key)), None)


def _gives_width(layer: FileLayer) -> bool:
    return layer.down is not None and len(layer.down.shape) > 1 and bool(_CROSS.search(layer.name))


def _instead(names: list[str]) -> str:
    if not names:
        return "no LoRA: it holds no tensors of layers"
    for what, pattern in _OTHERS.items():
        if any(re.search(pattern, name) for name in names):
            return f"no LoRA: it seems to be {what}"
    return f"no LoRA: it holds {few([repr(name) for name in names])}"


def _check_tensors(layer: FileLayer, faults: Faults, max_rank: int) -> None:
    name = repr(layer.name)
    for tensor in (layer.down, layer.up):
        if tensor is not None and tensor.dtype not in REAL:
            faults.add("quantized, or no numbers of weights", f"{name} ({tensor.dtype})")
    if layer.alpha is not None and (layer.alpha.dtype not in NUMBERS or layer.alpha.parameters != 1):
        faults.add("an alpha that is no number", f"{name} ({layer.alpha.dtype} of shape {_shape(layer.alpha.shape)})")
    if layer.down is None or layer.up is None:
        there = "up" if layer.up is not None else "down" if layer.down is not None else "alpha"
        if there != "alpha" or not faults:  # other techniques have one, too
            faults.add("a layer lacks a matrix", f"{name} (it has {there} alone)")
    elif layer.rank > max_rank:
        faults.add(f"a rank over {max_rank}, the most that an image can have", f"{name} (rank {layer.rank:,})")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"
