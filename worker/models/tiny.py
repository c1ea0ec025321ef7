"""Tiny models with random weights and the real structure of each family: for tests, demos and smoke checks."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EDMDPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import darkroom.worker.models.quiet  # noqa: F401  before the libraries' models are imported
from darkroom.tasks.catalogue import Defaults, Family, FolderSource, Limits, ModelEntry
from darkroom.worker.models.tiny_tokenizer import vocabulary_size, write_tokenizer

#: Widths of the text encoders: different ones, as in the real models, since single-file loading tells them by it.
FIRST, SECOND = 32, 48

_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}

_SCHEDULERS: dict[Family, tuple[str, list[str]]] = {
    "sdxl": ("euler", ["euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_sde", "ddim", "ddpm"]),
    "sdxl-refiner": ("euler", ["euler", "euler_a", "dpmpp_2m", "dpmpp_sde", "ddim"]),
    "playground": ("edm_dpmpp_2m", ["edm_dpmpp_2m", "edm_euler"]),
    "sd": ("pndm", ["pndm", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_sde", "ddim"]),
}


_CLASSES: dict[Family, str] = {"sd": "StableDiffusionPipeline", "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline"}


def make_tiny(family: Family, folder: Path, seed: int = 0, size: int = 64, channels: int = 4) -> ModelEntry:
    """Write a model of `family` in the diffusers layout into `folder`; pictures are `size` pixels a side by default.

    With 9 `channels` it is an inpainting model. The weights follow from `seed` alone and the global generator stays
    as it was. Takes about a second.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = _sd_parts(channels) if family == "sd" else _sdxl_parts(family, channels)
        for name, part in parts.items():
            part.save_pretrained(folder / name, safe_serialization=True)
    _write_tokenizers(family, folder)
    _write_index(family, folder, parts)
    entry = tiny_entry(family, folder, size)
    return entry if channels == 4 else entry.model_copy(update={"name": f"{entry.name}-inpainting"})


def tiny_entry(family: Family, folder: Path, size: int = 64) -> ModelEntry:
    """The catalogue entry of a model that `make_tiny` wrote into `folder`."""
    scheduler, fitting = _SCHEDULERS[family]
    return ModelEntry(
        name=f"tiny-{family}",
        family=family,
        source=FolderSource(path=folder),
        defaults=Defaults(width=size, height=size, num_inference_steps=4, guidance_scale=5.0, scheduler=scheduler),
        limits=Limits(min_side=32, max_side=512, max_pixels=512 * 512),
        schedulers=fitting,
        description=f"random weights in the structure of {family}: no pictures of anything",
    )


def _sdxl_parts(family: Family, channels: int) -> dict[str, Any]:
    second = text_config(SECOND, vocabulary_size(), "gelu")
    sizes = 5 if family == "sdxl-refiner" else 6
    first = {} if family == "sdxl-refiner" else {"text_encoder": text_config(FIRST, vocabulary_size(), "quick_gelu")}
    return {
        **{name: CLIPTextModel(config) for name, config in first.items()},
        "text_encoder_2": CLIPTextModelWithProjection(second),
        "unet": _unet(
            channels,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32, 32),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(2, 4, 4),
            cross_attention_dim=SECOND if family == "sdxl-refiner" else FIRST + SECOND,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=SECOND + sizes * 8,  # pooled text, and these
        ),
        "vae": _playground_vae() if family == "playground" else _vae(scaling_factor=0.13025, force_upcast=True),
        "scheduler": _edm_scheduler() if family == "playground" else _euler_scheduler(),
    }


def _sd_parts(channels: int) -> dict[str, Any]:
    return {
        "text_encoder": CLIPTextModel(text_config(FIRST, vocabulary_size(), "quick_gelu")),
        "unet": _unet(
            channels,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 32, 32, 32),
            attention_head_dim=4,
            cross_attention_dim=FIRST,
        ),
        "vae": _vae(scaling_factor=0.18215),
        "scheduler": PNDMScheduler(**_DIFFUSION, skip_prk_steps=True, set_alpha_to_one=False),
    }


def _unet(channels: int, **config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, layers_per_block=1, norm_num_groups=8, **config
    )


def _vae(**config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(8, 16, 16, 16),  # four blocks: eight pixels a latent, as in the real ones
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        **config,
    )


def _playground_vae() -> AutoencoderKL:
    return _vae(
        scaling_factor=0.5,
        force_upcast=True,
        latents_mean=[-1.6574, 1.886, -1.383, 2.5155],
        latents_std=[8.4927, 5.9022, 6.5498, 5.2299],
    )


def text_config(width: int, vocabulary: int, activation: str) -> CLIPTextConfig:
    """A text encoder `width` wide over so many tokens, of which the last is the end of the text."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,  # the real id: with 2, transformers pools at the largest id instead
        pad_token_id=vocabulary - 1,
    )


def _euler_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(**_DIFFUSION, timestep_spacing="leading")


def _edm_scheduler() -> EDMDPMSolverMultistepScheduler:
    return EDMDPMSolverMultistepScheduler(
        sigma_min=0.002,
        sigma_max=80.0,
        sigma_data=0.5,
        rho=7.0,
        solver_order=2,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )


def _write_tokenizers(family: Family, folder: Path) -> None:
    if family != "sdxl-refiner":
        write_tokenizer(folder / "tokenizer")
    if family != "sd":
        write_tokenizer(folder / "tokenizer_2", pad="!")  # as the real one: id 0


def _write_index(family: Family, folder: Path, parts: dict[str, Any]) -> None:
    tokenizers = {"sd": ["tokenizer"], "sdxl-refiner": ["tokenizer_2"]}.get(family, ["tokenizer", "tokenizer_2"])
    index: dict[str, Any] = {
        "_class_name": _CLASSES.get(family, "StableDiffusionXLPipeline"),
        **{name: _origin(parts.get(name)) for name in sorted([*parts, *tokenizers])},
    }
    if family == "sdxl-refiner":  # as the real one
        index |= {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}
    if family != "sd":
        index["force_zeros_for_empty_prompt"] = family != "sdxl-refiner"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _origin(part: Any) -> list[str]:
    if part is None:
        return ["transformers", "CLIPTokenizer"]
    return [type(part).__module__.partition(".")[0], type(part).__name__]
