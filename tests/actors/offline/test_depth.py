"""The disturbed depth of toys: as good as a network's, and no better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.offline.depth import ToyDepth
from sc3d.class_shapes.observation import depth_raster
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.errors import InputError
from sc3d.geometry.raster import Raster


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("toys")
    counts = {"trn": 3, "val": 0, "test": 0}
    generate_toys(root, ToysConfig(("car",), counts, {"trn": 2, "val": 0, "test": 0}, workers=1))
    return sorted(root.rglob("*.npz"))


def depth(path: Path, seed: int = 0) -> np.ndarray:
    height, width = toy_truth(path).mask.shape
    row = {"image_id": path.stem, "width": width, "height": height, "truth_path": str(path)}
    return np.asarray(ToyDepth(load_config(None, [f"seed={seed}"])).process(row)["depth"], np.float64)


def test_nearness_is_that_of_the_toy_but_for_scale_shift_blur_and_noise(truths: list[Path]) -> None:
    for path in truths:
        truth, found = toy_truth(path), depth(path)
        size = depth_raster(truth.mask.shape[1], truth.mask.shape[0])
        maps = Raster(truth.mesh).render(truth.pose, truth.camera.resized(*size), *size)
        assert found.shape == maps.mask.shape
        # Of a line through nearness and what is said, which is all that scale and shift leave open, most is explained, not all.
        told, known = 1 - found[maps.mask], 1 / maps.depth[maps.mask]
        likeness = np.corrcoef(told, known)[0, 1]
        assert 0.85 < likeness < 0.9999


def test_it_follows_from_seed_and_image(truths: list[Path]) -> None:
    assert (depth(truths[0]) == depth(truths[0])).all()
    assert (depth(truths[0]) != depth(truths[0], 1)).any()


def test_a_photo_without_truth_is_refused(truths: list[Path]) -> None:
    with pytest.raises(InputError, match=r"represent\.depth"):
        ToyDepth(load_config(None, [])).process({"image_id": "a", "width": 8, "height": 8, "truth_path": None})
    with pytest.raises(InputError, match="another size"):
        ToyDepth(load_config(None, [])).process({"image_id": "a", "width": 8, "height": 8, "truth_path": str(truths[0])})
