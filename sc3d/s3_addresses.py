"""What an address in a bucket means, for everybody who reads or writes one: our own store, pyarrow, Ray and boto3.

``s3://bucket/a/key?region=...&scheme=...&endpoint_override=host:port``. The scheme may have capitals; bucket and key have the letters that
they have, spaces too, and percent escapes are decoded. Nothing else is tidied: a store tells ``a//b`` from ``a/b``, the libraries do not,
so the first is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from sc3d.display import scheme_of

OPTIONS = ("region", "scheme", "endpoint_override")
"""What may follow the question mark of the address of a run folder, and of a bucket in a configuration."""

# Amazon's rule, and what older and other stores allow besides: nothing that ends a host's name or begins a port, a path or options.
_BUCKET = re.compile(r"(?!.*\.\.)(?![0-9]+(?:\.[0-9]+){3}$)[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f]")


class Location(NamedTuple):
    """Where a folder or object is: bucket, bucket/key, and options by name, whose endpoint is ``host:port`` beside its ``scheme``."""

    bucket: str
    root: str
    options: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """What follows the bucket."""
        return self.root[len(self.bucket) + 1 :]


def is_s3(address: str) -> bool:
    """Whether an address is one in a bucket."""
    return scheme_of(address) == "s3"


def parse_s3(address: str) -> Location:
    """Take an address in a bucket apart; no request is made. Slashes at its end do not count.

    Raises:
        ValueError: it is none, or not one that can be reached; without the address, which may hold a secret.
    """
    if not is_s3(address):
        raise ValueError("is not an address in a bucket; it is s3://bucket/prefix")
    place, _, query = address[len("s3://") :].partition("?")
    root = unquote(place).rstrip("/")
    bucket, _, key = root.partition("/")
    if not bucket:
        raise ValueError("names no bucket; it is s3://bucket/prefix")
    if "@" in bucket:
        raise ValueError("credentials do not belong in an address; use the environment, a profile or an instance role")
    if not is_bucket(bucket):
        raise ValueError("what follows s3:// cannot be the name of a bucket; it is s3://bucket/prefix")
    if _CONTROL.search(key):
        raise ValueError("holds a control character; correct it")
    bad = next((part for part in key.split("/") if part in ("", ".", "..")), None) if key else None
    if bad is not None:
        raise ValueError(
            "has two slashes in a row; write one" if bad == "" else f"has a part '{bad}', which no folder is; leave it out"
        )
    return Location(bucket, root, _options(query))


def is_bucket(name: str) -> bool:
    """Whether a bucket can have that name."""
    return _BUCKET.fullmatch(name) is not None


def folder_and_name(address: str) -> tuple[str, str]:
    """The address of an object's folder, with its options, and the object's name in it.

    Raises:
        ValueError: as :func:`parse_s3`, or it names a bucket alone.
    """
    if not parse_s3(address).key:
        raise ValueError("names a bucket and nothing in it; it is s3://bucket/prefix/file")
    place, question, query = address.partition("?")
    folder, _, name = place.rstrip("/").rpartition("/")
    return f"{folder}{question}{query}", unquote(name)


def endpoint_of(text: str) -> tuple[str, str]:
    """Scheme and ``host:port`` of an endpoint that is written with a scheme or without one, which means https.

    Raises:
        ValueError: it is no endpoint; without the text, which may hold a secret.
    """
    advice = "an endpoint is host:port, http://host:port or https://host:port"
    scheme = scheme_of(text)
    try:
        parts = urlsplit(text if scheme else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(advice) from None
    if (
        scheme not in ("", "http", "https")
        or not host
        or "@" in parts.netloc
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError(advice)
    if any(c.isspace() or c in "\\," for c in host):
        raise ValueError(advice)
    name = f"[{host}]" if ":" in host else host
    return scheme or "https", name if port is None else f"{name}:{port}"


def _options(query: str) -> tuple[tuple[str, str], ...]:
    given = parse_qsl(query, keep_blank_values=True)
    found = dict(given)
    unknown = [name for name in found if name not in OPTIONS]
    if unknown:
        raise ValueError(f"there is no option '{unknown[0]}'; an address takes {', '.join(OPTIONS)}")
    if len(found) < len(given):
        raise ValueError("names an option twice")
    if "scheme" in found and found["scheme"].lower() not in ("http", "https"):
        raise ValueError("its scheme is http or https")
    if "endpoint_override" in found:
        endpoint = found["endpoint_override"]
        scheme, found["endpoint_override"] = endpoint_of(endpoint)
        stated = found.get("scheme", scheme).lower()
        if scheme_of(endpoint) and stated != scheme:
            raise ValueError(f"its endpoint begins with {scheme}://, and its scheme is {stated}")
        found["scheme"] = stated
    return tuple(found.items())
