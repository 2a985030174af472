"""Objects of a run folder in an S3 bucket, through pyarrow, and one request that pyarrow does not have: create unless it is there.

What pyarrow's S3 file system does that one would not expect, seen with version 26:

- ``open_input_stream(...).read()`` fetches 256 KiB a request, 78 requests for 20 MB; ``open_input_file`` fetches all in one.
- A plain ``open_output_stream`` starts a multipart upload, three requests for any object. ``allow_delayed_open`` makes it one.
- With ``allow_delayed_open``, a large object (over 10 MB) whose multipart upload cannot be started leaves an **empty object** of its name:
  the stream is closed, and closing it uploads what it has. So large objects do not use it.
- A stream that is closed or collected before anything was written uploads an empty object. So a write is not done in the main thread,
  where an interrupt could come between opening and writing.
- A read asks for the size and then for so many bytes. If the object is replaced in between by a longer one, that is the start of it.
- ``delete_file`` leaves a marker object for the folder, named with a slash at its end; it is no file to anybody.
- On Linux ``request_timeout`` is not ignored, as its documentation says: it is how long less than a byte a second may come.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from sc3d.display import shown
from sc3d.errors import StoreError
from sc3d.local_files import too_large
from sc3d.s3_addresses import Location, endpoint_of, parse_s3
from sc3d.store_errors import ShortReadError, is_silent, missing_bucket

ResultT = TypeVar("ResultT")

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
"""A connection on which no byte has moved for so long is given up."""

SINGLE_PUT_BYTES = 8_000_000
"""Objects up to this size are written in one request. pyarrow cuts larger ones than 10 MB into parts."""

# One quick retry inside the client, since that is where it corrects for a clock that is off; all further patience is ours.
_CLIENT_ATTEMPTS = 2
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict"}


def locate(uri: str) -> Location:
    """Take the address of a run folder apart: :func:`~sc3d.s3_addresses.parse_s3`.

    Raises:
        StoreError: it is no address in a bucket.
    """
    try:
        return parse_s3(uri)
    except ValueError as error:
        raise StoreError(f"{shown(uri)}: {error}") from None


class S3Store:
    """Paths (bucket/key) to bytes. Raises OSError as pyarrow does; see :mod:`sc3d.store_errors` for what it means.

    Nothing is opened before the first request.
    """

    def __init__(self, location: Location) -> None:
        self._location = location

    def arrow(self) -> pafs.FileSystem:
        """The bucket's file system for others who take one of pyarrow, as Ray does; its paths are bucket/key."""
        return self._files()

    def exists(self, path: str) -> bool:
        """Whether there is an object of that path."""
        try:
            # One request. Asking for the file's information takes two where there is none, the second of them a listing.
            self._ask(lambda files: files.open_input_file(path).close())
        except FileNotFoundError:
            self._require_bucket()
            return False
        return True

    def files(self, folder: str) -> list[str]:
        """Paths of all objects below a folder; none if there are none."""
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        found = [i.path for i in self._ask(lambda files: files.get_file_info(selector)) if i.type == pafs.FileType.File]
        if not found:
            self._require_bucket()
        return found

    def read(self, path: str, max_bytes: int | None = None) -> bytes:
        """The whole content of an object. While it is replaced by a longer one, the start of that may come.

        Raises:
            InputError: it is larger than ``max_bytes``, and was not read.
        """

        def read(files: pafs.S3FileSystem) -> bytes:
            with files.open_input_file(path) as stream:
                size = stream.size()
                if max_bytes is not None and size > max_bytes:
                    raise too_large(f"s3://{path}", size, max_bytes)
                data = bytes(stream.read())
            if len(data) != size:
                raise ShortReadError(f"{len(data)} of {size} bytes came")
            return data

        try:
            return self._ask(read)
        except FileNotFoundError:
            self._require_bucket()
            raise

    def open(self, path: str) -> pa.NativeFile:
        """An object of which parts can be read; each is a request, and the size is one."""
        try:
            return self._ask(lambda files: files.open_input_file(path))
        except FileNotFoundError:
            self._require_bucket()
            raise

    def version(self, path: str) -> str:
        """What tells this version of an object from others, by one request and without reading it: its size and entity tag."""

        def ask(files: pafs.S3FileSystem) -> str:
            with files.open_input_file(path) as stream:
                facts = stream.metadata()
                return f"{stream.size()} {facts.get('ETag', facts.get('Last-Modified', b'')).decode()}"

        return self._ask(ask)

    def write(self, path: str, data: bytes, check: Callable[[], None] = lambda: None) -> None:
        """Write an object whole, replacing an older one in one step. ``check`` is called before, and raises what forbids it."""
        files = self._files(single_put=len(data) <= SINGLE_PUT_BYTES)

        def write() -> None:
            check()
            with files.open_output_stream(path) as stream:
                stream.write(data)

        _beside(write)

    def delete(self, path: str) -> None:
        """Delete an object if it is there."""
        try:
            self._ask(lambda files: files.delete_file(path))
        except FileNotFoundError:
            return

    def remove_leftovers(self) -> int:
        """Nothing: an object that was not written whole is not there."""
        return 0

    def create(self, path: str, data: bytes) -> bool | None:
        """Write an object unless there is one of that path; False if there is.

        None where that cannot be had: boto3 is not installed, or the store does not heed the condition.
        """
        probe = f"{path}.probe-{uuid.uuid4().hex}"
        try:
            if not self._put_if_absent(probe, b"") or self._put_if_absent(probe, b""):
                return None
            return self._put_if_absent(path, data)
        except _NotOfferedError:
            return None
        finally:
            self.delete(probe)

    def _put_if_absent(self, path: str, data: bytes) -> bool:
        try:
            from botocore import exceptions as refusals
        except ImportError:
            raise _NotOfferedError from None
        bucket, _, key = path.partition("/")
        try:
            client = _open_client(self._location, self._files().region, *self._surroundings())
            client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except refusals.ClientError as error:
            code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code in _REFUSED or status in (409, 412):
                return False
            if code == "NotImplemented" or status == 501:
                raise _NotOfferedError from None
            raise OSError(f"AWS Error {code} (HTTP status {status}) during PutObject operation: {error}") from error
        except refusals.ParamValidationError:
            raise _NotOfferedError from None
        except refusals.NoCredentialsError as error:
            raise OSError(f"AWS Error ACCESS_DENIED during PutObject operation: {error}") from error
        except refusals.BotoCoreError as error:
            raise OSError(f"AWS Error NETWORK_CONNECTION during PutObject operation: {error}") from error
        return True

    def _files(self, single_put: bool = True) -> pafs.S3FileSystem:
        return _open(self._location, single_put, *self._surroundings())

    @staticmethod
    def _surroundings() -> tuple[int, int]:
        """What a client depends on besides the location: the environment, and the process, since it does not outlive a fork."""
        return hash(tuple((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))), os.getpid()

    def _ask(self, question: Callable[[pafs.S3FileSystem], ResultT]) -> ResultT:
        files = self._files()
        try:
            return question(files)
        except OSError as error:
            if not is_silent(error):
                raise
            # A listing is answered with a reason. Where it is allowed, the refusal is about the object itself.
            files.get_file_info(pafs.FileSelector(f"{self._location.bucket}/{uuid.uuid4().hex}", allow_not_found=True))
            raise

    def _require_bucket(self) -> None:
        """Raise :class:`BucketError` if there is no bucket: a missing one looks like one without the object."""
        bucket = self._location.bucket
        if (bucket, os.getpid()) in _seen:
            return
        try:
            missing = self._files().get_file_info(bucket).type == pafs.FileType.NotFound
        except OSError as error:
            if not is_silent(error):
                raise
            missing = False
        if missing:
            raise missing_bucket(f"cannot use s3://{self._location.root}", bucket)
        _seen.add((bucket, os.getpid()))


class _NotOfferedError(Exception):
    """This store has no conditional writes."""


_seen: set[tuple[str, int]] = set()


@lru_cache(maxsize=16)
def _open(location: Location, single_put: bool, environment: int, process: int) -> pafs.S3FileSystem:
    # Shared by all run folders of a process, since opening one may ask the machine's metadata service for credentials.
    options: dict[str, Any] = {**_endpoint(location), **dict(location.options)}
    if "endpoint_override" not in options and "region" not in options:
        options["region"] = pafs.resolve_s3_region(location.bucket)
    return pafs.S3FileSystem(
        **options,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        allow_delayed_open=single_put,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_CLIENT_ATTEMPTS),
    )


@lru_cache(maxsize=4)
def _open_client(location: Location, region: str, environment: int, process: int) -> Any:
    import boto3
    from botocore.config import Config

    endpoint = _endpoint(location)
    style = {"addressing_style": "path"} if endpoint else {}
    retries = {"total_max_attempts": _CLIENT_ATTEMPTS, "mode": "standard"}
    settings = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=REQUEST_TIMEOUT_S, retries=retries, s3=style)
    url = f"{endpoint['scheme']}://{endpoint['endpoint_override']}" if endpoint else None
    # A session of its own: the default one is not to be shared between threads.
    return boto3.Session().client("s3", endpoint_url=url, region_name=region, config=settings)


def _endpoint(location: Location) -> dict[str, str]:
    """Scheme and host of a store that is not Amazon's, from the address or the environment; empty for Amazon's."""
    options = dict(location.options)
    if "endpoint_override" in options:
        return {name: options[name] for name in ("scheme", "endpoint_override")}
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if text := os.environ.get(variable):
            try:
                scheme, host = endpoint_of(text)
            except ValueError as error:
                raise StoreError(f"the environment's {variable} cannot be used: {error}") from None
            return {"scheme": scheme, "endpoint_override": host}
    return {}


def _beside(action: Callable[[], None]) -> None:
    """Run an action in a thread of its own: there, no signal interrupts it between two of its steps."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # it is raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="sc3d-write", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
