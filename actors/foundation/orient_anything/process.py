"""A model in a process of its own, for code that cannot share this one: asked over pipes, watched by the clock, started again if it ends.

The worker is a module with a main function that calls :func:`actors.foundation.orient_anything.serving.serve`.
"""

from __future__ import annotations

import io
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from safetensors import SafetensorError

from actors.foundation.orient_anything import messages
from sc3d import errors
from sc3d.errors import Sc3dError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_KEPT_LINES = 200
_SHOWN_LINES, _SHOWN_CHARACTERS = 6, 1500
_SECONDS_TO_END = 5.0


class ModelProcessError(Sc3dError):
    """The process of a model ended, did not answer in time, or failed; the message holds the end of what it wrote to stderr."""


class ModelProcess:
    """Runs ``python -m module arguments`` and exchanges named arrays with it. One caller at a time.

    A process that ended is started again with the next request, and the request that it ended in is tried once more in the new one. One
    that does not answer in time is ended.

    Args:
        name: of the model, for messages.
        module, arguments: what to run. Its first message says that it is ready, or why it cannot be.
        start_seconds: time limit from its start to its first message.
        request_seconds: time limit of a request.

    Raises:
        Sc3dError: it does not start. Errors of the classes in :mod:`sc3d.errors` keep their class; others are a ModelProcessError.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], start_seconds: float, request_seconds: float) -> None:
        self.name = name
        self.starts = 0
        self._command = [sys.executable, "-m", module, *arguments]
        self._start_seconds, self._request_seconds = start_seconds, request_seconds
        self._running: _Running | None = None
        self._start()

    def request(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer to ``arrays``.

        Raises:
            ModelProcessError: it takes too long, or the process ends twice in this request, or the model fails.
        """
        message = messages.encode(arrays)
        for last in (False, True):
            running = self._running or self._start()
            try:
                answer = running.exchange(message, self._request_seconds)
            except TimeoutError:
                self.close()
                raise ModelProcessError(
                    f"{self.name} did not answer within {self._request_seconds:.0f} s and was ended{running.said()}"
                ) from None
            except EOFError as error:
                code = self.close()
                ended = f"the process of {self.name} ended ({error}; exit code {code}){running.said()}"
                if last:
                    raise ModelProcessError(f"twice in one request {ended}") from None
                logger.warning("%s; it is started again", ended)
                continue
            self._raise_error(answer, running)
            return answer
        raise AssertionError("unreachable")

    def close(self) -> int | None:
        """End the process; its exit code. The next request starts another one."""
        running, self._running = self._running, None
        return running.end() if running else None

    def _start(self) -> _Running:
        self.starts += 1
        running = self._running = _Running(self._command)
        try:
            self._raise_error(running.exchange(b"", self._start_seconds), running)
        except TimeoutError:
            self.close()
            raise ModelProcessError(
                f"{self.name} was not ready within {self._start_seconds:.0f} s and was ended{running.said()}"
            ) from None
        except EOFError as error:
            code = self.close()
            raise ModelProcessError(
                f"the process of {self.name} did not start ({error}; exit code {code}){running.said()}"
            ) from None
        return running

    def _raise_error(self, answer: Mapping[str, np.ndarray], running: _Running) -> None:
        """Raise the error that an answer is, if it is one; the process has ended after it, unless it ran out of memory."""
        error = messages.error_of(answer)
        if error is None:
            return
        kind, text = error
        if kind != messages.OUT_OF_MEMORY:
            self.close()
        own = getattr(errors, kind, None)
        if isinstance(own, type) and issubclass(own, Sc3dError):
            raise own(text)
        raise ModelProcessError(f"{self.name} failed with {kind}: {text}{running.said()}")


class _Running:
    """One running process and its pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        # What this process can import, the other one can.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=environment
        )
        self._to, self._from = (pipe.fileno() for pipe in (self.process.stdin, self.process.stdout) if pipe)
        for pipe in (self._to, self._from):
            os.set_blocking(pipe, False)
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(target=_listen, args=(self.process.stderr, self._lines), daemon=True)
        self._listener.start()
        self._finalizer = weakref.finalize(self, self.process.kill)

    def exchange(self, message: bytes, seconds: float) -> dict[str, np.ndarray]:
        """Write a message, read the next one. Raises TimeoutError; EOFError if the process ends or writes something else."""
        deadline = time.monotonic() + seconds
        unsent, received = memoryview(message), bytearray()
        wanted = messages.LENGTH.size
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            if unsent:
                selector.register(self._to, selectors.EVENT_WRITE)
            while len(received) < wanted:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready or time.monotonic() > deadline:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fd == self._to:
                        unsent = self._send(unsent)
                        if not unsent:
                            selector.unregister(self._to)
                        continue
                    received += self._receive()
                    if wanted == messages.LENGTH.size <= len(received):
                        (length,) = messages.LENGTH.unpack_from(received)
                        if length > messages.LARGEST:
                            raise EOFError(f"it wrote what is no message: {bytes(received[:40])!r}")
                        wanted += length
        try:
            return messages.decode(bytes(received[messages.LENGTH.size :]))
        except SafetensorError as error:
            raise EOFError(f"it wrote what is no message: {error}") from None

    def _send(self, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(self._to, unsent[:_CHUNK]) :]
        except BlockingIOError:
            return unsent
        except OSError:
            raise EOFError("it no longer reads") from None

    def _receive(self) -> bytes:
        try:
            received = os.read(self._from, _CHUNK)
        except BlockingIOError:
            return b""
        if not received:
            raise EOFError("it closed its output")
        return received

    def end(self) -> int | None:
        """Kill it if it has not ended by itself; its exit code."""
        try:
            # One that crashed has closed its pipes a moment before its exit code is there.
            self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._finalizer()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=_SECONDS_TO_END)
        self._finalizer.detach()
        self._listener.join(timeout=_SECONDS_TO_END)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        return self.process.returncode

    def said(self) -> str:
        """The end of what it wrote to stderr, to be put after a message."""
        lines = [line for line in self._lines if line][-_SHOWN_LINES:]
        return f"; it said: {' | '.join(lines)[-_SHOWN_CHARACTERS:]}" if lines else ""


def _listen(stream: Any, lines: deque[str]) -> None:
    """Keep what a process writes to stderr; a pipe that nobody reads would stop it."""
    with io.BufferedReader(stream) as buffered:
        for line in buffered:
            lines.append(line.decode(errors="replace").strip())
