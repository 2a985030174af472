"""A server that shows a run on a port of its own, and what it answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.view.pages import RunPages
from pipelines.view.server import ViewServer
from sc3d.config import RunConfig


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers, and the body as text."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()


@dataclass(frozen=True)
class Served:
    """A server that runs. ``address`` ends in its token and a slash."""

    server: ViewServer

    @property
    def address(self) -> str:
        return self.server.address

    def get(self, place: str, method: str = "GET", host: str | None = None, path: str | None = None) -> Reply:
        """Ask for a place below the token, or for any ``path``, by any ``host``."""
        url = urlsplit(self.address)
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=60)
        try:
            connection.putrequest(method, path if path is not None else url.path + place, skip_host=True)
            for one in [url.netloc] if host is None else host.split("|"):
                connection.putheader("Host", one)
            connection.endheaders()
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(config: RunConfig, errors: bool = True) -> Iterator[Served]:
    """Show a run as long as the block lasts; ``errors``: after the errors of its pairs were read."""
    with ViewServer(RunPages(config)) as server:
        if errors:
            server.pages.tables.read_errors()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Served(server)
        finally:
            server.shutdown()
            thread.join(timeout=20)
