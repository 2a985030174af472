"""Colours that go together, and the draws that all builders share. Colours are sRGB, 0 to 1."""

from __future__ import annotations

import numpy as np

from sc3d.datasets.toys.shapes import Vector
from sc3d.datasets.toys.toy import Colour, Texture

_BRIGHT = (
    "d7263d f46036 f2a541 f7d002 8ac926 2e933c 1b998b 3fa7d6 1d70a2 2e4a9e 5b3f95 b23a8f ef767a f1e3c6 e8e8e4 9aa5b1 5c6b73 7b4b2a 34404a c9cba3"
).split()
_WOOD = "c89b6a a9713f 8a5a33 6d4527 d9b48a b98554".split()
_FUR = "8b5a2b b5793f d2a56d 5a4636 3d3530 c9b79c a0522d 8d8d8d e3d6c0 6b6f76".split()
_METAL = "b8bec4 8f979e d5d8db 6f767d".split()

GLASS: Colour = (0.17, 0.23, 0.29)
RUBBER: Colour = (0.10, 0.10, 0.11)
LAMP: Colour = (0.98, 0.95, 0.78)
TAIL_LAMP: Colour = (0.78, 0.08, 0.08)


def _pick(rng: np.random.Generator, names: list[str]) -> Colour:
    code = names[int(rng.integers(len(names)))]
    jitter = rng.uniform(-0.04, 0.04, 3)
    red, green, blue = np.clip([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] + jitter, 0.03, 0.97)
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
