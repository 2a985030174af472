"""Colours of the report: by position on the object, by filter, by quarter turn. sRGB, as ``#rrggbb`` or uint8."""

from __future__ import annotations

import numpy as np

from sc3d.matching.explain import AGREEMENT, CYCLE, GEODESIC, REPROJECTION, SURFACE

FILTERS = {CYCLE: "#4aa3ff", SURFACE: "#ffb000", GEODESIC: "#dc267f", REPROJECTION: "#7a4a00", AGREEMENT: "#5b3fd6"}
"""What a rejected match is drawn in: distinct from each other with any common colour blindness, and readable on photos."""

TURNS = {0: "#66717e", 90: "#a86500", 180: "#b23a70", 270: "#3069bd"}
"""Colour of a vote for a quarter turn, in degrees: dark enough for white figures on it. An abstention has none."""

MASK = (255, 214, 10)
"""Outline of the object mask, yellow."""
MESH = (38, 166, 154)
"""The posed mesh, teal."""

# From blue over pink to yellow, brighter on the way: without red or green receptors, blue to yellow and dark to bright are what is left.
_CHROMA = 0.15
_LIGHTNESS = (0.74, 0.36)
_BRIGHTER = 0.16
_HUES = (268.0, 450.0)


def position_colours(xy: np.ndarray) -> np.ndarray:
    """A colour (N, 3) uint8 for each position (N, 2): hue runs from left to right, lightness from top to bottom of their box.

    Positions that lie apart also look apart with any common colour blindness.
    """
    xy = np.asarray(xy, np.float64).reshape(-1, 2)
    if len(xy) == 0:
        return np.zeros((0, 3), np.uint8)
    low, size = xy.min(axis=0), np.maximum(np.ptp(xy, axis=0), 1e-9)
    part = (xy - low) / size
    hue = np.deg2rad(_HUES[0] + (_HUES[1] - _HUES[0]) * part[:, 0])
    lightness = _LIGHTNESS[0] + (_LIGHTNESS[1] - _LIGHTNESS[0]) * part[:, 1] + _BRIGHTER * part[:, 0]
    return _from_oklch(lightness, np.full(len(xy), _CHROMA), hue)


def _from_oklch(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Oklch (B. Ottosson, 2020) to sRGB (N, 3) uint8; what lies outside sRGB is clipped. Steps of one size look equally large in it."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cubes = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((to_linear @ cubes**3).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(encoded * 255), np.uint8)


def hex_of(colour: np.ndarray) -> str:
    """uint8 (3,) as ``#rrggbb``."""
    red, green, blue = (int(c) for c in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
