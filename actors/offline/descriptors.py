"""Hand-made dense descriptors in the frame and the grids of the learned ones.

Two different families, so that fusing them gains something: DAISY (Tola et al., TPAMI 2010), signed gradients sampled on rings around
each cell; and HOG (Dalal and Triggs, CVPR 2005) with colour and texture, in windows that grow from a part's size to the object's.
Both hold local appearance and, in their wide windows, where in the object a cell is. They know no categories and no meaning: across
instances, and across large changes of view, they are far weaker than learned features.

Everything is relative to the letterboxed frame of :class:`sc3d.grid.Letterbox`. Its empty borders are filled with the image's own edge,
since a black border would be the strongest gradient of all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.color import rgb2lab
from skimage.feature import daisy, hog

from sc3d.grid import SIDE, Letterbox

# Odd, so that the centre of a cell is the centre of a pixel.
_FINE_PIXELS, _COARSE_PIXELS = 3, 1


@dataclass(frozen=True)
class Rings:
    """One DAISY: pixels a cell of the working frame, radius in those pixels, and the weight of its part of the descriptor."""

    cell_pixels: int
    radius: int
    weight: float = 1.0


@dataclass(frozen=True)
class Window:
    """One HOG layer: cells along the layer, cells along a window, pixels a cell, and the weights of gradients, colour and texture."""

    side: int
    window: int
    cell_pixels: int = 6
    gradient: float = 1.0
    colour: float = 0.3
    texture: float = 0.2


# Radii, windows and weights were chosen by nearest-neighbour PCK@0.10 on rendered toys that no benchmark contains. The longest radius
# reaches over a third of the frame: it is what says where in the object a cell is.
RINGS = (Rings(_COARSE_PIXELS, 21), Rings(_COARSE_PIXELS, 9, 0.7), Rings(_FINE_PIXELS, 15, 0.5))
WINDOWS = {
    "sd.s3": Window(SIDE, 5, gradient=0.5),
    "sd.s4": Window(SIDE // 2, 7, gradient=0.7),
    "sd.s5": Window(SIDE // 4, 7, cell_pixels=8),
}


def daisy_descriptor(image: np.ndarray, rings: tuple[Rings, ...] = RINGS) -> np.ndarray:
    """DAISY at several radii: (H, W, 3) uint8 -> (C, 60, 60) float32, each radius's part of length ``weight``.

    A part's mean over its channels is subtracted: histograms are positive, and their cosines would all be near one.
    """
    parts = []
    for ring in rings:
        grey = np.sqrt(_framed(_grey(image), SIDE * ring.cell_pixels, ring.radius) / 255)
        # The first sample lies at ``radius``: half a cell further is the first cell's centre.
        start = ring.cell_pixels // 2
        samples = daisy(
            grey[start:, start:],
            step=ring.cell_pixels,
            radius=ring.radius,
            rings=2,
            histograms=8,
            orientations=8,
            normalization="l1",
        )[:SIDE, :SIDE]
        parts.append(ring.weight * _normalised(np.sqrt(samples)))
    return _channels_first(parts)


def hog_layers(image: np.ndarray, windows: dict[str, Window] = WINDOWS) -> dict[str, np.ndarray]:
    """HOG, Lab colour and texture energy at growing windows: (H, W, 3) uint8 -> name -> (C, side, side) float32."""
    frame = _framed(image, SIDE * _FINE_PIXELS)
    lab = rgb2lab(frame).astype(np.float32) / 50 - (1, 0, 0)
    energies = _energies(lab[..., 0])
    return {name: _layer(image, lab, energies, window) for name, window in windows.items()}


def _layer(image: np.ndarray, lab: np.ndarray, energies: np.ndarray, window: Window) -> np.ndarray:
    border = window.window // 2 * window.cell_pixels
    blocks = hog(
        _framed(_grey(image), window.side * window.cell_pixels, border),
        orientations=6,
        pixels_per_cell=(window.cell_pixels, window.cell_pixels),
        cells_per_block=(window.window, window.window),
        block_norm="L1-sqrt",
        transform_sqrt=True,
        feature_vector=False,
    )
    gradients = _normalised(blocks.reshape(window.side, window.side, -1))
    size = (window.side, window.side)
    colour = cv2.resize(lab, size, interpolation=cv2.INTER_AREA)
    texture = cv2.resize(energies, size, interpolation=cv2.INTER_AREA)
    return _channels_first([window.gradient * gradients, window.colour * colour, window.texture * texture])


def _energies(lightness: np.ndarray) -> np.ndarray:
    """Log energy of the band-passed lightness at four scales: (h, w) -> (h, w, 4), about zero mean and unit range."""
    blurred = [lightness, *(cv2.GaussianBlur(lightness, (0, 0), s) for s in (1, 2, 4, 8))]
    bands = [cv2.GaussianBlur((a - b) ** 2, (0, 0), 3) for a, b in itertools.pairwise(blurred)]
    return np.log10(np.stack(bands, axis=-1) + 1e-4) / 2 + 1.25


def _normalised(parts: np.ndarray) -> np.ndarray:
    """Subtract each descriptor's mean over the channels, and scale it to length 1; featureless ones stay 0: (h, w, C)."""
    centred = parts - parts.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / np.maximum(length, 1e-6)


def _channels_first(parts: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate(parts, axis=-1).transpose(2, 0, 1), dtype=np.float32)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _framed(image: np.ndarray, size: int, border: int = 0) -> np.ndarray:
    """Resize to the letterboxed frame of ``size`` and continue the image's edge into its borders and ``border`` pixels around."""
    box = Letterbox(image.shape[1], image.shape[0], size, 1)
    (width, height), (left, top) = box.resized, box.offset
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    right, bottom = size - width - left, size - height - top
    return cv2.copyMakeBorder(
        resized, top + border, bottom + border, left + border, right + border, borderType=cv2.BORDER_REPLICATE
    )
