"""Photos and masks that lie in a bucket or on the web.

A photo that cannot be had is an :class:`~sc3d.errors.InputError`, which rejects it alone. A bucket's store that is away, or that does not
accept the credentials, says nothing about the photo: that stays a :class:`~sc3d.errors.StoreError`, which ends the run until it is back.
Web servers are many, and none of them is ours, so each photo stands for itself.

Addresses are data: which servers may be asked, and by which way a bucket is reached, says the configuration alone
(:class:`~sc3d.config.DownloadConfig`, :mod:`sc3d.web_hosts`).

No message holds what follows the question mark of an address, which may be a signature, nor anything that the server said.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from sc3d import __version__
from sc3d.addresses import ascii_url, check_address, locate_bucket, object_of
from sc3d.config import DownloadConfig
from sc3d.display import scheme_of, shown
from sc3d.errors import BucketError, InputError, MissingFileError, StoreDeniedError
from sc3d.store_errors import is_silent
from sc3d.store_retry import patiently
from sc3d.store_s3 import S3Store
from sc3d.web_connections import WebHandler
from sc3d.web_hosts import HostRefusedError, Hosts

MAX_REDIRECTS = 5

_REDIRECTS = {301, 302, 303, 307, 308}
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_CHUNK_BYTES = 1 << 18
_HEADERS = {"User-Agent": f"sc3d/{__version__}", "Accept": "image/*,*/*;q=0.1"}
_LONGEST_WAIT_S = 4.0
_PAGE = re.compile(rb"[\xef\xbb\xbf\s]*<(!doctype\s+html|html)", re.IGNORECASE)
_REASONS = {
    401: "the server asks for a login (401); sc3d sends none: use a signed address, or copy the photo into a bucket",
    403: "the server refuses it (403); has a signed address expired, or does it need a login? Sign it anew or remove it",
    404: "the server does not have it (404); correct the address or remove it",
    410: "the server does not have it any more (410); remove it",
}


class _PassingError(Exception):
    """What the same request may not meet a little later."""


def read_object(uri: str, buckets: Sequence[str] = DownloadConfig().buckets, max_bytes: int | None = None) -> bytes:
    """An object of a bucket, ``s3://bucket/key``; percent escapes in the key are decoded.

    Args:
        uri: the address, which has no options.
        buckets: ``dataset.download.buckets``.
        max_bytes: larger objects are not read.

    Raises:
        InputError: there is no such object or bucket, it is refused while the bucket is not, it is archived, or larger than ``max_bytes``;
            or the bucket is not one of ``buckets``.
        StoreError: the store is away, or does not accept the credentials.
    """
    check_address(uri)
    bucket, key = object_of(uri)
    # One client a bucket, not one a folder.
    store = S3Store(locate_bucket(bucket, buckets))
    name = shown(uri)
    try:
        return patiently(lambda: store.read(f"{bucket}/{key}", max_bytes), f"s3://{bucket}", "read", name)
    except MissingFileError:
        raise InputError(f"{name}: cannot be read (no such object in the bucket); correct the address or remove it") from None
    except BucketError:
        raise InputError(
            f"{name}: there is no bucket '{bucket}', or it lies elsewhere; correct the address, or say in dataset.download.buckets where "
            "it lies"
        ) from None
    except StoreDeniedError as error:
        cause = str(error.__cause__)
        if "InvalidObjectState" in cause or "INVALID_OBJECT_STATE" in cause:
            raise InputError(f"{name}: lies in an archive tier of the bucket; restore it first") from None
        # The store has shown by then that it knows the credentials and lets them list the bucket.
        if isinstance(error.__cause__, OSError) and is_silent(error.__cause__):
            raise InputError(f"{name}: cannot be read (refused, though the bucket is not); allow s3:GetObject on it") from None
        raise


def read_url(url: str, limits: DownloadConfig | None = None) -> bytes:
    """What an ``http://`` or ``https://`` address holds, of hosts that ``limits.hosts`` allows.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY). One that is used looks names up itself, so it is trusted with where they
    lead: addresses and names without a public form are refused before it is asked.

    Silence, lost connections and the answers 408, 425, 429 and 5xx are tried again; everything together ends at ``limits.deadline``.

    Raises:
        InputError: it cannot be had in time, is too large, is a web page, or it or what it leads to may not be asked.
    """
    limits = limits or DownloadConfig()
    check_address(url)
    end = time.monotonic() + limits.deadline
    attempts = Retrying(
        retry=retry_if_exception_type(_PassingError),
        stop=stop_after_attempt(limits.attempts) | stop_after_delay(limits.deadline),
        wait=wait_random_exponential(multiplier=0.5, max=min(_LONGEST_WAIT_S, limits.deadline / 4)),
        reraise=True,
    )
    try:
        data = attempts(lambda: _Download(url, limits, end).run())
    except _PassingError as error:
        raise InputError(f"{shown(url)}: {error}; try again later with --retry-rejects, or copy the photo into a bucket") from None
    if _PAGE.match(data):
        raise InputError(
            f"{shown(url)}: is a web page, not an image; give the address of the image itself, one that needs no login"
        )
    return data


class _Download:
    """One try. It runs in a thread of its own, since neither the look-up of a name nor a server that sends a byte now and then obeys a
    socket's timeout as a whole; when time is up, its socket is shut under it, and so the thread ends as well."""

    def __init__(self, url: str, limits: DownloadConfig, end: float) -> None:
        self._url, self._limits, self._end = url, limits, end
        self._socket: socket.socket | None = None
        self._data = b""
        self._error: Exception | None = None

    def run(self) -> bytes:
        thread = threading.Thread(target=self._work, name="sc3d-download", daemon=True)
        thread.start()
        thread.join(max(0.0, self._end - time.monotonic()))
        if thread.is_alive():
            self._shut()
            raise self._late()
        if self._error is not None:
            raise self._error
        return self._data

    def _late(self) -> _PassingError:
        return _PassingError(f"did not come within {self._limits.deadline:g} s")

    def _work(self) -> None:
        try:
            self._data = self._fetch()
        except Exception as error:  # it is raised again in the caller's thread
            self._error = _told(error, self._url, self._limits)

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def _opened(self, opened: socket.socket) -> None:
        self._socket = opened
        if time.monotonic() > self._end:
            self._shut()

    def _fetch(self) -> bytes:
        url = self._url
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            WebHandler(Hosts.of(self._limits.hosts), self._opened),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            opener.add_handler(handler)
        for _ in range(MAX_REDIRECTS + 1):
            request = urllib.request.Request(ascii_url(url), headers=_HEADERS)  # noqa: S310
            try:
                with opener.open(request, timeout=self._limits.timeout) as answer:
                    return self._body(answer)
            except HostRefusedError as error:
                raise InputError(f"{shown(self._url)}: {_refused(error, url == self._url)}") from None
            except urllib.error.HTTPError as error:
                # Its body may be endless, so it is not read.
                error.close()
                target = error.headers.get("Location", "")
                if error.code not in _REDIRECTS or not target:
                    raise
                url = urljoin(url, target)
                if scheme_of(url) not in ("http", "https") or "@" in urlsplit(url).netloc:
                    raise InputError(
                        f"{shown(self._url)}: leads to an address that is not followed; only http and https are"
                    ) from None
        raise InputError(f"{shown(self._url)}: leads on more than {MAX_REDIRECTS} times; give the address of the image itself")

    def _body(self, answer: Any) -> bytes:
        most = self._limits.max_bytes
        length = answer.headers.get("Content-Length", "")
        announced = int(length) if length.isdecimal() else None
        data = bytearray()
        while (announced is None or announced <= most) and len(data) <= most:
            if time.monotonic() > self._end:
                raise self._late()
            chunk = answer.read1(_CHUNK_BYTES)
            if not chunk:
                if announced is not None and len(data) < announced:
                    raise ConnectionResetError
                return bytes(data)
            data += chunk
        size = f"of {announced / 1e6:.0f} MB " if announced is not None else ""
        raise InputError(
            f"{shown(self._url)}: the file {size}is larger than {self._limits.max_megabytes:g} MB; scale it down, or raise "
            "dataset.download.max_megabytes"
        )


def _refused(error: HostRefusedError, asked: bool) -> str:
    if asked:
        return f"its host may not be asked: {error}. Where that is meant, add it to dataset.download.hosts"
    # Whom it names is for the server to say, and not for a message.
    return "leads to a host that may not be asked; give the address of the image itself, or add that host to dataset.download.hosts"


def _told(error: Exception, url: str, limits: DownloadConfig) -> Exception:
    """What a failure says to people, without the address that it may hold."""
    if isinstance(error, (InputError, _PassingError)):
        return error
    name = shown(url)
    if isinstance(error, urllib.error.HTTPError):
        if error.code in _TRANSIENT:
            return _PassingError(f"the server cannot give it now ({error.code})")
        answer = _REASONS.get(error.code, f"the server answers with {error.code}; correct the address or remove it")
        return InputError(f"{name}: {answer}")
    reason: object = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return _PassingError(f"the server says nothing for {limits.timeout:g} s")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(f"{name}: the server's certificate is not valid; correct the address, or this machine's certificates")
    if isinstance(reason, socket.gaierror):
        if reason.errno == socket.EAI_NONAME:
            return InputError(f"{name}: there is no such host; correct the address, or this machine's name server")
        return _PassingError("the host's name cannot be looked up")
    if isinstance(reason, ConnectionRefusedError):
        return _PassingError("the server takes no connections")
    if isinstance(reason, (OSError, http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return _PassingError("the connection was lost")
    return InputError(f"{name}: the server does not speak HTTP, or the address is not one ({type(reason).__name__}); correct it")
