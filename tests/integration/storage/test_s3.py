"""What only S3 has: parts, pages, metadata, links with an end, and its own ways to fail."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from moto.core.authorization import enable_iam_authentication
from pydantic import SecretStr

from darkroom.storage import ObjectStore, StorageError, StorageSettings, errors, open_store

from .answers import Serve, reply

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.fixture
def store(s3_settings: StorageSettings) -> ObjectStore:
    return open_store(s3_settings)


@pytest.fixture
def bucket(s3_settings: StorageSettings) -> str:
    return urlsplit(s3_settings.storage_url or "").netloc


def changed(settings: StorageSettings, **values: Any) -> ObjectStore:
    return open_store(settings.model_copy(update=values))


def fails(store: ObjectStore, kind: type[StorageError], match: str) -> Iterator[StorageError]:
    """Every method raises `kind`, and nothing that is near it."""
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b"x", content_type="image/png"),
        lambda: store.get("a"),
        lambda: store.exists("a"),
        lambda: store.delete("a"),
        lambda: list(store.list("")),
        lambda: store.check(write=False),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=match) as caught:
            call()
        assert type(caught.value) is kind
        yield caught.value


def test_what_lies_in_the_bucket(store: ObjectStore, bucket: str, s3_client: "S3Client") -> None:
    store.put("job/0.png", b"picture", content_type="image/png", metadata={"job": "7"})
    found = s3_client.get_object(Bucket=bucket, Key="some/prefix/job/0.png")
    assert found["ContentType"] == "image/png"
    assert found["Metadata"] == {"job": "7", "sha256": hashlib.sha256(b"picture").hexdigest()}


def test_large_objects_go_up_in_parts(store: ObjectStore, bucket: str, s3_client: "S3Client") -> None:
    store.put("large", bytes(17 * 1024 * 1024), content_type="image/png")
    found = s3_client.head_object(Bucket=bucket, Key="some/prefix/large")
    assert found["ETag"].endswith('-2"')
    assert found["Metadata"]["sha256"] == hashlib.sha256(bytes(17 * 1024 * 1024)).hexdigest()


def test_list_reads_every_page(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for number in range(5):
        store.put(f"a/{number}", b"x", content_type="image/png")
    assert [found.key for found in store.list("a/")] == [f"a/{number}" for number in range(5)]


def test_prefix_hides_its_neighbours(store: ObjectStore, bucket: str, s3_client: "S3Client") -> None:
    s3_client.put_object(Bucket=bucket, Key="some/prefix-of-others/x", Body=b"")
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"")
    assert list(store.list("")) == []
    assert not store.exists("a")


def test_changed_bytes_are_noticed(store: ObjectStore, bucket: str, s3_client: "S3Client") -> None:
    store.put("a", b"as stored", content_type="image/png")
    digest = hashlib.sha256(b"as stored").hexdigest()
    s3_client.put_object(Bucket=bucket, Key="some/prefix/a", Body=b"as it is", Metadata={"sha256": digest})
    with pytest.raises(errors.ObjectCorrupt, match="SHA-256"):
        store.get("a")


def test_objects_of_other_programs_are_read(store: ObjectStore, bucket: str, s3_client: "S3Client") -> None:
    s3_client.put_object(Bucket=bucket, Key="some/prefix/inputs/me/cat.png", Body=b"cat")
    assert store.get("inputs/me/cat.png") == b"cat"


def test_link_ends(store: ObjectStore) -> None:
    query = parse_qs(urlsplit(store.url("a", 90)).query)
    assert query["X-Amz-Expires"] == ["90"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


def test_link_under_the_public_name(s3_settings: StorageSettings, s3_endpoint: str) -> None:
    public = s3_endpoint.replace("127.0.0.1", "localhost")
    store = changed(s3_settings, s3_public_endpoint_url=public)
    store.put("a", b"seen from outside", content_type="image/png")
    link = store.url("a", 60)
    assert link.startswith(f"{public}/")
    with urlopen(link) as answer:
        assert answer.read() == b"seen from outside"


@pytest.mark.parametrize(
    ("addressing", "host"), [("auto", "s3.example"), ("path", "s3.example"), ("virtual", "B.s3.example")]
)
def test_addressing(s3_settings: StorageSettings, bucket: str, addressing: str, host: str) -> None:
    store = changed(s3_settings, s3_endpoint_url="https://s3.example", s3_addressing=addressing)
    assert urlsplit(store.url("a", 60)).hostname == host.replace("B", bucket)


def test_amazon_itself_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StorageSettings(
        storage_url="s3://pictures", s3_region="eu-central-1", s3_access_key_id="a", s3_secret_access_key=SecretStr("b")
    )
    link = urlsplit(open_store(settings).url("a/b.png", 60))
    assert (link.hostname, link.path) == ("pictures.s3.eu-central-1.amazonaws.com", "/a/b.png")


def test_bucket_missing(s3_settings: StorageSettings) -> None:
    store = changed(s3_settings, storage_url="s3://not-made-yet/prefix")
    for error in fails(store, errors.BucketMissing, "not-made-yet"):
        assert "create it" in error.hint


def test_wrong_credentials(s3_settings: StorageSettings) -> None:
    store = changed(s3_settings, s3_access_key_id="AKIAWRONG")
    with enable_iam_authentication():
        for error in fails(store, errors.StorageDenied, "the store answered"):
            assert "DARKROOM_S3_ACCESS_KEY_ID" in error.hint
            assert "darkroom-secret" not in str(error)


def test_no_credentials(s3_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    store = changed(s3_settings, s3_access_key_id=None, s3_secret_access_key=None)
    with pytest.raises(errors.StorageDenied, match="credentials"):
        store.get("a")


def test_nobody_listens(s3_settings: StorageSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = changed(s3_settings, s3_endpoint_url=f"http://127.0.0.1:{port}", s3_attempts=1)
    assert all(error.retryable for error in fails(store, errors.StorageUnavailable, str(port)))


def test_no_answer(s3_settings: StorageSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = changed(s3_settings, s3_endpoint_url=endpoint, s3_attempts=1, s3_read_timeout=0.1)
        with pytest.raises(errors.StorageUnavailable, match="timeout"):
            store.get("a")


def xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>words of the server</Message></Error>".encode()


REFUSALS = [
    (400, "InvalidBucketName", errors.StorageConfigInvalid),
    (400, "AuthorizationHeaderMalformed", errors.StorageConfigInvalid),
    (400, "InvalidArgument", errors.StorageBroken),
    (400, "EntityTooLarge", errors.StorageBroken),
    (400, "XMinioAdminBucketQuotaExceeded", errors.StorageFull),
    (401, "Unauthorized", errors.StorageDenied),
    (403, "AccessDenied", errors.StorageDenied),
    (403, "SignatureDoesNotMatch", errors.StorageDenied),
    (403, "RequestTimeTooSkewed", errors.StorageDenied),
    (403, "QuotaExceeded", errors.StorageFull),
    (500, "InternalError", errors.StorageUnavailable),
    (413, "", errors.StorageBroken),
    (503, "SlowDown", errors.StorageUnavailable),
    (507, "XMinioStorageFull", errors.StorageFull),
    (507, "InsufficientStorage", errors.StorageFull),
]


def test_refusals(s3_settings: StorageSettings, serve: Serve) -> None:
    answers = iter([reply(xml(code), status) for status, code, _ in REFUSALS])
    endpoint = f"http://127.0.0.1:{serve(lambda handler: next(answers)(handler)).port}"
    store = changed(s3_settings, s3_endpoint_url=endpoint, s3_attempts=1)
    for _, code, kind in REFUSALS:
        with pytest.raises(StorageError, match=f"a in bucket .*{code} words of the server") as caught:
            store.put("a", b"x", content_type="image/png")
        assert type(caught.value) is kind


def test_answer_that_is_cut_off(s3_settings: StorageSettings, serve: Serve) -> None:
    endpoint = f"http://127.0.0.1:{serve(reply(b'half', headers={'Content-Length': '8'})).port}"
    with pytest.raises(errors.StorageUnavailable):
        changed(s3_settings, s3_endpoint_url=endpoint, s3_attempts=1).get("a")


def test_one_bad_answer_is_tried_again(s3_settings: StorageSettings, serve: Serve) -> None:
    answers = iter([reply(xml("SlowDown"), 503), reply(b"at last")])
    server = serve(lambda handler: next(answers)(handler))
    store = changed(s3_settings, s3_endpoint_url=f"http://127.0.0.1:{server.port}", s3_attempts=2)
    assert store.get("a") == b"at last"
    assert len(server.paths) == 2


def test_no_checksum_in_a_trailer(s3_settings: StorageSettings, serve: Serve) -> None:
    """Newer defaults of boto3 send one, and some servers then store the framing as content."""
    seen: list[tuple[dict[str, str], bytes]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        seen.append(({name.lower(): value for name, value in handler.headers.items()}, body))
        reply()(handler)

    endpoint = f"http://127.0.0.1:{serve(answer).port}"
    changed(s3_settings, s3_endpoint_url=endpoint).put("a", b"plain", content_type="image/png")
    ((headers, body),) = seen
    assert body == b"plain"
    assert not any("trailer" in name or "checksum" in name for name in headers)


def test_bad_storage_urls() -> None:
    for url in ("s3://", "s3://UPPER", "s3://x", "s3://bucket/../up", "s3://user@bucket", "s3://bucket/c?d=e"):
        with pytest.raises(errors.StorageConfigInvalid, match="DARKROOM_STORAGE_URL"):
            open_store(StorageSettings(storage_url=url))


def test_threads_keep_their_connections(store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    """As many as a worker or a producer has; urllib3 warns of each connection that it throws away."""
    store.put("a", b"x", content_type="image/png")
    together = threading.Barrier(64)

    def read(_: int) -> bytes:
        together.wait(30)
        return store.get("a")

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(read, range(64))) == {b"x"}
    assert [record.getMessage() for record in caplog.records if "pool" in record.getMessage()] == []
