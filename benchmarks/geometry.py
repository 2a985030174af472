"""The geometry engine: ray casting, geodesics, silhouettes, alignment and the yaw vote. Each part can be run by its own name too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import alignment, geodesic, raster, silhouette, yaw


def run() -> Iterator[dict[str, Any]]:
    """All figures of the parts."""
    for part in (raster, geodesic, silhouette, alignment, yaw):
        yield from part.run()
