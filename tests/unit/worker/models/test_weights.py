"""Headers of safetensors files, honest and hostile."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from darkroom.worker.errors import ModelCorrupt
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.sources import inspect_model
from darkroom.worker.models.weights import inspect_weights
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def tensor(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_tells_names_shapes_and_sums(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16), "c": torch.tensor(1.0)}
    save_file(tensors, path, metadata={"format": "pt"})
    found = inspect_weights(path)
    assert {(info.name, info.dtype, info.shape, info.bytes) for info in found.tensors} == {
        ("a", "F32", (2, 3), 24),
        ("b", "BF16", (4,), 8),
        ("c", "F32", (), 4),
    }
    assert found.parameters == 11
    assert found.dtypes == {"F32": 7, "BF16": 4}
    assert found.metadata == {"format": "pt"}
    assert found.bytes == path.stat().st_size


def test_counts_what_the_library_loads(tiny_models: TinyModels, settings: WorkerSettings, placement: Placement) -> None:
    entry = tiny_models("sdxl")
    headers = inspect_model(entry, settings)
    model = load_model(entry, placement, settings)
    assert len(headers) == len(model.family.modules)
    for name, found in headers.items():
        part = model.components[name.partition("/")[0]]
        assert found.parameters == sum(parameter.numel() for parameter in part.parameters())


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        ({"a": tensor(0, 8)}, b"1234", "truncated, 4 bytes"),
        ({"a": tensor(0, 4)}, b"12345678", "4 bytes follow"),
        ({"a": tensor(0, 8), "b": tensor(4, 12)}, b"1" * 12, "overlaps"),
        ({"a": tensor(4, 8)}, b"1" * 8, "overlaps another one or leaves a gap"),
        ({"a": tensor(0, 8, shape=[3])}, b"1" * 8, "do not agree"),
        ({"a": tensor(0, 8, shape=[-2])}, b"1" * 8, "do not agree"),
        ({"a": tensor(0, 8, shape=[True, 2])}, b"1" * 8, "do not agree"),
        ({"a": tensor(0, 8, shape=["2"])}, b"1" * 8, "described wrongly"),
        ({"a": tensor(0, 8, dtype="F99")}, b"1" * 8, "dtypes are F64"),
        ({"a": {**tensor(0, 8), "data_offsets": [0]}}, b"1" * 8, "two offsets are what it needs"),
        ({"a": tensor(0, 8, dtype=[])}, b"1" * 8, "described wrongly"),
        ({"a": {"dtype": "F32"}}, b"", "described wrongly"),
        ({"a": 7}, b"", "described wrongly"),
        ({"__metadata__": {"a": 1}}, b"", "metadata"),
        ([1], b"", "not a table"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"[" * 100_000, b"", "not JSON"),
        (b"{" + b" " * 50, b"", "not JSON"),
        (b"\xff\xfe", b"", "not JSON"),
    ],
)
def test_refuses_what_does_not_add_up(tmp_path: Path, header: Any, data: bytes, said: str) -> None:
    with pytest.raises(ModelCorrupt, match=said):
        inspect_weights(write(tmp_path / "w.safetensors", header, data))


def test_refuses_an_absurd_header_without_reading_it(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {}, length=2**62)
    with pytest.raises(ModelCorrupt, match="not a safetensors file"):
        inspect_weights(path)


def test_refuses_a_pickle_under_a_false_name(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ModelCorrupt, match="not a safetensors file"):
        inspect_weights(path)


def test_knows_a_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    with pytest.raises(ModelCorrupt, match="git-lfs pointer") as caught:
        inspect_weights(path)
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize("left", [0, 5, 8, 40])
def test_names_a_file_cut_off_in_its_header(tmp_path: Path, left: int) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ModelCorrupt, match="truncated"):
        inspect_weights(path)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_answer_or_the_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(ModelCorrupt):
        assert inspect_weights(path).bytes == len(data)
