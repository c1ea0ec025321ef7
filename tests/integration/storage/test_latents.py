"""Latents as inputs: uploaded, read as pictures are, and told from them by content."""

import json
import struct
from pathlib import Path

import pytest

from darkroom.storage import ObjectStore, StorageSettings
from darkroom.storage.errors import (
    InputCorrupt,
    InputForbidden,
    InputMissing,
    InputNotAnImage,
    InputNotLatents,
    InputTooLarge,
)
from darkroom.storage.inputs import read_input, store_input

OUTPUT = "0197c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/latents-0-0123456789abcdef.safetensors"


def latents(side: int = 2, name: str = "latents") -> bytes:
    size = 4 * side * side * 4
    header = json.dumps({name: {"dtype": "F32", "shape": [1, 4, side, side], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * size


def read(store: ObjectStore, key: str, *, tenant: str = "alice", most: int = 1000, latents: bool = True) -> bytes:
    settings = StorageSettings(input_latents_max_bytes=most, input_max_bytes=500)
    return read_input(
        key, tenant=tenant, store=store, settings=settings, owns_output=lambda _: tenant == "alice", latents=latents
    )


@pytest.mark.parametrize("as_file", [True, False])
def test_an_upload_is_told_from_a_picture_by_content(store: ObjectStore, tmp_path: Path, *, as_file: bool) -> None:
    (tmp_path / "it.png").write_bytes(latents())
    key = store_input(tmp_path / "it.png" if as_file else latents(), tenant="alice", store=store)
    assert key.startswith("inputs/alice/") and key.endswith(".safetensors")
    assert read(store, key) == latents()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (latents(name="embeds"), InputNotLatents),
        (latents()[:-1], InputCorrupt),
        (struct.pack("<Q", 2**40) + latents()[8:], InputCorrupt),
        (latents()[:-4] + struct.pack("<f", float("nan")), InputCorrupt),
        (latents(side=10), InputTooLarge),
    ],
)
def test_an_upload_that_no_worker_would_take(store: ObjectStore, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        store_input(data, tenant="alice", store=store, settings=StorageSettings(input_latents_max_bytes=1000))
    assert list(store.list("")) == []


def test_tenants_and_sizes_as_with_pictures(store: ObjectStore) -> None:
    key = store_input(latents(), tenant="alice", store=store)
    store.put(OUTPUT, latents(side=5), content_type="application/octet-stream")
    assert read(store, OUTPUT) == latents(side=5)
    for one in (key, OUTPUT):
        with pytest.raises(InputForbidden):
            read(store, one, tenant="bob")
        with pytest.raises(InputTooLarge):
            read(store, one, most=100)
    with pytest.raises(InputMissing):
        read(store, "inputs/alice/gone.safetensors")


def test_where_a_picture_is_wanted_latents_are_not_read(store: ObjectStore) -> None:
    key = store_input(latents(), tenant="alice", store=store)
    for one in (key, OUTPUT):
        with pytest.raises(InputNotAnImage):
            read(store, one, latents=False)
