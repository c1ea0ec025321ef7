"""The parts of the model, small, in SDXL's structure: 16x16 latents of 128x128 pixels."""

from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from darkroom.worker.models.tiny import text_config
from ops.starter.scenes import SIDE

#: Widths of the two text encoders.
FIRST, SECOND = 96, 128
_TIME = 32  # width of each of the six sizes' embeddings


def make_vae() -> AutoencoderKL:
    """8x compression to four channels."""
    return AutoencoderKL(
        sample_size=SIDE,
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=1.0,  # the last stage of its training makes every channel of unit variance
        force_upcast=False,
    )


def make_encoders(vocabulary: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """CLIP's text encoders over a vocabulary whose last token is the end of the text, the one before its start."""
    first = CLIPTextModel(text_config(FIRST, vocabulary, "quick_gelu"))
    return first, CLIPTextModelWithProjection(text_config(SECOND, vocabulary, "gelu"))


def make_unet() -> UNet2DConditionModel:
    """SDXL's arrangement: no attention at the top, cross-attention in the two levels below."""
    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        norm_num_groups=16,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),  # heads, as in SDXL's own config
        cross_attention_dim=FIRST + SECOND,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",  # so small a denoiser hears the pooled text better so
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME,
        projection_class_embeddings_input_dim=SECOND + 6 * _TIME,
    )


def make_scheduler() -> EulerDiscreteScheduler:
    """SDXL's, with more noise at the end and v-prediction.

    Sixteen latents a side say together what a colour is, through much more noise than a large picture's do: with
    SDXL's own last beta the background would show through at the first step, and pure noise would be misread.
    """
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )
