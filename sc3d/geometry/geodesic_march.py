"""The compiled search behind :mod:`sc3d.geometry.geodesic`: Dijkstra's order, with distances carried across triangles.

A vertex w of a triangle whose other corners v and u are final is reached from a virtual source: the point of the triangle's plane that has
the distances d(v) and d(u), on the far side of the edge v-u. If the segment from there to w crosses that edge, its length is a
candidate (Novotni and Klein 2002; Melvaer and Reimers 2012); the edges give the others. In a plane this is exact.

Two rules make a search that stops at a radius return exactly what an unlimited one returns there: no candidate is shorter than a distance
it was made from, and equal distances are settled in the order of the vertex index.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from sc3d.geometry.geodesic_graph import GeodesicGraph
from sc3d.kernels import compiled_as_numpy

# distance (W,) float32, inf; final (W,) bool, False; order (W,) of settling; the heap; one float32 whose bits are read.
State: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@compiled_as_numpy
def _push(heap: np.ndarray, size: int, entry: np.uint64) -> int:
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = entry
    return size + 1


@compiled_as_numpy
def _drop_first(heap: np.ndarray, size: int) -> int:
    size -= 1
    entry = heap[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if entry <= heap[child]:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = entry
    return size


@compiled_as_numpy
def _search(source: int, radius: float, graph: GeodesicGraph, state: State) -> int:
    """Settle all vertices within ``radius`` of ``source`` and return their number; ``state.order`` receives them, nearest first.

    A heap entry is the bit pattern of a non-negative float32, which sorts like the number, above the vertex index.
    """
    corner_start, corners, planes, edge_start, edges, lengths = graph
    distance, final, order, heap, bits = state
    pattern = bits.view(np.uint32)
    distance[source] = 0.0
    heap[0] = np.uint64(source)
    size = 1
    settled = 0
    while size > 0:
        v = np.int64(heap[0] & np.uint64(0xFFFFFFFF))
        size = _drop_first(heap, size)
        if final[v]:
            continue
        final[v] = True
        order[settled] = v
        settled += 1
        dv = np.float64(distance[v])
        # Triangles before edges: theirs is the shorter way, and spares the heap the longer one.
        for j in range(corner_start[v], corner_start[v + 1]):
            u, w, k = corners[j, 0], corners[j, 1], 0
            if final[u] == final[w]:
                continue
            if final[w]:
                u, w, k = w, u, 3
            base, wx, wy = np.float64(planes[j, k]), np.float64(planes[j, k + 1]), np.float64(planes[j, k + 2])
            du = np.float64(distance[u])
            sx = 0.5 * ((dv * dv - du * du) / base + base)
            sy = np.sqrt(max(dv * dv - sx * sx, 0.0))
            run, rise = wx - sx, wy + sy
            crossing = sx * rise + run * sy
            # A face without area gives 0 or nan here, and is left to the edges.
            if not (rise > 0.0 and 0.0 <= crossing <= base * rise):
                continue
            candidate = max(np.float32(np.sqrt(run * run + rise * rise)), distance[v])
            if candidate < distance[w] and candidate <= radius:
                distance[w] = candidate
                bits[0] = candidate
                size = _push(heap, size, np.uint64(pattern[0]) << np.uint64(32) | np.uint64(w))
        for j in range(edge_start[v], edge_start[v + 1]):
            u = edges[j]
            candidate = np.float32(dv + lengths[j])
            if candidate < distance[u] and candidate <= radius:
                distance[u] = candidate
                bits[0] = candidate
                size = _push(heap, size, np.uint64(pattern[0]) << np.uint64(32) | np.uint64(u))
    return settled


@compiled_as_numpy
def _fresh(graph: GeodesicGraph) -> State:
    n = len(graph.corner_start) - 1
    # Each corner and each directed edge is looked at once and pushes at most once.
    heap = np.empty(len(graph.corners) + len(graph.edges) + 1, np.uint64)
    return np.full(n, np.inf, np.float32), np.zeros(n, np.bool_), np.empty(n, np.int64), heap, np.zeros(1, np.float32)


@compiled_as_numpy
def _reset(state: State, settled: int) -> None:
    distance, final, order = state[0], state[1], state[2]
    for k in range(settled):
        distance[order[k]] = np.inf
        final[order[k]] = False


@compiled_as_numpy
def march(sources: np.ndarray, radius: float, graph: GeodesicGraph, out: np.ndarray) -> None:
    """Fill ``out`` (S, V) float32 with the distances from each of ``sources`` (S,) int64, inf beyond ``radius``."""
    state = _fresh(graph)
    for s in range(len(sources)):
        settled = _search(sources[s], radius, graph, state)
        out[s] = state[0][: out.shape[1]]
        _reset(state, settled)


@compiled_as_numpy
def march_balls(
    centres: np.ndarray, radius: float, levels: int, n_vertices: int, graph: GeodesicGraph
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices below ``n_vertices`` within ``radius`` of each of ``centres`` (B,) int64.

    Returns:
        offsets (B + 1,) int64, members (M,) int32 ascending in each row, distances (M,) uint16 in steps of ``radius / levels``.
    """
    state = _fresh(graph)
    distance, final = state[0], state[1]
    offsets = np.zeros(len(centres) + 1, np.int64)
    members, steps = np.empty(64 * len(centres), np.int32), np.empty(64 * len(centres), np.uint16)
    used = 0
    for s in range(len(centres)):
        settled = _search(centres[s], radius, graph, state)
        if used + settled > len(members):
            more_members, more_steps = np.empty(2 * used + settled, np.int32), np.empty(2 * used + settled, np.uint16)
            more_members[:used], more_steps[:used] = members[:used], steps[:used]
            members, steps = more_members, more_steps
        for v in range(n_vertices):
            if final[v]:
                members[used] = v
                steps[used] = np.uint16(np.round(distance[v] / radius * levels))
                used += 1
        _reset(state, settled)
        offsets[s + 1] = used
    return offsets, members[:used].copy(), steps[:used].copy()
