"""Stable Diffusion XL: two text encoders whose penultimate states are joined, size conditioning, a VAE that
overflows in float16.
"""

from typing import Any

from diffusers import (
    AutoencoderKL,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from darkroom.worker.models.families.base import Components, FamilySpec, require, require_channels
from darkroom.worker.models.families.inpainting import SdxlInpaintPipeline
from darkroom.worker.models.families.schedules import DIFFUSION_SCHEDULERS

COMPONENTS: dict[str, type[Any]] = {
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}


def check_architecture(components: Components, name: Any) -> None:
    """The parts fit one another: text conditioning of SDXL's kind, and widths that add up."""
    unet, first, second = (components[part].config for part in ("unet", "text_encoder", "text_encoder_2"))
    require(unet.addition_embed_type == "text_time", name, "its denoiser takes no size conditioning")
    width = first.hidden_size + second.hidden_size
    require(
        unet.cross_attention_dim == width,
        name,
        f"the denoiser reads embeddings {unet.cross_attention_dim} wide, the text encoders give {width}",
    )
    require_channels(components, name)


def check(components: Components) -> None:
    """Raises ModelIncompatible for a model that is none of this family."""
    check_architecture(components, "sdxl")


SDXL = FamilySpec(
    name="sdxl",
    components=COMPONENTS,
    schedulers=DIFFUSION_SCHEDULERS,
    pipelines={
        "txt2img": StableDiffusionXLPipeline,
        "img2img": StableDiffusionXLImg2ImgPipeline,
        "inpaint": SdxlInpaintPipeline,
    },
    options=("force_zeros_for_empty_prompt",),
    fixed={"add_watermarker": False},  # else it depends on whether a package happens to be installed
    upcasts_vae=True,
    normalises_latents=True,
    check=check,
    read_layer=2,
)
