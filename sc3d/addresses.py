"""Where images lie: local paths, and addresses of a bucket or of the web. Nothing is asked of anybody here."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from sc3d.errors import InputError, StoreError
from sc3d.store_s3 import locate

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# What needs no closer look: nothing escaped, no options, no credentials.
_PLAIN = re.compile(r"(?:s3|https?)://[A-Za-z0-9.-]+(?:/(?!\.\.?(?:/|$))[^/?#%@\\\x00-\x1f]+)+")
_CONTROL = re.compile(r"[\x00-\x1f]")
_HOST = re.compile(r"([^:]*|\[[0-9A-Fa-f:.]*\])(:[0-9]*)?")


def scheme_of(path: str) -> str:
    """The scheme of an address in small letters; empty for a local path."""
    found = _SCHEME.match(path)
    return found[1].lower() if found else ""


def shown(path: str) -> str:
    """A path or address for people: without a user and password in it, and without what follows ``?`` or ``#``, which may be a secret."""
    if not scheme_of(path):
        return path
    scheme, _, rest = path.partition("://")
    host, slash, tail = re.split("[?]" if scheme.lower() == "s3" else "[?#]", rest, maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    # A password may hold the characters that end a host's name.
    return f"{scheme}://{host}{slash}{tail}" if _HOST.fullmatch(host) else f"{scheme}://..."


def near(path: str) -> str:
    """A local path as a person at this working directory would write it: relative where it lies below; addresses as they are."""
    if scheme_of(path):
        return path
    here = os.path.relpath(path)
    return path if here.startswith("..") else here


def check_address(path: str) -> None:
    """Check an address without asking anybody; local paths pass.

    Raises:
        InputError: credentials in it, another scheme than s3, http, https or file, no host or bucket, or no usable key.
    """
    scheme = scheme_of(path)
    if not scheme or scheme == "file" or _PLAIN.fullmatch(path):
        return
    parts = _split(path)
    if "@" in parts.netloc:
        # Not echoed: messages end in logs and tables.
        raise InputError(
            "an image's address holds credentials; take them out and use the environment, a profile or an instance role"
        )
    if scheme == "s3":
        key_of(path)
    elif scheme not in ("http", "https"):
        raise InputError(f"{shown(path)}: '{scheme}://' cannot be read; give a local path, s3://bucket/key or https://...")


def key_of(uri: str) -> tuple[str, str, str]:
    """Bucket, key and options (with their question mark) of an address in a bucket."""
    address, mark, query = uri[len("s3://") :].partition("?")
    bucket, _, key = unquote(address).partition("/")
    if not bucket or not key or key.endswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise InputError(f"{shown(uri)}: is not an address in a bucket; it is s3://bucket/key")
    try:
        locate(f"s3://{bucket}{mark}{query}")
    except StoreError:
        raise InputError(
            f"{shown(uri)}: what follows '?' is not an option of a bucket; write a question mark in a key as %3F"
        ) from None
    return bucket, key, mark + query


def ascii_url(url: str) -> str:
    """An address as HTTP wants it: other letters and spaces escaped, what is escaped already left alone."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    safe = "%/:@!$&'()*+,;=~?-._"
    return urlunsplit((parts.scheme, netloc, quote(parts.path, safe=safe), quote(parts.query, safe=safe), ""))


def _split(path: str) -> SplitResult:
    try:
        parts = urlsplit(path)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise InputError(f"{shown(path)}: is not an address; correct it") from None
    if not host or _CONTROL.search(path):
        raise InputError(f"{shown(path)}: is not an address; it is s3://bucket/key or https://host/path")
    return parts
