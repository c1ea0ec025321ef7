"""From settings to a store."""

import sys
import traceback
from pathlib import Path

import pytest

from darkroom.storage import StorageError, StorageNotConfigured, StorageSettings, open_store
from darkroom.storage.errors import StorageConfigInvalid
from darkroom.storage.stores import load_settings


def test_nothing_configured() -> None:
    with pytest.raises(StorageNotConfigured, match="DARKROOM_STORAGE_URL") as caught:
        open_store()
    assert caught.value.code == "storage_not_configured"


def test_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_STORAGE_URL", (tmp_path / "with space").as_uri())
    store = open_store()
    store.put("a", b"x", content_type="image/png")
    assert (tmp_path / "with space" / "a").read_bytes() == b"x"
    assert store.url("a", 60) == (tmp_path / "with space" / "a").as_uri()


def test_empty_variables_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compose file passes on what nobody set."""
    for name in ("STORAGE_URL", "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_ATTEMPTS"):
        monkeypatch.setenv(f"DARKROOM_{name}", "")
    assert load_settings() == StorageSettings()


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_S3_ENDPOINT_URL", "minio:9000")
    monkeypatch.setenv("DARKROOM_S3_ATTEMPTS", "many")
    with pytest.raises(StorageConfigInvalid) as caught:
        open_store()
    assert "DARKROOM_S3_ENDPOINT_URL: " in caught.value.message
    assert "DARKROOM_S3_ATTEMPTS: " in caught.value.message


@pytest.mark.parametrize(
    "url",
    ["host:9000", "ftp://host", "http://", "http://user:hush@host", "http://user:hush@[h", "http://u:hush@ho\u2100st"],
)
def test_endpoints(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_S3_ENDPOINT_URL", url)
    with pytest.raises(StorageConfigInvalid, match="http://host") as caught:
        load_settings()
    assert "hush" not in caught.value.message


def test_key_without_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_S3_ACCESS_KEY_ID", "key")
    with pytest.raises(StorageConfigInvalid, match="given together"):
        open_store()


def test_the_secret_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_S3_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("DARKROOM_S3_SECRET_ACCESS_KEY", "hush")
    assert "hush" not in repr(load_settings())


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@bucket/prefix",
        "s3://key:hu/hush@bucket",
        "s3://key:#hush@bucket",
        "s3://key:hush",
        "s3://bucket?secret=hush",
        "s3://bucket/prefix?a=1&secret=hush&b=2",
        "s3://bucket#hush",
        "s3:/key:hush@bucket",
        "s3://key:[hush@bucket",
        "s3://key:hush\u2100@bucket",
        "key:hush",
        "hush",
        "file://user:hush@host/folder",
        "https://user:hush@host/bucket?token=hush",
        "s3:key:hush@bucket",
        "s3://bucket?hush",
    ],
)
def test_no_secret_in_a_url_is_shown(url: str) -> None:
    with pytest.raises(StorageConfigInvalid) as caught:
        open_store(StorageSettings(storage_url=url))
    assert caught.value.message.startswith("DARKROOM_STORAGE_URL: ")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_s3_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "darkroom.storage.s3", raising=False)
    with pytest.raises(StorageError, match="needs boto3") as caught:
        open_store(StorageSettings(storage_url="s3://bucket"))
    assert caught.value.hint == 'pip install "darkroom[s3]"'
