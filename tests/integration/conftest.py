"""Servers for whoever needs one: S3 (moto's, over HTTP, in this process) and a real Redis-compatible one."""

import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import boto3.session
import botocore.session
import pytest
import redis
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from darkroom.cli.demo.server import LocalServer
from darkroom.storage import StorageSettings
from darkroom.tasks import TaskSettings, redis_io

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ACCESS_KEY, SECRET_KEY = "darkroom", "darkroom-secret"


@pytest.fixture(scope="session", autouse=True)
def _what_botocore_read() -> Iterator[None]:
    """Each client has a session of its own, which reads a megabyte of JSON about S3: once is enough for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


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


@pytest.fixture(scope="session")
def redis_server() -> Iterator[LocalServer]:
    """One server for all tests that do it no harm; each takes a prefix of its own."""
    with LocalServer() as server:
        yield server


@pytest.fixture
def task_settings(redis_server: LocalServer) -> TaskSettings:
    """The session's server under a fresh prefix: nothing of other tests is seen."""
    return TaskSettings(redis_url=SecretStr(redis_server.url), redis_prefix=f"{uuid.uuid4().hex[:8]}:")


@pytest.fixture
def raw(redis_server: LocalServer) -> Iterator["redis.Redis[str]"]:
    """A plain client of that server, for looking behind the API's back."""
    with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        yield client


SERVERS_CLOCK = 'local t = redis.call("TIME")\n  return t[1] * 1000 + math.floor(t[2] / 1000)'
OUR_CLOCK = 'return tonumber(redis.call("GET", P .. "test-clock"))'


@pytest.fixture
def our_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts read our clock."""
    source: Callable[[str], str] = redis_io._source.__wrapped__

    def changed(name: str) -> str:
        text = source(name)
        assert text.count(SERVERS_CLOCK) == text.count('"TIME"') <= 1  # none where a script asks for no time
        return text.replace(SERVERS_CLOCK, OUR_CLOCK)

    monkeypatch.setattr(redis_io, "_source", changed)
    redis_io._sha.cache_clear()
    yield
    redis_io._sha.cache_clear()
