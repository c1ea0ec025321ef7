"""Both stores behind one name, and a server on this machine that answers as a test says."""

import ssl
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from darkroom.storage import ObjectStore, StorageSettings, open_store

from .answers import Answer, Serve, Served, make_server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return open_store(StorageSettings(storage_url=(tmp_path / "store").as_uri()))
    return open_store(request.getfixturevalue("s3_settings"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that give `answer` to every request: `serve(answer, host="127.0.0.2", tls=context)`."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Served:
        served = Served()
        server = make_server(answer, host, tls, served)
        servers.append(server)
        served.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return served

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
