"""A server on this machine that answers as a test says."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Served:
    """A running server: its port, what was asked of it, and how many connections were made."""

    port: int = 0
    paths: list[str] = field(default_factory=list)
    connections: int = 0


Serve = Callable[..., Served]


def make_server(answer: Answer, host: str, tls: ssl.SSLContext | None, served: Served) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.paths.append(self.path)
            answer(self)

        do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def process_request_thread(self, request: object, client_address: object) -> None:
            served.connections += 1
            try:
                wrapped = tls.wrap_socket(request, server_side=True) if tls else request  # type: ignore[arg-type]
            except OSError:  # the client did not trust the certificate
                return
            super().process_request_thread(wrapped, client_address)  # type: ignore[arg-type]

        def handle_error(self, *args: object) -> None:
            pass  # a client that went away

    return Server((host, 0), Handler)


def reply(body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer that is always the same."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer
