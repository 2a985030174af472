"""Which process of which machine this is, so that another one can tell whether it is still alive, and how many fit beside it."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

_PROCESS_BYTES = 3 * 2**29
"""Memory of a process that matches pairs: 1.05 GB was measured, with the largest features and meshes."""


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


def cores_here() -> int:
    """Cores that this process may use: by its affinity and its control group, such as a container's, not all that the machine has."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = (*_group_limit("cpu.max"), "")[:2]
    return min(own, max(1, int(quota) // int(period))) if quota.isdigit() and period.isdigit() and int(period) else own


def memory_here() -> int:
    """Bytes of memory of this machine, or of this process's control group where that has fewer."""
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (limit, *_) = _group_limit("memory.max")
    return min(own, int(limit)) if limit.isdigit() else own


def processes_here() -> int:
    """Processes with numeric libraries that this machine has cores and memory for."""
    return max(1, min(cores_here(), memory_here() // _PROCESS_BYTES))


def _group_limit(name: str) -> list[str]:
    """The words of a limit of this process's control group (version 2, as containers see it)."""
    try:
        return Path("/sys/fs/cgroup", name).read_text().split() or [""]
    except OSError:
        return [""]


def is_running(pid: int, start: str) -> bool:
    """Whether that very process of this machine is running."""
    try:
        return process_start(pid) in (start, "")
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
