"""A run that grows while it is shown: who notices, and what open pages are told."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pipelines.report.status import STATUS, read_status
from pipelines.view.pages import RunPages
from sc3d.display import without_secrets
from sc3d.errors import Sc3dError
from sc3d.store import RunFolder

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0

_REST = 5.0
"""After the run was read again, nothing is for so many times as long as that took: the machine may be at work on the run."""


class Watcher:
    """Has the pages of a run made anew when its ``status.json`` says that it has come further; for a thread of its own.

    Args:
        pages: what is shown; of the configuration that they were made with, whatever other commands use since.
        every: seconds between two looks, each of which reads one small file.
    """

    def __init__(self, pages: RunPages, every: float = LOOK_EVERY_S) -> None:
        self._pages, self._every = pages, every
        self._seen = progress_of(pages.run)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until it is stopped. The errors of the pairs are read first."""
        self._pages.tables.read_errors()
        wait = self._every
        while not self._stopped.wait(wait):
            started = time.monotonic()
            self.look()
            wait = max(self._every, _REST * (time.monotonic() - started))

    def look(self) -> None:
        """Look once. What cannot be read is looked at again the next time; until then the pages stay as they are."""
        try:
            now = progress_of(self._pages.run)
            if now != self._seen and now is not None and self._pages.read_again():
                self._seen = now
        except Sc3dError as error:
            logger.info("the run could not be read again: %s", without_secrets(str(error)))

    def stop(self) -> None:
        """Let :meth:`run` end, whatever it is reading."""
        self._stopped.set()
        self._pages.stop()


def progress_of(run: RunFolder) -> Any:
    """How far the run is, to be compared with another time; none where nobody can tell."""
    try:
        if not run.exists(STATUS):
            return None
        status = read_status(run)
    except Sc3dError:
        return None
    return status["started"], status["state"], [(one["name"], one["done"], one["rejects"]) for one in status["stages"]]
