"""Input images on both stores: whose they are, where they come from, and how large they may be."""

import base64
import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from darkroom.storage import ObjectStore, StorageSettings, errors
from darkroom.storage.images import open_picture
from darkroom.storage.inputs import read_file, read_input, store_input

SETTINGS = StorageSettings(input_max_bytes=10_000, input_data_url_max_bytes=1000)
DIGEST = "0123456789abcdef"
Read = Callable[[str], bytes]


def picture(picture_format: str = "PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(file, picture_format)
    return file.getvalue()


@pytest.fixture
def read(store: ObjectStore) -> Read:
    """Reads as the tenant `me`, who owns the job `my-job`."""

    def reader(reference: str) -> bytes:
        return read_input(
            reference,
            tenant="me",
            store=store,
            settings=SETTINGS,
            owns_output=lambda job: job == "my-job",
            fetch=lambda url: f"fetched {url}".encode(),
        )

    return reader


def put(store: ObjectStore, key: str, data: bytes = b"picture") -> None:
    store.put(key, data, content_type="image/png")


def test_own_input(store: ObjectStore, read: Read) -> None:
    put(store, "inputs/me/holiday photo.png")
    assert read("inputs/me/holiday photo.png") == b"picture"


def test_own_output(store: ObjectStore, read: Read) -> None:
    put(store, f"my-job/0-{DIGEST}.webp")
    assert read(f"my-job/0-{DIGEST}.webp") == b"picture"


@pytest.mark.parametrize(
    "key",
    [
        "inputs/you/photo.png",  # another tenant
        "inputs/me2/photo.png",  # one whose name begins alike
        "inputs/ME/photo.png",
        "inputs/me",
        f"your-job/0-{DIGEST}.png",  # another tenant's job
        "my-job/manifest.json",  # of the right job, but no picture
        f"my-job/x/0-{DIGEST}.png",
        f"inputs/0-{DIGEST}.png",
    ],
)
def test_keys_of_others(store: ObjectStore, read: Read, key: str) -> None:
    put(store, key)
    with pytest.raises(errors.InputForbidden, match="tenant me"):
        read(key)


@pytest.mark.parametrize("key", ["inputs/me/../you/photo.png", "/inputs/me/x.png", "inputs/me//x", "", "inputs/me/\0"])
def test_keys_that_go_astray(read: Read, key: str) -> None:
    with pytest.raises(errors.InputReferenceInvalid):
        read(key)


def test_files_of_own_jobs(store: ObjectStore, read: Read) -> None:
    def reader(key: str, most: int = 10) -> bytes:
        return read_file(key, tenant="me", store=store, max_bytes=most, owns_output=lambda job: job == "my-job")

    latents, sheet = f"my-job/latents-2-{DIGEST}.safetensors", f"my-job/sheet-{DIGEST}.png"
    for key in (latents, sheet, latents.replace("my-job", "your-job")):
        put(store, key)
    assert reader(latents) == reader(sheet) == read(sheet) == b"picture"
    with pytest.raises(errors.InputTooLarge, match="7 bytes"):
        reader(latents, most=6)
    for stranger in (latents.replace("my-job", "your-job"), f"my-job/manifest-{DIGEST}.json", "inputs/you/x"):
        with pytest.raises(errors.InputForbidden):
            reader(stranger)
    with pytest.raises(errors.InputMissing):
        reader(latents.replace("-2-", "-3-"))
    with pytest.raises(errors.InputReferenceInvalid):
        reader("my-job/../x")
    with pytest.raises(errors.InputNotAnImage, match="file of another kind"):
        read(latents)


def test_a_tenants_name_is_no_path(store: ObjectStore) -> None:
    put(store, "inputs/you/x.png")
    for tenant in ("../you", "", ".", "you/", "y" * 65):
        with pytest.raises(errors.KeyInvalid, match="no tenant's name"):
            read_input("inputs/you/x.png", tenant=tenant, store=store, settings=SETTINGS, owns_output=lambda _: False)


def test_missing(read: Read) -> None:
    with pytest.raises(errors.InputMissing, match=r"inputs/me/gone\.png"):
        read("inputs/me/gone.png")


def test_too_large_in_the_store(store: ObjectStore, read: Read) -> None:
    put(store, "inputs/me/large.png", bytes(10_001))
    with pytest.raises(errors.InputTooLarge, match="10001 bytes"):
        read("inputs/me/large.png")


def test_data_url(read: Read) -> None:
    encoded = base64.b64encode(b"picture").decode()
    assert read(f"data:image/png;base64,{encoded}") == b"picture"
    # The media type is not believed either way.
    assert read(f"DATA:text/html;charset=utf-8;Base64,{encoded}") == b"picture"


def test_data_url_at_the_limit(read: Read) -> None:
    for size in (998, 999, 1000):
        assert len(read(f"data:;base64,{base64.b64encode(bytes(size)).decode()}")) == size
    for size in (1001, 1002, 100_000):
        with pytest.raises(errors.InputTooLarge, match="1000 bytes"):
            read(f"data:;base64,{base64.b64encode(bytes(size)).decode()}")


@pytest.mark.parametrize(
    "url", ["data:", "data:,hi", "data:image/png,%89PNG", "data:;base64,a", "data:;base64,a%3D", "data:;base64,äöü="]
)
def test_data_url_that_is_not_base64(read: Read, url: str) -> None:
    with pytest.raises(errors.InputReferenceInvalid, match="not base64"):
        read(url)


def test_https_url_is_fetched(read: Read) -> None:
    assert read("HTTPS://pictures.test/x?y#z") == b"fetched HTTPS://pictures.test/x?y#z"


@pytest.mark.parametrize(
    "url", ["http://pictures.test/x.png", "file:///etc/passwd", "ftp://x/y", "s3://bucket/key", "javascript:1"]
)
def test_other_urls(read: Read, url: str) -> None:
    with pytest.raises(errors.InputReferenceInvalid, match=f"is a {url.partition(':')[0]}: URL"):
        read(url)


def test_real_fetching_is_the_default(store: ObjectStore) -> None:
    with pytest.raises(errors.InputAddressForbidden):
        read_input("https://127.0.0.1:1/", tenant="me", store=store, settings=SETTINGS, owns_output=lambda _: False)


@pytest.mark.parametrize(("picture_format", "extension"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_upload_then_read(store: ObjectStore, read: Read, picture_format: str, extension: str) -> None:
    data = picture(picture_format)
    key = store_input(data, tenant="me", store=store, settings=SETTINGS)
    assert key == f"inputs/me/{hashlib.sha256(data).hexdigest()}.{extension}"
    with open_picture(read(key)) as opened:
        assert opened.size == (8, 6)


def test_the_same_upload_twice_lies_there_once(store: ObjectStore) -> None:
    keys = {store_input(picture(), tenant="me", store=store, settings=SETTINGS) for _ in range(2)}
    assert [found.key for found in store.list("")] == list(keys)


def test_upload_of_what_no_worker_would_take(store: ObjectStore) -> None:
    with pytest.raises(errors.InputNotAnImage):
        store_input(b"<html>", tenant="me", store=store, settings=SETTINGS)
    with pytest.raises(errors.InputTooLarge, match="10000"):
        store_input(bytes(10_001), tenant="me", store=store, settings=SETTINGS)
    assert list(store.list("")) == []


def test_upload_of_a_file(store: ObjectStore, read: Read, tmp_path: Path) -> None:
    file = tmp_path / "sketch.png"
    file.write_bytes(picture())
    assert read(store_input(file, tenant="me", store=store, settings=SETTINGS)) == picture()


@pytest.mark.parametrize("path", ["none.png", ".", "a\0b", "\ud800", "x" * 5000])
def test_upload_of_no_file(store: ObjectStore, path: str) -> None:
    with pytest.raises(errors.InputMissing) as caught:
        store_input(Path(path), tenant="me", store=store, settings=SETTINGS)
    assert len(str(caught.value).encode()) < 400


def test_of_a_file_without_end_no_more_is_read_than_may_be_stored(store: ObjectStore) -> None:
    with pytest.raises(errors.InputTooLarge, match="10000"):
        store_input(Path("/dev/zero"), tenant="me", store=store, settings=SETTINGS)
