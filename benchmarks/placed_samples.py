"""Sample meshes by other artists with a truth of their own: the bones of rigged animals, the wheels of cars.

Points correspond if they are of the same bone or wheel and lie alike in the box around it. What has no such name (a car's body) is not
judged: nothing says where on another body it lies.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from sc3d.datasets.toys.places import PlacedMesh, Places
from sc3d.geometry.mesh import clean_mesh, load_mesh, to_unit_box

FAMILIES = ("animals", "cars")
MAX_VERTICES = 4000
_UNNAMED = "-"
_COMPONENTS = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def placed_samples(folder: Path, family: str) -> list[PlacedMesh]:
    """The meshes ``animal_*.glb`` or ``car_*.glb`` of a folder with the places of their vertices; none where it is absent."""
    return [_placed(path, family) for path in sorted(folder.glob(f"{family.removesuffix('s')}_*.glb"))]


def _placed(path: Path, family: str) -> PlacedMesh:
    raw = load_mesh(path)
    names = np.array(_vertex_names(path, family))
    mesh = to_unit_box(clean_mesh(raw.vertices, raw.faces, max_vertices=MAX_VERTICES))
    # Cleaning moves and joins vertices; each takes the name of what lay nearest.
    named = names[cKDTree(to_unit_box(raw).vertices).query(mesh.vertices)[1]]
    known, part = np.unique(named, return_inverse=True)
    within = np.zeros((len(mesh.vertices), 3), np.float32)
    for index in range(len(known)):
        rows = part == index
        lower, upper = mesh.vertices[rows].min(axis=0), mesh.vertices[rows].max(axis=0)
        within[rows] = (mesh.vertices[rows] - (lower + upper) / 2) / np.maximum((upper - lower) / 2, 1e-6)
    # Unnamed parts of different files must not correspond.
    labels = tuple(f"{path.stem}: {_UNNAMED}" if name == _UNNAMED else str(name) for name in known)
    return PlacedMesh(mesh, Places(labels, part.astype(np.int16), within))


def _vertex_names(path: Path, family: str) -> list[str]:
    """The bone or wheel of each vertex, in the order in which :func:`~sc3d.geometry.mesh.load_mesh` has them."""
    import trimesh

    scene = trimesh.load_scene(path, process=False)
    if family == "cars":
        return [
            node if "wheel" in node else _UNNAMED
            for node in scene.graph.nodes_geometry
            for _ in scene.geometry[scene.graph[node][1]].vertices
        ]
    bones = dict(_skinned(path))
    vertices = [scene.geometry[scene.graph[node][1]].vertices for node in scene.graph.nodes_geometry]
    return [name for part in vertices for name in bones[len(part)]]


def _skinned(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The bone with the largest weight at each vertex, for each skinned primitive of a binary glTF file, by its number of vertices."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    scene = json.loads(data[20 : 20 + length])
    binary = data[20 + length + 8 :]
    for node in scene["nodes"]:
        if "skin" not in node:
            continue
        joints = [scene["nodes"][joint]["name"] for joint in scene["skins"][node["skin"]]["joints"]]
        for primitive in scene["meshes"][node["mesh"]]["primitives"]:
            index, weight = (_accessor(scene, binary, primitive["attributes"][name]) for name in ("JOINTS_0", "WEIGHTS_0"))
            chosen = index[np.arange(len(index)), weight.argmax(axis=1)]
            yield len(index), [joints[int(joint)] for joint in chosen]


def _accessor(scene: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    accessor = scene["accessors"][number]
    view = scene["bufferViews"][accessor["bufferView"]]
    kind, width, count = np.dtype(_COMPONENTS[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", kind.itemsize * width)
    return np.ndarray((count, width), kind, binary, start, (stride, kind.itemsize))
