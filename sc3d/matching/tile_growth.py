"""Growing tiles on a sparse graph: images are the nodes, and an edge holds the pairs of two images, in one direction or both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sc3d.kernels import compiled

_SCANNED = 1024
"""Neighbours of an image that a growing tile looks at, so that an image with very many pairs is not gone through for each tile."""


_GAIN = 1 << 32
"""What a pair adds to the key of an image of the frontier; below it, images with fewer edges left come first."""


class _Growth(NamedTuple):
    """The arrays of one run; n images, K edges.

    ``start``, ``length`` (n,): the stretch of ``incident`` (edges) and ``neighbour`` (images at their other ends) of each image; edges
    that a tile has leave it when it is gone through. ``live`` (n,) counts those that no tile has. ``inside`` (n,) is the last tile that an
    image was in.

    The frontier holds the neighbours of the present tile: ``frontier`` the images, ``key`` their pairs with the tile and what breaks ties,
    ``found`` the chain of their edges to it. ``place`` (n,) is where an image is in the frontier, if ``seen`` (n,) is the present tile.
    Link i of the chains is ``link_edge[i]`` to the image ``link_member[i]`` of the tile, followed by link ``link_next[i]``.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    start: np.ndarray
    length: np.ndarray
    incident: np.ndarray
    neighbour: np.ndarray
    live: np.ndarray
    taken: np.ndarray
    inside: np.ndarray
    members: np.ndarray
    frontier: np.ndarray
    key: np.ndarray
    found: np.ndarray
    place: np.ndarray
    seen: np.ndarray
    link_edge: np.ndarray
    link_member: np.ndarray
    link_next: np.ndarray
    order: np.ndarray
    tile_of: np.ndarray


def grow_tiles(n: int, low: np.ndarray, high: np.ndarray, weight: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Order edges so that each tile touches few images.

    A tile begins with the image that joined the last one latest and has edges left. It grows by the image that brings the most pairs.

    Args:
        n: images.
        low, high: (K,) int64 numbers below ``n`` of the images of each edge, ``low < high``.
        weight: (K,) int64 pairs of each edge, at most ``size``.
        size: pairs a tile at most.

    Returns:
        The order (K,) of the edges, and the tile (K,) of each in that order, ascending.
    """
    k = len(low)
    ends = np.concatenate([low, high])
    incident = np.argsort(ends, kind="stable")
    neighbour = np.concatenate([high, low])[incident].astype(np.int32)
    length = np.bincount(ends, minlength=n)
    scanned = max(_SCANNED, size)
    links = min(2 * k, 2 * size * scanned)
    growth = _Growth(
        low=low,
        high=high,
        weight=weight.astype(np.int8),
        start=np.cumsum(length) - length,
        length=length,
        incident=(incident % k).astype(np.int32),
        neighbour=neighbour,
        live=length.copy(),
        taken=np.zeros(k, np.bool_),
        **{name: np.full(n, -1, np.int64) for name in ("inside", "members", "frontier", "key", "found", "place", "seen")},
        **{name: np.empty(links, np.int64) for name in ("link_edge", "link_member", "link_next")},
        order=np.empty(k, np.int64),
        tile_of=np.empty(k, np.int64),
    )
    _grow(growth, size, scanned)
    return growth.order, growth.tile_of


@compiled
def _grow(g: _Growth, size: int, scanned: int) -> None:
    n_ordered, n_members, tile, unused = 0, 0, -1, 0
    while n_ordered < len(g.low):
        tile += 1
        image, place = -1, -1
        while n_members > 0 and image < 0:
            n_members -= 1
            if g.live[g.members[n_members]] > 0:
                image = g.members[n_members]
        n_members, n_frontier, n_links, held, full = 0, 0, 0, 0, False
        while True:
            if image < 0:
                while g.live[unused] == 0:
                    unused += 1
                image = unused
                if g.inside[image] == tile:
                    break
            g.inside[image] = tile
            g.members[n_members] = image
            n_members += 1
            link = -1 if place < 0 else g.found[place]
            n_ordered, held, full = _attach(g, image, link, tile, n_ordered, held, size)
            if full or n_ordered == len(g.low):
                break
            if place >= 0:
                n_frontier -= 1
                last = g.frontier[n_frontier]
                g.frontier[place], g.key[place], g.found[place], g.place[last] = last, g.key[n_frontier], g.found[n_frontier], place
            n_frontier, n_links = _look_around(g, image, tile, n_frontier, n_links, scanned)
            place = -1
            for i in range(n_frontier):
                if place < 0 or g.key[i] > g.key[place]:
                    place = i
            image = -1 if place < 0 else g.frontier[place]


@compiled
def _attach(g: _Growth, image: int, link: int, tile: int, n_ordered: int, held: int, size: int) -> tuple[int, int, bool]:
    """Take an image's edges to the tile, as far as there is room: first those to the images that joined last, which a small cache has."""
    while link >= 0:
        edge, member = g.link_edge[link], g.link_member[link]
        if held + g.weight[edge] > size:
            return n_ordered, held, True
        g.order[n_ordered], g.tile_of[n_ordered], g.taken[edge] = edge, tile, True
        g.live[image] -= 1
        g.live[member] -= 1
        n_ordered, held, link = n_ordered + 1, held + g.weight[edge], g.link_next[link]
    return n_ordered, held, held >= size


@compiled
def _look_around(g: _Growth, image: int, tile: int, n_frontier: int, n_links: int, scanned: int) -> tuple[int, int]:
    """Add the neighbours of a new image of the tile to the frontier; returns its new length, and the number of links."""
    i, end = g.start[image], g.start[image] + g.length[image]
    while i < min(end, g.start[image] + scanned):
        edge, near = g.incident[i], g.neighbour[i]
        if g.taken[edge]:
            end -= 1
            g.incident[i], g.neighbour[i] = g.incident[end], g.neighbour[end]
            continue
        i += 1
        if g.inside[near] == tile:
            continue
        if g.seen[near] != tile:
            g.seen[near], g.place[near] = tile, n_frontier
            g.frontier[n_frontier], g.key[n_frontier], g.found[n_frontier] = near, -g.live[near], -1
            n_frontier += 1
        place = g.place[near]
        g.key[place] += g.weight[edge] * _GAIN
        g.link_edge[n_links], g.link_member[n_links], g.link_next[n_links] = edge, image, g.found[place]
        g.found[place] = n_links
        n_links += 1
    g.length[image] = end - g.start[image]
    return n_frontier, n_links
