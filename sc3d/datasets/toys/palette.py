"""Colours that go together, and the draws that all builders share. Colours are sRGB, 0 to 1."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.shapes import Vector
from sc3d.datasets.toys.toy import Colour, Texture

_BRIGHT = (
    0xD7263D,
    0xF46036,
    0xF2A541,
    0xF7D002,
    0x8AC926,
    0x2E933C,
    0x1B998B,
    0x3FA7D6,
    0x1D70A2,
    0x2E4A9E,
    0x5B3F95,
    0xB23A8F,
    0xEF767A,
    0xF1E3C6,
    0xE8E8E4,
    0x9AA5B1,
    0x5C6B73,
    0x7B4B2A,
    0x34404A,
    0xC9CBA3,
)
_WOOD = (0xC89B6A, 0xA9713F, 0x8A5A33, 0x6D4527, 0xD9B48A, 0xB98554)
_FUR = (0x8B5A2B, 0xB5793F, 0xD2A56D, 0x5A4636, 0x3D3530, 0xC9B79C, 0xA0522D, 0x8D8D8D, 0xE3D6C0, 0x6B6F76)
_METAL = (0xB8BEC4, 0x8F979E, 0xD5D8DB, 0x6F767D)

GLASS: Colour = (0.17, 0.23, 0.29)
RUBBER: Colour = (0.10, 0.10, 0.11)
LAMP: Colour = (0.98, 0.95, 0.78)
TAIL_LAMP: Colour = (0.78, 0.08, 0.08)


def _pick(rng: np.random.Generator, codes: tuple[int, ...]) -> Colour:
    code = codes[int(rng.integers(len(codes)))]
    jitter = rng.uniform(-0.04, 0.04, 3)
    red, green, blue = np.clip([(code >> shift & 0xFF) / 255 for shift in (16, 8, 0)] + jitter, 0.03, 0.97)
    return float(red), float(green), float(blue)


def bright(rng: np.random.Generator) -> Colour:
    """A toy's main colour."""
    return _pick(rng, _BRIGHT)


def contrast(rng: np.random.Generator, other: Colour) -> Colour:
    """A main colour that can be told from ``other``."""
    draws = [bright(rng) for _ in range(4)]
    return max(draws, key=lambda c: float(np.abs(np.subtract(c, other)).sum()))


def wood(rng: np.random.Generator) -> Colour:
    """A colour of wood, or in one case of four a painted one."""
    return _pick(rng, _WOOD) if rng.random() < 0.75 else bright(rng)


def fur(rng: np.random.Generator) -> Colour:
    """A colour of fur."""
    return _pick(rng, _FUR)


def metal(rng: np.random.Generator) -> Colour:
    """A bare metal."""
    return _pick(rng, _METAL)


def darker(colour: Colour, factor: float = 0.6) -> Colour:
    """The same hue with less light; a factor over 1 gives more."""
    red, green, blue = (float(min(c * factor, 0.97)) for c in colour)
    return red, green, blue


def texture(rng: np.random.Generator, paint: str, colour: Colour, kinds: tuple[str, ...], share: float = 0.4) -> Texture | None:
    """A pattern on one paint for a ``share`` of the instances, else None."""
    if rng.random() >= share:
        return None
    kind = kinds[int(rng.integers(len(kinds)))]
    phase: Vector = (float(rng.uniform(0, 1)), float(rng.uniform(0, 1)), float(rng.uniform(0, 1)))
    return Texture(kind, paint, contrast(rng, colour), float(rng.uniform(0.09, 0.2)), phase)
