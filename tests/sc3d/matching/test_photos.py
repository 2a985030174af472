"""Two photos are labelled by features of any name, grid and library as a run would label them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import ConfigError, FeatureError, InputError
from sc3d.features import Features
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.grid import Letterbox, object_extent
from sc3d.matching.described import Described
from sc3d.matching.explain import CYCLE, GEODESIC, explain_pair
from sc3d.matching.photos import label_pair
from sc3d.matching.pixels import verify
from tests.posed_toys import place_features, posed_toy

SQUARE = (120, 120)


@pytest.fixture(scope="module")
def pair() -> tuple[PosedMesh, PosedMesh]:
    return posed_toy(0, 40), posed_toy(1, 60)


@pytest.fixture(scope="module")
def maps(pair: tuple[PosedMesh, PosedMesh]) -> tuple[np.ndarray, np.ndarray]:
    return place_features(pair[0]), place_features(pair[1], grid=(33, 61))


def test_features_that_know_their_place_make_labels_near_the_truth(
    pair: tuple[PosedMesh, PosedMesh], maps: tuple[np.ndarray, np.ndarray]
) -> None:
    found = label_pair(*pair, {"mine": maps[0]}, {"mine": maps[1]})
    assert found.keep.mean() > 0.2
    assert {CYCLE, GEODESIC} <= set(found.rejected_by)
    np.testing.assert_array_equal(found.keep, found.rejected_by == "")
    places = [one.raster.cast(one.pose, one.camera, xy) for one, xy in zip(pair, (found.source_xy, found.target_xy), strict=True)]
    at = found.keep & (places[0].face >= 0) & (places[1].face >= 0)
    points = [
        (one.mesh.vertices[one.mesh.faces[hits.face[at]]] * hits.barycentric[at][..., None]).sum(axis=1)
        for one, hits in zip(pair, places, strict=True)
    ]
    assert np.median(np.linalg.norm(points[0] - points[1], axis=1)) < 0.05
    again = verify(*pair, found.source_xy, found.target_xy)
    np.testing.assert_array_equal(again.geodesic_error[at], found.geodesic_error[at])


def test_square_photos_are_labelled_as_in_a_run() -> None:
    """A letterbox around a square is the photo, so features of the photo are features of the letterbox."""
    posed = posed_toy(0, 40, size=SQUARE), posed_toy(1, 60, size=SQUARE)
    maps = [{"dino": place_features(one, grid=(30, 30)), "sd": place_features(one, grid=(15, 15), channels=6)} for one in posed]
    found = label_pair(*posed, *maps, weights={"dino": 2, "sd": 3, "shape": 1}, transfer="nearest")
    config, described = MatchConfig(alpha=1 / 2, beta=1 / 3), []
    for name, one, side in zip("st", posed, maps, strict=True):
        box = Letterbox(*SQUARE)
        foreground = box.sample_mask(one.object_mask)
        sources = {key: np.moveaxis(value, 2, 0) for key, value in side.items()}
        surface = one.cell_surface(box, foreground, 0.4)
        features = Features(name, box, foreground, object_extent(one.object_mask), sources, one.vertex_descriptors, surface)
        described.append(Described(features, config))
    expected = explain_pair(described[0], described[1], LabelConfig())
    np.testing.assert_allclose(found.cosine, expected.cosine, atol=1e-5)
    for name in ("source_cells", "target_cells", "cycle_error", "geodesic_error", "rejected_by"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.keep.any()


def test_names_grids_and_libraries_do_not_matter(pair: tuple[PosedMesh, PosedMesh], maps: tuple[np.ndarray, np.ndarray]) -> None:
    plain = label_pair(*pair, {"a": maps[0]}, {"a": maps[1]}, weights={"a": 1})
    tensors = [torch.tensor(one, requires_grad=True) for one in maps]
    renamed = label_pair(*pair, {"dino v9": tensors[0]}, {"dino v9": tensors[1]}, weights={"dino v9": 7})  # type: ignore[dict-item]
    doubled = label_pair(*pair, {"a": maps[0], "b": maps[0]}, {"b": maps[1], "a": maps[1]}, weights={"a": 1, "b": 2})
    for other in (renamed, doubled):
        np.testing.assert_array_equal(other.target_cells, plain.target_cells)
        np.testing.assert_allclose(other.cosine, plain.cosine, atol=1e-5)


def test_a_weight_of_nothing_leaves_features_out(pair: tuple[PosedMesh, PosedMesh], maps: tuple[np.ndarray, np.ndarray]) -> None:
    noise = [np.random.default_rng(i).normal(size=one.shape) for i, one in enumerate(maps)]
    alone = label_pair(*pair, {"a": maps[0]}, {"a": maps[1]}, weights={"a": 1})
    with_noise = label_pair(*pair, {"a": maps[0], "n": noise[0]}, {"a": maps[1], "n": noise[1]}, weights={"a": 1, "n": 0})
    by_noise = label_pair(*pair, {"a": maps[0], "n": noise[0]}, {"a": maps[1], "n": noise[1]}, weights={"n": 1})
    np.testing.assert_array_equal(with_noise.target_cells, alone.target_cells)
    assert (by_noise.target_cells != alone.target_cells).mean() > 0.9
    shape = label_pair(*pair, {"n": noise[0]}, {"n": noise[1]}, weights={"shape": 1})
    assert shape.keep.mean() > by_noise.keep.mean()


def test_masks_alone_are_enough(pair: tuple[PosedMesh, PosedMesh], maps: tuple[np.ndarray, np.ndarray]) -> None:
    inflated = [PosedMesh.inflated(one.object_mask, azimuth) for one, azimuth in zip(pair, (40, 60), strict=True)]
    found = label_pair(*inflated, {"mine": maps[0]}, {"mine": maps[1]})
    assert found.keep.mean() > 0.2


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ({"a": np.zeros((4, 5))}, {}, InputError, r"source_features\['a'\] must have the shape \(rows, columns, C\), got \(4, 5\)"),
        ({"a": np.ones((4, 5, 2))}, {"a": np.ones((4, 5, 3))}, InputError, r"the same names and channels, got \{'a': 2\} and \{'a': 3\}"),
        ({"a": np.ones((4, 5, 2))}, {"b": np.ones((4, 5, 2))}, InputError, r"the same names and channels, got \{'a': 2\} and \{'b': 2\}"),
        ({"shape": np.ones((4, 5, 2))}, {}, InputError, "source_features must name at least one array, and none 'shape'"),
        ({}, {}, InputError, "source_features must name at least one array"),
        ({"a": np.ones((0, 5, 2))}, {}, InputError, r"source_features\['a'\] is empty: \(0, 5, 2\)"),
        ({"a": np.full((4, 5, 2), np.nan)}, {}, FeatureError, r"source_features\['a'\] holds values that are not finite"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_named(
    pair: tuple[PosedMesh, PosedMesh], source: Any, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        label_pair(*pair, source, target)


@pytest.mark.parametrize("weights", [{"b": 1}, {"a": -1, "shape": 2}, {"a": 0}, {}, {"a": np.nan}, {"a": np.inf}])
def test_weights_of_nothing_are_refused(pair: tuple[PosedMesh, PosedMesh], weights: dict[str, float]) -> None:
    one = {"a": np.ones((4, 5, 2))}
    with pytest.raises(ConfigError, match="weights must be at least 0, one of them more, for a, shape; got"):
        label_pair(*pair, one, one, weights=weights)


def test_thresholds_and_masks_that_cannot_be_used_are_refused(pair: tuple[PosedMesh, PosedMesh]) -> None:
    one = {"a": np.ones((4, 5, 2))}
    with pytest.raises(ConfigError, match="tau_cc and tau_geo must be above 0 and finite, got 0 and"):
        label_pair(*pair, one, one, tau_cc=0)
    source = pair[0]
    small = np.zeros(source.object_mask.shape, bool)
    small[0, 0] = True
    with pytest.raises(InputError, match="the source's mask covers no cell of its grid of 60 x 60"):
        label_pair(PosedMesh(source.mesh, source.pose, source.camera, small), pair[1], one, one)
