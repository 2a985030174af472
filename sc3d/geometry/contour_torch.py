"""Areas inside directed edges in PyTorch: edges are cut at the borders of rows and pixels and swept from left to right.

An edge adds to each pixel that it passes the area between itself and the pixel's right side, and its height to all pixels further right in
the row. A running sum along the rows is then the exact area of the closed contours in every pixel (the accumulation buffer of Levien's
font-rs). Here the running sum goes over the few pixels where it changes and not over an image. N: edges, R: parts of edges in one row, S:
pieces of edges in one pixel. Points are (2, N), x first, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Areas are summed as integers in units of 2^-16 pixels: the sum then depends on no order, and behind the end of a closed contour it is
# exactly zero, in every row. Room for 2^14 layers of triangles.
ONE = 1 << 16


@dataclass(frozen=True, eq=False)
class RowParts:
    """The parts of directed edges in each row that they pass.

    ``edge`` (R,) and ``row`` (R,) indices; ends ``start`` (2, R) and ``end`` (2, R) in the edge's direction; ``centre`` (R,) the x at which
    the row's centre line is crossed; ``crossing`` (R,) int32 +1 where it is crossed downwards, -1 upwards, 0 not at all.
    """

    edge: torch.Tensor
    row: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    centre: torch.Tensor
    crossing: torch.Tensor


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of directed edges in each pixel that they pass.

    ``edge`` (S,), ``row`` (S,) and ``column`` (S,) indices; ``step`` (2, S) the piece from start to end; ``middle`` (2, S); the height of
    the piece in units of 1 / :data:`ONE`, as the part ``near`` (S,) int32 that counts in the pixel itself already and the part ``beyond``
    (S,) int32 that counts from the next pixel on. What is left of the image is in column 0, what is right of it in column ``width``, and
    both have ``inside`` (S,) false.
    """

    edge: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    step: torch.Tensor
    middle: torch.Tensor
    near: torch.Tensor
    beyond: torch.Tensor
    inside: torch.Tensor


def expand(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For ``counts`` (N,) the owner 0, 0, 1, 2, 2, 2 ... and the place 0, 1, 0, 0, 1, 2 ... of each of the ``sum(counts)`` items."""
    owner = torch.repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - first[owner]


def cut_at_rows(a: torch.Tensor, b: torch.Tensor, height: int) -> RowParts:
    """The parts of edges ``a -> b`` (2, N) in each row of an image; every edge must have a part with 0 < y < height."""
    low, high = torch.minimum(a[1], b[1]).clamp(min=0), torch.maximum(a[1], b[1]).clamp(max=height)
    first = low.floor().long()
    # A horizontal edge encloses nothing, but it sweeps area when it moves.
    edge, place = expand((high.ceil().long() - first).clamp(min=1))
    row = first[edge] + place
    (ax, ay), (bx, by) = a[:, edge], b[:, edge]
    slope = (bx - ax) / (by - ay)
    top = row.double()
    y0, y1 = ay.clamp(top, top + 1), by.clamp(top, top + 1)
    # Where the edge is cut, both neighbours compute the same x from the same y, so that no gap opens.
    x0 = torch.where(y0 == ay, ax, ax + (y0 - ay) * slope)
    x1 = torch.where(y1 == by, bx, ax + (y1 - ay) * slope)
    centre = top + 0.5
    crossing = (y0 <= centre).int() - (y1 <= centre).int()
    return RowParts(edge, row, torch.stack([x0, y0]), torch.stack([x1, y1]), ax + (centre - ay) * slope, crossing)


def cut_at_columns(parts: RowParts, width: int) -> Pieces:
    """The pieces of row parts in each pixel of an image."""
    # Column -1 is everything left of the image, column ``width`` everything right of it.
    left = torch.minimum(parts.start[0], parts.end[0]).clamp(-1, width).floor().long()
    right = torch.maximum(parts.start[0], parts.end[0]).clamp(-1, width + 1).ceil().long()
    part, place = expand((right - left).clamp(min=1))
    column = left[part] + place
    (x0, y0), (x1, y1) = parts.start[:, part], parts.end[:, part]
    slope = (y1 - y0) / (x1 - x0)
    inside = (column >= 0) & (column < width)
    low = torch.where(column >= 0, column.double(), -torch.inf)
    high = torch.where(column < width, column.double() + 1, torch.inf)
    px0, px1 = x0.clamp(low, high), x1.clamp(low, high)
    py0 = torch.where(px0 == x0, y0, y0 + (px0 - x0) * slope)
    py1 = torch.where(px1 == x1, y1, y0 + (px1 - x0) * slope)
    middle = torch.stack([(px0 + px1) / 2, (py0 + py1) / 2])
    height = ((py1 * ONE).round() - (py0 * ONE).round()).int()
    beyond = torch.where(inside, (height * (middle[0] - low)).round(), 0).int()
    return Pieces(
        edge=parts.edge[part],
        row=parts.row[part],
        column=column.clamp(min=0),
        step=torch.stack([px1 - px0, py1 - py0]),
        middle=middle,
        near=height - beyond,
        beyond=beyond,
        inside=inside,
    )


@dataclass(frozen=True, eq=False)
class Sweep:
    """Running sums over a line of places: at place ``at[i]`` and after it, up to the next place in ``at`` (M,), which is sorted, they are
    ``area`` (M,) int32, in units of 1 / :data:`ONE`, and ``layers`` (M,) int32. At places given several times the last one counts."""

    at: torch.Tensor
    area: torch.Tensor
    layers: torch.Tensor

    @classmethod
    def of(cls, at: torch.Tensor, area: torch.Tensor, layers: torch.Tensor) -> Sweep:
        """Sum what is added to area and layers from the places ``at`` (M,) on, in any order. Both are 0 at first."""
        at, order = torch.cat([at.new_zeros(1), at]).sort()
        sums = (torch.cat([x.new_zeros(1), x])[order].cumsum(0, dtype=torch.int32) for x in (area, layers))
        return cls(at, *sums)

    def area_at(self, places: torch.Tensor) -> torch.Tensor:
        """The running area at ``places`` (N,)."""
        return self.area[self._index(places)]

    def layers_at(self, places: torch.Tensor) -> torch.Tensor:
        """The running number of layers at ``places`` (N,)."""
        return self.layers[self._index(places)]

    def _index(self, places: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(self.at, places, right=True) - 1
