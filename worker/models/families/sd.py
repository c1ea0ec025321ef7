"""Stable Diffusion 1.x and 2.x: one text encoder. What tells 2.x apart (v-prediction, OpenCLIP's text encoder,
attention in float32) comes with the model's own configs.
"""

from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from darkroom.worker.models.families.base import Components, FamilySpec, require, require_channels
from darkroom.worker.models.families.inpainting import SdInpaintPipeline
from darkroom.worker.models.families.schedules import DIFFUSION_SCHEDULERS


def check(components: Components) -> None:
    """Raises ModelIncompatible for a model that is none of this family."""
    unet, width = components["unet"].config, components["text_encoder"].config.hidden_size
    require(
        unet.cross_attention_dim == width,
        "sd",
        f"the denoiser reads embeddings {unet.cross_attention_dim} wide, the text encoder gives {width}",
    )
    require(unet.addition_embed_type is None, "sd", "its denoiser takes SDXL's size conditioning")
    require_channels(components, "sd")


SD = FamilySpec(
    name="sd",
    components={
        "tokenizer": CLIPTokenizer,
        "text_encoder": CLIPTextModel,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
    },
    schedulers=DIFFUSION_SCHEDULERS,
    pipelines={
        "txt2img": StableDiffusionPipeline,
        "img2img": StableDiffusionImg2ImgPipeline,
        "inpaint": SdInpaintPipeline,
    },
    options=(),
    fixed={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    upcasts_vae=False,
    normalises_latents=False,
    check=check,
)
