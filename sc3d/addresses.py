"""Where images lie: local paths, and addresses of a bucket or of the web. Nothing is asked of anybody here.

Addresses come from data, so from anybody: they name an object or a file on the web, and never how or by which server it is reached.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from sc3d.display import scheme_of, shown
from sc3d.errors import InputError
from sc3d.s3_addresses import Location, is_s3, parse_s3

ANY_BUCKET = "s3://*"
"""Among :func:`buckets_of`: all that are not named."""

# What needs no closer look: nothing escaped, no options, no credentials.
_PLAIN = re.compile(r"(?:s3|https?)://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?:/(?!\.\.?(?:/|$))[^/?#%@\\\x00-\x1f]+)+")
_CONTROL = re.compile(r"[\x00-\x1f]")
_ANY = "any-bucket"


def check_address(path: str) -> None:
    """Check an address without asking anybody; local paths pass.

    What follows ``?`` in a bucket is left to :func:`object_of`, so that it concerns one photo and not the table that names it.

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
        object_of(path.partition("?")[0])
    elif scheme not in ("http", "https"):
        raise InputError(f"{shown(path)}: '{scheme}://' cannot be read; give a local path, s3://bucket/key or https://...")


def object_of(uri: str) -> tuple[str, str]:
    """Bucket and key of an address in a bucket, ``s3://bucket/key``, whose percent escapes are decoded.

    Raises:
        InputError: it is none, or has options: which server has the bucket is not for an address to say.
    """
    address, options, _ = uri.partition("?")
    if options:
        raise InputError(
            f"{shown(uri)}: an address in a bucket has no options; write a question mark in a key as %3F, and say in "
            "dataset.download.buckets where a bucket lies"
        )
    try:
        found = parse_s3(address)
    except ValueError as error:
        raise InputError(f"{shown(uri)}: {error}") from None
    if not found.key or address.endswith("/"):
        raise InputError(f"{shown(uri)}: is not an address in a bucket; it is s3://bucket/key")
    return found.bucket, found.key


def buckets_of(listed: Iterable[str]) -> dict[str, Location]:
    """The buckets of a configuration's list by name: ``s3://bucket`` or :data:`ANY_BUCKET`, with the options of a run folder's URI.

    Raises:
        ValueError: an entry is something else.
    """
    found: dict[str, Location] = {}
    for entry in listed:
        # A name that every bucket can have stands for those that are not named, so that there is one parser.
        is_any = is_s3(entry) and entry[len("s3://") :].partition("?")[0].rstrip("/") == "*"
        try:
            location = parse_s3(entry.replace("*", _ANY, 1) if is_any else entry)
        except ValueError as error:
            raise ValueError(
                f"'{shown(entry)}' is not a bucket ({error}); it is s3://bucket, or {ANY_BUCKET} for all others"
            ) from None
        if location.key:
            raise ValueError(f"'{shown(entry)}' is not a bucket; it is s3://bucket, or {ANY_BUCKET} for all others")
        found["*" if is_any else location.bucket] = location
    return found


def locate_bucket(bucket: str, listed: Iterable[str]) -> Location:
    """Where a bucket lies that data names, as a configuration's list says.

    Raises:
        InputError: the list has neither it nor :data:`ANY_BUCKET`.
    """
    buckets = buckets_of(listed)
    found = buckets.get(bucket, buckets.get("*"))
    if found is None:
        raise InputError(f"bucket '{bucket}' is not one of dataset.download.buckets; add s3://{bucket} there if it is meant")
    return found._replace(bucket=bucket, root=bucket)


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
