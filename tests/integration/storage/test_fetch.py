"""Fetching from a real TLS server on this machine, whose address stands in for a public one."""

import datetime
import ipaddress
import ssl
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from darkroom.storage import errors
from darkroom.storage.addresses import Address
from darkroom.storage.fetch import Fetcher

from .answers import Answer, Serve, reply

NAME = "pictures.test"
PUBLIC, PRIVATE = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of NAME, self-signed, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Names:
    """A resolver that knows one name, gives its addresses in turn (the last one for ever), and counts."""

    def __init__(self, *answers: Address) -> None:
        self.answers, self.asked = answers, 0

    def __call__(self, name: str, seconds: float) -> list[Address]:
        assert name == NAME
        assert seconds > 0
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [answer]


@pytest.fixture
def fetcher(certificate: Path) -> Fetcher:
    """Trusts the test's certificate; only PUBLIC counts as a public address."""
    trusted = ssl.create_default_context(cafile=str(certificate))
    return Fetcher(1000, 5, resolve=Names(PUBLIC), allowed=lambda address: address == PUBLIC, tls=trusted)


def redirect(to: str, status: int = 302) -> Answer:
    return reply(status=status, headers={"Location": to})


def test_fetch(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    seen: list[dict[str, str]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(dict(handler.headers))
        reply(b"picture")(handler)

    server = serve(answer, tls=tls)
    assert fetcher(f"https://{NAME}:{server.port}/a b/ü.png?sig=1%2F2&x=[]#part") == b"picture"
    assert server.paths == ["/a%20b/%C3%BC.png?sig=1%2F2&x=%5B%5D"]
    assert seen[0]["Host"] == f"{NAME}:{server.port}"
    assert seen[0]["Accept-Encoding"] == "identity"


def test_the_environments_proxy_is_not_asked(
    fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.2:1")
    assert fetcher(f"https://{NAME}:{serve(reply(b'direct'), tls=tls).port}/") == b"direct"


def test_certificate_of_another_name(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"picture"), tls=tls)
    with pytest.raises(errors.InputUnreachable, match="certificate verify failed"):
        replace(fetcher, resolve=lambda *_: [PUBLIC])(f"https://other.test:{server.port}/")
    assert server.paths == []


def test_certificate_that_nobody_vouches_for(serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"picture"), tls=tls)
    fetcher = Fetcher(1000, 5, resolve=Names(PUBLIC), allowed=lambda _: True)
    with pytest.raises(errors.InputUnreachable, match="certificate verify failed"):
        fetcher(f"https://{NAME}:{server.port}/")
    assert server.paths == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "0",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
    ],
)
def test_private_address_directly(serve: Serve, tls: ssl.SSLContext, host: str) -> None:
    """With the real resolver and the real check; the many spellings of one address all end as that address."""
    server = serve(reply(b"secret"), tls=tls)
    with pytest.raises(errors.InputAddressForbidden, match="not a public address"):
        Fetcher(1000, 5)(f"https://{host}:{server.port}/")
    assert server.connections == 0


def test_private_address_by_redirect(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    inside = serve(reply(b"secret"), host=str(PRIVATE), tls=tls)
    outside = serve(redirect(f"https://{NAME}:{inside.port}/"), tls=tls)
    with pytest.raises(errors.InputAddressForbidden, match=str(PRIVATE)):
        replace(fetcher, resolve=Names(PUBLIC, PRIVATE))(f"https://{NAME}:{outside.port}/")
    assert outside.connections == 1
    assert inside.connections == 0


def test_private_address_by_a_name_that_changes(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    """Public when it is checked, private at the next look-up: there is no next look-up."""
    outside = serve(reply(b"picture"), tls=tls)
    inside = serve(reply(b"secret"), host=str(PRIVATE), tls=tls)
    names = Names(PUBLIC, PRIVATE)
    assert replace(fetcher, resolve=names)(f"https://{NAME}:{outside.port}/") == b"picture"
    assert names.asked == 1
    assert inside.connections == 0


def test_name_with_a_private_address_among_others(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"picture"), tls=tls)
    mixed = replace(fetcher, resolve=lambda *_: [PUBLIC, PRIVATE])
    with pytest.raises(errors.InputAddressForbidden):
        mixed(f"https://{NAME}:{server.port}/")
    assert server.connections == 0


def test_dead_address_then_a_live_one(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"picture"), tls=tls)
    both = replace(fetcher, resolve=lambda *_: [PRIVATE, PUBLIC], allowed=lambda _: True)
    assert both(f"https://{NAME}:{server.port}/") == b"picture"


@pytest.mark.parametrize("to", ["http://pictures.test/", "file:///etc/passwd", "ftp://pictures.test/x"])
def test_redirect_away_from_https(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext, to: str) -> None:
    server = serve(redirect(to), tls=tls)
    with pytest.raises(errors.InputAddressForbidden, match="only https"):
        fetcher(f"https://{NAME}:{server.port}/")


def test_three_redirects_are_followed_and_no_fourth(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        left = int(handler.path.removeprefix("/"))
        (redirect(str(left - 1), 307) if left else reply(b"picture"))(handler)

    server = serve(answer, tls=tls)
    assert fetcher(f"https://{NAME}:{server.port}/3") == b"picture"
    with pytest.raises(errors.InputMissing, match="more than 3 redirects"):
        fetcher(f"https://{NAME}:{server.port}/4")


def test_too_large_by_its_own_word(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(headers={"Content-Length": "1001"}), tls=tls)
    with pytest.raises(errors.InputTooLarge, match="1000 bytes"):
        fetcher(f"https://{NAME}:{server.port}/")


def test_too_large_without_saying_so(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1_000_000):  # ends when the client has hung up
            handler.wfile.write(bytes(100))

    with pytest.raises(errors.InputTooLarge):
        fetcher(f"https://{NAME}:{serve(answer, tls=tls).port}/")


def test_compressed_answer_is_not_unpacked(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), tls=tls)
    with pytest.raises(errors.InputNotAnImage, match="compressed"):
        fetcher(f"https://{NAME}:{server.port}/")


@pytest.mark.parametrize("part", ["headers", "body"])
def test_dripping_answer_meets_the_deadline(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext, part: str) -> None:
    """Every byte comes well in time, the whole does not."""
    stop = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n" + (b"\r\n" if part == "body" else b""))
        while not stop.wait(0.02):
            handler.wfile.write(b"x")

    server = serve(answer, tls=tls)
    begun = time.monotonic()
    with pytest.raises(errors.InputUnreachable, match=r"not done in 0\.3 s") as caught:
        replace(fetcher, resolve=Names(PUBLIC), seconds=0.3)(f"https://{NAME}:{server.port}/")
    stop.set()
    assert time.monotonic() - begun < 3
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, errors.InputMissing),
        (403, errors.InputMissing),
        (204, errors.InputMissing),
        (304, errors.InputMissing),
        (429, errors.InputUnreachable),
        (500, errors.InputUnreachable),
        (503, errors.InputUnreachable),
    ],
)
def test_refusals(
    fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext, status: int, kind: type[errors.InputError]
) -> None:
    server = serve(reply(status=status), tls=tls)
    with pytest.raises(kind, match=str(status)) as caught:
        fetcher(f"https://{NAME}:{server.port}/x?signature=secret")
    assert "secret" not in str(caught.value)


def test_answer_that_is_cut_off(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(reply(b"half", headers={"Content-Length": "8"}), tls=tls)
    with pytest.raises(errors.InputUnreachable):
        fetcher(f"https://{NAME}:{server.port}/")


def test_nobody_listens(fetcher: Fetcher) -> None:
    with pytest.raises(errors.InputUnreachable, match="refused"):
        fetcher(f"https://{NAME}:1/")


@pytest.mark.parametrize(
    "url",
    ["https://", "https:///x", "https://user@h/", "https://h:99999/", "https://[::1/", "https://a..b/", "https:x"],
)
def test_what_is_no_url(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(errors.InputReferenceInvalid, match="URL"):
        fetcher(url)


def test_redirect_to_what_is_no_url(fetcher: Fetcher, serve: Serve, tls: ssl.SSLContext) -> None:
    with pytest.raises(errors.InputReferenceInvalid, match="redirects to what is no URL"):
        fetcher(f"https://{NAME}:{serve(redirect('https://[::1'), tls=tls).port}/")


def test_name_that_nobody_has() -> None:
    with pytest.raises(errors.InputUnreachable, match="cannot be found"):
        Fetcher(1000, 5)("https://nobody.invalid/")
