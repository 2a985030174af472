"""A web server in a thread, with good and bad manners by path."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebServer:
    """Serves ``photo`` under ``/photo.png`` and misbehaves elsewhere.

    ``seen``: requests a path; ``moves``: where ``/away/0``, ``/away/1`` and so on lead; ``released``: ends what hangs.
    """

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.seen: Counter[str] = Counter()
        self.moves: list[str] = []
        self.released = threading.Event()
        server = self
        handler = type("Handler", (_Handler,), {"web": server})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.port = self._server.server_address[1]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: WebServer

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        self.web.seen[name] += 1
        try:
            getattr(self, f"_{name.partition('.')[0].partition('/')[0]}", self._missing)(name)
        except OSError:
            return

    def _send(self, data: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def _missing(self, name: str) -> None:
        self._send(b"tell-nobody", 404)

    def _photo(self, name: str) -> None:
        self._send(self.web.photo)

    def _status(self, name: str) -> None:
        self._send(b"tell-nobody", int(name.partition("/")[2]))

    def _recovers(self, name: str) -> None:
        self._send(*((b"", 500) if self.web.seen[name] == 1 else (self.web.photo,)))

    def _hang(self, name: str) -> None:
        self.web.released.wait(30)

    def _drip(self, name: str) -> None:
        self._send(b"", length=1_000_000)
        self._forever(b"x")

    def _headers(self, name: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._forever(b"A: b\r")

    def _forever(self, piece: bytes) -> None:
        while not self.web.released.wait(0.05):
            self.wfile.write(piece)
            self.wfile.flush()

    def _short(self, name: str) -> None:
        self._send(self.web.photo[:50], length=len(self.web.photo))

    def _announced(self, name: str) -> None:
        self._send(b"", length=5_000_000_000)
        self.web.released.wait(30)

    def _endless(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.web.released.is_set():
            self.wfile.write(bytes(1 << 16))

    def _page(self, name: str) -> None:
        self._send(b"\n<!DOCTYPE html><html><body>Log in</body></html>")

    def _empty(self, name: str) -> None:
        self._send(b"")

    def _file(self, name: str) -> None:
        self._send(b"", 302, Location="file:///etc/passwd")

    def _secret(self, name: str) -> None:
        self._send(b"", 302, Location=f"http://me:tell-nobody@127.0.0.1:{self.web.port}/photo.png")

    def _loop(self, name: str) -> None:
        self._send(b"", 301, Location="/loop")

    def _moved(self, name: str) -> None:
        self._send(b"", 308, Location="../photo.png?x=1")

    def _away(self, name: str) -> None:
        self._send(b"", 302, Location=self.web.moves[int(name.partition("/")[2])])

    def _escaped(self, name: str) -> None:
        self._send(self.web.photo if name == "escaped/%C3%A9t%C3%A9%201%25.png" else b"")

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the tests' output is for people."""


def wait_until(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())
