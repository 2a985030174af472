"""PartField for meshes and as an actor: sampling, weights, precision, projection, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from actors.base import run_actors
from actors.foundation.partfield import actor as actor_module
from actors.foundation.partfield.actor import PartFieldShape
from actors.foundation.partfield.model import FILE, UNUSED, PartField, load_network
from actors.foundation.partfield.network import TINY, PartFieldNetwork, random_network
from actors.foundation.partfield.projection import onto_axes, principal_axes, project
from actors.foundation.partfield.sampling import sample_surface, to_network_frame
from actors.offline.shape import SpectralShape
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import FeatureError, GeometryError, WeightsError
from sc3d.geometry.mesh import Mesh

SPHERE = trimesh.creation.icosphere(2)
CONFIG = load_config(overrides=["models.variant=tiny", "models.device=cpu"])


def ellipsoid(*axes: float) -> Mesh:
    return Mesh(SPHERE.vertices * axes, SPHERE.faces)


@pytest.fixture(scope="module")
def model() -> PartField:
    return PartField(random_network(TINY), samples=1_000)


# --- surface samples


def test_samples_lie_on_the_surface_in_proportion_to_area() -> None:
    # A sheet of 1 x 1 at z = 0 and one of 1 x 3 at z = 1, two triangles each.
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 3, 1], [0, 3, 1]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    points = sample_surface(Mesh(corners, faces), 40_000)
    assert points.shape == (40_000, 3)
    assert points.dtype == np.float32
    assert set(np.unique(points[:, 2])) == {0, 1}
    assert np.mean(points[:, 2]) == pytest.approx(0.75, abs=0.01)
    assert np.histogram(points[points[:, 2] == 1, 1], bins=3, range=(0, 3))[0] / 30_000 == pytest.approx(1 / 3, abs=0.01)


def test_samples_depend_on_the_seed_alone() -> None:
    mesh = ellipsoid(1, 0.5, 0.5)
    np.testing.assert_array_equal(sample_surface(mesh, 100, seed=3), sample_surface(mesh, 100, seed=3))
    assert not np.array_equal(sample_surface(mesh, 100, seed=3), sample_surface(mesh, 100, seed=4))


def test_the_network_sees_the_longest_side_from_minus_to_plus_0_9() -> None:
    boxed = to_network_frame(Mesh(SPHERE.vertices * (2, 8, 4) + (5, -3, 100), SPHERE.faces))
    low, high = boxed.vertices.min(axis=0), boxed.vertices.max(axis=0)
    np.testing.assert_allclose(high, -low, atol=1e-12)
    np.testing.assert_allclose(high[1], 0.9)
    np.testing.assert_allclose(high[2], 0.45, rtol=1e-6)


# --- features of meshes


def test_features_do_not_depend_on_where_a_mesh_is_or_how_large(model: PartField) -> None:
    mesh = ellipsoid(0.2, 0.5, 0.3)
    moved = Mesh(mesh.vertices * 7 + (1, 2, 3), mesh.faces)
    np.testing.assert_allclose(model.describe([moved])[0], model.describe([mesh])[0], atol=2e-3)


def test_features_follow_the_vertices_when_they_are_numbered_otherwise(model: PartField) -> None:
    mesh = ellipsoid(0.2, 0.5, 0.3)
    order = np.random.default_rng(0).permutation(len(mesh.vertices))
    renumbered = Mesh(mesh.vertices[order], np.argsort(order)[mesh.faces])
    np.testing.assert_allclose(model.describe([renumbered])[0], model.describe([mesh])[0][order], atol=1e-4)


def test_meshes_are_described_together_as_alone(model: PartField) -> None:
    meshes = [ellipsoid(1, 1, 1), ellipsoid(0.2, 1, 0.3), ellipsoid(1, 0.4, 0.3)]
    together = model.describe(meshes)
    for mesh, features in zip(meshes, together, strict=True):
        assert features.shape == (len(mesh.vertices), TINY.features)
        np.testing.assert_allclose(features, model.describe([mesh])[0], atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.1
    assert model.describe([]) == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
def test_half_precision_changes_features_little(model: PartField, dtype: torch.dtype, tolerance: float) -> None:
    mesh = ellipsoid(0.2, 0.5, 0.3)
    exact = model.describe([mesh])[0]
    half = PartField(model.network, "cpu", dtype, samples=model.samples).describe([mesh])[0]
    assert half.dtype == np.float32
    error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert 0 < error < tolerance


def test_features_that_are_not_finite_are_an_error() -> None:
    network = random_network(TINY)
    network.get_parameter("triplane_transformer.mlp.2.bias").fill_(torch.inf)
    with pytest.raises(FeatureError, match=r"models\.dtype=float32"):
        PartField(network, samples=100).describe([ellipsoid(1, 1, 1)])


# --- weights


def checkpoint(path: Path, change: dict[str, torch.Tensor | None] | None = None) -> Path:
    """A Lightning checkpoint of the tiny network with the tensors of the published one that are not used; ``None`` takes one away."""
    state: dict[str, torch.Tensor | None] = {**random_network(TINY).state_dict(), **{name: torch.ones(3, 3) for name in UNUSED}}
    state.update(change or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"epoch": 9, "state_dict": {k: v for k, v in state.items() if v is not None}, "hyper_parameters": {"lr": 1e-3}}, path
    )
    return path


def test_a_lightning_checkpoint_is_loaded_from_its_file_or_folder(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / FILE)
    wanted = random_network(TINY).state_dict()
    for source in (path, tmp_path):
        network = load_network(source, TINY)
        assert not network.training
        assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    half = {name: value.half() for name, value in random_network(TINY).state_dict().items()}
    network = load_network(checkpoint(tmp_path / FILE, half), TINY)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"triplane_transformer.pos_embed": None}, "pos_embed"),
        ({"triplane_transformer.mlp.9.weight": torch.ones(2)}, "mlp.9"),
        ({"triplane_transformer.mlp.0.bias": torch.ones(2)}, "mlp.0.bias"),
        ({"sdf_decoder.layers.1.weight": torch.ones(2)}, "sdf_decoder.layers.1"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    path = checkpoint(tmp_path / FILE, change)
    with pytest.raises(WeightsError, match=message) as error:
        load_network(path, TINY)
    assert str(path) in str(error.value)
    assert "models.partfield" in str(error.value)


def test_truncated_and_absent_weights_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / FILE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cut short"):
        load_network(path, TINY)
    with pytest.raises(WeightsError, match=FILE):
        load_network(tmp_path / "absent" / FILE, TINY)


# --- the actor


def row(mesh: Mesh, name: str = "a") -> dict[str, object]:
    return {"image_id": name, "vertices": mesh.vertices, "faces": mesh.faces}


def test_the_actor_fills_the_slot_of_the_offline_descriptor() -> None:
    assert PartFieldShape.requires == SpectralShape.requires
    assert PartFieldShape.provides == SpectralShape.provides
    shape = PartFieldShape(CONFIG).process(row(ellipsoid(0.2, 0.5, 0.3)))["shape"]
    assert shape.shape == (len(SPHERE.vertices), TINY.features)
    assert shape.dtype == np.float16
    np.testing.assert_array_equal(shape, PartFieldShape(CONFIG).process(row(ellipsoid(0.2, 0.5, 0.3)))["shape"])


BAD = {
    "no faces": (np.zeros((3, 3)), np.zeros((0, 3), int)),
    "not a number": (np.where(np.arange(len(SPHERE.vertices))[:, None] == 5, np.nan, SPHERE.vertices), SPHERE.faces),
    "one point": (np.ones_like(SPHERE.vertices), SPHERE.faces),
    "no area": (SPHERE.vertices * (1, 0, 0), SPHERE.faces),
    "faces out of range": (SPHERE.vertices, SPHERE.faces + 100),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mesh_is_rejected_and_its_batch_is_not(kind: str) -> None:
    vertices, faces = BAD[kind]
    good = ellipsoid(0.2, 0.5, 0.3)
    rows = [row(good, "a"), {"image_id": "bad", "vertices": vertices, "faces": faces}, row(good, "b")]
    outcomes = run_actors([PartFieldShape(CONFIG)], rows, "image_id", "describe")
    assert [o.reject is None for o in outcomes] == [True, False, True]
    assert outcomes[1].reject is not None
    assert outcomes[1].reject.error_type == GeometryError.__name__
    np.testing.assert_allclose(outcomes[0].row["shape"], outcomes[2].row["shape"], atol=2e-3)


def test_the_recipe_names_what_features_depend_on(tmp_path: Path) -> None:
    tiny = PartFieldShape.made_of(CONFIG)
    assert "random" in tiny["weights"]["models.partfield"]
    assert PartFieldShape.made_of(load_config(overrides=["models.variant=tiny", "seed=1"])) != tiny
    assert PartFieldShape.made_of(load_config(overrides=["models.variant=tiny", "models.dtype=bfloat16"])) != tiny
    source = [f"models.partfield={tmp_path}", f"models.cache={tmp_path / 'cache'}"]
    checkpoint(tmp_path / FILE)
    first = PartFieldShape.made_of(load_config(overrides=source))
    checkpoint(tmp_path / FILE, {"logit_scale": torch.zeros(1)})
    assert PartFieldShape.made_of(load_config(overrides=source)) != first


def test_the_full_variant_reads_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_tiny(path: Path) -> PartFieldNetwork:
        return load_network(path, TINY)

    monkeypatch.setattr(actor_module, "load_network", load_tiny)
    monkeypatch.setattr(actor_module, "_SAMPLES", actor_module._TINY_SAMPLES)
    checkpoint(tmp_path / FILE)
    full = PartFieldShape(load_config(overrides=[f"models.partfield={tmp_path}", "models.device=cpu"]))
    mesh = row(ellipsoid(0.2, 0.5, 0.3))
    np.testing.assert_array_equal(full.process(mesh)["shape"], PartFieldShape(CONFIG).process(mesh)["shape"])


def test_absent_weights_are_named_before_any_mesh_is_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="partfield-nowhere"):
        PartFieldShape(load_config(overrides=[f"models.partfield={tmp_path}/partfield-nowhere", "models.device=cpu"]))


def test_fewer_channels_are_projections_that_images_share() -> None:
    projected = load_config(overrides=["models.variant=tiny", "models.device=cpu", "models.partfield_dims=8"])
    assert PartFieldShape.made_of(projected) != PartFieldShape.made_of(CONFIG)
    meshes = [row(ellipsoid(0.2, 0.5, 0.3)), row(ellipsoid(0.5, 0.2, 0.3))]
    shapes = [
        np.concatenate([a.process(m)["shape"] for m in meshes]).astype(float)
        for a in (PartFieldShape(CONFIG), PartFieldShape(projected))
    ]
    assert shapes[1].shape == (2 * len(SPHERE.vertices), 8)
    cosines = [(s / np.linalg.norm(s, axis=1, keepdims=True)) @ (s / np.linalg.norm(s, axis=1, keepdims=True)).T for s in shapes]
    # Cosines within and between the two meshes, which were projected in separate calls of separate actors.
    assert np.corrcoef(cosines[0].ravel(), cosines[1].ravel())[0, 1] > 0.9


# --- projection


def features(seed: int, n: int, channels: int = 12, rank: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1, 0.01, rank)
    mixing = np.linalg.qr(np.random.default_rng(99).standard_normal((channels, channels)))[0][:rank]
    return (rng.standard_normal((n, rank)) * spectrum @ mixing).astype(np.float32)


@given(seed=st.integers(0, 1000), rank=st.integers(1, 12))
def test_as_many_axes_as_the_features_have_dimensions_keep_all_cosines(seed: int, rank: int) -> None:
    a, b = features(seed, 30, rank=rank), features(seed + 1, 20, rank=rank)
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (a, b)]
    first, second = project([a, b], rank)
    assert first.shape == (30, rank)
    np.testing.assert_allclose(first @ second.T, unit[0] @ unit[1].T, atol=1e-4)


@given(seed=st.integers(0, 1000), dims=st.integers(1, 12))
def test_axes_are_orthonormal_and_the_best_for_the_meshes_together(seed: int, dims: int) -> None:
    both = [features(seed, 30), features(seed + 1, 300) * 5]
    axes = principal_axes(both, dims)
    np.testing.assert_allclose(axes.T @ axes, np.eye(dims), atol=1e-5)
    other = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, dims)))[0].astype(np.float32)

    def kept(basis: np.ndarray) -> float:
        return sum(float((onto_axes(f, basis) ** 2).sum(axis=1).mean()) for f in both)

    assert kept(axes) >= kept(other) - 1e-4
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(dims)] > 0).all()


def test_axes_that_cannot_be_are_errors() -> None:
    with pytest.raises(FeatureError, match="12 channels"):
        principal_axes([features(0, 5)], 13)
    with pytest.raises(FeatureError, match="12 channels"):
        principal_axes([features(0, 5)], 0)
    with pytest.raises(FeatureError, match="at least one"):
        principal_axes([], 3)
    with pytest.raises(FeatureError, match="at least one"):
        principal_axes([features(0, 0)], 3)


def test_the_configuration_default_is_the_published_model() -> None:
    assert RunConfig().models.partfield == "mikaelaangel/partfield-ckpt"
