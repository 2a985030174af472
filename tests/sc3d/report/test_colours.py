"""Colours that carry a meaning stay apart for people without one kind of receptor (matrices: Machado, Oliveira, Fernandes 2009)."""

from __future__ import annotations

import numpy as np
import pytest

from sc3d.report.colours import position_colours
from sc3d.report.evidence import FATE_COLOURS

SIGHT = {
    "all receptors": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(rgb: np.ndarray, sight: object) -> np.ndarray:
    """sRGB (N, 3) uint8, as somebody with ``sight`` sees it, in Oklab, where 0.02 is about a step that can be told."""
    parts = np.asarray(rgb) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(sight).T, 0, 1)
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]])
    cones = np.vstack([cones, [0.0883024619, 0.2817188376, 0.6299787005]])
    to_lab = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]])
    to_lab = np.vstack([to_lab, [0.0259040371, 0.7827717662, -0.8086757660]])
    return np.cbrt(seen @ cones.T) @ to_lab.T


def least_distance(rgb: np.ndarray, sight: object) -> float:
    lab = oklab(rgb, sight)
    return float((np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(len(lab))).min())


@pytest.mark.parametrize("sight", SIGHT)
def test_fates_are_told_apart(sight: str) -> None:
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in FATE_COLOURS])
    assert least_distance(colours, SIGHT[sight]) > 0.15


@pytest.mark.parametrize("sight", SIGHT)
def test_nine_places_are_told_apart(sight: str) -> None:
    xy = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2]), axis=-1).reshape(-1, 2)
    assert least_distance(position_colours(xy), SIGHT[sight]) > 0.06
