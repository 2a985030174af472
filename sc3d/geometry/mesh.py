"""Triangle meshes: validation, loading, welding, cleaning, decimation."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sc3d.arrays import as_numpy
from sc3d.errors import GeometryError, InputError
from sc3d.geometry.gltf import plain_triangles
from sc3d.geometry.open3d_binding import open3d_binding
from sc3d.local_files import read_local

MIN_FACES = 4
MESH_FORMATS = (".glb", ".obj", ".ply", ".stl")

# Relative to the box's diagonal: far above the rounding of float32 coordinates, far below any edge that a mesh is drawn with.
WELD_TOLERANCE = 1e-5
# Twice a triangle's area, relative to the squared diagonal, below which its normal is rounding noise.
_MIN_AREA = 1e-12
MAX_MESH_BYTES = 1 << 30
# A file can ask for one mesh many times; this many faces in all is a broken or hostile file.
_MAX_FACES = 50_000_000
# Quadric decimation takes 35 us a vertex, clustering 1.5 us; meshes that are larger than this many budgets are clustered first.
_CLUSTER_BUDGETS = 10


@dataclass(frozen=True, eq=False)
class Mesh:
    """A validated triangle mesh: ``vertices`` (V, 3) float64, ``faces`` (F, 3) int32. Canonical frame: y up, front +z, unit box.

    Raises:
        GeometryError: non-finite vertices, faces out of range, fewer than 4 faces, or arrays of another kind. Checked before any native
            library sees the arrays.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        try:
            vertices, faces = as_numpy(self.vertices), as_numpy(self.faces)
        except ValueError as error:
            raise GeometryError(f"vertices and faces must be arrays ({error})") from None
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise GeometryError(f"vertices must have the shape (V, 3), got {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise GeometryError(f"faces must have the shape (F, 3), got {faces.shape}")
        if len(faces) < MIN_FACES:
            raise GeometryError(f"a mesh needs at least {MIN_FACES} faces, got {len(faces)}")
        # A cast would turn NaN into an index far outside, and fractions and truth values into wrong ones.
        if vertices.dtype.kind not in "fiu" or faces.dtype.kind not in "iu":
            raise GeometryError(f"vertices must be real numbers and faces integers, got {vertices.dtype} and {faces.dtype}")
        if not np.isfinite(vertices).all():
            bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
            raise GeometryError(f"vertex {bad} is not finite; the mesh is broken, reconstruct it again")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise GeometryError(f"faces refer to vertices {faces.min()} to {faces.max()}, but there are {len(vertices)}")
        object.__setattr__(self, "vertices", np.ascontiguousarray(vertices, np.float64))
        object.__setattr__(self, "faces", np.ascontiguousarray(faces, np.int32))

    @cached_property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal, the unit of geodesic errors."""
        return float(np.linalg.norm(np.ptp(self.vertices, axis=0)))

    @cached_property
    def edges(self) -> np.ndarray:
        """Undirected edges (E, 2) int32, each once, smaller vertex first, in ascending order."""
        return unique_edges(self.faces)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of ``vertices`` (V, 3), area-weighted over the ``faces`` (F, 3) around each; 0 where there are none."""
    corners = vertices[faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at = faces.ravel()
    normals = np.stack([np.bincount(at, np.repeat(axis, 3), len(vertices)) for axis in weighted.T], axis=1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """Undirected edges (E, 2) int32 of ``faces`` (F, 3), each once, smaller vertex first, in ascending order; loops are left out."""
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1).astype(np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    keys = np.unique(pairs[:, 0] << 32 | pairs[:, 1])
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1).astype(np.int32)


def components(mesh: Mesh) -> np.ndarray:
    """Connected component (V,) int32 of every vertex, numbered from 0. An unreferenced vertex is a component of its own."""
    return component_labels(len(mesh.vertices), mesh.edges)


def component_labels(n: int, edges: np.ndarray) -> np.ndarray:
    """Connected component (n,) int32 of every node of the graph with ``edges`` (E, 2), numbered from 0."""
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int32)


def to_unit_box(mesh: Mesh) -> Mesh:
    """The mesh moved and scaled so that the box's centre is at 0 and its longest side is 1.

    Raises:
        GeometryError: all vertices coincide.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    side = float((high - low).max())
    if not 0 < side < np.inf:
        raise GeometryError(f"a mesh whose box has the longest side {side} cannot be scaled to the unit box")
    return Mesh((mesh.vertices - (low + high) / 2) / side, mesh.faces)


def load_mesh(path: str | Path) -> Mesh:
    """Read a GLB, OBJ, PLY or STL file: all its meshes as one, each with its scene transform applied, as stored (not welded).

    Materials and textures are not read, and nothing outside the file is opened.

    Raises:
        GeometryError: another format, an unreadable or damaged file, compressed geometry, or no usable triangles in it.
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_FORMATS:
        raise GeometryError(f"{path}: meshes are read from {', '.join(MESH_FORMATS)} files, not '{path.suffix}'")
    try:
        data = read_local(path, MAX_MESH_BYTES)
    except InputError as error:
        raise GeometryError(str(error)) from None
    try:
        vertices, faces = _read_scene(data, path.suffix.lower()[1:])
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None
    except Exception as error:
        # The parsers raise whatever a damaged byte makes them stumble over, from KeyError to struct.error.
        raise GeometryError(f"{path} is not a readable mesh file ({type(error).__name__}: {error})") from None
    try:
        return Mesh(vertices, faces)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from None


def _read_scene(data: bytes, file_type: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    options: dict[str, Any] = {"skip_materials": True} if file_type in ("glb", "obj", "ply") else {}
    data = plain_triangles(data, _nothing_beside) if file_type == "glb" else data
    scene = trimesh.load_scene(io.BytesIO(data), file_type=file_type, process=False, **options)
    vertices, faces, n_vertices, n_faces = [], [], 0, 0
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            continue
        n_faces += len(geometry.faces)
        if n_faces > _MAX_FACES:
            raise GeometryError(f"more than {_MAX_FACES} faces")
        points = np.asarray(geometry.vertices, np.float64)
        vertices.append(points @ transform[:3, :3].T + transform[:3, 3])
        faces.append(np.asarray(geometry.faces, np.int64) + n_vertices)
        n_vertices += len(points)
    if not faces:
        raise GeometryError("no triangles in it")
    return np.concatenate(vertices), np.concatenate(faces)


def _nothing_beside(name: str) -> bytes:
    raise GeometryError(f"refers to {name}, which is not opened; save it in one file")


def clean_mesh(vertices: np.ndarray, faces: np.ndarray, max_vertices: int = 8000) -> Mesh:
    """Make arrays fit for geodesics: weld seams, drop degenerate and duplicate faces and unreferenced vertices, decimate to a budget.

    Args:
        vertices: (V, 3), any unit; the frame is kept.
        faces: (F, 3), any orientation; non-manifold input is fine.
        max_vertices: vertices of the result at most.

    Raises:
        GeometryError: unusable arrays, or fewer than 4 faces with an area.
    """
    # A stray vertex far off must not widen the box that tolerances are relative to.
    mesh = _referenced(Mesh(vertices, faces))
    mesh = _drop_useless(*_weld(mesh))
    return mesh if len(mesh.vertices) <= max_vertices else _simplify(mesh, max_vertices)


def _weld(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices, and faces in which every vertex closer than the tolerance to others is replaced by the first of them."""
    if not 0 < mesh.diagonal < np.inf:
        raise GeometryError(f"the mesh's box has the diagonal {mesh.diagonal}; its vertices coincide or overflow")
    tolerance = WELD_TOLERANCE * mesh.diagonal
    # Rounding first: it takes any number of copies in linear time, where close pairs alone would be quadratic.
    grid = np.round((mesh.vertices - mesh.vertices.min(axis=0)) / tolerance).astype(np.int64)
    side = int(np.ceil(1 / WELD_TOLERANCE)) + 2
    keys = (grid[:, 0] * side + grid[:, 1]) * side + grid[:, 2]
    _, first, rounded = np.unique(keys, return_index=True, return_inverse=True)
    # Copies that rounding separated lie in neighbouring grid cells.
    pairs = cKDTree(mesh.vertices[first]).query_pairs(tolerance, output_type="ndarray")
    group = component_labels(len(first), pairs)[rounded.ravel()]
    representative = np.unique(group, return_index=True)[1]
    return mesh.vertices, representative[group][mesh.faces]


def _referenced(mesh: Mesh) -> Mesh:
    used, compact = np.unique(mesh.faces, return_inverse=True)
    return Mesh(mesh.vertices[used], compact.reshape(mesh.faces.shape))


def _drop_useless(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Without faces that have no area or repeat another face's corners, and without unreferenced vertices."""
    if len(faces) == 0:
        raise GeometryError("no faces are left; none of them has an area")
    corners = vertices[faces]
    doubled_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    box = np.ptp(vertices, axis=0)
    faces = faces[distinct & (doubled_area > _MIN_AREA * float(box @ box))]
    ordered = np.sort(faces, axis=1).astype(np.int64)
    _, pair = np.unique(ordered[:, 0] * len(vertices) + ordered[:, 1], return_inverse=True)
    _, first = np.unique(pair * len(vertices) + ordered[:, 2], return_index=True)
    faces = faces[np.sort(first)]
    if len(faces) < MIN_FACES:
        raise GeometryError(f"only {len(faces)} of the faces have an area and differ; a mesh needs at least {MIN_FACES}")
    return _referenced(Mesh(vertices, faces))


def decimate(mesh: Mesh, max_vertices: int) -> tuple[Mesh, float]:
    """Fewer triangles for the same shape (quadric edge collapse), and how far the shape moved.

    Returns:
        The mesh with at most ``max_vertices`` vertices, and the larger of the two greatest distances, from (up to 20,000 of) the vertices
        of either mesh to the surface of the other, divided by the diagonal: a sampled Hausdorff distance.

    Raises:
        GeometryError: all vertices coincide, or fewer than 4 faces are left.
    """
    if len(mesh.vertices) <= max_vertices:
        return mesh, 0.0
    if not 0 < mesh.diagonal < np.inf:
        raise GeometryError(f"a mesh whose box has the diagonal {mesh.diagonal} cannot be decimated")
    small = _simplify(mesh, max_vertices)
    error = max(_greatest_distance(mesh, small), _greatest_distance(small, mesh))
    return small, error / mesh.diagonal


def _simplify(mesh: Mesh, max_vertices: int) -> Mesh:
    if max_vertices < MIN_FACES:
        raise GeometryError(f"a mesh cannot be decimated to {max_vertices} vertices; allow at least {MIN_FACES}")
    o3d = open3d_binding()
    current = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces))
    if len(mesh.vertices) > _CLUSTER_BUDGETS * max_vertices:
        current = _cluster(o3d, current, mesh.diagonal, _CLUSTER_BUDGETS * max_vertices)
    for _ in range(2):
        n_vertices = len(current.vertices)
        if n_vertices <= max_vertices:
            break
        # Closed surfaces have two faces a vertex, open and broken ones another number: aim by the present ratio.
        target = int(len(current.triangles) * max_vertices / n_vertices * 0.99)
        current = current.simplify_quadric_decimation(max(target, MIN_FACES)).remove_unreferenced_vertices()
    if len(current.vertices) > max_vertices or not np.isfinite(np.asarray(current.vertices)).all():
        # Edge collapse keeps loose pieces alive; clustering merges them.
        current = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces))
        current = _cluster(o3d, current, mesh.diagonal, max_vertices)
    return _drop_useless(np.asarray(current.vertices), np.asarray(current.triangles))


def _cluster(o3d: Any, mesh: Any, diagonal: float, max_vertices: int) -> Any:
    """Vertex clustering on the finest grid, found by growing the cell, that leaves at most ``max_vertices``."""
    cell = diagonal / np.sqrt(max_vertices) / 2
    while True:
        clustered = mesh.simplify_vertex_clustering(cell, o3d.geometry.SimplificationContraction.Average)
        clustered = clustered.remove_unreferenced_vertices()
        n_vertices = len(clustered.vertices)
        if n_vertices <= max_vertices:
            return clustered
        cell *= max(1.05, np.sqrt(n_vertices / max_vertices))


def _greatest_distance(points_of: Mesh, surface_of: Mesh, n_samples: int = 20_000) -> float:
    """Greatest distance from (up to ``n_samples``) vertices of one mesh to the surface of another, in the meshes' unit."""
    o3d = open3d_binding()
    origin, unit = surface_of.vertices.min(axis=0), surface_of.diagonal
    scene = o3d.t.geometry.RaycastingScene()
    corners = ((surface_of.vertices - origin) / unit).astype(np.float32)
    scene.add_triangles(o3d.core.Tensor(corners), o3d.core.Tensor(surface_of.faces.astype(np.uint32)))
    step = -(-len(points_of.vertices) // n_samples)
    points = ((points_of.vertices[::step] - origin) / unit).astype(np.float32)
    return float(scene.compute_distance(o3d.core.Tensor(points), nthreads=1).numpy().max()) * unit
