"""How the files of weights are called, whole and in shards, plain and as a variant such as fp16."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from darkroom.worker.errors import ModelCorrupt, ModelMissing, ModelUnsafe
from darkroom.worker.models.configs import read_json
from darkroom.worker.models.families import FamilySpec

#: Formats that unpickle, and so can run code when they are loaded.
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")

_SHARD = r"-\d{5}-of-\d{5}"


def weight_stem(spec: FamilySpec, name: str) -> str:
    """The libraries' file name of the weights of a part."""
    return "diffusion_pytorch_model" if of_diffusers(spec.components[name]) else "model"


def of_diffusers(component: type[Any]) -> bool:
    """Whether diffusers loads it; else transformers does."""
    return component.__module__.startswith("diffusers")


def weight_pattern(stem: str, variant: str | None) -> re.Pattern[str]:
    """Names of whole files, of shards, and of their index (`is_index`), in all forms that were ever written.

    The variant stands before or after the shard's number, and in one of three places in the index's name.
    """
    stem = re.escape(stem)
    if variant is None:
        return re.compile(rf"{stem}({_SHARD})?\.safetensors|{stem}\.safetensors\.index\.json")
    name = re.escape(variant)
    index = rf"{stem}\.(safetensors\.index\.{name}|safetensors\.{name}\.index|{name}\.safetensors\.index)\.json"
    return re.compile(rf"{stem}(\.{name}({_SHARD})?|{_SHARD}\.{name})\.safetensors|{index}")


def find_weights(folder: Path, stem: str, variant: str | None) -> tuple[str | None, list[str]]:
    """The variant that is there, the one asked for or else the only one, and its files: index first, then weights.

    Raises ModelMissing or ModelUnsafe.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for tried in dict.fromkeys((variant, None, _only_variant(names, stem))):
        found = [name for name in names if weight_pattern(stem, tried).fullmatch(name)]
        heads = [name for name in found if is_index(name) or not re.search(_SHARD, name)]
        if heads:
            shards = [shard for name in heads if is_index(name) for shard in _shards(folder / name)]
            return tried, list(dict.fromkeys([*heads, *shards]))
    pickled = sorted(name for name in names if name.endswith(PICKLES))
    if pickled:
        raise ModelUnsafe(f"{folder}: {pickled[0]} can run code when loaded, and there is no {stem}.safetensors")
    shards = [name for name in names if name.startswith(stem) and re.search(rf"{_SHARD}.*\.safetensors$", name)]
    if shards:
        raise ModelMissing(f"{folder}: {shards[0]} is a shard, and the index that lists the shards is not there")
    raise ModelMissing(f"{folder / stem}.safetensors is not there")


def is_index(name: str) -> bool:
    """Whether a file of weights lists shards instead of holding tensors."""
    return name.endswith(".json")


@contextmanager
def plainly_named(folder: Path, names: list[str], stem: str) -> Iterator[Path]:
    """A folder of links with the config and these weights, under the names that the libraries look for first.

    Of a variant's index each library knows some of the names, and diffusers fewer where a folder has a dot in its own.
    """
    with TemporaryDirectory(prefix="darkroom-") as temporary:
        for name in ("config.json", *names):
            plain = f"{stem}.safetensors.index.json" if name != "config.json" and is_index(name) else name
            if plain == name and name != "config.json" and not re.search(_SHARD, name):
                plain = f"{stem}.safetensors"
            link = Path(temporary, plain)
            if not link.is_symlink():  # an index under two names
                link.symlink_to((folder / name).absolute())
        yield Path(temporary)


def _only_variant(names: list[str], stem: str) -> str | None:
    """The variant of a folder that has nothing else, as when only the fp16 files were copied."""
    form = rf"{re.escape(stem)}(\.(?P<before>\w+?)({_SHARD})?|{_SHARD}\.(?P<after>\w+))\.safetensors"
    found = [re.fullmatch(form, name) for name in names]
    variants = {one["before"] or one["after"] for one in found if one}
    return variants.pop() if len(variants) == 1 else None


def _shards(index: Path) -> list[str]:
    content = read_json(index)
    if not isinstance(content.get("metadata"), dict):  # which the libraries read without asking
        raise ModelCorrupt(f"{index}: has no table `metadata`", hint='add `"metadata": {}`, or pull the model again')
    table = content.get("weight_map")
    named = list(table.values()) if isinstance(table, dict) else []
    if not named or not all(isinstance(shard, str) and Path(shard).name == shard for shard in named):
        raise ModelUnsafe(f"{index}: its shards are not files beside it")
    shards = sorted(set(named))
    absent = [shard for shard in shards if not (index.parent / shard).is_file()]
    if absent:
        raise ModelMissing(f"{index.parent / absent[0]} is not there")
    unsafe = [shard for shard in shards if not shard.endswith(".safetensors")]
    if unsafe:
        raise ModelUnsafe(f"{index}: {unsafe[0]} is no .safetensors file")
    return shards
