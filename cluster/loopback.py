"""What the servers on one machine share: a port that is free, and running until somebody stops them."""

from __future__ import annotations

import signal
import socket
import threading


def free_port() -> int:
    """A port of the loopback interface that nobody listens on. Somebody else may take it before it is used, which then fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop_event() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set, instead of what they do otherwise: what was started is then stopped in order."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
