"""What a geodesic search walks on: intrinsic triangles, edges, straight lines across unfolded faces, bridges between components.

Everything here is intrinsic: only lengths are kept, so the same search serves real triangles and virtual ones.
V: vertices of the mesh, W >= V: with the points that were added on long edges, C: triangle corners, E: directed edges.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from sc3d.geometry.mesh import Mesh, component_labels, components, unique_edges

# Longest edge that is left whole, in diagonals. Coarser triangles are too few for a wavefront: on a low-polygon car the mean error
# within 0.1 diagonals falls from 2 to 0.3 %; meshes that were reconstructed from images have no such edges.
_LONGEST_EDGE = 0.04
# Added points stop here, whatever the mesh: they only ever cost time.
_MAX_REFINED_FACES = 60_000
# Vertices of different components closer than this, in diagonals, are taken for one surface that was not welded.
_CONTACT = 0.005


class GeodesicGraph(NamedTuple):
    """Compressed rows by vertex.

    ``corner_start`` (W + 1,); ``corners`` (C, 2) the two other vertices (u, w) of a triangle at v; ``corner_planes`` (C, 6) float32: the
    length of v-u and the plane coordinates of w when v lies at 0 and u on the x axis, then the same with u and w exchanged.
    ``edge_start`` (W + 1,); ``edges`` (E,) the other end; ``edge_lengths`` (E,) float32.
    """

    corner_start: np.ndarray
    corners: np.ndarray
    corner_planes: np.ndarray
    edge_start: np.ndarray
    edges: np.ndarray
    edge_lengths: np.ndarray


def geodesic_graph(mesh: Mesh) -> GeodesicGraph:
    """The graph of ``mesh``; its first V vertices are the mesh's."""
    points, faces = refine_long_edges(mesh.vertices, mesh.faces, _LONGEST_EDGE * mesh.diagonal)
    ends, lines, triangles, lengths = _unfolded(points, faces)
    edges = unique_edges(faces)
    bridge = bridges(mesh.vertices, components(mesh), _CONTACT * mesh.diagonal)
    pairs = np.concatenate([edges, ends, bridge])
    pair_lengths = np.concatenate([_length(points, edges[:, 0], edges[:, 1]), lines, _length(points, bridge[:, 0], bridge[:, 1])])
    return GeodesicGraph(*_corner_rows(len(points), triangles, lengths), *_edge_rows(len(points), pairs, pair_lengths))


def _length(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[a] - points[b], axis=1)


def _corner_rows(n: int, triangles: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles (T, 3) with lengths of (01, 12, 20) -> rows by vertex."""
    turned = np.concatenate([triangles[:, [k, (k + 1) % 3, (k + 2) % 3]] for k in range(3)])
    vu, uw, vw = np.concatenate([lengths[:, [k, (k + 1) % 3, (k + 2) % 3]] for k in range(3)]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        planes = np.stack([vu, *_third_corner(vu, vw, uw), vw, *_third_corner(vw, vu, uw)], axis=1)
    order = np.argsort(turned[:, 0], kind="stable")
    start = np.searchsorted(turned[order, 0], np.arange(n + 1)).astype(np.int32)
    return start, turned[order, 1:].astype(np.int32), planes[order].astype(np.float32)


def _third_corner(base: np.ndarray, to_first: np.ndarray, to_second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plane coordinates of a triangle's third corner, with the first at the origin and the second at (base, 0)."""
    x = (to_first**2 - to_second**2 + base**2) / (2 * base)
    return x, np.sqrt(np.maximum(to_first**2 - x**2, 0))


def _edge_rows(n: int, pairs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Undirected pairs (P, 2) -> rows by vertex, both ways."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    order = np.argsort(both[:, 0], kind="stable")
    start = np.searchsorted(both[order, 0], np.arange(n + 1)).astype(np.int32)
    return start, both[order, 1].astype(np.int32), np.concatenate([lengths, lengths])[order].astype(np.float32)


def _unfolded(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The triangles to march over, and straight lines across pairs of faces that share an edge.

    A wavefront can reach an obtuse corner before it has passed the whole side opposite. The face (a, b, p) and its neighbour (b, a, q) are
    then laid into one plane, and if the segment p-q stays inside them, it and the two virtual triangles (p, q, a) and (q, p, b) join
    the real ones: that splits the obtuse angle (Kimmel and Sethian 1998).

    Returns:
        line ends (P, 2), line lengths (P,), triangles (T, 3), their lengths (T, 3) of the sides (01, 12, 20).
    """
    half_edges = np.concatenate([faces[:, [0, 1, 2]], faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]]).astype(np.int64)
    low, high = half_edges[:, :2].min(axis=1), half_edges[:, :2].max(axis=1)
    keys = low * len(points) + high
    order = np.argsort(keys, kind="stable")
    # On an edge of more than two faces this takes neighbours in the sorted order: each face still has a partner.
    first = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    one, other = order[first], order[first + 1]
    a, b, p, q = low[one], high[one], half_edges[one, 2], half_edges[other, 2]
    obtuse = np.zeros(len(a), bool)
    for corner in (p, q):
        obtuse |= np.einsum("ij,ij->i", points[a] - points[corner], points[b] - points[corner]) < 0
    base = _length(points, a, b)
    (px, py), (qx, qy) = (_laid_out(points, a, b, base, corner) for corner in (p, q))
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = px + (qx - px) * py / (py + qy)
    split = obtuse & (p != q) & (crossing >= 0) & (crossing <= base)
    a, b, p, q, line = a[split], b[split], p[split], q[split], np.hypot(px - qx, py + qy)[split]
    triangles = np.concatenate([faces, np.stack([p, q, a], axis=1), np.stack([q, p, b], axis=1)])
    lengths = np.stack([_length(points, triangles[:, k], triangles[:, (k + 1) % 3]) for k in range(3)], axis=1)
    lengths[len(faces) :, 0] = np.concatenate([line, line])
    return np.stack([p, q], axis=1), line, triangles, lengths


def _laid_out(
    points: np.ndarray, a: np.ndarray, b: np.ndarray, base: np.ndarray, corner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Plane coordinates of ``corner`` with a at the origin, b at (base, 0), and y not negative."""
    offset = points[corner] - points[a]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.einsum("ij,ij->i", offset, points[b] - points[a]) / base
    return x, np.sqrt(np.maximum(np.einsum("ij,ij->i", offset, offset) - x * x, 0))


def refine_long_edges(points: np.ndarray, faces: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Bisect faces at their longest edges until no edge exceeds ``longest`` (Rivara 1984); the surface stays the same set of points.

    Returns:
        points (W, 3), the first V unchanged, and faces.
    """
    faces = faces.astype(np.int64)
    while len(faces) < _MAX_REFINED_FACES:
        sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2)
        keys, edge_of = np.unique(sides.min(axis=2) * len(points) + sides.max(axis=2), return_inverse=True)
        edge_of = edge_of.reshape(faces.shape)
        a, b = keys // len(points), keys % len(points)
        length = _length(points, a, b)
        longest_side = length[edge_of].argmax(axis=1)
        own = np.take_along_axis(edge_of, longest_side[:, None], axis=1)[:, 0]
        split = np.zeros(len(keys), bool)
        split[own[length[own] > longest]] = True
        if not split.any():
            break
        # A face with any split side is bisected at its longest first, so that no point is left hanging on an edge.
        while (spread := split[edge_of].any(axis=1) & ~split[own]).any():
            split[own[spread]] = True
        middle = np.full(len(keys), -1)
        middle[split] = len(points) + np.arange(split.sum())
        points = np.concatenate([points, (points[a[split]] + points[b[split]]) / 2])
        faces = _bisected(faces, middle[edge_of], longest_side)
    return points, faces


def _bisected(faces: np.ndarray, middles: np.ndarray, longest_side: np.ndarray) -> np.ndarray:
    """Faces cut at ``middles`` (F, 3): the new point on side (k, k + 1), or -1. A cut face is cut at its longest side."""
    turn = (longest_side[:, None] + np.arange(3)) % 3
    faces, middles = np.take_along_axis(faces, turn, axis=1), np.take_along_axis(middles, turn, axis=1)
    whole = middles[:, 0] < 0
    parts = [faces[whole]]
    (x, y, z), (centre, right, left) = faces[~whole].T, middles[~whole].T
    for start, end, cut in ((z, x, left), (y, z, right)):
        plain = cut < 0
        parts.append(np.stack([start, end, centre], axis=1)[plain])
        parts.append(np.stack([start, cut, centre], axis=1)[~plain])
        parts.append(np.stack([cut, end, centre], axis=1)[~plain])
    return np.concatenate(parts)


def bridges(points: np.ndarray, labels: np.ndarray, contact: float) -> np.ndarray:
    """Vertex pairs (B, 2) that join the components ``labels`` (V,) into one.

    The shortest such set (a minimum spanning tree of the components by closest vertex pairs, Boruvka's algorithm), and for every vertex
    outside the largest component its nearest vertex of another one within ``contact``.
    """
    found = [np.empty((0, 2), np.int64)]
    labels = np.unique(labels, return_inverse=True)[1].ravel()
    touching = True
    while (n := int(labels.max()) + 1) > 1:
        # Every component but the largest looks for its nearest neighbour: that joins at least half of them a round.
        asking = np.flatnonzero(labels != np.bincount(labels).argmax())
        distance, nearest = _nearest_of_another(points, labels, asking)
        order = np.lexsort((distance, labels[asking]))
        best = order[np.unique(labels[asking][order], return_index=True)[1]]
        found.append(np.stack([asking[best], nearest[best]], axis=1))
        if touching:
            close = distance <= contact
            found.append(np.stack([asking[close], nearest[close]], axis=1))
            touching = False
        joined = labels[np.concatenate(found)]
        labels = component_labels(n, joined)[labels]
    pairs = np.concatenate(found)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _nearest_of_another(points: np.ndarray, labels: np.ndarray, asking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (Q,) to, and index (Q,) of, the nearest vertex with another label, for each vertex of ``asking`` (Q,).

    Two labels differ in at least one binary digit: log2(components) searches in one half of the vertices each find every neighbour,
    where a tree for each component would be asked by all others.
    """
    distance, nearest = np.full(len(asking), np.inf), np.full(len(asking), -1)
    for bit in range(int(labels.max()).bit_length()):
        digit = labels >> bit & 1
        for side in (0, 1):
            members, rows = np.flatnonzero(digit != side), np.flatnonzero(digit[asking] == side)
            if len(members) == 0 or len(rows) == 0:
                continue
            d, i = cKDTree(points[members]).query(points[asking[rows]])
            closer = d < distance[rows]
            distance[rows[closer]], nearest[rows[closer]] = d[closer], members[i[closer]]
    return distance, nearest
