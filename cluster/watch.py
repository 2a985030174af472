"""The driver's side of :mod:`cluster.keeper`: while Ray is there, its death, or this process's, ends with one line and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cluster.folders import LockedFolder
from cluster.keeper import CLOSING, CLOSING_S, DEAD, READY

_ROOT = Path(__file__).resolve().parents[1]
# The keeper needs nothing that is installed, and starts in a fifth of the time without looking for it.
_RUN = "import sys; sys.path.append(sys.argv.pop(1)); from cluster.keeper import main; main()"
_ANSWER_S = 10.0


class Watch:
    """Watches Ray from before it is started. When Ray dies, this process ends, wherever it is at work: its native code would end it too.

    Args:
        folder: of this Ray.
        note: the command that notes, once this process has ended, how: what was said is its last argument.

    Attributes:
        folder: of this Ray, cleaned when it has ended.
    """

    def __init__(self, folder: LockedFolder, note: Sequence[str] = ()) -> None:
        self.folder = folder
        self._answers = {READY: threading.Event(), CLOSING: threading.Event()}
        self._keeper: subprocess.Popen[bytes] | None = None
        if hasattr(os, "pidfd_open"):
            self._keeper = subprocess.Popen(
                [sys.executable, "-S", "-c", _RUN, str(_ROOT), str(folder.path), *note],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sys.__stderr__ or subprocess.DEVNULL,
                # Whoever interrupts the run in a terminal, or hangs up, does not end its keeper.
                start_new_session=True,
                bufsize=0,
            )
            threading.Thread(target=self._listen, name="sc3d-ray-watch", daemon=True).start()
            self._answers[READY].wait(_ANSWER_S)

    def own(self) -> None:
        """From now on this process starts a Ray of its own."""
        self._tell("own")

    def joined(self, raylet: str, gcs: str) -> None:
        """This process has joined a cluster. ``raylet``: the socket of its node; ``gcs``: the GCS's host:port."""
        host, _, port = gcs.rpartition(":")
        self._tell("joined", raylet, host.strip("[]"), port)

    def closing(self, failed: bool) -> None:
        """Ray is about to be ended by this process. ``failed``: because of an error. Does not return if Ray is dead."""
        self._tell("closing", *(["failed"] if failed else []))
        self._answers[CLOSING].wait(CLOSING_S if self._keeper else 0)

    def closed(self) -> None:
        """Ray has ended, or has not come to be."""
        self.folder.release()
        self._tell("closed")

    def _tell(self, *words: str) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            with suppress(OSError):
                self._keeper.stdin.write(("\t".join(words) + "\n").encode())

    def _listen(self) -> None:
        if self._keeper is None or self._keeper.stdout is None:
            return
        for line in self._keeper.stdout:
            word = line.decode().strip()
            if word == DEAD:
                os._exit(1)
            self._answers[word].set()
        # It was killed; nobody is to wait for its answers.
        for answer in self._answers.values():
            answer.set()
