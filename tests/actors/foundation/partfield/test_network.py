"""PartField's network against outputs of the original, and its fast parts against plain versions of what they compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from actors.foundation.partfield.model import UNUSED
from actors.foundation.partfield.network import FULL, TINY, PartFieldNetwork, random_network, sample_planes
from actors.foundation.partfield.points import PointEncoder, cell_means
from actors.foundation.partfield.unet import PlaneExchange

GOLDEN = Path(__file__).parents[5] / "shared" / "golden"


def golden(name: str) -> Path:
    if not (GOLDEN / name).exists():
        pytest.skip(f"no reference outputs at {GOLDEN}")
    return GOLDEN / name


def cloud(seed: int, n: int, objects: int = 1) -> torch.Tensor:
    """Points (objects, n, 3) on spheres that just fit into [-0.9, 0.9], and a few on and beyond the box's sides."""
    points = np.random.default_rng(seed).standard_normal((objects, n, 3))
    points *= 0.9 / np.linalg.norm(points, axis=2, keepdims=True)
    points[:, :3] = [[1, -1, 1], [-1, 1, 0], [1.01, 0, -1]]
    return torch.from_numpy(points.astype(np.float32))


@pytest.fixture(scope="module")
def tiny() -> PartFieldNetwork:
    return random_network(TINY)


@pytest.mark.slow
def test_the_full_network_gives_the_features_of_the_original() -> None:
    data = np.load(golden("partfield.npz"))
    # random_network fills by the rule of the reference outputs.
    network = random_network(FULL)
    with torch.inference_mode():
        (features,) = network(torch.from_numpy(data["points"])[None], [torch.from_numpy(data["queries"])])
    assert features.shape == (150, 448)
    assert np.abs(features.numpy() - data["features"]).max() < 1e-4


def test_the_published_tensors_are_those_of_the_network_and_the_listed_unused_ones() -> None:
    published = {name: tuple(shape) for name, shape in json.loads(golden("partfield_state_dict.json").read_text()).items()}
    with torch.device("meta"):
        network = PartFieldNetwork(FULL)
    assert set(UNUSED) < set(published)
    assert len(UNUSED) == len(set(UNUSED)) == 26
    assert {name: shape for name, shape in published.items() if name not in UNUSED} == {
        name: tuple(value.shape) for name, value in network.state_dict().items()
    }


def plain_planes(encoder: PointEncoder, points: torch.Tensor) -> torch.Tensor:
    """What the encoder computes for one object's points (N, 3), layer by layer on all 8 channels: (3, side, side, C)."""
    r, side = encoder.voxels, encoder.side
    inputs = torch.cat([points, 2 * points, torch.zeros(len(points), 2)], dim=1)
    place = ((points + 1) / 2 * r).clamp(0, r - 1)
    voxels, count = torch.zeros(r, r, r, 8), torch.zeros(r, r, r, 1)
    for (x, y, z), value in zip(place.round().long().tolist(), inputs, strict=True):
        voxels[x, y, z] += value
        count[x, y, z] += 1
    volume = (voxels / count.clamp(min=1)).permute(3, 0, 1, 2)[None]
    for name in ("0", "3"):
        volume = functional.instance_norm(encoder.voxel_layers[name](volume), eps=1e-4)
        volume = functional.leaky_relu(volume, 0.1)
    grid = ((2 * place + 1) / r - 1).view(1, -1, 1, 1, 3)
    near = functional.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False).view(-1, len(points))
    exact = functional.instance_norm(encoder.point_features["layers"][0](inputs.T[None]), eps=1e-5)[0].relu()
    features = near + exact
    planes, count = torch.zeros(3, side, side, len(features)), torch.zeros(3, side, side, 1)
    cells = ((points / 2 / (1 + 1e-5) + 0.5).clamp(0, 1 - 1e-5) * side).long()
    for plane, (column, row) in enumerate([(0, 1), (1, 2), (0, 2)]):
        for cell, value in zip(cells.tolist(), features.T, strict=True):
            planes[plane, cell[row], cell[column]] += value
            count[plane, cell[row], cell[column]] += 1
    return planes / count.clamp(min=1)


def test_the_point_encoder_is_its_plain_version() -> None:
    encoder = random_network(TINY).get_submodule("pvcnn.pc_encoder.encoder.0")
    points = cloud(0, 400, objects=2)
    with torch.inference_mode():
        found = encoder(points)
        wanted = torch.stack([plain_planes(encoder, p) for p in points])
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def test_cell_means_leave_empty_cells_at_zero() -> None:
    values, cells = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]]), torch.tensor([2, 2, 0])
    assert cell_means(values, cells, 4).tolist() == [[5, 5], [0, 0], [2, 4], [0, 0]]


def test_planes_are_sampled_as_grid_sample_does() -> None:
    planes = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 16, 16, 5)).astype(np.float32))
    places = torch.cat([cloud(2, 50)[0], torch.tensor([[1.0, 1, 1], [-1, -1, -1], [3, 0.2, -7]])])
    wanted = sum(
        functional.grid_sample(
            plane.permute(2, 0, 1)[None], places[None, None][..., list(axes)], padding_mode="border", align_corners=True
        )[0, :, 0].T
        for plane, axes in zip(planes, [(0, 1), (1, 2), (0, 2)], strict=True)
    )
    torch.testing.assert_close(sample_planes(planes, places), wanted, atol=1e-5, rtol=1e-5)


def test_many_places_are_sampled_like_few() -> None:
    planes = torch.rand(3, 8, 8, 2, generator=torch.Generator().manual_seed(0))
    places = cloud(3, 10_007)[0]
    torch.testing.assert_close(sample_planes(planes, places)[9_990:], sample_planes(planes, places[9_990:]))


def test_planes_exchange_their_means_along_the_axis_that_the_other_lacks() -> None:
    channels, side = 2, 4
    exchange = PlaneExchange(channels)
    rolled = torch.from_numpy(np.random.default_rng(4).standard_normal((1, channels, 3 * side, side)).astype(np.float32))
    xy, yz, xz = rolled[0].numpy().reshape(channels, 3, side, side).transpose(1, 0, 2, 3)
    wanted = []
    planes = [xy, yz, xz.transpose(0, 2, 1)]
    for i, conv in enumerate(exchange.plane_convs):
        after, before = planes[(i + 1) % 3], planes[(i + 2) % 3]
        out = np.empty((channels, side, side), np.float32)
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()
        for a in range(side):
            for b in range(side):
                inputs = np.concatenate([planes[i][:, a, b], after[:, b, :].mean(axis=1), before[:, :, a].mean(axis=1)])
                out[:, a, b] = weight @ inputs + bias
        wanted.append(out if i < 2 else out.transpose(0, 2, 1))
    with torch.inference_mode():
        np.testing.assert_allclose(exchange(rolled)[0].numpy(), np.concatenate(wanted, axis=1), atol=1e-5)


def test_attention_is_that_of_pytorch(tiny: PartFieldNetwork) -> None:
    ours = tiny.get_submodule("triplane_transformer.transformer.layers.0.self_attn")
    theirs = torch.nn.MultiheadAttention(TINY.width, TINY.heads, bias=False, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 10, TINY.width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-5, rtol=1e-5)


def test_the_order_of_the_points_does_not_matter(tiny: PartFieldNetwork) -> None:
    points, places = cloud(5, 700), cloud(6, 60)[0]
    shuffled = points[:, torch.randperm(700, generator=torch.Generator().manual_seed(1))]
    with torch.inference_mode():
        torch.testing.assert_close(tiny(shuffled, [places])[0], tiny(points, [places])[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("planes_at_once", [1, 4, 12])
def test_a_batch_gives_what_each_object_gives_alone(tiny: PartFieldNetwork, planes_at_once: int) -> None:
    points = cloud(7, 500, objects=3) * torch.tensor([[[1, 1, 1]], [[1, 0.5, 0.3]], [[0.2, 1, 0.7]]])
    places = [cloud(8, n)[0] for n in (40, 5, 70)]
    with torch.inference_mode():
        together = tiny(points, places, planes_at_once)
        alone = [tiny(p[None], [q])[0] for p, q in zip(points, places, strict=True)]
    assert [len(f) for f in together] == [40, 5, 70]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert (together[0][:5] - together[1]).abs().max() > 0.1


def test_random_networks_are_the_same_every_time(tiny: PartFieldNetwork) -> None:
    again = random_network(TINY)
    assert all(torch.equal(a, b) for a, b in zip(tiny.parameters(), again.parameters(), strict=True))
    assert not any(p.requires_grad for p in again.parameters())
