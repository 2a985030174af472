"""Paths and addresses as people see them: what may be a secret in them is left out, in names and in whole texts."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Also what was meant as an address and is none, such as https:/host: it holds the same secrets. Drives of Windows have one letter.
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]+")
_WRITTEN = re.compile(rf"(?<![A-Za-z0-9]){_START.pattern}\S*")
_AFTER = "'\"`)]},;:.>"
_HOST = re.compile(r"([^:]*|\[[0-9A-Fa-f:.]*\])(:[0-9]*)?")


def scheme_of(path: str) -> str:
    """The scheme of an address in small letters; empty for a local path."""
    found = _SCHEME.match(path)
    return found[1].lower() if found else ""


def shown(path: str) -> str:
    """A path or address for people: without a user and password in it, and without what follows ``?`` or ``#``, which may be a secret."""
    start = _START.match(path)
    if not start:
        return path
    ends = "[?]" if start[1].lower() == "s3" else "[?#]"
    host, slash, tail = re.split(ends, path[start.end() :], maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    # A password may hold the characters that end a host's name.
    return f"{start[0]}{host}{slash}{tail}" if _HOST.fullmatch(host) else f"{start[0]}..."


def without_secrets(text: str) -> str:
    """A text in which every address is as :func:`shown` has it: for messages that others wrote."""

    def one(written: re.Match[str]) -> str:
        address = written[0].rstrip(_AFTER)
        return shown(address) + written[0][len(address) :]

    return _WRITTEN.sub(one, text)


def near(path: str) -> str:
    """A local path as a person at this working directory would write it: relative where it lies below; addresses as they are."""
    if scheme_of(path):
        return path
    here = os.path.relpath(path)
    return path if here.startswith("..") else here
