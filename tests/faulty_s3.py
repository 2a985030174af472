"""An S3 server with a bad day: a proxy in its own process that passes requests on to a real one, or fails in the way it is told to.

As a program it listens on two ports, one for S3 and one to be told what to do; :class:`FaultyS3` starts it and talks to it.

Modes:
    ok: pass everything on.
    refuse: close the listening socket and all connections.
    slow_down: answer 503 SlowDown without passing the request on.
    error: answer with ``status`` and ``code`` (500 InternalError).
    deny: answer 403 AccessDenied.
    truncate: cut bodies in half and drop the connection: that of the answer to a GET, that of the request of a PUT or POST.
    lose_answer: pass the request on and drop the connection instead of answering.
    delay: wait ``seconds`` before passing the request on.

Which requests are hit (all but ``refuse``): ``every`` k-th, or with a ``probability`` (seeded), at most ``times`` of them, only some
``methods``, only those whose path and query contain ``match``. Those that are not hit are passed on.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

MODES = ("ok", "refuse", "slow_down", "error", "deny", "truncate", "lose_answer", "delay")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@dataclass
class Faults:
    """What the proxy does now, and what it has seen. ``log``: the last requests, as "PUT /bucket/key?query"."""

    mode: str = "ok"
    options: dict[str, Any] = field(default_factory=dict)
    requests: int = 0
    hits: int = 0
    log: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def set(self, mode: str, options: dict[str, Any]) -> None:
        if mode not in MODES:
            raise ValueError(f"'{mode}' is not one of {MODES}")
        with self.lock:
            self.mode, self.options, self.hits, self.random = mode, options, 0, random.Random(options.get("seed", 0))
            self._seen = 0
            if options.get("forget"):
                self.requests, self.log = 0, []

    def decide(self, method: str, path: str) -> str:
        """Count a request and say which mode it meets."""
        with self.lock:
            self.requests += 1
            self.log = [*self.log[-999:], f"{method} {path}"]
            options = self.options
            if self.mode == "ok" or method not in options.get("methods", [method]) or options.get("match", "") not in path:
                return "ok"
            self._seen += 1
            chosen = (
                self._seen % options["every"] == 0 if "every" in options else self.random.random() < options.get("probability", 1.0)
            )
            if not chosen or self.hits >= options.get("times", self.hits + 1):
                return "ok"
            self.hits += 1
            return self.mode


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is nothing to report."""


class Proxy:
    """The S3 side: a server that can be closed and opened again on the same port."""

    def __init__(self, upstream: str, port: int) -> None:
        self.upstream = urlsplit(upstream)
        self.port = port
        self.faults = Faults()
        self.connections: set[socket.socket] = set()
        self._server: _Server | None = None
        self.open()

    def open(self) -> None:
        if self._server is None:
            proxy = self
            handler = type("Handler", (_Handler,), {"proxy": proxy})
            self._server = _Server(("127.0.0.1", self.port), handler)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self.connections):
                _drop(connection)

    def set(self, mode: str, options: dict[str, Any]) -> None:
        self.faults.set(mode, options)
        if mode != "refuse":
            self.open()
            return
        self.close()
        if "seconds" in options:
            threading.Timer(options["seconds"], self.set, ("ok", {})).start()


def _drop(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.proxy.connections.add(self.connection)

    def finish(self) -> None:
        self.proxy.connections.discard(self.connection)
        super().finish()

    def _handle(self) -> None:
        body = self._body()
        mode = self.proxy.faults.decide(self.command, self.path)
        options = self.proxy.faults.options
        if mode in ("slow_down", "deny", "error"):
            status, code = {
                "slow_down": (503, "SlowDown"),
                "deny": (403, "AccessDenied"),
                "error": (options.get("status", 500), options.get("code", "InternalError")),
            }[mode]
            self._refuse(status, code)
            return
        if mode == "delay":
            time.sleep(options["seconds"])
        if mode == "truncate" and self.command in ("PUT", "POST"):
            self._send_half(body)
            self._hang_up()
            return
        status, headers, answer = self._pass_on(body)
        if mode == "lose_answer":
            self._hang_up()
            return
        self._answer(status, headers, answer, cut=mode == "truncate" and self.command == "GET" and len(answer) > 1)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream.hostname or "", self.proxy.upstream.port)
        try:
            upstream.request(self.command, self.path, body, {**self._headers(), "Content-Length": str(len(body))})
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def _send_half(self, body: bytes) -> None:
        lines = [
            f"{self.command} {self.path} HTTP/1.1",
            *(f"{k}: {v}" for k, v in self._headers().items()),
            f"Content-Length: {len(body)}",
        ]
        with socket.create_connection((self.proxy.upstream.hostname or "", self.proxy.upstream.port or 80)) as upstream:
            upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body[: len(body) // 2])

    def _hang_up(self) -> None:
        self.close_connection = True
        _drop(self.connection)

    def _refuse(self, status: int, code: str) -> None:
        xml = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>as it was told</Message></Error>"
        self._answer(status, [("Content-Type", "application/xml")], xml.encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        length = next((v for k, v in headers if k.lower() == "content-length"), None) if self.command == "HEAD" else None
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self._hang_up()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The test's output is not the place."""


class _Control(BaseHTTPRequestHandler):
    proxy: Proxy

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.proxy.set(told["mode"], told["options"])
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        faults = self.proxy.faults
        body = json.dumps({"mode": faults.mode, "requests": faults.requests, "hits": faults.hits, "log": faults.log}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The test's output is not the place."""


class FaultyS3:
    """The proxy in its own process, in front of the S3 server ``upstream``. ``endpoint`` is what clients are to use."""

    def __init__(self, upstream: str) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, upstream], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ports = self._process.stdout.readline().split()
        if len(ports) != 2:
            raise RuntimeError("the proxy did not start")
        self.endpoint, self._control = (f"http://127.0.0.1:{port}" for port in ports)

    def set(self, mode: str, **options: Any) -> None:
        """Behave so from now on; see the module's docstring."""
        self._state(json.dumps({"mode": mode, "options": options}).encode())

    def outage(self, seconds: float) -> None:
        """Be away for so long, and come back healthy. Returns as soon as it is away."""
        self.set("refuse", seconds=seconds)

    def reset(self) -> None:
        """Be healthy and forget what came so far."""
        self.set("ok", forget=True)

    @property
    def requests(self) -> int:
        """How many requests came since the last reset."""
        return int(self._state()["requests"])

    @property
    def hits(self) -> int:
        """How many requests met the present mode since it was set."""
        return int(self._state()["hits"])

    @property
    def log(self) -> list[str]:
        """The last thousand requests, as "PUT /bucket/key?query"."""
        return list(self._state()["log"])

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=20)

    def _state(self, told: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self._control, told, timeout=20) as answer:  # noqa: S310
            return dict(json.load(answer))


def main() -> None:
    """Serve until killed; the two ports are printed in one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    proxy = Proxy(arguments.upstream, arguments.port)
    control = _Server(("127.0.0.1", 0), type("Control", (_Control,), {"proxy": proxy}))
    sys.stdout.write(f"{proxy.port} {control.server_address[1]}\n")
    sys.stdout.flush()
    control.serve_forever()


if __name__ == "__main__":
    main()
