"""Which process of which machine this is, so that another one can tell whether it is still alive."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path


def this_machine() -> str:
    """A name that two processes share only if each can see the other by its process id: host name, this start of the machine, and the
    process id namespace (containers of one host have their own). Without /proc, host name and network address."""
    host = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{host}/{uuid.getnode():x}"


def process_start(pid: int) -> str:
    """When a process was started, in the kernel's own count: process ids are used again, but not with the same start. Empty where it cannot
    be known.

    Raises:
        ProcessLookupError: there is no such process, or it has ended and only waits to be collected.
        PermissionError: there is one, of somebody else.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        # Either gone, or hidden from us, or this system has no /proc.
        os.kill(pid, 0)
        return ""
    # The name of the program, in parentheses, may hold anything; the state is the first word after it, the start the twentieth.
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        raise ProcessLookupError(pid)
    return fields[19]


def is_running(pid: int, start: str) -> bool:
    """Whether that very process of this machine is running."""
    try:
        return process_start(pid) in (start, "")
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
