"""Bad input that only a worker can see: each ends its own job with a stable code, and the next good job runs."""

import base64
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from darkroom.tasks import InvalidRequest, State
from tests.unit.storage.pictures import with_chunk

from .processes import Process
from .studio import Studio


def png() -> bytes:
    file = BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it is 50,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


GOOD = png()
BAD = {
    "truncated": (GOOD[: len(GOOD) // 2], "input_corrupt"),
    "corrupt": (GOOD[:60] + b"\xff" * 60 + GOOD[120:], "input_corrupt"),
    "bomb": (bomb(), "input_bomb"),
    "html": (b"<!doctype html><html><img src=x onerror=alert(1)></html>", "input_not_an_image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n", "input_not_an_image"),
    "gif": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "input_not_an_image"),
    "empty": (b"", "input_not_an_image"),
}


@pytest.fixture
def at_work(studio: tuple[Studio, Process]) -> Studio:
    return studio[0]


def fails(at_work: Studio, image: str, code: str) -> None:
    """The job fails with the code, makes nothing, and the next job runs on the same worker."""
    job = at_work.run(image=image)
    assert job.error is not None, job
    assert (job.state, job.error.code, job.images) == (State.FAILED, code, [])
    assert "Traceback" not in job.error.message
    assert list(at_work.store.list(job.id)) == []
    following = at_work.run(num_inference_steps=1)
    assert (following.state, following.worker) == (State.SUCCEEDED, job.worker)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_picture(at_work: Studio, name: str) -> None:
    data, code = BAD[name]
    key = f"inputs/default/{name}.png"
    at_work.store.put(key, data, content_type="image/png")
    fails(at_work, key, code)


@pytest.mark.parametrize("name", ["truncated", "corrupt", "bomb"])
def test_the_same_in_a_data_url(at_work: Studio, name: str) -> None:
    """What does not begin as a picture is refused at submit."""
    data, code = BAD[name]
    fails(at_work, "data:image/png;base64," + base64.b64encode(data).decode(), code)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("inputs/default/none.png", "input_missing"),
        ("https://localhost/cat.png", "input_address_forbidden"),
        ("https://[64:ff9b::7f00:1]/cat.png", "input_address_forbidden"),
    ],
)
def test_references_that_lead_nowhere_or_too_far(at_work: Studio, image: str, code: str) -> None:
    """Those whose text tells it are refused at submit."""
    fails(at_work, image, code)


def test_another_tenants_result(at_work: Studio) -> None:
    theirs = at_work.run(tenant="acme").images[0].key
    fails(at_work, theirs, "input_forbidden")
    assert at_work.run(image=theirs, tenant="acme").state is State.SUCCEEDED


def test_an_upload_that_is_no_picture_is_refused_before(at_work: Studio) -> None:
    for data, code in BAD.values():
        with pytest.raises(InvalidRequest) as caught:
            at_work.client.upload(data)
        assert [(fault.field, fault.code) for fault in caught.value.faults] == [("image", code)]


def test_broken_metadata_neither_keeps_a_picture_out_nor_fails_its_job(at_work: Studio) -> None:
    for name, body in [(b"tEXt", b"exif\0no TIFF"), (b"tEXt", b"xmp\0"), (b"eXIf", b"no TIFF"), (b"iCCP", b"a")]:
        key = at_work.client.upload(with_chunk(GOOD, name, body))
        assert at_work.run(image=key, num_inference_steps=1).state is State.SUCCEEDED
