"""Dense truth of toys: the same place is found again, left stays left, and what another body lacks has no place on it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.datasets.toys.catalogue import MIXED, category_named
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.datasets.toys.places import PlacedMesh, Places, places_of
from sc3d.errors import InputError
from sc3d.geometry.mesh import Mesh

CASES = [(category, seed) for category in MIXED for seed in range(6)]


@cache
def toy(category: str, seed: int) -> PlacedMesh:
    built = MIXED[category].build(np.random.default_rng([11, seed]))
    mesh = mesh_toy(built)
    places = places_of(built, mesh.own(mesh.vertices))
    assert places is not None
    return PlacedMesh(Mesh(mesh.vertices, mesh.faces), places)


def one_with(category: str, part: str, has: bool = True) -> PlacedMesh:
    return next(one for seed in range(40) if (part in (one := toy(category, seed)).places.names) == has)


def parts(placed: PlacedMesh) -> np.ndarray:
    return np.array(placed.places.names)[placed.places.part]


@pytest.mark.parametrize(("category", "seed"), CASES)
def test_a_toy_onto_itself_is_the_identity(category: str, seed: int) -> None:
    one = toy(category, seed)
    np.testing.assert_allclose(one.find(one.places), one.mesh.vertices, atol=1e-6)


@pytest.mark.parametrize(("category", "seed"), CASES)
def test_left_never_goes_to_right_and_there_and_back_is_near(category: str, seed: int) -> None:
    """All parts are symmetric, so a point well to one side has its partner on that side, whatever the body and the pose."""
    one, other = toy(category, seed), toy(category, (seed + 1) % 6)
    there = other.find(one.places)
    known = np.isfinite(there).all(axis=1)
    assert known.mean() > 0.4
    sided = known & (np.abs(one.mesh.vertices[:, 0]) > 0.05)
    assert (there[sided, 0] * one.mesh.vertices[sided, 0] > -1e-3).all()
    rows = np.array([np.abs(other.mesh.vertices - point).sum(axis=1).argmin() for point in there[known][::20]])
    back = one.find(other.places[rows])
    error = np.linalg.norm(back - one.mesh.vertices[known][::20], axis=1) / one.mesh.diagonal
    # A vertex stands for its surroundings, on a part that may be several times as long on the one toy as on the other.
    assert np.nanmedian(error) < 0.02
    assert np.nanmean(error < 0.05) > 0.9


@pytest.mark.parametrize("category", MIXED)
def test_coordinates_grow_to_the_left_upwards_and_to_the_front_on_every_body(category: str) -> None:
    upright = {"car": "cabin", "quadruped": "head", "chair": "seat", "aeroplane": "fuselage"}[category]
    for seed in range(12):
        one = toy(category, seed)
        rows = parts(one) == upright
        for axis in range(3):
            points, within = one.mesh.vertices[rows, axis], one.places.within[rows, axis]
            assert np.corrcoef(points, within)[0, 1] > 0.8, (seed, axis)


def test_parts_have_the_side_that_they_are_named_after() -> None:
    for category, seed in CASES:
        one = toy(category, seed)
        x = one.mesh.vertices[:, 0]
        for name in one.places.names:
            sign = 1 if "left" in name else -1 if "right" in name else 0
            assert (sign * x[parts(one) == name] > -0.01).all(), (category, seed, name)


def test_legs_grow_downwards_from_the_hip_in_every_pose() -> None:
    """A lying animal's foot is at the end of its leg, as a standing one's is."""
    for seed in range(12):
        one = toy("quadruped", seed)
        for end in ("front", "back"):
            for side in ("left", "right"):
                leg, foot = parts(one) == f"{end} {side} leg", parts(one) == f"{end} {side} foot"
                gap = np.linalg.norm(one.mesh.vertices[leg] - one.mesh.vertices[foot].mean(axis=0), axis=1)
                along = one.places.within[leg, 1]
                assert gap[along > 0.6].mean() < gap[along < 0.3].mean()


def test_wheels_and_their_surroundings_are_where_the_other_car_has_its_own() -> None:
    bus, pickup = one_with("car", "hood", has=False), one_with("car", "bed")
    there = pickup.find(bus.places)
    for name in ("front left wheel", "rear right wheel"):
        of_bus, of_pickup = parts(bus) == name, parts(pickup) == name
        gap = there[of_bus].mean(axis=0) - pickup.mesh.vertices[of_pickup].mean(axis=0)
        assert np.linalg.norm(gap) < 0.03


def test_what_the_other_body_lacks_has_no_place_on_it() -> None:
    for category, part in (("car", "bed"), ("car", "boot"), ("chair", "backrest"), ("aeroplane", "left engine")):
        having, lacking = one_with(category, part), one_with(category, part, has=False)
        there = lacking.find(having.places)
        assert np.isnan(there[parts(having) == part]).all()
        assert np.isfinite(there[parts(having) != part]).all(axis=1).mean() > 0.5


def test_walls_of_a_bed_are_none_of_a_platform() -> None:
    """Both are beds; a flatbed's is as deep as its floor."""
    beds = [one for seed in range(40) if "bed" in (one := toy("car", seed)).places.names]
    walled = [one for one in beds if one.places.within[parts(one) == "bed", 1].max() > 0.9]
    flat = [one for one in beds if one.places.within[parts(one) == "bed", 1].max() < 0]
    assert walled
    assert flat
    rows = parts(walled[0]) == "bed"
    there, height = flat[0].find(walled[0].places[rows]), walled[0].places.within[rows, 1]
    assert np.isnan(there[height > 0.5]).all()
    assert np.isfinite(there[height < -0.9]).all()


def test_places_between_vertices_are_those_of_the_toy_itself() -> None:
    built = MIXED["car"].build(np.random.default_rng([11, 0]))
    mesh, one = mesh_toy(built), toy("car", 0)
    rng = np.random.default_rng(0)
    faces = rng.integers(0, len(mesh.faces), 500)
    barycentric = rng.dirichlet((1, 1, 1), 500)
    points = np.einsum("nk,nkc->nc", barycentric, mesh.vertices[mesh.faces[faces]])
    exact, between = places_of(built, mesh.own(points)), one.at(faces, barycentric)
    assert exact is not None
    same = between.part_in(exact.names) == exact.part
    # Borders of parts run through faces.
    assert same.mean() > 0.9
    assert np.median(np.abs(between.within - exact.within)[same].max(axis=1)) < 0.02


def test_parts_of_other_toys_are_told_by_their_names() -> None:
    places = Places(("bed", "cabin"), np.array([0, 1, 1]), np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(places.part_in(("boot", "cabin")), [-1, 1, 1])


def test_mixed_toys_are_closed_surfaces_with_keypoints_of_their_category() -> None:
    for category, seed in CASES:
        built = MIXED[category].build(np.random.default_rng([11, seed]))
        assert set(built.keypoints) <= set(MIXED[category].keypoints)
        assert len(built.keypoints) >= 11
        edges = np.sort(toy(category, seed).mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_generated_mixed_toys_have_their_places_and_others_do_not(tmp_path: Path) -> None:
    small = {"images": {"trn": 2, "val": 0, "test": 0}, "width": 96, "height": 72, "workers": 1}
    generate_toys(tmp_path / "mixed", ToysConfig(("car", "mug"), mixed=True, **small))
    generate_toys(tmp_path / "plain", ToysConfig(("car",), **small))
    truth = toy_truth(tmp_path / "mixed" / "truth" / "car" / "trn_0000.npz")
    assert truth.places is not None
    assert len(truth.places) == len(truth.mesh.vertices)
    assert {"cabin", "front left wheel"} <= set(truth.places.names)
    for name in ("mixed/truth/mug", "plain/truth/car"):
        assert toy_truth(tmp_path / name / "trn_0000.npz").places is None
    assert "mixed" not in (tmp_path / "plain" / "toys.json").read_text()
    with pytest.raises(InputError, match="another configuration"):
        generate_toys(tmp_path / "mixed", ToysConfig(("car", "mug"), **small))


@pytest.mark.parametrize("broken", ["part", "within", "part_names"])
def test_broken_places_are_refused(tmp_path: Path, broken: str) -> None:
    generate_toys(
        tmp_path / "toys", ToysConfig(("chair",), {"trn": 1, "val": 0, "test": 0}, mixed=True, width=96, height=72, workers=1)
    )
    path = tmp_path / "toys" / "truth" / "chair" / "trn_0000.npz"
    data = dict(np.load(path))
    data[broken] = {"part": data["part"] + 100, "within": data["within"][:-1], "part_names": np.arange(3)}[broken]
    np.savez(tmp_path / "a.npz", **data)
    with pytest.raises(InputError, match=r"a\.npz"):
        toy_truth(tmp_path / "a.npz")


def test_categories_without_mixed_bodies_are_the_plain_ones() -> None:
    assert category_named("mug", mixed=True) is category_named("mug")
    assert category_named("car", mixed=True).keypoints == category_named("car").keypoints
