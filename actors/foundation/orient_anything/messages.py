"""What travels between a process and its worker: named arrays as safetensors, after their length in bytes. Nothing is unpickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from safetensors.numpy import load, save

LENGTH = struct.Struct("<Q")
LARGEST = 1 << 31
"""Bytes of a message; a larger length is no length but something else that was written to the pipe."""

OUT_OF_MEMORY = "OutOfMemoryError"
"""The class of the error after which a worker goes on."""

_ERROR = "error"


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A message with its length in front."""
    body = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    return LENGTH.pack(len(body)) + body


def decode(body: bytes) -> dict[str, np.ndarray]:
    """The arrays of a message without its length. Raises whatever safetensors does for a damaged one."""
    return load(body)


def encode_error(error: BaseException) -> bytes:
    """An error as a message: the name of its class, and what it says."""
    text = json.dumps([type(error).__name__, str(error)])
    return encode({_ERROR: np.frombuffer(text.encode(), np.uint8)})


def error_of(arrays: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Class name and text if a message is an error."""
    if _ERROR not in arrays:
        return None
    kind, text = json.loads(arrays[_ERROR].tobytes())
    return str(kind), str(text)


def read(stream: BinaryIO) -> dict[str, np.ndarray] | None:
    """The next message of a blocking stream; ``None`` at its end.

    Raises:
        EOFError: the stream ends in the middle of a message.
    """
    head = stream.read(LENGTH.size)
    if not head:
        return None
    if len(head) < LENGTH.size:
        raise EOFError("the stream ends in the length of a message")
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError(f"the stream ends after {len(body)} of {length} bytes of a message")
    return decode(body)
