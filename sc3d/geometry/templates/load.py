"""A user's mesh file as a template: joined, welded, decimated, turned upright and forward, scaled to the unit box, refined for matching.

glTF, OBJ and PLY, whole or broken: several objects, a million faces, holes, any unit. Colours are decoration: where a file's cannot be
read, the template is grey.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from trimesh.resolvers import Resolver

from sc3d.errors import GeometryError, InputError
from sc3d.geometry.geodesic_graph import refine_long_edges
from sc3d.geometry.gltf import plain_triangles
from sc3d.geometry.mesh import MAX_MESH_BYTES, Mesh, clean_mesh, to_unit_box
from sc3d.geometry.open3d_binding import open3d_binding
from sc3d.geometry.templates.template import GREY, Template
from sc3d.local_files import read_local

TEMPLATE_FORMATS = (".glb", ".gltf", ".obj", ".ply")

LONGEST_EDGE = 0.06
"""Of a template's mesh, in sides of its box: matches are told by the nearest vertex."""

MAX_VERTICES = 4000
"""Of a template before its long edges are cut."""

AXES = ("+x", "-x", "+y", "-y", "+z", "-z")

_MAX_FACES = 20_000_000
# A picture is unpacked to colour faces; one of more than 8,000 x 8,000 is not worth its memory.
_MAX_TEXELS = 64_000_000


def load_template(path: str | Path, up: str = "+y", front: str = "+z", max_vertices: int = MAX_VERTICES) -> Template:
    """Read a mesh file as a template.

    Args:
        path: glTF (``.glb``, ``.gltf``), OBJ or PLY. What a file refers to is read only from its own folder and those below it.
        up, front: which of the file's axes (``+x`` to ``-z``) point up, and to where the object faces; the defaults are glTF's.
        max_vertices: meshes are decimated to so many, before edges longer than :data:`LONGEST_EDGE` are cut.

    Raises:
        GeometryError: another format, an unreadable file, no usable triangles, coordinates that are not finite, or axes that are no two
            different directions.
    """
    path = Path(path)
    turn = axes_rotation(up, front)
    if path.suffix.lower() not in TEMPLATE_FORMATS:
        raise GeometryError(f"{path}: templates are read from {', '.join(TEMPLATE_FORMATS)} files, not '{path.suffix}'")
    try:
        vertices, faces, colours = _read(path)
        return make_template(vertices @ turn.T, faces, colours, max_vertices)
    except (InputError, GeometryError) as error:
        text = str(error)
        raise GeometryError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except Exception as error:
        # The parsers raise whatever a damaged byte makes them stumble over, from KeyError to struct.error.
        raise GeometryError(f"{path} is not a readable mesh file ({type(error).__name__}: {error})") from None


def make_template(
    vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | None = None, max_vertices: int = MAX_VERTICES
) -> Template:
    """A template of a mesh (V, 3), (F, 3) that is y up with its front towards +z, with linear RGB ``colours`` (F, 3) of its faces.

    Raises:
        GeometryError: the mesh cannot be used.
    """
    given = Mesh(vertices, faces)
    clean = to_unit_box(clean_mesh(given.vertices, given.faces, max_vertices))
    points, triangles = refine_long_edges(clean.vertices, clean.faces, LONGEST_EDGE)
    # The precision that meshes are stored with: a template is the same before and after it was written.
    mesh = Mesh(points.astype(np.float32), triangles)
    if colours is None:
        return Template(mesh, np.full(mesh.faces.shape, GREY, np.float32))
    return Template(mesh, colours[_nearest_faces(mesh, to_unit_box(_box_of(given)))])


def axes_rotation(up: str, front: str) -> np.ndarray:
    """Rotation (3, 3) that takes the axis ``up`` to +y and ``front`` to +z.

    Raises:
        GeometryError: one is no axis, or both lie on one line.
    """
    for name, axis in (("up", up), ("front", front)):
        if axis not in AXES:
            raise GeometryError(f"template_{name} = {axis} is not one of {', '.join(AXES)}")
    y, z = (np.eye(3)["xyz".index(axis[1])] * (1 if axis[0] == "+" else -1) for axis in (up, front))
    if y @ z:
        raise GeometryError(f"a template's up ({up}) and front ({front}) must be different directions")
    return np.stack([np.cross(y, z), y, z])


def _box_of(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses, as :func:`clean_mesh` sees its box."""
    used, compact = np.unique(mesh.faces, return_inverse=True)
    return Mesh(mesh.vertices[used], compact.reshape(mesh.faces.shape))


def _nearest_faces(mesh: Mesh, coloured: Mesh) -> np.ndarray:
    """The face (F,) of ``coloured`` that lies nearest to the middle of each face of ``mesh``."""
    o3d = open3d_binding()
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    corners = o3d.core.Tensor(coloured.vertices.astype(np.float32))
    scene.add_triangles(corners, o3d.core.Tensor(coloured.faces.astype(np.uint32)))
    middles = mesh.vertices[mesh.faces].mean(axis=1).astype(np.float32)
    found: np.ndarray = scene.compute_closest_points(o3d.core.Tensor(middles), nthreads=1)["primitive_ids"].numpy()
    return found.astype(np.int64)


class _FolderResolver(Resolver):
    """Reads what a mesh file refers to, if it lies in the file's folder or below."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def get(self, name: str) -> bytes:
        if urlsplit(name).scheme:
            raise InputError(f"refers to {name}, which is not fetched; save it in one file (.glb)")
        found = (self._folder / unquote(name)).resolve()
        if not found.is_relative_to(self._folder):
            raise InputError(f"refers to {name}, outside its folder; save it in one file (.glb)")
        return read_local(found, MAX_MESH_BYTES)

    def keys(self) -> list[str]:
        return []

    def write(self, name: str, data: bytes) -> None:
        raise InputError(f"nothing is written beside a template, such as {name}")

    def namespaced(self, namespace: str) -> Resolver:
        return _FolderResolver(self._folder / namespace)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and linear RGB of the faces of all meshes of a file, each with its scene transform applied."""
    import trimesh

    data, kind = read_local(path, MAX_MESH_BYTES), path.suffix.lower()[1:]
    resolver = _FolderResolver(path.parent)
    data = plain_triangles(data, resolver.get) if kind in ("glb", "gltf") else data
    try:
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, process=False, resolver=resolver)
    except InputError:
        # A picture that is missing costs the colours alone; without its buffers a file says so again.
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, process=False, resolver=resolver, skip_materials=True)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_vertices = n_faces = 0
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            continue
        n_faces += len(geometry.faces)
        if n_faces > _MAX_FACES:
            raise GeometryError(f"more than {_MAX_FACES:,} faces; export a coarser mesh")
        points = np.asarray(geometry.vertices, np.float64) @ transform[:3, :3].T + transform[:3, 3]
        parts.append((points, np.asarray(geometry.faces, np.int64) + n_vertices, _face_colours(geometry)))
        n_vertices += len(points)
    if not parts:
        raise GeometryError("no triangles in it")
    vertices, faces, colours = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return vertices, faces, colours


def _face_colours(geometry: Any) -> np.ndarray:
    """Linear RGB (F, 3) of a mesh's faces: texture at their middles, material, or colours of faces and vertices; grey for none."""
    grey = np.full((len(geometry.faces), 3), GREY, np.float32)
    try:
        found = _painted(geometry)
    except Exception:  # whatever a material lacks: colours are decoration
        return grey
    if found is None or found.shape != grey.shape or not np.isfinite(found).all():
        return grey
    return np.asarray(np.clip(found, 0, 1) ** 2.2, np.float32)


def _painted(geometry: Any) -> np.ndarray | None:
    """The colours (F, 3) as sRGB in 0 to 1, or ``None`` where the mesh has none."""
    visual = geometry.visual
    if visual.kind in ("face", "vertex"):
        return np.asarray(visual.face_colors, np.float64)[:, :3] / 255
    if visual.kind != "texture":
        return None
    material = visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is not None and visual.uv is not None:
        if picture.width * picture.height > _MAX_TEXELS:
            return None
        pixels = np.asarray(picture.convert("RGB"))
        uv = np.asarray(visual.uv)[geometry.faces].mean(axis=1) % 1.0
        rows = np.minimum(((1 - uv[:, 1]) * pixels.shape[0]).astype(int), pixels.shape[0] - 1)
        columns = np.minimum((uv[:, 0] * pixels.shape[1]).astype(int), pixels.shape[1] - 1)
        return pixels[rows, columns] / 255.0
    colour = np.asarray(material.main_color, np.float64)[:3] / 255
    return np.broadcast_to(colour, (len(geometry.faces), 3)).copy()
