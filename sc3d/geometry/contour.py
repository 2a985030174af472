"""The outline of a projected triangle mesh: which pixels it covers, which of its edges form the outline, and how the outline moves.

For a mesh under a similarity with a fixed rotation, all that a silhouette loss can see is the outline. It consists of projected mesh
edges whose triangles all lie on one side (folds and open borders), wherever nothing else of the mesh covers the other side. These kernels
find that outline a pixel at a time inside a narrow band, so that their cost follows its length and not the number of triangles a pixel.
"""

from __future__ import annotations

import numpy as np

from sc3d.kernels import compiled

# A test point this far beyond an edge falls into a pixel whose centre is beyond the edge too: half a pixel's diagonal is 0.707.
_BEYOND = 0.75


def edge_opposites(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unique edges of ``faces`` (F, 3) and the vertices opposite to them.

    Returns ``edges`` (E, 2) int32, ``offsets`` (E + 1,) int32 and ``opposites`` (3F,) int32: edge e has one opposite vertex for each of its
    triangles, ``opposites[offsets[e]:offsets[e + 1]]``. Any number of triangles may share an edge, and winding does not matter.
    """
    corners = np.asarray(faces, np.int64)
    pairs = np.concatenate([corners[:, [1, 2]], corners[:, [2, 0]], corners[:, [0, 1]]])
    pairs.sort(axis=1)
    keys = pairs[:, 0] * (int(corners.max()) + 1) + pairs[:, 1]
    order = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    opposites = corners.T.reshape(-1)[order].astype(np.int32)
    offsets = np.append(first, len(order)).astype(np.int32)
    return np.ascontiguousarray(pairs[order[first]].astype(np.int32)), offsets, opposites


@compiled
def project_points(
    rotated: np.ndarray, scale: float, t: np.ndarray, K: np.ndarray, near: float, xyz: np.ndarray, uv: np.ndarray
) -> bool:
    """Fill camera points ``xyz`` (V, 3) and pixels ``uv`` (V, 2) of ``scale * rotated + t``; returns whether all are beyond ``near``."""
    beyond = True
    for v in range(rotated.shape[0]):
        x = scale * rotated[v, 0] + t[0]
        y = scale * rotated[v, 1] + t[1]
        z = scale * rotated[v, 2] + t[2]
        xyz[v, 0] = x
        xyz[v, 1] = y
        xyz[v, 2] = z
        if z <= near:
            beyond = False
            uv[v, 0] = np.nan
            uv[v, 1] = np.nan
        else:
            uv[v, 0] = (K[0, 0] * x + K[0, 1] * y) / z + K[0, 2]
            uv[v, 1] = (K[1, 0] * x + K[1, 1] * y) / z + K[1, 2]
    return beyond


@compiled
def fill_triangles(uv: np.ndarray, faces: np.ndarray, coverage: np.ndarray) -> None:
    """Set ``coverage`` (H, W) uint8 to 1 where a pixel's centre lies in a projected triangle. Triangles with a NaN corner are skipped."""
    height, width = coverage.shape
    coverage[:] = 0
    for f in range(faces.shape[0]):
        x0, y0 = uv[faces[f, 0], 0], uv[faces[f, 0], 1]
        x1, y1 = uv[faces[f, 1], 0], uv[faces[f, 1], 1]
        x2, y2 = uv[faces[f, 2], 0], uv[faces[f, 2], 1]
        # NaN fails every comparison, so a triangle with a corner behind the camera ends here as well.
        if not (max(y0, y1, y2) > 0.0 and max(x0, x1, x2) > 0.0 and min(y0, y1, y2) < height and min(x0, x1, x2) < width):
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        first, last = int(np.ceil(max(y0, 0.5) - 0.5)), int(np.floor(min(y2, height - 0.5) - 0.5))
        if first > last or not y2 > y0:
            continue
        long_slope = (x2 - x0) / (y2 - y0)
        upper_slope = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
        lower_slope = (x2 - x1) / (y2 - y1) if y2 > y1 else 0.0
        for row in range(first, last + 1):
            y = row + 0.5
            left = x0 + (y - y0) * long_slope
            right = x0 + (y - y0) * upper_slope if y < y1 else x2 - (y2 - y) * lower_slope
            if left > right:
                left, right = right, left
            if right < 0.5 or left > width - 0.5:
                continue
            start, stop = int(np.ceil(max(left, 0.5) - 0.5)), int(np.floor(min(right, width - 0.5) - 0.5))
            for column in range(start, stop + 1):
                coverage[row, column] = 1


@compiled
def _outward_normal(uv: np.ndarray, a: int, b: int, opposites: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """Unit normal of edge (a, b) away from its triangles, or (0, 0) if they lie on both sides or the edge has no length."""
    dx, dy = uv[b, 0] - uv[a, 0], uv[b, 1] - uv[a, 1]
    length = np.sqrt(dx * dx + dy * dy)
    if not length > 1e-9:
        return 0.0, 0.0
    side = 0.0
    for k in range(start, stop):
        c = opposites[k]
        # Signed height of the opposite vertex over the edge; a triangle seen edge-on has no opinion.
        h = (dx * (uv[c, 1] - uv[a, 1]) - dy * (uv[c, 0] - uv[a, 0])) / length
        if not abs(h) > 1e-7:
            continue
        if side * h < 0.0:
            return 0.0, 0.0
        side = h
    if side == 0.0:
        return 0.0, 0.0
    sign = 1.0 if side > 0.0 else -1.0
    return sign * dy / length, -sign * dx / length


@compiled
def outline_band(
    uv: np.ndarray,
    edges: np.ndarray,
    offsets: np.ndarray,
    opposites: np.ndarray,
    coverage: np.ndarray,
    radius: float,
    nearest: np.ndarray,
    owner: np.ndarray,
    pixels: np.ndarray,
) -> int:
    """Find the nearest outline edge of every pixel whose centre is within ``radius`` of the outline.

    ``nearest`` (H, W) float32 holds squared distances and must be infinite everywhere on entry; ``owner`` (H, W) int32 takes the edge's
    index; ``pixels`` (H*W,) int32 takes the flat indices of the touched pixels. Returns how many were touched.
    """
    height, width = coverage.shape
    count = 0
    for e in range(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        ax, ay, bx, by = uv[a, 0], uv[a, 1], uv[b, 0], uv[b, 1]
        if not (min(ax, bx) < width + radius and max(ax, bx) > -radius and min(ay, by) < height + radius and max(ay, by) > -radius):
            continue
        nx, ny = _outward_normal(uv, a, b, opposites, offsets[e], offsets[e + 1])
        if nx == 0.0 and ny == 0.0:
            continue
        dx, dy = bx - ax, by - ay
        length2 = dx * dx + dy * dy
        first_row = int(np.ceil(max(min(ay, by) - radius, 0.5) - 0.5))
        last_row = int(np.floor(min(max(ay, by) + radius, height - 0.5) - 0.5))
        for row in range(first_row, last_row + 1):
            y = row + 0.5
            # The part of the edge that can be within the radius of this row bounds the columns.
            u0, u1 = 0.0, 1.0
            if abs(dy) > 1e-9:
                ua, ub = (y - radius - ay) / dy, (y + radius - ay) / dy
                u0, u1 = max(0.0, min(ua, ub)), min(1.0, max(ua, ub))
            left = min(ax + u0 * dx, ax + u1 * dx) - radius
            right = max(ax + u0 * dx, ax + u1 * dx) + radius
            first_column = int(np.ceil(min(max(left, 0.5), width + 0.5) - 0.5))
            last_column = int(np.floor(max(min(right, width - 0.5), -0.5) - 0.5))
            for column in range(first_column, last_column + 1):
                x = column + 0.5
                u = min(max(((x - ax) * dx + (y - ay) * dy) / length2, 0.0), 1.0)
                qx, qy = ax + u * dx, ay + u * dy
                d2 = (x - qx) ** 2 + (y - qy) ** 2
                if d2 >= radius * radius or d2 >= nearest[row, column]:
                    continue
                i, j = int(np.floor(qy + _BEYOND * ny)), int(np.floor(qx + _BEYOND * nx))
                if 0 <= i < height and 0 <= j < width and coverage[i, j]:
                    continue
                if nearest[row, column] == np.inf:
                    pixels[count] = row * width + column
                    count += 1
                nearest[row, column] = d2
                owner[row, column] = e
    return count


@compiled
def _pixel_velocity(xyz: np.ndarray, v: int, t: np.ndarray, K: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` (2, 4) with the derivative of vertex v's pixel by log scale and translation."""
    x, y, z = xyz[v, 0], xyz[v, 1], xyz[v, 2]
    for k in range(2):
        px, py = K[k, 0] / z, K[k, 1] / z
        pz = -(K[k, 0] * x + K[k, 1] * y) / (z * z)
        out[k, 0] = px * (x - t[0]) + py * (y - t[1]) + pz * (z - t[2])
        out[k, 1] = px
        out[k, 2] = py
        out[k, 3] = pz


@compiled
def soft_band(
    pixels: np.ndarray,
    owner: np.ndarray,
    edges: np.ndarray,
    xyz: np.ndarray,
    uv: np.ndarray,
    t: np.ndarray,
    K: np.ndarray,
    coverage: np.ndarray,
    sigma: float,
    overlap: float,
    alpha: np.ndarray,
    jacobian: np.ndarray,
) -> None:
    """Alpha (M,) of the band's pixels and its derivative (M, 4) by log scale and translation.

    With q the outline point nearest to the pixel's centre p and ``g = 1 / (1 + exp(-sign |p - q|^2 / sigma))``, sign +1 inside,
    ``alpha = 1 - (1 - g)^overlap``. When q moves by dq, ``|p - q|^2`` changes by ``-2 (p - q) . dq``.
    """
    width = owner.shape[1]
    va = np.empty((2, 4))
    vb = np.empty((2, 4))
    for m in range(pixels.shape[0]):
        row, column = pixels[m] // width, pixels[m] % width
        a, b = edges[owner[row, column], 0], edges[owner[row, column], 1]
        ax, ay = uv[a, 0], uv[a, 1]
        dx, dy = uv[b, 0] - ax, uv[b, 1] - ay
        x, y = column + 0.5, row + 0.5
        u = min(max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0.0), 1.0)
        x -= ax + u * dx
        y -= ay + u * dy
        sign = 1.0 if coverage[row, column] else -1.0
        logistic = 1.0 / (1.0 + np.exp(-sign * (x * x + y * y) / sigma))
        rest = 1.0 - logistic if overlap == 1.0 else (1.0 - logistic) ** overlap
        alpha[m] = 1.0 - rest
        slope = -2.0 * sign / sigma * overlap * rest * logistic
        _pixel_velocity(xyz, a, t, K, va)
        _pixel_velocity(xyz, b, t, K, vb)
        for k in range(4):
            jacobian[m, k] = slope * (x * ((1.0 - u) * va[0, k] + u * vb[0, k]) + y * ((1.0 - u) * va[1, k] + u * vb[1, k]))


@compiled
def weighted_areas(
    coverage: np.ndarray,
    pixels: np.ndarray,
    alpha: np.ndarray,
    jacobian: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray,
    derivatives: np.ndarray,
) -> None:
    """Fill ``values`` (C,) and ``derivatives`` (C, 4) of the areas of a silhouette under ``weights`` (C, H * W).

    ``coverage`` (H * W,) is the hard silhouette, which ``alpha`` (M,) replaces at ``pixels`` (M,).
    """
    values[:] = 0.0
    derivatives[:] = 0.0
    channels = weights.shape[0]
    for p in range(coverage.shape[0]):
        if coverage[p]:
            for c in range(channels):
                values[c] += weights[c, p]
    for m in range(pixels.shape[0]):
        p = pixels[m]
        gain = alpha[m] - (1.0 if coverage[p] else 0.0)
        for c in range(channels):
            values[c] += weights[c, p] * gain
            for k in range(4):
                derivatives[c, k] += weights[c, p] * jacobian[m, k]
