"""What is kept of a category survives its file, and what it has found survives its growth."""

from __future__ import annotations

import numpy as np
import pytest

from sc3d.errors import DamagedFileError
from sc3d.geometry.orientation.category import decode_category, orient_category
from sc3d.geometry.orientation.pooling import turned

NAMES = [f"image{i} abc" for i in range(24)]


def descriptors(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(1, 8, 64)) + 0.6 * rng.normal(size=(24, 8, 64))
    return (found / np.linalg.norm(found, axis=(1, 2), keepdims=True)).astype(np.float16)


def test_a_compass_survives_its_file() -> None:
    made = orient_category(NAMES[:8], descriptors()[:8], [False] * 8, 14.0)
    back = decode_category(made.encode(), "here")
    assert back.anchors == made.anchors
    np.testing.assert_array_equal(back.posteriors, made.posteriors)
    other = descriptors()[20]
    np.testing.assert_array_equal(back.compass.posterior(other), made.compass.posterior(other))
    assert made.encode() == orient_category(NAMES[:8], descriptors()[:8], [False] * 8, 14.0).encode()


def test_damaged_files_are_named() -> None:
    data = orient_category(NAMES[:2], descriptors()[:2], [False] * 2, 14.0).encode()
    for broken in (b"", data[:100], data[:-9], data.replace(b"weights", b"wei_hts"), data.replace(b"image0", b'ima"e0')):
        with pytest.raises(DamagedFileError, match="here: not a readable compass"):
            decode_category(broken, "here")


def test_a_compass_serves_until_there_are_twice_as_many() -> None:
    compass = orient_category(NAMES[:8], descriptors()[:8], [False] * 8, 14.0)
    assert [compass.serves(n) for n in (3, 8, 15, 16, 100)] == [True, True, True, False, False]


def test_growth_turns_nothing_round() -> None:
    """Many more meshes join that all face the other way: those that came first stay as they were found."""
    every = descriptors()
    before = orient_category(NAMES[:5], every[:5], [False] * 5, 14.0)
    assert (before.posteriors.argmax(axis=1) == 0).all()
    grown = np.concatenate([every[:5], turned(every[5:], 2)])
    after = orient_category(NAMES, grown, [False] * 24, 14.0, before)
    np.testing.assert_array_equal(after.posteriors[:5], before.posteriors)
    alone = orient_category(NAMES, grown, [False] * 24, 14.0)
    assert (alone.posteriors[:5].argmax(axis=1) == 2).all(), "without what came first the majority counts"


def test_meshes_that_are_known_to_face_forward_stay() -> None:
    every = turned(descriptors(), 2)
    every[:4] = descriptors()[:4]
    found = orient_category(NAMES, every, [True] * 4 + [False] * 20, 14.0)
    np.testing.assert_array_equal(found.posteriors[:4], np.eye(4)[[0] * 4])
    unknown = orient_category(NAMES, every, [False] * 24, 14.0)
    assert (unknown.posteriors[:4].argmax(axis=1) == 2).all()
