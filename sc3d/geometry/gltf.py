"""What glTF files say in other ways than as plain triangles: strips and fans are written out, compressed geometry is refused by name.

glTF 2.0 specification, sections 3.7.2.1 (the order of corners in strips and fans) and 3.6.2 (accessors).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from sc3d.errors import GeometryError

_MAGIC, _JSON = b"glTF", b"JSON"
_HEAD, _CHUNK = 12, 8
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_INDEX_TYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4"}
_MAX_CORNERS = 100_000_000
_DRACO, _MESHOPT = "KHR_draco_mesh_compression", "EXT_meshopt_compression"


def plain_triangles(data: bytes, read: Callable[[str], bytes]) -> bytes:
    """A ``.glb`` or ``.gltf`` file as one whose triangles are all written out; the same bytes where they are already.

    Points and lines are left as they are.

    Args:
        data: the file.
        read: gives what a buffer's address means that is no ``data:`` address; what it raises is passed on.

    Raises:
        GeometryError: compressed with Draco, while DracoPy is not installed, or with meshopt; or an unknown kind of primitive.
        Exception: whatever a damaged file makes the parsing stumble over.
    """
    is_binary = data.startswith(_MAGIC)
    length = int.from_bytes(data[_HEAD : _HEAD + 4], "little")
    end = _HEAD + _CHUNK + length
    header = json.loads(data[_HEAD + _CHUNK : end] if is_binary else data)
    primitives = [primitive for mesh in header.get("meshes", []) for primitive in mesh["primitives"]]
    _check_compression(header, primitives)
    others = [primitive for primitive in primitives if primitive.get("mode", _TRIANGLES) > _TRIANGLES]
    if not others:
        return data
    buffers = _Buffers(header, data[end:] if is_binary else b"", read)
    for primitive in others:
        corners = buffers.indices(primitive)
        _add_indices(header, primitive, _faces(corners, primitive["mode"]))
    text = json.dumps(header).encode()
    if not is_binary:
        return text
    text += b" " * (-len(text) % 4)
    size = _HEAD + _CHUNK + len(text) + len(data) - end
    return data[:8] + size.to_bytes(4, "little") + len(text).to_bytes(4, "little") + _JSON + text + data[end:]


def _check_compression(header: dict[str, Any], primitives: list[dict[str, Any]]) -> None:
    if any(_MESHOPT in view.get("extensions", {}) for view in header.get("bufferViews", [])):
        raise GeometryError("its meshes are compressed with meshopt, which is not read; export them without compression")
    accessors = header.get("accessors", [])
    for primitive in primitives:
        # A file may hold the same geometry without compression for those who cannot read it.
        is_only = "bufferView" not in accessors[primitive["attributes"]["POSITION"]]
        if _DRACO in primitive.get("extensions", {}) and is_only and find_spec("DracoPy") is None:
            raise GeometryError(
                "its meshes are compressed with Draco; export them without compression, or install the reader: pip install DracoPy"
            )


class _Buffers:
    """The bytes that a file's accessors are in. ``chunks``: what follows the JSON of a binary file."""

    def __init__(self, header: dict[str, Any], chunks: bytes, read: Callable[[str], bytes]) -> None:
        self._header, self._chunks, self._read = header, chunks, read

    def indices(self, primitive: dict[str, Any]) -> np.ndarray:
        """The corners (N,) int64 of a primitive in their order."""
        if _DRACO in primitive.get("extensions", {}):
            raise GeometryError("its strips or fans are compressed with Draco; export them as triangles")
        if "indices" not in primitive:
            count = self._header["accessors"][primitive["attributes"]["POSITION"]]["count"]
            _check_count(count)
            return np.arange(count)
        accessor = self._header["accessors"][primitive["indices"]]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise GeometryError("the indices of its strips or fans are sparse; export them as triangles")
        _check_count(accessor["count"])
        view = self._header["bufferViews"][accessor["bufferView"]]
        offset = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        kind = _INDEX_TYPES[accessor["componentType"]]
        found: np.ndarray = np.frombuffer(self._buffer(view["buffer"]), kind, accessor["count"], offset)
        return found.astype(np.int64)

    def _buffer(self, index: int) -> bytes:
        uri = self._header["buffers"][index].get("uri")
        if uri is None:
            return self._chunks[_CHUNK:]
        return base64.b64decode(uri.partition(",")[2]) if uri.startswith("data:") else self._read(uri)


def _check_count(count: int) -> None:
    if not 0 <= count <= _MAX_CORNERS:
        raise GeometryError(f"a strip or fan of {count:,} corners; export a coarser mesh")


def _faces(corners: np.ndarray, mode: int) -> np.ndarray:
    """The triangles (F, 3) of a strip or fan."""
    if mode not in (_STRIP, _FAN):
        raise GeometryError(f"a primitive of the mode {mode}, which glTF does not have; export it again")
    i = np.arange(max(len(corners) - 2, 0))
    places = [i, i + 1 + i % 2, i + 2 - i % 2] if mode == _STRIP else [i + 1, i + 2, np.zeros_like(i)]
    return np.asarray(corners[np.stack(places, axis=1)])


def _add_indices(header: dict[str, Any], primitive: dict[str, Any], faces: np.ndarray) -> None:
    """Make a primitive triangles: with an accessor, a view and a buffer more."""
    packed = faces.astype("<u4").tobytes()
    uri = f"data:application/octet-stream;base64,{base64.b64encode(packed).decode()}"
    header["buffers"] = [*header.get("buffers", []), {"byteLength": len(packed), "uri": uri}]
    view = {"buffer": len(header["buffers"]) - 1, "byteLength": len(packed)}
    header["bufferViews"] = [*header.get("bufferViews", []), view]
    accessor = {"bufferView": len(header["bufferViews"]) - 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"}
    header["accessors"] = [*header["accessors"], accessor]
    primitive |= {"mode": _TRIANGLES, "indices": len(header["accessors"]) - 1}
