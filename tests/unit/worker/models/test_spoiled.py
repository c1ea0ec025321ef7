"""Every fault of a model's files is found before the first job, and names the file."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.tasks.catalogue import ModelEntry
from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import ModelCorrupt, ModelError, ModelIncompatible, ModelMissing, ModelUnsafe
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import WorkerSettings
from tests.unit.worker.conftest import make
from tests.unit.worker.models.conftest import Copied

Spoil = Callable[[Path], object]
Serve = Callable[[ModelEntry], Generator]

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER, VOCABULARY = (
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
)
PYTORCH = "diffusion_pytorch_model"
CONV = f"unet/{PYTORCH}.safetensors"

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def serve(engine: Engine, placement: Placement, settings: WorkerSettings) -> Serve:
    """What a worker does with a model before it takes jobs."""

    def start(entry: ModelEntry) -> Generator:
        generator = Generator(load_model(entry, placement, settings), engine)
        warm(generator, 0.0)
        return generator

    return start


def says(**keys: Any) -> Spoil:
    """Changes keys of a JSON file; ... takes one out."""

    def change(path: Path) -> None:
        table = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({key: value for key, value in table.items() if value is not ...}))

    return change


def holds(data: bytes) -> Spoil:
    return lambda path: path.write_bytes(data)


def recoded(encoding: str) -> Spoil:
    return lambda path: path.write_bytes(path.read_text("utf-8").encode(encoding))


def is_instead(make: Spoil) -> Spoil:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def weights(change: Callable[[torch.Tensor], torch.Tensor], name: str = "conv_in.weight") -> Spoil:
    def rewrite(path: Path) -> None:
        tensors = load_file(path)
        save_file({**tensors, name: change(tensors[name])}, path, metadata={"format": "pt"})

    return rewrite


def with_nan(tensor: torch.Tensor) -> torch.Tensor:
    broken = tensor.clone()
    broken.view(-1)[-1] = torch.nan
    return broken


@pytest.mark.parametrize(
    ("file", "spoil", "error", "said"),
    [
        (UNET, recoded("utf-8-sig"), ModelCorrupt, "a byte order mark"),
        ("model_index.json", recoded("utf-16"), ModelCorrupt, "not UTF-8"),
        (VOCABULARY, recoded("utf-8-sig"), ModelCorrupt, "a byte order mark"),
        ("tokenizer/merges.txt", holds(b"#version: 0.2\ncaf\xe9 x\n"), ModelCorrupt, "not UTF-8"),
        ("tokenizer/special_tokens_map.json", holds(b"[]"), ModelCorrupt, "not a table"),
        (SCHEDULER, is_instead(os.mkfifo), ModelMissing, "is no file"),
        (VAE, is_instead(Path.mkdir), ModelMissing, "is no file"),
        (TEXT, is_instead(lambda path: path.symlink_to("nowhere")), ModelMissing, "is not there"),
        (VOCABULARY, Path.unlink, ModelMissing, "is not there"),
        (UNET, says(layers_per_block=10**9), ModelIncompatible, "layers_per_block asks for more"),
        (UNET, says(transformer_layers_per_block=[1, [10**9], 1, 1]), ModelIncompatible, "asks for more"),
        (TEXT, says(num_hidden_layers=10**12), ModelIncompatible, "num_hidden_layers asks for more"),
        (TEXT, says(num_labels=10**9), ModelIncompatible, "num_labels asks for more"),
        (TEXT, says(attn_implementation="some/kernel"), ModelUnsafe, "code from elsewhere"),
        (TEXT, says(_attn_implementation={"": "flash_attention_2"}), ModelUnsafe, "code from elsewhere"),
        (TEXT, says(_attn_implementation_autoset=True, attn_implementation="eager"), None, ""),
        (TEXT, says(hidden_size=30), ModelIncompatible, "not a multiple"),
        (TEXT, says(num_attention_heads=0), ModelIncompatible, "zero"),
        (TEXT, says(vocab_size=7), ModelIncompatible, "other shapes"),
        (TEXT, says(hidden_act="swoosh"), ModelIncompatible, "swoosh"),
        (UNET, says(cross_attention_dim=40), ModelIncompatible, r"other shapes .*\[16, 40\]"),
        (UNET, says(norm_num_groups=7), ModelIncompatible, "num_groups"),
        (UNET, says(attention_head_dim=0), ModelIncompatible, "zero"),
        (UNET, says(act_fn=[]), ModelIncompatible, "list"),
        (VAE, says(latent_channels=2**20), ModelIncompatible, "weights where"),
        (TEXT, says(intermediate_size=10**30), ModelIncompatible, "Overflow"),
        (VAE, says(scaling_factor=0), ModelIncompatible, "scaling_factor is 0"),
        (VAE, says(scaling_factor=float("nan")), ModelIncompatible, "scaling_factor is nan"),
        (VAE, says(scaling_factor=None), ModelIncompatible, "scaling_factor is None"),
        (VAE, says(latents_std=[1.0, 0.0, 1.0, 1.0]), ModelIncompatible, "latents_std"),
        (SCHEDULER, says(prediction_type="flow_prediction"), ModelIncompatible, "flow_prediction"),
        (SCHEDULER, says(num_train_timesteps=10), ModelIncompatible, "200"),
        (SCHEDULER, says(num_train_timesteps=10**10), ModelIncompatible, "num_train_timesteps is 10000000000"),
        (SCHEDULER, says(num_train_timesteps="1000"), ModelIncompatible, "num_train_timesteps is '1000'"),
        (SCHEDULER, says(beta_end="x"), ModelIncompatible, "str"),
        (SCHEDULER, says(beta_start=float("nan")), ModelIncompatible, "pndm gives numbers that are none"),
        (TOKENIZER, says(model_max_length=-1), ModelIncompatible, "model_max_length is -1"),
        (TOKENIZER, says(model_max_length=2), ModelIncompatible, "model_max_length is 2"),
        (TOKENIZER, says(model_max_length="many"), ModelIncompatible, "str"),
        ("tokenizer/merges.txt", holds(b"#version: 0.2\no f</w>\n"), ModelCorrupt, "makes 3 of the vocabulary's"),
        (VOCABULARY, holds(b"{}"), ModelIncompatible, "out of vocabulary"),
        (VOCABULARY, says(**{"<|endoftext|>": 10**6}), ModelIncompatible, "of which the text encoder knows"),
        (VOCABULARY, holds(b'{"a": -1}'), ModelIncompatible, "Bad vocabulary"),
        (CONV, weights(with_nan), ModelCorrupt, "conv_in.weight holds numbers that are none"),
        (CONV, is_instead(os.mkfifo), ModelMissing, "is not there"),
        (CONV, weights(torch.Tensor.int), ModelIncompatible, "'conv_in.weight' holds I32"),
        (CONV, weights(torch.Tensor.flatten), ModelIncompatible, "other shapes"),
        (CONV, holds((80_000_000).to_bytes(8, "little") + b" " * 80_000_000), ModelCorrupt, "a header of 80000000"),
        (UNET, says(_diffusers_version="x"), ModelCorrupt, "'x', no version"),
        (UNET, says(_diffusers_version="1.x"), ModelIncompatible, "a config of a part"),
        (UNET, says(_diffusers_version="0.8.0", sample_size="x"), ModelIncompatible, "str"),
        ("model_index.json", says(force_zeros_for_empty_prompt=[]), None, ""),
        (TOKENIZER, says(model_max_length=...), None, ""),
        (TOKENIZER, says(model_max_length=10**30), None, ""),
        (SCHEDULER, says(lambda_min_clipped=float("-inf")), None, ""),
    ],
)
def test_it_is_named_or_makes_pictures(
    copied: Copied, serve: Serve, tmp_path: Path, file: str, spoil: Spoil, error: type[ModelError] | None, said: str
) -> None:
    entry = copied("sd")
    spoil(tmp_path / "model" / file)
    if error is None:
        make(serve(entry), prompt="a cat, " * 100)
        return
    with pytest.raises(error, match=said) as caught:
        serve(entry)
    named = caught.value.message
    assert (
        file in named
        or "a config of a part" in said
        or (file.partition("/")[0] in named and (Path(file).name in named or file == CONV))
    )


def test_a_prompt_is_cut_where_the_text_encoder_ends_whatever_the_tokenizer_says(
    copied: Copied, serve: Serve, tmp_path: Path
) -> None:
    entry = copied("sd")
    says(model_max_length=...)(tmp_path / "model" / TOKENIZER)
    assert serve(entry).model.components["tokenizer"].model_max_length == 77


@pytest.mark.parametrize(
    ("part", "stem", "index", "shard"),
    [
        ("unet", PYTORCH, "{stem}.safetensors.index.fp16.json", "{stem}.fp16-0000{n}-of-00002.safetensors"),
        ("unet", PYTORCH, "{stem}.fp16.safetensors.index.json", "{stem}.fp16-0000{n}-of-00002.safetensors"),
        ("unet", PYTORCH, "{stem}.safetensors.fp16.index.json", "{stem}-0000{n}-of-00002.fp16.safetensors"),
        ("text_encoder", "model", "{stem}.fp16.safetensors.index.json", "{stem}.fp16-0000{n}-of-00002.safetensors"),
    ],
)
def test_shards_of_a_variant_alone_are_found_however_they_are_called(
    copied: Copied,
    placement: Placement,
    settings: WorkerSettings,
    tmp_path: Path,
    part: str,
    stem: str,
    index: str,
    shard: str,
) -> None:
    entry, folder = copied("sd"), tmp_path / "model" / part
    tensors = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    named = [shard.format(stem=stem, n=n) for n in (1, 2)]
    places = {name: named[i % 2] for i, name in enumerate(sorted(tensors))}
    for file in named:
        held = {name: tensors[name] for name, place in places.items() if place == file}
        save_file(held, folder / file, metadata={"format": "pt"})
    (folder / index.format(stem=stem)).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    model = load_model(entry, placement, settings)
    assert {f"{part}/{name}" for name in (*named, index.format(stem=stem))} <= model.digests.keys()
    found = model.components[part].state_dict()
    assert all(torch.equal(found[name.removeprefix("text_model.")], tensor) for name, tensor in tensors.items())
