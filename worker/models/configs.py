"""A model's JSON files: read, and refused where they would make a loader run code or open something else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from darkroom.worker.errors import ModelCorrupt, ModelIncompatible, ModelMissing, ModelUnsafe
from darkroom.worker.models.families import FamilySpec

#: Keys that name code to import.
_CODE = ("auto_map", "custom_pipelines")

#: Keys that send a loader to other files than the ones whose digests were checked.
_DETOURS = ("transformers_weights", "fast_tokenizer_files", "base_model_name_or_path")

#: Attention that torch brings. For other values transformers may fetch a kernel from the hub, and run it.
_ATTENTION = (None, False, True, "eager", "sdpa")

_ENCODING = "save it as UTF-8 without a byte order mark, or pull the model again"
_FITTING = "restore the config that belongs to the weights"

_LIBRARIES = ("diffusers", "transformers")


def read_config(path: Path) -> dict[str, Any]:
    """A config without code and detours. Raises ModelMissing, ModelCorrupt, ModelUnsafe or ModelIncompatible."""
    config = read_json(path)
    code = [key for key in _CODE if _holds(config, key)]
    if code:
        raise ModelUnsafe(f"{path}: names code of its own ({code[0]})", hint="use a repository without custom code")
    if _fetches_attention(config):
        raise ModelUnsafe(f"{path}: its attn_implementation is code from elsewhere", hint="take it out of the config")
    detours = [key for key in _DETOURS if key in config]
    if detours:
        raise ModelUnsafe(f"{path}: {detours[0]} points at other files", hint="use a plain copy of the model")
    if "quantization_config" in config:
        raise ModelIncompatible(f"{path}: quantized weights are not supported", hint="use the fp16 or bf16 weights")
    if not re.match(r"\d", str(config.get("_diffusers_version", "0"))):
        raise ModelCorrupt(f"{path}: _diffusers_version is {config['_diffusers_version']!r}, no version", hint=_FITTING)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table. Raises ModelMissing or ModelCorrupt."""
    try:
        parsed = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelCorrupt(f"{path}: not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise ModelCorrupt(f"{path}: not a table")
    return parsed


def read_text(path: Path) -> str:
    """A file of text as the libraries read it: UTF-8 without a byte order mark. Raises ModelMissing or ModelCorrupt."""
    if not path.is_file():  # a FIFO, for one, would hold the reader
        raise ModelMissing(f"{path} is not there" if not path.exists() else f"{path} is no file")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ModelCorrupt(f"{path}: not UTF-8 ({error.reason} at byte {error.start})", hint=_ENCODING) from None
    if text.startswith("\ufeff"):
        raise ModelCorrupt(f"{path}: begins with a byte order mark, which the libraries cannot read", hint=_ENCODING)
    return text


def check_extent(path: Path, config: Any, tensors: int) -> None:
    """Raises ModelIncompatible for a config of more layers than there are tensors: building them might never end."""
    for key, value in config.items() if isinstance(config, dict) else ():
        counts = "layers" in key or key == "num_labels"
        numbers = [number for number in _flat(value) if isinstance(number, int)] if counts else []
        if max([len(value) if isinstance(value, list) else 0, *numbers]) > tensors:
            raise ModelIncompatible(f"{path}: {key} asks for more than its {tensors} tensors can fill", hint=_FITTING)
        check_extent(path, value, tensors)


def read_index(path: Path, spec: FamilySpec) -> dict[str, Any]:
    """`model_index.json`, checked: the family's pipeline and classes, and nothing of the repository's own."""
    index = read_config(path)
    _check_pipeline(path, index.get("_class_name"), spec)
    for name in (*spec.components, "scheduler"):
        _check_part(path, name, index.get(name), spec)
    return index


def check_class(path: Path, config: dict[str, Any], wanted: type[Any]) -> None:
    """The class that a diffusers config names must be the one that the family loads. Raises ModelIncompatible."""
    named = config.get("_class_name", wanted.__name__)
    if named != wanted.__name__:
        raise ModelIncompatible(f"{path}: describes a {named}, the family needs a {wanted.__name__}")


def _check_pipeline(path: Path, named: Any, spec: FamilySpec) -> None:
    if isinstance(named, list):
        raise ModelUnsafe(f"{path}: brings a pipeline of its own", hint="use a repository without custom code")
    fitting = [pipeline.__name__ for pipeline in spec.pipelines.values()]
    if named not in fitting:
        raise ModelIncompatible(f"{path}: made for {named}, not for {fitting[0]} (family {spec.name})")


def _check_part(path: Path, name: str, entry: Any, spec: FamilySpec) -> None:
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(item, str) for item in entry):
        raise ModelIncompatible(f"{path}: has no {name}, which the family {spec.name} needs")
    library, class_name = entry
    if library not in _LIBRARIES:
        raise ModelUnsafe(f"{path}: its {name} is code of its own", hint="use a repository without custom code")
    known = spec.schedulers if name == "scheduler" else (spec.components[name].__name__,)
    if class_name.removesuffix("Fast") not in known:
        wanted = ", ".join(known)
        raise ModelIncompatible(f"{path}: its {name} is a {class_name}; the family {spec.name} takes {wanted}")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _fetches_attention(value: Any) -> bool:
    if isinstance(value, dict):
        named = any("attn_implementation" in key and said not in _ATTENTION for key, said in value.items())
        return named or any(_fetches_attention(item) for item in value.values())
    return isinstance(value, list) and any(_fetches_attention(item) for item in value)


def _holds(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds(item, key) for item in value)
