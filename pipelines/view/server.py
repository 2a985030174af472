"""``sc3d view``: a server on the loopback interface that shows a run, for as long as the command runs."""

from __future__ import annotations

import logging
import re
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from pipelines.report.opening import open_address
from pipelines.report.view import require_run
from pipelines.view.growth import Watcher
from pipelines.view.pages import Answer, RunPages, page_answer
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.display import without_secrets
from sc3d.errors import ConfigError
from sc3d.report.listing import MessagePage, message_page

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
# Any port: a tunnel of SSH has one of its own.
_HOSTS = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)
_TIMEOUT_S = 30.0
_AT_ONCE = 8
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


class ViewServer(ThreadingHTTPServer):
    """Answers those who know its token, under a name of this machine.

    Args:
        pages: what it shows.
        port: 0 for any that is free.

    Raises:
        ConfigError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, pages: RunPages, port: int = 0) -> None:
        self.pages = pages
        self.token = secrets.token_urlsafe(18)
        self.working = threading.Semaphore(_AT_ONCE)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port} cannot be used ({error.strerror}); choose another, or none for any that is free"
            ) from None

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def server_close(self) -> None:
        """Stop listening, and let those finish who are being answered: compiled code that is cut short ends the process with an abort."""
        super().server_close()
        for _ in range(_AT_ONCE):
            self.working.acquire()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is nobody's mistake; anything else is told."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            logger.warning("a request was not answered: %s", without_secrets(str(error)))


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sc3d", ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        answer = self._answer()
        self._head(answer)
        self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self._head(self._answer())

    def _head(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in (("Content-Type", answer.kind), ("Content-Length", str(len(answer.body))), *_HEADERS, *answer.headers):
            self.send_header(name, value)
        self.end_headers()

    def _answer(self) -> Answer:
        # A page from elsewhere whose name was made to lead here has another host.
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOSTS.fullmatch(hosts[0]):
            return _refused("This is not the name under which sc3d view can be asked.")
        path, _, query = self.path.partition("?")
        token, _, place = path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return _refused("Open the whole address that sc3d view printed.")
        if not place:
            return Answer(303, b"", headers=(("Location", f"/{token}/pairs"), ("Cache-Control", "no-store")))
        with self.server.working:
            return self.server.pages.answer(unquote(place), query)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Nothing: addresses hold the token."""


def _refused(text: str) -> Answer:
    return page_answer(message_page(MessagePage("", "Refused", (text,))), 403)


def run(config: RunConfig, port: int = 0, open_: bool = False, console: PlainConsole | None = None) -> None:
    """Show a run until the command is interrupted.

    Args:
        port: of the loopback interface; 0 for any that is free.
        open_: show it in the person's browser.

    Raises:
        ConfigError: DuckDB is not installed, or the port is taken.
        StoreError: the folder holds no run.
        SchemaError: a file of the run cannot be read.
    """
    console = console or PlainConsole()
    require_run(config)
    with ViewServer(RunPages(config), port) as server:
        watcher = Watcher(server.pages)
        reading = threading.Thread(target=watcher.run, name="sc3d-watcher")
        reading.start()
        console.print(f"view: {server.address}", soft_wrap=True)
        console.print(
            "Only this machine can open it, for as long as this command runs; Ctrl-C ends it.", style="dim", soft_wrap=True
        )
        if open_:
            open_address(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print()
        finally:
            watcher.stop()
            reading.join()
