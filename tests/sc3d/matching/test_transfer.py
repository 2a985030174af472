"""Predictions across meshes: the known correspondence is found, twice the same, and unusable input is refused with its reason."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import trimesh

from actors.match import MatchActor
from pipelines.stages.judge import JudgeStage
from pipelines.stages.match import MatchStage
from sc3d.config import LabelConfig, MatchConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, FeatureError, GeometryError
from sc3d.features import GeodesicBalls, Surface
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.geometry.registration.warp import places, warp
from sc3d.geometry.sampling import scattered
from sc3d.geometry.shape_descriptors import shape_descriptors
from sc3d.geometry.spectrum import laplacian_spectrum, points_spectrum
from sc3d.matching.described import Described, DescribedSurface
from sc3d.matching.device import DeviceImage, match_pairs
from sc3d.matching.explain import explain_pair
from sc3d.matching.functional_map import functional_map
from sc3d.matching.fusion import interpolate_shape
from sc3d.matching.label import match_pair
from sc3d.matching.search import VertexIndex
from sc3d.matching.spectral import Spectral
from sc3d.matching.transfer import transfer_of

NAMES = ("nearest", "registration", "transport", "functional_map")


def described(vertices: np.ndarray, faces: np.ndarray, shape: np.ndarray, reference: Registrable | None = None) -> DescribedSurface:
    """A mesh with a hit at each of its vertices, in their order; registered to a reference, if one is given, or else to its descriptors."""
    n = len(vertices)
    face_of = np.zeros(n, np.int64)
    face_of[faces.reshape(-1)] = np.repeat(np.arange(len(faces)), 3)
    corners = faces[face_of]
    barycentric = (corners == np.arange(n)[:, None]).astype(np.float32)
    nothing = np.zeros(0, np.uint16)
    balls = GeodesicBalls(np.zeros(0, np.int32), np.zeros(1, np.int64), nothing, nothing, 1.0)
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    cells = np.arange(n)
    surface = Surface(cells, corners, barycentric, cells, np.zeros(n, np.float16), vertices.astype(np.float32), diagonal, balls)
    registered = shape[None, :, :6]
    if reference is not None:
        mesh = registrable(Mesh(vertices, faces))
        registered = places(mesh, warp(mesh, reference))[None]
    return DescribedSurface(surface, cells, interpolate_shape(shape, surface, cells), VertexIndex(shape), registered)


@dataclass
class Twins:
    """A mesh and a deformed copy whose vertex ``partner[i]`` is vertex ``i`` of the first."""

    first: DescribedSurface
    second: DescribedSurface
    partner: np.ndarray

    def errors(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each prediction from the truth, in diagonals of the mesh, there and back."""
        n = np.arange(len(self.partner))
        there = transfer_of(name).predict(n, self.first, self.second)
        back = transfer_of(name).predict(self.partner, self.second, self.first)
        return _distance(self.second, there, self.partner), _distance(self.first, back, n)


def _distance(mesh: DescribedSurface, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    vertices = mesh.surface.vertices
    return np.linalg.norm(vertices[found] - vertices[truth], axis=1) / mesh.surface.diagonal


def make_twins(seed: int, bend: float) -> Twins:
    """A body without symmetries (an ellipsoid with a nose, a fin and a bent tail), and its copy, bent, stretched and re-ordered."""
    sphere = trimesh.creation.icosphere(3)
    x, y, z = sphere.vertices.T
    fin, nose = 0.3 * np.exp(-8 * ((z - 0.4) ** 2 + (y - 1) ** 2)), 0.4 * np.exp(-6 * (x**2 + (z - 1) ** 2))
    body = np.column_stack([0.5 * x, 0.4 * y + fin, z + nose])
    body[:, 0] += 0.25 * np.minimum(body[:, 2], 0) ** 2
    copy = body * (1.1, 0.9, 1.0)
    copy[:, 1] += bend * copy[:, 2] ** 2
    order = np.random.default_rng(seed).permutation(len(body))
    partner = np.argsort(order)
    meshes = Mesh(body, sphere.faces), Mesh(copy[order], partner[sphere.faces])
    reference = registrable(meshes[0])
    surfaces = [described(m.vertices, m.faces.astype(np.int64), shape_descriptors(m), reference) for m in meshes]
    return Twins(surfaces[0], surfaces[1], partner)


@pytest.fixture(scope="module")
def twins() -> Twins:
    return make_twins(0, 0.15)


@pytest.mark.parametrize("name", NAMES)
def test_the_correspondence_with_a_reordered_copy_is_found(name):
    # Stretched and re-ordered, not bent: the descriptors are those of the box, and so nearly the same.
    for error in make_twins(1, 0.0).errors(name):
        assert np.mean(error < 1e-6) > 0.5
        assert np.quantile(error, 0.95) < 0.06


@pytest.mark.parametrize("name", NAMES)
def test_the_correspondence_with_a_deformed_copy_is_found(twins, name):
    # An edge of the mesh is 0.05 diagonals long; a vertex at random would be 0.4 away.
    for error in twins.errors(name):
        assert np.median(error) < 0.06
        assert np.quantile(error, 0.95) < 0.15


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_repeats_and_does_not_depend_on_the_other_hits(twins, name):
    hits = np.random.default_rng(0).integers(0, len(twins.partner), 300)
    found = transfer_of(name).predict(hits, twins.first, twins.second)
    assert found.dtype == np.int64
    anew = make_twins(0, 0.15)
    np.testing.assert_array_equal(transfer_of(name).predict(hits, anew.first, anew.second), found)
    np.testing.assert_array_equal(transfer_of(name).predict(hits[::-7], twins.first, twins.second), found[::-7])
    np.testing.assert_array_equal(transfer_of(name).predict(hits[:1], twins.first, twins.second), found[:1])
    assert transfer_of(name).predict(hits[:0], twins.first, twins.second).shape == (0,)


def test_transport_does_not_send_everything_to_one_vertex_that_resembles_all(twins):
    """Descriptors around a mean, noisy copies of them, and the mean itself: nearer to most hits than their own copies are."""
    rng = np.random.default_rng(0)
    surface = twins.first.surface
    n = len(surface.cells)
    values = np.eye(32)[0] + rng.normal(0, 0.2, (n, 32))
    copies = np.concatenate([values + rng.normal(0, 0.4, (n, 32)), np.eye(32)[:1]]).astype(np.float32)
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    first = DescribedSurface(surface, surface.cells, torch.from_numpy(values), VertexIndex(values))
    # Far from the mesh, so that the landmarks hold it.
    vertices = np.concatenate([surface.vertices, surface.vertices.max(axis=0, keepdims=True) + 1])
    second = DescribedSurface(replace(surface, vertices=vertices), surface.cells, torch.from_numpy(values), VertexIndex(copies))
    nearest, transport = (transfer_of(name).predict(surface.cells, first, second) for name in ("nearest", "transport"))
    assert np.mean(nearest == n) > 0.05
    assert np.mean(transport == n) < 0.25 * np.mean(nearest == n)
    assert len(np.unique(transport)) > 1.2 * len(np.unique(nearest))


def test_functional_map_is_the_minimum_of_its_energy():
    """The whole energy as one least-squares problem in all entries of the map at once."""
    rng = np.random.default_rng(3)
    k, m, channels = 6, 5, 9
    mine = Spectral(np.sort(rng.uniform(0, 9, k)), np.zeros((0, k)), rng.normal(size=(k, channels)))
    theirs = Spectral(np.sort(rng.uniform(0, 9, m)), np.zeros((0, m)), rng.normal(size=(m, channels)))
    a, b = mine.coefficients, theirs.coefficients
    scale = max(mine.values[-1], theirs.values[-1])
    weight = 1e-2 * np.trace(a @ a.T) / k
    gaps = (theirs.values[:, None] - mine.values) / scale
    rows = np.concatenate([np.kron(np.eye(m), a.T), np.sqrt(weight) * np.diag(gaps.ravel())])
    plain = np.linalg.lstsq(rows, np.concatenate([b.ravel(), np.zeros(m * k)]), rcond=None)[0].reshape(m, k)
    np.testing.assert_allclose(functional_map(mine, theirs), plain, atol=1e-6)


def test_functional_map_between_equal_meshes_is_the_identity(twins):
    side = twins.first.spectral
    np.testing.assert_allclose(functional_map(side, side), np.eye(len(side.values)), atol=1e-3)


def test_spectrum_of_points_is_that_of_the_mesh_and_orthonormal():
    ball = trimesh.creation.icosphere(3)
    values, functions, shares = points_spectrum(ball.vertices, 9)
    expected, _ = laplacian_spectrum(Mesh(ball.vertices, ball.faces), 9)
    # A point cloud's local triangulations know the area of a patch only roughly.
    np.testing.assert_allclose(values[1:] / values[1], expected[1:] / expected[1], rtol=0.05)
    np.testing.assert_allclose(functions.T @ (shares[:, None] * functions), np.eye(9), atol=1e-6)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3)),
        np.zeros((1, 3)),
        np.eye(3)[:2],
        np.zeros((40, 3)),
        np.arange(120.0).reshape(40, 3),
        np.full((9, 3), np.nan),
    ],
    ids=["none", "one", "two", "coincident", "line", "nan"],
)
def test_points_that_span_no_surface_are_refused(points):
    with pytest.raises(GeometryError, match="no Laplacian for"):
        points_spectrum(points, 30)


def test_scattered_points_cover_and_repeat():
    points = np.random.default_rng(0).uniform(size=(500, 3))
    chosen = scattered(points, 40)
    assert len(set(chosen.tolist())) == 40
    gaps = np.linalg.norm(points[:, None] - points[chosen], axis=2)
    # Farthest points leave no gap that is wider than the least distance between two of them.
    between = gaps[chosen] + np.where(np.eye(40), np.inf, 0)
    assert gaps.min(axis=1).max() <= between.min() + 1e-12
    np.testing.assert_array_equal(scattered(points, 40), chosen)
    np.testing.assert_array_equal(scattered(points, 500), np.arange(500))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [4, 12])
def test_tiny_meshes_get_predictions(name, n):
    rng = np.random.default_rng(n)
    faces = np.array([[i, (i + 1) % n, (i + 2) % n] for i in range(n)])
    tiny, other = (described(rng.normal(size=(n, 3)), faces, rng.normal(size=(n, 8)).astype(np.float32)) for _ in range(2))
    found = transfer_of(name).predict(np.array([2]), tiny, other)
    assert found.shape == (1,)
    assert 0 <= found[0] < n
    np.testing.assert_array_equal(transfer_of(name).predict(np.arange(n), tiny, tiny), np.arange(n))


def test_an_image_whose_vertices_span_no_surface_is_refused_by_name(make_features):
    features = make_features(0, "flat")
    assert features.surface is not None
    line = replace(features.surface, vertices=np.linspace(0, 1, 40)[:, None] * np.ones(3))
    with pytest.raises(FeatureError, match=r"flat: no Laplacian.*another match\.transfer"):
        Described(replace(features, surface=line), MatchConfig(transfer="functional_map"))
    Described(replace(features, surface=line), MatchConfig(transfer="transport"))


@pytest.mark.parametrize("name", ["transport", "functional_map"])
def test_the_configuration_chooses_the_transfer(make_features, name):
    features = [make_features(0, "a"), make_features(1, "b")]
    noise = np.random.default_rng(0).normal(size=features[1].shape.shape)
    features[1] = replace(features[1], shape=(features[1].shape + noise).astype(np.float16))
    config = MatchConfig(tau_cc=0.5, transfer=name)
    source, target = (Described(one, config) for one in features)
    plain = [Described(one, MatchConfig(tau_cc=0.5)) for one in features]
    assert source.n_bytes > plain[0].n_bytes
    chosen = match_pair(source, target, "toy", config)
    np.testing.assert_array_equal(chosen.geodesic_error, match_pair(*plain, "toy", config, transfer_of(name)).geodesic_error)
    label = LabelConfig(tau_geo=0.2)
    explained = explain_pair(source, target, label).predicted_target
    np.testing.assert_array_equal(explained, explain_pair(*plain, label, transfer_of(name)).predicted_target)
    assert (explained != explain_pair(*plain, label).predicted_target).any()


def test_the_transfer_is_part_of_the_recipes(tmp_path):
    configs = [load_config(None, [f"run={tmp_path}", f"match.transfer={name}"]) for name in NAMES]
    for recipe in (MatchActor.made_of, lambda c: MatchStage(c).recipe, lambda c: JudgeStage(c).recipe):
        assert len({str(recipe(config)) for config in configs}) == len(NAMES)


def test_transport_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot.unbalanced", None)
    with pytest.raises(ConfigError, match=r"POT.*pip install 'sc3d\[transport\]'"):
        transfer_of("transport")
    transfer_of("functional_map")


def numbered(features, numbering: str, is_sure: bool = True):  # type: ignore[no-untyped-def]
    return replace(features, surface=replace(features.surface, numbering=numbering, is_sure=is_sure))


def test_between_images_of_one_template_the_vertex_itself_is_predicted(make_features) -> None:  # type: ignore[no-untyped-def]
    """Whatever the descriptors say; images of two templates, or of none, go by the configured transfer."""
    features = make_features(5, "s", n_foreground=80), make_features(6, "t", n_foreground=80)
    label = LabelConfig(tau_geo=0.2)

    def explained(*numberings: str):  # type: ignore[no-untyped-def]
        images = [numbered(one, name) for one, name in zip(features, numberings, strict=True)]
        return explain_pair(*(Described(image, MatchConfig()) for image in images), label)

    shared, own = explained("a", "a"), explained("", "")
    lifted = shared.source_vertex >= 0
    assert lifted.any()
    np.testing.assert_array_equal(shared.predicted_target[lifted], shared.source_vertex[lifted])
    np.testing.assert_array_equal(shared.predicted_source[lifted], shared.target_vertex[lifted])
    assert (own.predicted_target[lifted] != own.source_vertex[lifted]).any()
    for other in (explained("a", "b"), explained("a", "")):
        np.testing.assert_array_equal(other.predicted_target, own.predicted_target)


@pytest.mark.parametrize("unsure", [(False, True), (True, False)])
def test_nothing_is_verified_by_a_pose_that_does_not_count(make_features, unsure) -> None:  # type: ignore[no-untyped-def]
    """On the host and on a device: the candidates are counted, none of them is a label."""
    features = make_features(5, "s", n_foreground=80), make_features(6, "t", n_foreground=80)
    images = [Described(numbered(one, "a", not doubt), MatchConfig()) for one, doubt in zip(features, unsure, strict=True)]
    sure = [Described(numbered(one, "a"), MatchConfig()) for one in features]
    assert len(match_pair(*sure, "toy", MatchConfig())) > 0
    on_device = match_pairs([(DeviceImage(images[0], "cpu"), DeviceImage(images[1], "cpu"))], "toy", MatchConfig())[0]
    for found in (match_pair(*images, "toy", MatchConfig()), on_device):
        assert len(found) == 0
        assert found.n_cycle > 0


def test_a_device_takes_the_numbering_of_a_template_too(make_features) -> None:  # type: ignore[no-untyped-def]
    features = make_features(5, "s", n_foreground=80), make_features(6, "t", n_foreground=80)
    images = [Described(numbered(one, "a"), MatchConfig()) for one in features]
    expected = match_pair(*images, "toy", MatchConfig())
    found = match_pairs([(DeviceImage(images[0], "cpu"), DeviceImage(images[1], "cpu"))], "toy", MatchConfig())[0]
    np.testing.assert_array_equal(found.source_xy, expected.source_xy)
    np.testing.assert_allclose(found.geodesic_error, expected.geodesic_error, atol=1e-7)
