"""HTTP connections that go where they may, and nowhere else: what :mod:`urllib.request` is given in place of its own handlers."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.request
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

from sc3d.web_hosts import Hosts


class WebHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects to hosts that are allowed, or to the proxy that the environment names for them.

    Args:
        hosts: those that are allowed. TLS asks for the certificate of the host's name, whatever the address was.
        opened: told of each socket.
    """

    def __init__(self, hosts: Hosts, opened: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._hosts, self._on_open = hosts, opened

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, **self._options(request)), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, **self._options(request), context=_certificates()), request)

    def _options(self, request: urllib.request.Request) -> dict[str, Any]:
        asked = urlsplit(request.full_url)
        connect: Callable[..., socket.socket] = self._hosts.connect
        if request.host != asked.netloc:
            self._hosts.check_name(asked.hostname or "", asked.port or (443 if asked.scheme == "https" else 80))
            connect = socket.create_connection
        return {"connect": connect, "opened": self._on_open}


class _Watched:
    """A connection that is made as it is told, and hands its socket over as soon as there is one."""

    sock: socket.socket

    def __init__(
        self, *arguments: Any, connect: Callable[..., socket.socket], opened: Callable[[socket.socket], None], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = connect
        self._on_open = opened

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._on_open(self.sock)


class _HttpConnection(_Watched, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Watched, http.client.HTTPSConnection):
    pass


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
