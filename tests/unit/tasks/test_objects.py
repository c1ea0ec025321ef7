"""Uploading from the producer's side: what its user got wrong is told as a fault of a request."""

import io
from pathlib import Path

import pytest
from PIL import Image

from darkroom.storage.folder import FolderStore
from darkroom.tasks import Fault, InvalidRequest
from darkroom.tasks.objects import upload


def faults(store: FolderStore, picture: str | Path | bytes, tenant: str = "default") -> list[Fault]:
    with pytest.raises(InvalidRequest) as caught:
        upload(store, picture, tenant)
    return caught.value.faults


def test_a_file_that_is_none_and_a_picture_that_is_none(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for picture, code in (("none.png", "input_missing"), ("a\0b", "input_missing"), (b"GIF89a", "input_not_an_image")):
        assert [(fault.field, fault.code) for fault in faults(store, picture)] == [("image", code)]


@pytest.mark.parametrize("tenant", ["", "../x", "a/b", "\ud800"])
def test_a_tenant_that_cannot_be(tmp_path: Path, tenant: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    (fault,) = faults(FolderStore(tmp_path), file.getvalue(), tenant)
    assert (fault.field, fault.code) == ("tenant", "invalid_value")
