"""Ray's token, which lets whoever has it run code here: readable by its owner alone. Ray itself would write it for everybody to read."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path


def keep_token_private(make: bool) -> None:
    """Close ``~/.ray/auth_token`` to others, if it is where Ray takes its token from.

    ``make``: write one if there is none, before Ray does. A file that somebody else owns is left alone.

    Raises:
        OSError: it cannot be written or closed.
    """
    elsewhere = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if elsewhere or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    token = Path.home() / ".ray" / "auth_token"
    if make and not token.exists():
        token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(token)
    with suppress(FileNotFoundError):
        _close_to_others(token)


def _write(token: Path) -> None:
    """Write a token unless somebody else does at the same time; nobody sees half of one."""
    fresh = token.with_name(f"{token.name}.{secrets.token_hex(8)}")
    handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(fresh, token)
    finally:
        fresh.unlink()


def _close_to_others(token: Path) -> None:
    handle = os.open(token, os.O_RDONLY)
    try:
        found = os.fstat(handle)
        if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            os.fchmod(handle, found.st_mode & 0o700)
    finally:
        os.close(handle)
