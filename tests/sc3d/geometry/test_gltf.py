"""Triangles that a glTF file writes as strips or fans, and geometry that it compresses."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import GeometryError
from sc3d.geometry.gltf import plain_triangles
from sc3d.geometry.mesh import load_mesh
from sc3d.geometry.templates.load import load_template

TRIANGLES, STRIP, FAN = 4, 5, 6


def triangles_of(corners: list[int], mode: int) -> list[tuple[int, int, int]]:
    """As the specification of glTF 2.0 has it in 3.7.2.1: p_i of strips and fans."""
    n = len(corners)
    if mode == TRIANGLES:
        found = [(corners[i], corners[i + 1], corners[i + 2]) for i in range(0, n - 2, 3)]
    elif mode == STRIP:
        found = [(corners[i], corners[i + 1 + i % 2], corners[i + 2 - i % 2]) for i in range(n - 2)]
    else:
        found = [(corners[i + 1], corners[i + 2], corners[0]) for i in range(n - 2)]
    return found


def document(points: np.ndarray, primitives: list[tuple[list[int] | None, int]], kind: str = "<u2") -> tuple[dict[str, Any], bytes]:
    """A glTF header with one mesh of ``primitives`` (corners or none, mode) on shared points, and its buffer."""
    blob = points.astype("<f4").tobytes()
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": len(blob)}]
    bounds = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
    accessors: list[dict[str, Any]] = [{"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3", **bounds}]
    parts = []
    for corners, mode in primitives:
        part: dict[str, Any] = {"attributes": {"POSITION": 0}, "mode": mode}
        if corners is not None:
            blob += b"\0" * (-len(blob) % 4)
            packed = np.array(corners, kind).tobytes()
            views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(packed)})
            component = {"<u1": 5121, "<u2": 5123, "<u4": 5125}[kind]
            accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(corners), "type": "SCALAR"})
            blob += packed
            part["indices"] = len(accessors) - 1
        parts.append(part)
    header = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "meshes": [{"primitives": parts}],
        "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(blob)}],
    }  # fmt: skip
    return header, blob


def as_glb(header: dict[str, Any], blob: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    size = 12 + 8 + len(text) + 8 + len(blob)
    head = b"glTF" + struct.pack("<II", 2, size)
    return head + struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(blob)) + b"BIN\0" + blob


def corners_of(points: np.ndarray, faces: np.ndarray) -> set[tuple[tuple[float, ...], ...]]:
    """Faces by the places of their corners, each begun at its smallest, so that the way round counts and the beginning does not."""
    found = set()
    for face in faces:
        places = [tuple(np.round(points[i].astype(np.float64), 4).tolist()) for i in face]
        first = places.index(min(places))
        found.add(tuple(places[first:] + places[:first]))
    return found


PRIMITIVE = st.tuples(st.none() | st.lists(st.integers(0, 11), min_size=14, max_size=18), st.sampled_from([TRIANGLES, STRIP, FAN]))


@given(st.lists(PRIMITIVE, min_size=1, max_size=4), st.sampled_from(["<u1", "<u2", "<u4"]), st.booleans())
def test_strips_and_fans_are_the_triangles_that_they_mean(
    tmp_path_factory: Any, primitives: list[tuple[list[int] | None, int]], kind: str, is_binary: bool
) -> None:
    """With and without indices, several in a mesh, turned as the specification turns them."""
    points = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    primitives = [(c[: len(c) // 3 * 3] if c and mode == TRIANGLES else c, mode) for c, mode in primitives]
    expected = [face for c, mode in primitives for face in triangles_of(list(range(12)) if c is None else c, mode)]
    folder: Path = tmp_path_factory.mktemp("gltf")
    header, blob = document(points, primitives, kind)
    if is_binary:
        (folder / "m.glb").write_bytes(as_glb(header, blob))
        mesh = load_mesh(folder / "m.glb")
        assert len(mesh.faces) == len(expected)
        assert corners_of(mesh.vertices, mesh.faces) == corners_of(points, np.array(expected))
        return
    header["buffers"][0]["uri"] = "m.bin"
    (folder / "m.bin").write_bytes(blob)
    text = plain_triangles(json.dumps(header).encode(), lambda name: (folder / name).read_bytes())
    (folder / "m.gltf").write_bytes(text)
    loaded = trimesh.load_scene(folder / "m.gltf", process=False)
    found = [(np.asarray(part.vertices), part.faces) for part in loaded.geometry.values()]
    assert sum(len(faces) for _, faces in found) == len(expected)
    assert set().union(*(corners_of(*part) for part in found)) == corners_of(points, np.array(expected))


def test_a_template_of_fans(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    primitives = [(face.tolist(), FAN) for face in box.faces]
    header, blob = document(box.vertices, primitives)
    header["buffers"][0]["uri"] = "m.bin"
    (tmp_path / "m.bin").write_bytes(blob)
    (tmp_path / "m.gltf").write_text(json.dumps(header))
    assert load_template(tmp_path / "m.gltf").mesh.diagonal == pytest.approx(3**0.5, rel=1e-5)


def test_triangles_alone_are_left_as_they_are() -> None:
    data = trimesh.creation.box().export(file_type="glb")
    assert plain_triangles(data, lambda name: b"") is data


def test_what_glb_holds_compressed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it holds the same without compression too."""
    monkeypatch.setattr("sc3d.geometry.gltf.find_spec", lambda name: None)
    box = trimesh.creation.box()
    header, blob = document(box.vertices, [(box.faces.ravel().tolist(), TRIANGLES)])
    primitive = header["meshes"][0]["primitives"][0]
    primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    path = tmp_path / "m.glb"
    path.write_bytes(as_glb(header, blob))
    assert len(load_mesh(path).faces) == 12
    for accessor in header["accessors"]:
        del accessor["bufferView"]
    path.write_bytes(as_glb(header, blob))
    for load in (load_mesh, load_template):
        with pytest.raises(GeometryError, match=r"m\.glb: .*Draco; export them without compression, or install .*DracoPy"):
            load(path)
    header, blob = document(box.vertices, [(box.faces.ravel().tolist(), TRIANGLES)])
    header["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    path.write_bytes(as_glb(header, blob))
    with pytest.raises(GeometryError, match=r"m\.glb: .*meshopt"):
        load_mesh(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header: header["meshes"][0]["primitives"][0].update(mode=9), "mode 9, which glTF does not have"),
        (lambda header: header["accessors"][1].update(count=2**40), "1,099,511,627,776 corners"),
        (lambda header: header["accessors"][1].update(count=2**20), "not a readable mesh file"),
        (lambda header: header["accessors"][1].update(sparse={}), "are sparse"),
        (lambda header: header["buffers"][0].update(uri="other.bin"), "refers to other.bin"),
    ],
)
def test_damaged_fans(tmp_path: Path, change: Any, reason: str) -> None:
    header, blob = document(np.eye(3).repeat(2, axis=0), [([0, 1, 2, 3, 4, 5], FAN)])
    change(header)
    (tmp_path / "m.glb").write_bytes(as_glb(header, blob))
    with pytest.raises(GeometryError, match=reason):
        load_mesh(tmp_path / "m.glb")
