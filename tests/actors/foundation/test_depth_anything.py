"""Depth Anything V2: what it is shown, what is made of what it says, and that the published networks have this architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.foundation.depth_anything import DepthAnything, DepthAnythingSmall, Kind, network_size, random_model
from sc3d.config_file import load_config
from sc3d.errors import InputError

CONFIG = load_config(None, ["models.variant=tiny", "represent.depth=depth_anything_v2_small"])


@pytest.fixture(scope="module")
def actor() -> DepthAnythingSmall:
    return DepthAnythingSmall(CONFIG)


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sides_are_multiples_of_a_patch_and_none_is_shorter_than_what_it_was_trained_on(width: int, height: int) -> None:
    if max(width, height) > 4 * min(width, height):
        with pytest.raises(InputError, match="crop it"):
            network_size(width, height)
        return
    found = network_size(width, height)
    assert min(found) == 518
    assert all(side % 14 == 0 for side in found)
    assert abs(found[0] / found[1] - width / height) <= 0.02 * width / height + 14 / 518


def test_depth_covers_the_photo_and_what_is_nearer_is_less(actor: DepthAnythingSmall) -> None:
    image = photo(640, 400)
    depth = actor.process({"image": image})["depth"]
    assert depth.shape == (200, 320)
    assert depth.dtype == np.float16
    assert depth.min() == pytest.approx(0.7, abs=1e-3)
    assert depth.max() <= 1
    nearness = actor.network.nearness(image)
    near = np.unravel_index(nearness.argmax(), nearness.shape)
    row, column = (int(at * small / large) for at, small, large in zip(near, depth.shape, nearness.shape, strict=True))
    assert depth[row, column] < np.median(depth)


def test_the_network_is_shown_normalised_pixels() -> None:
    """A photo of the size that it sees needs no resampling, so the network's own call is the plain reference."""
    model = random_model()
    image = photo(518, 518, 1)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((image / 255 - mean) / deviation).transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        wanted = model(pixel_values=pixels).predicted_depth[0].numpy()
    np.testing.assert_allclose(DepthAnything(model).nearness(image), wanted, rtol=1e-4, atol=1e-5)


def test_the_same_photo_has_the_same_depth_in_another_process_of_the_actor(actor: DepthAnythingSmall) -> None:
    image = photo(90, 120, 2)
    assert (DepthAnythingSmall(CONFIG).process({"image": image})["depth"] == actor.process({"image": image})["depth"]).all()


@pytest.mark.parametrize(("kind", "millions"), [("small", 24.8), ("base", 97.5), ("large", 335.3)])
def test_published_sizes(kind: Kind, millions: float) -> None:
    """The numbers of parameters that the authors tell."""
    with torch.device("meta"):
        model = random_model(kind, "full")
    assert sum(one.numel() for one in model.parameters()) / 1e6 == pytest.approx(millions, rel=3e-3)
