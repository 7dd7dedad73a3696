"""An HTTP server of this machine that does what it is told: breaks off, stalls, lies, denies ranges; also a proxy."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Step:
    """How one request for a file is answered; the default is as it should be.

    `cut` breaks the connection after so many bytes of the body, `reset` by a reset instead of an end, `stall` by
    silence instead. `ranges` off answers with the whole file; `blind` ignores If-Range. `length` is the announced
    number of bytes ("" for none), `content_range` what stands there instead of the truth, `body` what is sent instead
    of the file.
    """

    status: int = 200
    cut: int | None = None
    reset: bool = False
    stall: bool = False
    ranges: bool = True
    blind: bool = False
    length: str | None = None
    content_range: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What was asked, and how many bytes of a body were sent back."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    sent: list[int] = field(default_factory=lambda: [0])


class Server:
    """The server; `files` by path, `version` their headers, `steps` for the next requests, `requests` so far."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.version: dict[str, str] = {"ETag": '"1"'}
        self.steps: list[Step] = []
        self.requests: list[Request] = []
        self.released = threading.Event()  # ends all stalls
        self.url = ""

    def asked(self) -> list[tuple[str, str | None]]:
        """The file names and ranges of the requests so far."""
        return [(one.path.rpartition("/")[2], one.range) for one in self.requests]

    def sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(one.sent[0] for one in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_CONNECT(self) -> None:
        self.scripted.requests.append(Request("CONNECT", self.path, None, None))
        self.send_error(403, "no tunnels")
        self.close_connection = True

    def do_GET(self) -> None:
        server = self.scripted
        request = Request("GET", self.path, self.headers["Range"], self.headers["If-Range"])
        server.requests.append(request)
        step = server.steps.pop(0) if server.steps else Step()
        self.close_connection = True
        found = server.files.get(self.path)
        if step.status != 200 or (found is None and step.body is None):
            self._answer(step.status if step.status != 200 else 404, {"Content-Length": "0", **step.headers})
            return
        body = step.body if step.body is not None else found or b""
        headers = {**server.version, "Content-Length": str(len(body)), **step.headers}
        status = 200
        fresh = step.blind or request.if_range in (server.version.get("ETag"), server.version.get("Last-Modified"))
        if step.ranges and request.range and fresh:
            start = int(request.range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self._answer(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(body)}"})
                return
            status, whole = 206, len(body)
            body = body[start:]
            headers |= {"Content-Length": str(len(body)), "Content-Range": f"bytes {start}-{whole - 1}/{whole}"}
        headers |= {} if step.length is None else {"Content-Length": step.length}
        headers |= {} if step.content_range is None else {"Content-Range": step.content_range}
        self._answer(status, {name: value for name, value in headers.items() if value})
        self._send(body, step, request)

    def _answer(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes, step: Step, request: Request) -> None:
        try:
            for at in range(0, len(body) if step.cut is None else step.cut, 4096):
                piece = body[at : at + 4096] if step.cut is None else body[at : min(at + 4096, step.cut)]
                self.wfile.write(piece)
                request.sent[0] += len(piece)
            self.wfile.flush()
        except OSError:  # the client has had enough
            return
        if step.stall:
            self.scripted.released.wait(120)
        if step.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that the client, or a test, broke."""


@contextmanager
def running() -> Iterator[Server]:
    """Run a server on a free port of this machine."""
    scripted = Server()
    handler = type("Handler", (_Handler,), {"scripted": scripted})
    with _Quiet(("127.0.0.1", 0), handler) as server:
        scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield scripted
        finally:
            scripted.released.set()
            server.shutdown()
            thread.join()
