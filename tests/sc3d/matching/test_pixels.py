"""Matches of any origin are verified where they are: as a run verifies them, in any order and number, and each rejection has a reason."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.offline.shape import SpectralShape
from actors.register import RegisterActor
from actors.surface import SurfaceActor
from sc3d.config import MatchConfig, RunConfig
from sc3d.errors import ConfigError, GeometryError, InputError
from sc3d.features import Features
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.geometry.registration.reference import choose_references
from sc3d.geometry.registration.registrable import registrable
from sc3d.matching.described import Described
from sc3d.matching.pixels import (
    GEODESIC,
    SOURCE_PIXEL,
    SOURCE_SURFACE,
    TARGET_PIXEL,
    TARGET_SURFACE,
    PixelMatches,
    verify,
)
from sc3d.matching.transfer import transfer_of
from sc3d.matching.verify import verify_matches
from tests.posed_toys import posed_toy, shown_in_both, toy_mesh

BY_NAME = {str(number): toy_mesh(number) for number in range(4)}
REFERENCES = [BY_NAME[name] for name in choose_references(BY_NAME)]


@pytest.fixture(scope="module")
def pair() -> tuple[PosedMesh, PosedMesh]:
    """Two cars of the same category, seen from about the same side."""
    return posed_toy(0, 40), posed_toy(1, 60)


@pytest.fixture(scope="module")
def twins() -> tuple[PosedMesh, PosedMesh]:
    """One car, seen from two sides."""
    return posed_toy(0, 40), posed_toy(3, 65, mesh=toy_mesh(0))


def rows_of_a_run(posed: PosedMesh, image_id: str, transfer: str) -> Described:
    """An image as the stages of a run describe it."""
    config = RunConfig()
    row: dict[str, Any] = {
        "image_id": image_id,
        "mask": posed.object_mask,
        "vertices": posed.mesh.vertices.astype(np.float32),
        "faces": posed.mesh.faces,
        "intrinsics": posed.camera.K,
        "rotation": posed.pose.R,
        "scale": posed.pose.scale,
        "translation": posed.pose.t,
        "references": [registrable(mesh) for mesh in REFERENCES],
    }
    for actor in (SurfaceActor, SpectralShape, RegisterActor):
        row |= actor(config).process(row)
    dino = np.random.default_rng(0).normal(size=(4, 60, 60)).astype(np.float16)
    features = Features(image_id, row["letterbox"], row["foreground"], row["extent"], {"dino": dino}, row["shape"], row["surface"])
    places = row["places"].reshape(len(REFERENCES), -1, 6)
    return Described(features, MatchConfig(alpha=0, beta=1, transfer=transfer), places)


@pytest.mark.parametrize("transfer", ["nearest", "registration"])
def test_at_cell_centres_the_errors_are_those_of_a_run(pair: tuple[PosedMesh, PosedMesh], transfer: str) -> None:
    posed = [PosedMesh(Mesh(one.mesh.vertices.astype(np.float32), one.mesh.faces), one.pose, one.camera) for one in pair]
    source, target = (rows_of_a_run(one, name, transfer) for one, name in zip(posed, "st", strict=True))
    rng = np.random.default_rng(1)
    own = [np.flatnonzero(one.mesh.surface.fill_distance[one.mesh.hits] == 0) for one in (source, target)]  # type: ignore[union-attr]
    rows = [rng.choice(one, 300) for one in own]
    expected = verify_matches(source, target, *rows, transfer_of(transfer))  # type: ignore[arg-type]
    xy = [one.letterbox.centres(one.cells[at]) for one, at in zip((source, target), rows, strict=True)]
    found = verify(*posed, *xy, transfer=transfer, references=list(BY_NAME.values()))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.geodesic_error, expected.error)
    np.testing.assert_array_equal(found.predicted_target, expected.predicted_target)
    np.testing.assert_array_equal(found.predicted_source, expected.predicted_source)
    assert np.isfinite(expected.error).any()
    assert np.isinf(expected.error).any()


@pytest.mark.parametrize("transfer", ["registration", "nearest", "template"])
def test_true_matches_of_one_mesh_are_kept_and_shuffled_ones_are_not(twins: tuple[PosedMesh, PosedMesh], transfer: Any) -> None:
    source_xy, target_xy = shown_in_both(*twins)
    true = verify(*twins, source_xy, target_xy, transfer=transfer)
    met = (true.source_vertex >= 0) & (true.target_vertex >= 0)
    assert met.mean() > 0.8
    assert true.keep[met].mean() > 0.95
    assert np.median(true.geodesic_error[met]) < 0.01
    far = np.linalg.norm(target_xy - target_xy[::-1], axis=1) > 40
    false = verify(*twins, source_xy[far], target_xy[::-1][far], transfer=transfer)
    assert far.sum() > 30
    assert false.keep.mean() < 0.05


@given(seed=st.integers(0, 10**6), n=st.integers(0, 40))
@settings(max_examples=15)
def test_matches_are_judged_one_by_one_and_alike_from_either_side(seed: int, n: int) -> None:
    source, target = posed_toy(0, 40), posed_toy(1, 60)
    rng = np.random.default_rng(seed)
    xy = [rng.uniform(-0.1, 1.1, (n, 2)) * (one.camera.width, one.camera.height) for one in (source, target)]
    whole = verify(source, target, *xy)
    order = rng.permutation(n)
    for name in PixelMatches.__dataclass_fields__:
        permuted = getattr(verify(source, target, xy[0][order], xy[1][order]), name)
        np.testing.assert_array_equal(permuted, getattr(whole, name)[order], err_msg=name)
    swapped = verify(target, source, *xy[::-1])
    np.testing.assert_allclose(swapped.geodesic_error, whole.geodesic_error, rtol=1e-6)
    np.testing.assert_array_equal(swapped.source_vertex, whole.target_vertex)


def test_each_rejection_has_its_reason(twins: tuple[PosedMesh, PosedMesh]) -> None:
    source, target = twins
    matches = np.stack(shown_in_both(*twins))
    known = verify(*twins, *matches)
    on = matches[:, known.keep & (known.geodesic_error > 0)][:, 0]
    off, out, nan = (0.5, 0.5), (source.camera.width + 3, 5), (np.nan, 3)
    cases = [
        (on[0], on[1], None),
        (off, on[1], SOURCE_SURFACE),
        (on[0], off, TARGET_SURFACE),
        (out, on[1], SOURCE_PIXEL),
        (on[0], nan, TARGET_PIXEL),
        (out, off, SOURCE_PIXEL),
    ]
    found = verify(source, target, [c[0] for c in cases], [c[1] for c in cases], tau_geo=1e-9)
    assert found.rejected_by.tolist() == [case[2] or GEODESIC for case in cases]
    assert len(found) == len(cases)
    assert not found.keep.any()
    assert found.source_vertex.tolist().count(-1) == 3
    assert np.isinf(found.geodesic_error[1:]).all()
    kept = verify(source, target, [on[0]], [on[1]], tau_geo=float(found.geodesic_error[0]) + 1e-6)
    assert kept.rejected_by.tolist() == [""]
    assert kept.keep.tolist() == [True]


def test_a_pixel_just_beside_the_mesh_can_reach_it(twins: tuple[PosedMesh, PosedMesh]) -> None:
    source, target = twins
    rows, columns = np.nonzero(source.object_mask)
    left = columns.argmin()
    beside = np.array([[columns[left] + 0.5 - 3, rows[left] + 0.5]])
    on = np.array([[columns[left] + 0.5, rows[left] + 0.5]])
    other = shown_in_both(source, target)[1][:1]
    assert verify(source, target, beside, other).rejected_by == SOURCE_SURFACE
    assert verify(source, target, beside, other, reach=2.9).rejected_by == SOURCE_SURFACE
    reached, there = (verify(source, target, xy, other, reach=3.1) for xy in (beside, on))
    assert reached.source_vertex == there.source_vertex >= 0
    assert reached.geodesic_error == there.geodesic_error


def test_arrays_of_either_library_and_lists_are_the_same(pair: tuple[PosedMesh, PosedMesh]) -> None:
    xy = np.array([[60.25, 60.5], [80.5, 66.0], [75.0, 50.0]])
    plain = verify(*pair, xy, xy)
    for given_as in (torch.tensor(xy, requires_grad=True), xy.tolist(), torch.tensor(xy)):
        np.testing.assert_array_equal(verify(*pair, given_as, given_as).geodesic_error, plain.geodesic_error)
    assert len(verify(*pair, np.zeros((0, 2)), torch.zeros(0, 2))) == 0


@pytest.mark.parametrize(
    ("source_xy", "target_xy", "message"),
    [
        (np.zeros((2, 5)), np.zeros((5, 2)), r"source_xy must have the shape \(N, 2\), got \(2, 5\)"),
        (np.zeros((5, 2)), np.zeros((5, 3)), r"target_xy must have the shape \(N, 2\), got \(5, 3\)"),
        (np.zeros((5, 2)), np.zeros((4, 2)), r"source_xy has 5 pixels and target_xy 4; row i of both is match i"),
        (np.zeros((5, 2), bool), np.zeros((5, 2)), r"source_xy must hold real numbers, got bool"),
        ([[1, 2], [3]], np.zeros((2, 2)), r"source_xy must be an array of the shape \(N, 2\)"),
    ],
)
def test_what_was_given_and_what_is_wanted_is_said(
    pair: tuple[PosedMesh, PosedMesh], source_xy: Any, target_xy: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        verify(*pair, source_xy, target_xy)


def test_options_and_meshes_that_cannot_be_used_are_refused(pair: tuple[PosedMesh, PosedMesh]) -> None:
    source, target = pair
    none = np.zeros((0, 2))
    with pytest.raises(ConfigError, match="there is no transfer 'magic'; choose one of nearest"):
        verify(source, target, none, none, transfer="magic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tau_geo must be above 0"):
        verify(source, target, none, none, tau_geo=0)
    with pytest.raises(ConfigError, match="both finite"):
        verify(source, target, none, none, tau_geo=np.inf)
    with pytest.raises(GeometryError, match="different faces, so they are not of one template"):
        verify(source, target, none, none, transfer="template")
    seamed = Mesh(source.mesh.vertices[source.mesh.faces].reshape(-1, 3), np.arange(source.mesh.faces.size).reshape(-1, 3))
    with pytest.raises(GeometryError, match=r"the source's mesh has \d+ vertices that lie on others.*sc3d\.clean_mesh"):
        verify(PosedMesh(seamed, source.pose, source.camera), target, none, none)


def test_descriptors_of_ones_own_decide_where_they_are_asked(twins: tuple[PosedMesh, PosedMesh]) -> None:
    source, target = twins
    xy = shown_in_both(source, target)
    own = np.eye(len(source.mesh.vertices), dtype=np.float64)
    right, wrong = (PosedMesh(target.mesh, target.pose, target.camera, descriptors=one) for one in (own, own[::-1]))
    described = PosedMesh(source.mesh, source.pose, source.camera, descriptors=own)
    assert (
        verify(described, right, *xy, transfer="nearest").keep.sum()
        > 3 * verify(described, wrong, *xy, transfer="nearest").keep.sum()
    )


def test_a_posed_mesh_travels_to_other_processes(twins: tuple[PosedMesh, PosedMesh]) -> None:
    xy = shown_in_both(*twins)
    expected = verify(*twins, *xy, transfer="template").geodesic_error
    copies = [pickle.loads(pickle.dumps(one)) for one in twins]  # noqa: S301
    np.testing.assert_array_equal(verify(*copies, *xy, transfer="template").geodesic_error, expected)
