"""An S3 server for whoever needs one: moto's, over HTTP, in this process."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3.session
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from darkroom.storage import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ACCESS_KEY, SECRET_KEY = "darkroom", "darkroom-secret"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of a running S3 server; any credentials are right."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> "S3Client":
    """A client of that server for tests that look behind the store's back."""
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
    return session.client("s3", endpoint_url=s3_endpoint)


@pytest.fixture
def s3_settings(s3_endpoint: str, s3_client: "S3Client") -> StorageSettings:
    """Settings of a fresh, empty bucket."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    return StorageSettings(
        storage_url=f"s3://{bucket}/some/prefix",
        s3_endpoint_url=s3_endpoint,
        s3_access_key_id=ACCESS_KEY,
        s3_secret_access_key=SecretStr(SECRET_KEY),
    )
