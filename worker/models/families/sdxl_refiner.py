"""SDXL's refiner: img2img at little noise. One text encoder, the second of SDXL; an aesthetic score in place of the
target's size among what its denoiser is told (Podell et al., arXiv:2307.01952, 2.5 and appendix).
"""

from dataclasses import replace

from diffusers import StableDiffusionXLImg2ImgPipeline

from darkroom.worker.models.families.base import Components, require
from darkroom.worker.models.families.sdxl import COMPONENTS, SDXL

SIZES = 5  # numbers that the denoiser is told: the original size, the crop's corner, the score


def check(components: Components) -> None:
    """Raises ModelIncompatible for a model that is none of this family."""
    unet, text = components["unet"].config, components["text_encoder_2"].config
    name = SDXL_REFINER.name
    require(unet.addition_embed_type == "text_time", name, "its denoiser takes no size conditioning")
    require(
        unet.cross_attention_dim == text.hidden_size,
        name,
        f"the denoiser reads embeddings {unet.cross_attention_dim} wide, the text encoder gives {text.hidden_size}",
    )
    told = text.projection_dim + SIZES * unet.addition_time_embed_dim
    require(unet.projection_class_embeddings_input_dim == told, name, "its denoiser is not told an aesthetic score")
    require(unet.in_channels == 4, name, f"the denoiser takes {unet.in_channels} channels, 4 are needed")


SDXL_REFINER = replace(
    SDXL,
    name="sdxl-refiner",
    works_on="sdxl",
    components={name: part for name, part in COMPONENTS.items() if name not in ("tokenizer", "text_encoder")},
    pipelines={"img2img": StableDiffusionXLImg2ImgPipeline},
    fixed={**SDXL.fixed, "tokenizer": None, "text_encoder": None, "requires_aesthetics_score": True},
    check=check,
)
