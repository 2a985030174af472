"""The worker's side of :class:`~actors.foundation.orient_anything.process.ModelProcess`: answers messages until there are no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import BinaryIO

import numpy as np

from actors.foundation.orient_anything import messages

Answer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_SECONDS_BETWEEN_LOOKS = 2.0


def serve(prepare: Callable[[], Answer]) -> None:
    """Answer messages from stdin on stdout until stdin ends; anything printed meanwhile goes to stderr.

    An error is answered like a message. After one the process ends, since what it leaves behind, on a GPU above all, cannot be trusted;
    but not after running out of memory.
    """
    # Whoever interrupts the pipeline in a terminal interrupts this process too, which is not its own to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        answer = prepare()
        _write(output, messages.encode({"ready": np.ones(1, np.uint8)}))
        while (message := messages.read(sys.stdin.buffer)) is not None:
            _write(output, _answered(answer, message))
    except BaseException as error:  # some code leaves by exit()
        traceback.print_exc()
        _write(output, messages.encode_error(error))
        raise SystemExit(1) from None


def _answered(answer: Answer, message: Mapping[str, np.ndarray]) -> bytes:
    try:
        return messages.encode(answer(message))
    except Exception as error:
        if type(error).__name__ != messages.OUT_OF_MEMORY:
            raise
        return messages.encode_error(error)


def _write(output: BinaryIO, message: bytes) -> None:
    output.write(message)
    output.flush()


def _end_with_parent(parent: int) -> None:
    """A process that computes does not notice that nobody waits for the answer any more."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
