"""What several references say of a match: the median counts, the gap is an error, and without registrations there is no verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sc3d.config import MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.matching.described import Described
from sc3d.matching.transfer import transfer_of
from sc3d.matching.verify import verify_pair

CONFIG = MatchConfig(transfer="registration", tau_cc=0.5)


def numbered(features: Features, references: int = 3) -> np.ndarray:
    """Places (R, V, 6) by which the same vertex of two meshes is the same place."""
    assert features.surface is not None
    n = len(features.surface.vertices)
    lattice = np.stack([np.arange(n) % 7, np.arange(n) // 7 % 7, np.arange(n) // 49], axis=1) / 7
    return np.repeat(np.hstack([lattice, np.zeros((n, 3))])[None], references, axis=0).astype(np.float32)


def errors(source: Features, target: Features, places: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray:
    first, second = (Described(one, CONFIG, place) for one, place in zip((source, target), places, strict=True))
    return verify_pair(first, second, transfer_of("registration")).verified.error


@pytest.fixture
def pair(make_features) -> tuple[Features, Features]:  # type: ignore[no-untyped-def]
    return make_features(3, "a", n_foreground=80), make_features(4, "b", n_foreground=80)


def test_one_wrong_reference_of_three_is_outvoted(pair: tuple[Features, Features]) -> None:
    right = numbered(pair[0]), numbered(pair[1])
    wanted = errors(*pair, right)
    assert np.isfinite(wanted).any()
    shuffled = right[1].copy()
    shuffled[2] = shuffled[2, np.random.default_rng(0).permutation(len(shuffled[2]))]
    outvoted = errors(*pair, (right[0], shuffled))
    np.testing.assert_array_equal(np.isfinite(outvoted), np.isfinite(wanted))
    # The median of two equal errors and any third is one of the two.
    np.testing.assert_array_equal(outvoted, wanted)
    shuffled[1] = shuffled[2]
    assert (errors(*pair, (right[0], shuffled)) != wanted).any()


def test_what_the_registrations_leave_apart_is_an_error(pair: tuple[Features, Features]) -> None:
    right = numbered(pair[0]), numbered(pair[1])
    near = errors(*pair, right)
    apart = right[1].copy()
    # Off the surface: the nearest place stays the same, farther away.
    apart[:, :, 5] += 0.5
    found = errors(*pair, (right[0], apart))
    known = np.isfinite(near)
    assert known.any()
    assert (found[known] > near[known]).all()
    assert np.median(found[known] - near[known]) == pytest.approx(0.45, abs=0.05)


def test_meshes_that_were_not_registered_are_not_verified(pair: tuple[Features, Features]) -> None:
    with pytest.raises(FeatureError, match="not registered; run sc3d label"):
        errors(*pair, (numbered(pair[0]), None))


def test_places_of_another_mesh_are_refused_by_name(pair: tuple[Features, Features]) -> None:
    with pytest.raises(FeatureError, match="a: 39 registered places for 40 vertices"):
        Described(pair[0], CONFIG, numbered(pair[0])[:, :-1])


def test_an_images_memory_counts_its_places(pair: tuple[Features, Features]) -> None:
    plain = Described(pair[0], replace(CONFIG, transfer="nearest"))
    assert Described(pair[0], CONFIG, numbered(pair[0])).n_bytes > plain.n_bytes + numbered(pair[0]).nbytes
