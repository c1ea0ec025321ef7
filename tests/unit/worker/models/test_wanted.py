"""Which files of a repository are fetched."""

import pytest

from darkroom.worker.errors import ModelIncompatible, ModelUnsafe
from darkroom.worker.models.families import family
from darkroom.worker.models.pull import wanted_files

SDXL_REPOSITORY = [
    ".gitattributes",
    "LICENSE.md",
    "README.md",
    "comfyui.json",
    "model_index.json",
    "pipeline.py",
    "sd_xl_base_1.0.safetensors",
    "scheduler/scheduler_config.json",
    *(f"text_encoder/{name}" for name in ("config.json", "model.fp16.safetensors", "model.safetensors", "model.onnx")),
    *(f"text_encoder_2/{name}" for name in ("config.json", "model.fp16.safetensors", "pytorch_model.bin")),
    *(
        f"{part}/{name}"
        for part in ("tokenizer", "tokenizer_2")
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "evil.py")
    ),
    *(
        f"unet/{name}"
        for name in (
            "config.json",
            "diffusion_pytorch_model.safetensors",
            "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16.bin",
            "diffusion_pytorch_model.non_ema.safetensors",
        )
    ),
    *(f"vae/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")),
    "vae_1_0/diffusion_pytorch_model.safetensors",
    "safety_checker/model.safetensors",
]


def test_of_a_large_repository_only_what_is_loaded_is_wanted() -> None:
    tokenizers = [name for name in SDXL_REPOSITORY if name.startswith("tokenizer") and not name.endswith(".py")]
    assert sorted(wanted_files(family("sdxl"), SDXL_REPOSITORY, "fp16")) == sorted(
        [
            "LICENSE.md",
            "README.md",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder_2/config.json",
            "text_encoder_2/model.fp16.safetensors",
            *tokenizers,
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]
    )


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        ([name for name in SDXL_REPOSITORY if not name.startswith("vae/")], ModelIncompatible, "no vae"),
        (
            [name.replace("vae/diffusion_pytorch_model.safetensors", "vae/w.bin") for name in SDXL_REPOSITORY],
            ModelUnsafe,
            "w.bin",
        ),
        (["vae/config.json", "tokenizer/vocab.json"], ModelIncompatible, "no tokenizer_2"),
    ],
)
def test_a_repository_that_will_not_do_is_refused_before_the_download(
    names: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        wanted_files(family("sdxl"), names, "fp16")
