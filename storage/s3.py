"""A store in a bucket of Amazon's S3, or of any server that speaks its protocol."""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import boto3.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from darkroom.storage.errors import ObjectCorrupt, ObjectNotFound, ObjectTooLarge
from darkroom.storage.interface import MARK, StoredObject, check_lifetime
from darkroom.storage.keys import check_key, check_prefix
from darkroom.storage.s3_errors import door
from darkroom.storage.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: Larger objects go up in parts of this many bytes, a few at a time; a lost part is sent again alone.
PART_BYTES = 16 * 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)

#: The object metadata that holds the SHA-256 of the content, in hex: S3's own checksums differ between servers.
DIGEST = "sha256"


#: For which a mark that was seen is taken to be there: a bucket is not unmounted, and writing would take two calls.
_MARK_SECONDS = 5.0


class S3Store:
    """The ObjectStore of one bucket, below `prefix`. A client of boto3 may be used from several threads."""

    def __init__(self, bucket: str, prefix: str, settings: StorageSettings) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._mark: tuple[str, float] | None = None  # and until when it holds
        with door(f"bucket {bucket}"):
            self._client = _client(settings, settings.s3_endpoint_url)
            public = settings.s3_public_endpoint_url
            self._link_client = _client(settings, public) if public else self._client

    def put(self, key: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = {}) -> None:
        name = self._name(key)
        described = {**metadata, DIGEST: _sha256(data)}
        large = _size(data) >= PART_BYTES
        with BytesIO(data) if isinstance(data, bytes) else data.open("rb") as body, door(self._where(key)):
            if large:
                extra = {"ContentType": content_type, "Metadata": described}
                self._client.upload_fileobj(body, self._bucket, name, ExtraArgs=extra, Config=_TRANSFER)
            else:
                self._client.put_object(
                    Bucket=self._bucket, Key=name, Body=body, ContentType=content_type, Metadata=described
                )

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        return self._get(self._name(key), key, limit)

    def _get(self, name: str, key: str, limit: int | None) -> bytes:
        with door(self._where(key)):
            found = self._client.get_object(Bucket=self._bucket, Key=name)
            # Not StreamingBody's own context manager: that hands out the raw stream, with urllib3's errors.
            with contextlib.closing(found["Body"]) as body:
                if limit is not None and found["ContentLength"] > limit:
                    msg = f"{key} has {found['ContentLength']} bytes, over the limit of {limit}"
                    raise ObjectTooLarge(msg)
                data = body.read()
        digest = found.get("Metadata", {}).get(DIGEST)
        if digest is not None and digest != hashlib.sha256(data).hexdigest():
            msg = f"{key} has not the SHA-256 that was stored with it"
            raise ObjectCorrupt(msg)
        return data

    def exists(self, key: str) -> bool:
        name = self._name(key)
        try:
            with door(self._where(key)):
                self._client.head_object(Bucket=self._bucket, Key=name)
        except ObjectNotFound:
            # The answer to HEAD has no body, so a missing bucket looks like a missing object.
            self.check(write=False)
            return False
        return True

    def delete(self, key: str) -> None:
        name = self._name(key)
        with door(self._where(key)):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def url(self, key: str, seconds: int) -> str:
        check_lifetime(seconds)
        target = {"Bucket": self._bucket, "Key": self._name(key)}
        with door(self._where(key)):
            return self._link_client.generate_presigned_url("get_object", Params=target, ExpiresIn=seconds)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        check_prefix(prefix)
        return self._list(prefix)

    def _list(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2")
        with door(self._where(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    if not key.startswith("."):  # the mark, and what `check` puts
                        yield StoredObject(key, item["Size"], item["LastModified"])

    def check(self, *, write: bool = True, size: int = 0) -> None:
        with door(f"bucket {self._bucket}"):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            if write:
                probe = f"{self._prefix}.darkroom-probe"
                self._client.put_object(Bucket=self._bucket, Key=probe, Body=bytes(size))
                self._client.delete_object(Bucket=self._bucket, Key=probe)

    def mark(self) -> str | None:
        if self._mark and time.monotonic() < self._mark[1]:
            return self._mark[0]
        self._mark = None
        try:
            found = self._get(self._prefix + MARK, MARK, limit=1000).decode(errors="replace").strip()
        except ObjectNotFound:
            return None
        self._mark = found, time.monotonic() + _MARK_SECONDS
        return found

    def make_mark(self, mark: str) -> None:
        self._mark = None
        with door(self._where(MARK)):
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + MARK, Body=f"{mark}\n".encode(), ContentType="text/plain"
            )

    def __str__(self) -> str:
        return f"the bucket {self._bucket}" + (f" under {self._prefix}" if self._prefix else "")

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _where(self, key: str) -> str:
        return f"{key} in bucket {self._bucket}"


def _client(settings: StorageSettings, endpoint: str | None) -> "S3Client":
    # A session of its own: the default one is not safe to make clients from in several threads.
    secret = settings.s3_secret_access_key
    session = boto3.session.Session(
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        region_name=settings.s3_region or ("us-east-1" if endpoint else None),
    )
    return session.client("s3", endpoint_url=endpoint, config=_config(settings, endpoint))


def _config(settings: StorageSettings, endpoint: str | None) -> Config:
    addressing = settings.s3_addressing
    if addressing == "auto":
        addressing = "path" if endpoint else "virtual"
    return Config(
        connect_timeout=settings.s3_connect_timeout,
        read_timeout=settings.s3_read_timeout,
        retries={"total_max_attempts": settings.s3_attempts, "mode": "standard"},
        s3={"addressing_style": addressing},
        signature_version="s3v4",
        # The newer default, a checksum in a trailer, is refused by some servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=128,  # those that are kept; more threads than that throw theirs away after each call
    )


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
