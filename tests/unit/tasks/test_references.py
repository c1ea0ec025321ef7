"""References to input pictures: what is refused at submit, and that storage, which reads them, agrees."""

import base64
import io
import re
import ssl
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.storage import StorageSettings
from darkroom.storage.addresses import is_public
from darkroom.storage.errors import InputAddressForbidden, InputError, InputForbidden, InputReferenceInvalid
from darkroom.storage.fetch import Fetcher
from darkroom.storage.images import open_picture
from darkroom.storage.inputs import read_input
from darkroom.tasks import Img2Img, InvalidRequest
from darkroom.tasks.references import MAX_DATA_URL_BYTES, ReferenceFault, check_file_reference, check_reference

SHA = "0123456789abcdef" * 4
LIMITS = StorageSettings(input_timeout=5)


def picture(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, form)
    return file.getvalue()


def data_url(data: bytes, head: str = "data:image/png;base64") -> str:
    return f"{head},{base64.b64encode(data).decode()}"


GOOD = [
    f"inputs/alice/{SHA}.png",
    "inputs/alice/holiday/beach.png",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/0-5d41402abc4b2a76.png",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/12-5d41402abc4b2a76.jpg",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/sheet-5d41402abc4b2a76.png",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/mask-12-5d41402abc4b2a76.webp",
    "https://example.com/cat.png",
    "HTTPS://example.com:8443/cat.png?size=large#top",
    "https://bücher.example/cat.png",
    "https://[2606:4700::1111]/cat.png",
    "https://93.184.215.14/cat.png",
    "https://my_bucket.example.com./cat.png",
    data_url(picture()),
    data_url(picture("JPEG"), "data:image/jpeg;base64"),
    data_url(picture("WEBP"), "DATA:;BASE64"),
]

# What a user would write, and the code that says what is wrong.
BAD = {
    "": "input_reference_invalid",
    "sketch.png": "input_reference_invalid",
    "./sketch.png": "input_reference_invalid",
    "../sketch.png": "input_reference_invalid",
    "/home/alice/sketch.png": "input_reference_invalid",
    "~/sketch.png": "input_reference_invalid",
    "C:\\Users\\alice\\sketch.png": "input_reference_invalid",
    "C:/Users/alice/sketch.png": "input_reference_invalid",
    "\\\\server\\share\\sketch.png": "input_reference_invalid",
    "inputs/alice/../bob/cat.png": "input_reference_invalid",
    "inputs/alice/": "input_reference_invalid",
    "inputs/alice/cat\n.png": "input_reference_invalid",
    "inputs/alice/" + "x" * 201: "input_reference_invalid",
    "inputs/alice/" + "x/" * 400 + "x": "input_reference_invalid",
    "inputs": "input_forbidden",
    "inputs/cat.png": "input_forbidden",
    "inputs/bob/cat.png": "input_forbidden",
    "results/cat.png": "input_reference_invalid",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/lora-5d41402abc4b2a76.safetensors": "input_not_latents",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/manifest-5d41402abc4b2a76.json": "input_reference_invalid",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/manifest-5d41402abc4b2a76.png": "input_reference_invalid",
    "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/Sheet-5d41402abc4b2a76.png": "input_reference_invalid",
    "file:///home/alice/sketch.png": "input_reference_invalid",
    "http://example.com/cat.png": "input_reference_invalid",
    "ftp://example.com/cat.png": "input_reference_invalid",
    "s3://bucket/cat.png": "input_reference_invalid",
    "https://": "input_reference_invalid",
    "https:cat.png": "input_reference_invalid",
    "https://alice:secret@example.com/cat.png": "input_reference_invalid",
    "https://example.com:port/cat.png": "input_reference_invalid",
    "https://[::1/cat.png": "input_reference_invalid",
    "https://exam ple.com/cat.png": "input_reference_invalid",
    "https://exam<ple>.com/cat.png": "input_reference_invalid",
    "https://" + "a." * 130 + "com/cat.png": "input_reference_invalid",
    "https://127.0.0.1/cat.png": "input_address_forbidden",
    "https://[::1]/cat.png": "input_address_forbidden",
    "https://192.168.1.5:8080/cat.png": "input_address_forbidden",
    "https://169.254.169.254/latest/meta-data": "input_address_forbidden",
    "data:image/png,abc": "input_reference_invalid",
    "data:image/png;base64,@@@@": "input_reference_invalid",
    "data:image/png;base64,AAA": "input_reference_invalid",
    "data:image/png;base64,": "input_not_an_image",
    data_url(b"<svg/>", "data:image/svg+xml;base64"): "input_not_an_image",
    data_url(b"GIF89a" + bytes(20), "data:image/gif;base64"): "input_not_an_image",
    data_url(picture() + bytes(MAX_DATA_URL_BYTES)): "input_too_large",
    data_url(b"\xff\xd8\xff" + bytes(MAX_DATA_URL_BYTES - 2)): "input_too_large",
}


@pytest.mark.parametrize("reference", GOOD)
def test_a_reference_that_may_lead_to_a_picture(reference: str) -> None:
    check_reference(reference, "alice")
    assert Img2Img(prompt="a", image=reference, tenant="alice").image == reference


@pytest.mark.parametrize(("reference", "code"), BAD.items(), ids=[key[:40] for key in BAD])
def test_a_reference_that_leads_nowhere(reference: str, code: str) -> None:
    """Is refused as a field of the request, and the message says what would be right."""
    with pytest.raises(InvalidRequest) as caught:
        Img2Img(prompt="a", image=reference, tenant="alice")
    (fault,) = caught.value.faults
    assert (fault.field, fault.code) == ("image", code)
    assert "client.upload(path)" in fault.message
    assert len(fault.message) < 300


LORA = "0198c5c0-7b1f-7d6e-8a45-2f4d3c6b7a89/lora-5d41402abc4b2a76.safetensors"


@pytest.mark.parametrize("reference", [LORA, LORA.replace("lora-", "latents-12-"), "inputs/alice/my.safetensors"])
def test_a_reference_to_a_file(reference: str) -> None:
    check_file_reference(reference, "alice")


@pytest.mark.parametrize(
    ("reference", "code", "why"),
    [
        ("", "input_reference_invalid", "is empty"),
        ("lora.safetensors", "input_reference_invalid", "neither the key"),
        ("https://example.com/lora.safetensors", "input_reference_invalid", "neither the key"),
        (LORA.replace(".safetensors", ".json"), "input_reference_invalid", "no .safetensors file"),
        (LORA.replace(".safetensors", ".pt"), "input_reference_invalid", "neither the key"),
        ("inputs/bob/my.safetensors", "input_forbidden", "tenant alice"),
        ("inputs/alice/../bob/my.safetensors", "input_reference_invalid", "neither the key"),
    ],
)
def test_a_reference_to_no_file(reference: str, code: str, why: str) -> None:
    with pytest.raises(ReferenceFault, match=re.escape(why)) as caught:
        check_file_reference(reference, "alice")
    assert caught.value.code == code
    assert "job.files" in str(caught.value) and "client.upload" not in str(caught.value)


def test_the_largest_data_url_is_taken() -> None:
    check_reference(data_url(b"\xff\xd8\xff" + bytes(MAX_DATA_URL_BYTES - 3)), "alice")
    assert StorageSettings().input_data_url_max_bytes == MAX_DATA_URL_BYTES


class AnyStore:
    """Has whatever it is asked for."""

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        return picture()


class ReachedTheNetwork(Exception):
    """The URL was found good, as far as its text tells."""


def look_up(name: str, seconds: float) -> list[Any]:
    try:
        return [ip_address(name)]
    except ValueError:
        raise ReachedTheNetwork from None


def allowed(address: Any) -> bool:
    if is_public(address):
        raise ReachedTheNetwork
    return False


FETCH = Fetcher(1000, 5.0, look_up, allowed, ssl.create_default_context())


def storages_refusal(reference: str) -> InputError | None:
    """What storage says where everything that is not in the text goes well."""
    try:
        data = read_input(
            reference, tenant="alice", store=AnyStore(), settings=LIMITS, owns_output=lambda _: True, fetch=FETCH  # type: ignore[arg-type]
        )  # fmt: skip
        with open_picture(data, max_pixels=LIMITS.input_max_pixels):
            pass
    except ReachedTheNetwork:
        return None
    except InputError as error:
        return error
    return None


def refused_here(reference: str) -> bool:
    try:
        check_reference(reference, "alice")
    except ReferenceFault:
        return True
    return False


@pytest.mark.parametrize("reference", [*GOOD, *BAD], ids=lambda reference: reference[:40])
def test_storage_says_the_same(reference: str) -> None:
    assert refused_here(reference) == (reference in BAD) == (storages_refusal(reference) is not None)


pieces = st.sampled_from(
    ["inputs", "alice", "bob", "/", "\\", ".", "..", ":", "https", "http", "file", "data", "//", "@", "[", "]", "::1",
     "example.com", "10.0.0.1", "8.8.8.8", "0-5d41402abc4b2a76.png", "j",
     "sheet-5d41402abc4b2a76.png", "lora-5d41402abc4b2a76.safetensors", ";base64", ",", "image/png", "iVBORw0KGgo=",
     "/9j/", "UklGRgAAAABXRUJQ", "=", "?", "#", "%2e", "é", "\n", " ", "\u200b", "443", "x" * 201]
)  # fmt: skip
references = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(references)
@example("https://[::ffff:8.8.8.8]/a.png")
@example("https://[64:ff9b::808:808]/a.png")
def test_storage_says_the_same_of_anything(reference: str) -> None:
    """Nothing is refused that storage would read, and what it calls no reference is refused at submit."""
    if any("\ud800" <= character <= "\udfff" for character in reference):
        return  # no text: pydantic refuses it
    refusal = storages_refusal(reference)
    if refused_here(reference):
        assert refusal is not None
    else:
        assert not isinstance(refusal, InputReferenceInvalid | InputForbidden)
        # Which public ranges lead elsewhere is storage's knowledge alone.
        assert not isinstance(refusal, InputAddressForbidden) or "::" in reference or "192." in reference
