"""Which keys there are."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.storage import input_key, job_of_output
from darkroom.storage.errors import KeyInvalid
from darkroom.storage.keys import (
    FILE_TYPES,
    check_key,
    check_prefix,
    file_key,
    input_prefix,
    is_picture,
    is_role,
    job_of_made,
    output_key,
)

SHA = "ab" * 32


@pytest.mark.parametrize("key", ["a", "a/b.png", "inputs/me/Ünïcode — 写真.png", "a b/c", "é" * 100])
def test_allowed(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "0 bytes"),
        ("x/" * 400 + "x", "801 bytes"),
        ("é" * 101, "over 200 bytes"),
        ("/a", "empty"),
        ("a/", "empty"),
        ("a//b", "empty"),
        (".", "begins with a dot"),
        ("a/../b", "begins with a dot"),
        ("a/.b", "begins with a dot"),
        ("a\\b", "backslash"),
        ("a\0", "control character"),
        ("a\x7f", "control character"),
        ("a\u202eb", "control character"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_refused(key: str, why: str) -> None:
    with pytest.raises(KeyInvalid, match=why):
        check_key(key)


@given(st.text(alphabet=st.sampled_from("./\\ab\0\n~"), max_size=12) | st.text(max_size=30))
def test_no_allowed_key_leaves_its_folder(key: str) -> None:
    try:
        check_key(key)
    except KeyInvalid:
        return
    path = PurePosixPath("/root") / key
    assert str(path) == f"/root/{key}"
    assert ".." not in path.parts


def test_prefixes() -> None:
    for prefix in ("", "a", "a/", "a/b", "inputs/me/"):
        check_prefix(prefix)
    for prefix in ("/", "a//", "../", "."):
        with pytest.raises(KeyInvalid):
            check_prefix(prefix)


def test_input_key() -> None:
    assert input_key("me.too_2-x", SHA, "png") == f"inputs/me.too_2-x/{SHA}.png"


@pytest.mark.parametrize(
    ("sha", "extension"), [("AB" * 32, "png"), ("ab", "png"), (SHA, "gif"), (SHA, ""), (f"{SHA}\n", "png")]
)
def test_input_key_of_nothing(sha: str, extension: str) -> None:
    with pytest.raises(KeyInvalid):
        input_key("me", sha, extension)


@pytest.mark.parametrize("tenant", ["", "-a", ".a", "a/b", "a b", "é", "a" * 65, "a\n"])
def test_no_tenant(tenant: str) -> None:
    with pytest.raises(KeyInvalid, match="no tenant's name"):
        input_prefix(tenant)


def test_job_of_output() -> None:
    job = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert job_of_output(f"{job}/12-0123456789abcdef.png") == job
    for key in (
        f"{job}/manifest.json",
        f"{job}/0-0123.png",
        f"{job}/0-0123456789abcdef.gif",
        f"a/{job}/0-0123456789abcdef.png",
    ):
        assert job_of_output(key) is None


JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize("role", ["latents", "lora_1000", "m", "manifest_2", "manifests", "x" * 32])
@pytest.mark.parametrize("index", [None, 0, 255])
@pytest.mark.parametrize("extension", FILE_TYPES)
def test_file_keys_are_outputs_that_workers_make(role: str, index: int | None, extension: str) -> None:
    assert is_role(role)
    key = file_key(JOB, role, index, SHA, extension)
    check_key(key)
    assert job_of_output(key) == job_of_made(key) == JOB
    assert is_picture(key) == (extension in ("png", "jpg", "webp"))


@given(st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), st.none() | st.integers(0, 10**6), st.integers(0, 255))
def test_a_file_never_lies_where_another_thing_does(role: str, index: int | None, other: int) -> None:
    """Whatever the digest: roles have no hyphens, and begin with a letter."""
    digits = "1234567890123456"
    name = file_key(JOB, role, index, digits, "png").removeprefix(f"{JOB}/")
    assert name != output_key(JOB, other, digits, "png").removeprefix(f"{JOB}/")
    assert name.removesuffix(f"-{digits}.png").split("-") == [role, *([str(index)] if index is not None else [])]


@pytest.mark.parametrize("role", ["", "manifest", "Latents", "a-b", "_a", "1a", "x" * 33, "é", "a/b", "a.b", "a\n"])
def test_no_role(role: str) -> None:
    assert not is_role(role)
    assert job_of_output(f"{JOB}/{role}-0123456789abcdef.safetensors") is None


def test_a_manifest_is_made_and_no_output() -> None:
    key = f"{JOB}/manifest-0123456789abcdef.json"
    assert (job_of_made(key), job_of_output(key)) == (JOB, None)
