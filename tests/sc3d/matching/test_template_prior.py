"""The prior of a template: where a point of one photo lies in another against projecting it with the poses that nobody was told, and what
matching makes of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import trimesh

from pipelines.stages.compare import CompareStage
from pipelines.stages.describe import DescribeStage
from pipelines.stages.judge import JudgeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.sweep import SweepStage
from sc3d.config import LabelConfig, MatchConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.evaluation.readout import guided, nearest_cells, window_soft_argmax
from sc3d.features import Features, GeodesicBalls, Surface
from sc3d.geometry.camera import Camera, Pose, looking_from, project
from sc3d.geometry.geodesic import Geodesic
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.grid import Letterbox
from sc3d.matching.candidates import find_candidates, nearest, similarity
from sc3d.matching.described import Described
from sc3d.matching.explain import REPROJECTION, explain_pair
from sc3d.matching.filters import keep_geodesic
from sc3d.matching.label import match_pair
from sc3d.matching.template_prior import PosedTemplate, places_of, reprojection_errors, share_pose, squared_distances, uses_prior

SIDE = 20
FLAT = MatchConfig(alpha=0.6, beta=0.4, tau_cc=0.3)


@dataclasses.dataclass
class Photo:
    """A body as one template in one pose: what is described of it, and the truth."""

    features: Features
    mesh: Mesh
    pose: Pose
    camera: Camera


def photo(seed: int, name: str, azimuth: float, stretch: tuple[float, float, float], hidden: int = 0) -> Photo:
    """``hidden``: columns of the object that something stands before, at its left."""
    sphere = trimesh.creation.icosphere(2)
    body = sphere.vertices * (0.3, 0.25, 0.5) + np.outer(np.exp(-8 * (sphere.vertices[:, 2] - 1) ** 2), (0, 0.15, 0))
    mesh = Mesh(body * stretch, sphere.faces)
    box = Letterbox(400, 300, side=SIDE, cell_size=10)
    camera = Camera.from_focal(600, 400, 300)
    rng = np.random.default_rng(seed)
    pose = Pose(looking_from(azimuth, 20, 4), np.array([*rng.uniform(-0.1, 0.1, 2), 3.0]), 1.2)
    raster = Raster(mesh)
    foreground = box.sample_mask(raster.render(pose, camera, 400, 300).mask)
    if hidden:
        foreground[:, : np.flatnonzero(foreground.any(axis=0))[0] + hidden] = False
    # A mask is wider than the mesh: those cells have no hit of their own.
    foreground[:, 1:] |= foreground[:, :-1] & (np.arange(SIDE) % 3 > 0)[:, None]
    hits = raster.surface_cells(pose, camera, box, foreground)
    balls: GeodesicBalls = Geodesic(mesh).balls(np.unique(hits.dominant), 0.4 * mesh.diagonal)
    surface = Surface(
        hits.cells, hits.corners, hits.barycentric, hits.dominant, hits.fill_distance, mesh.vertices.astype(np.float32), mesh.diagonal,
        balls, numbering="template",
    )  # fmt: skip
    shape = rng.normal(size=(len(mesh.vertices), 4)).astype(np.float16)
    sources = {
        "dino": rng.normal(size=(6, SIDE, SIDE)).astype(np.float16),
        "sd.s4": rng.normal(size=(5, 10, 10)).astype(np.float16),
    }
    return Photo(Features(name, box, foreground, 120.0, sources, shape, surface), mesh, pose, camera)


@pytest.fixture(scope="module")
def two() -> tuple[Photo, Photo]:
    """From two sides, so that each hides a part of what the other shows, differently stretched, the target partly covered."""
    return photo(0, "s", 20, (1, 1, 1)), photo(1, "t", 130, (1.1, 0.9, 1.2), hidden=2)


def posed(one: Photo) -> PosedTemplate:
    found = PosedTemplate.of_features(one.features)
    assert found is not None
    return found


def reference_places(cell: int, source: Photo, target: Photo) -> tuple[np.ndarray, bool]:
    """Where the target shows what a cell of the source sees, as all places (P, 2) that are equally right, with the true pose; and whether
    that is off the target's object."""
    surface, box = source.features.surface, target.features.letterbox
    assert surface is not None
    gaps = [
        np.hypot(cell // SIDE - other // SIDE, cell % SIDE - other % SIDE) if own == 0 else np.inf
        for other, own in zip(surface.cells.tolist(), surface.fill_distance.tolist(), strict=True)
    ]
    places = []
    for row in np.flatnonzero(np.array(gaps) == min(gaps)):
        place = np.zeros(2)
        for corner, weight in zip(surface.corners[row], surface.barycentric[row], strict=True):
            place += weight * project(target.mesh.vertices[[corner]], target.pose, target.camera)[0][0]
        places.append(place)
    inside = np.flatnonzero(target.features.foreground.reshape(-1))
    snapped = []
    for place in places:
        at = int(box.cells_of(place[None])[0])
        if at in inside:
            continue
        away = np.hypot(at // SIDE - inside // SIDE, at % SIDE - inside % SIDE)
        snapped += box.centres(inside[away == away.min()]).tolist()
    return np.array(snapped or places), bool(snapped)


def test_places_are_those_of_the_pose_whether_seen_or_hidden(two: tuple[Photo, Photo]) -> None:
    """Every cell of the frame, on the mesh, beside it and far from it; the camera is found from the features alone."""
    source, target = two
    cells = np.arange(SIDE * SIDE)
    found = places_of(cells, posed(source), posed(target))
    hidden = off = 0
    visible = Raster(target.mesh).visible_vertices(target.pose, target.camera)
    for cell in cells:
        expected, snapped = reference_places(int(cell), source, target)
        assert np.linalg.norm(expected - found[cell], axis=1).min() < 0.01
        off += snapped
        surface = source.features.surface
        assert surface is not None
        rows = np.flatnonzero(surface.cells == cell)
        hidden += len(rows) == 1 and not visible[surface.dominant[rows[0]]]
    assert off > 20
    assert hidden > 10


def test_distances_are_those_of_a_plain_loop_in_boxes_of_the_object(two: tuple[Photo, Photo]) -> None:
    source, target = two
    mine = np.flatnonzero(source.features.foreground.reshape(-1))[::7]
    theirs = np.flatnonzero(target.features.foreground.reshape(-1))[::5]
    found = squared_distances(mine, posed(source), theirs, posed(target)).numpy()
    places = places_of(mine, posed(source), posed(target))
    for i in range(len(mine)):
        for j, cell in enumerate(theirs):
            x, y = target.features.letterbox.centres(np.array([cell]))[0] - places[i]
            assert found[i, j] == pytest.approx((x**2 + y**2) / 120.0**2, abs=1e-5)
    # The unit is the mask's box alone.
    smaller = dataclasses.replace(posed(target), extent=60.0)
    np.testing.assert_allclose(squared_distances(mine, posed(source), theirs, smaller), 4 * found, rtol=1e-4, atol=1e-5)


def test_reprojection_errors_are_those_of_a_plain_loop_both_ways(two: tuple[Photo, Photo]) -> None:
    source, target = (posed(one) for one in two)
    target = dataclasses.replace(target, extent=60.0)
    rng = np.random.default_rng(0)
    mine, theirs = (rng.choice(np.flatnonzero(one.features.foreground.reshape(-1)), 30) for one in two)
    found = reprojection_errors(mine, source, theirs, target)
    for i in range(30):
        ways = [
            np.linalg.norm(there.letterbox.centres(at[[i]])[0] - places_of(cells[[i]], here, there)[0]) / there.extent
            for here, cells, there, at in ((source, mine, target, theirs), (target, theirs, source, mine))
        ]
        assert found[i] == pytest.approx(sum(ways) / 2, rel=1e-5)
    np.testing.assert_allclose(reprojection_errors(theirs, target, mine, source), found, rtol=1e-6)
    behind = dataclasses.replace(target, projected=np.full_like(target.projected, np.nan))
    assert np.isinf(reprojection_errors(mine, source, theirs, behind)).all()


def test_matches_that_do_not_reproject_are_no_labels_and_say_so(two: tuple[Photo, Photo]) -> None:
    """Found with the prior, so that many pass the geodesic test."""
    plain = dataclasses.replace(FLAT, template_prior=10.0, tau_geo=0.19)
    label = LabelConfig(tau_cc=0.3, tau_geo=0.19)
    images = [
        [Described(one.features, match) for one in two] for match in (plain, dataclasses.replace(plain, tau_reprojection=0.08))
    ]
    before, after = (match_pair(*pair, "body", plain) for pair in images)
    explained = explain_pair(*images[1], label)
    errors = reprojection_errors(explained.source_cells, posed(two[0]), explained.target_cells, posed(two[1]))
    passes = explain_pair(*images[0], label).rejected_by == ""
    assert 0 < (passes & (errors <= 0.08)).sum() < passes.sum()
    np.testing.assert_array_equal(explained.rejected_by == "", passes & (errors <= 0.08))
    np.testing.assert_array_equal(explained.rejected_by == REPROJECTION, passes & (errors > 0.08))
    np.testing.assert_array_equal(keep_geodesic(explained, label), explained.rejected_by == "")
    assert (len(before), len(after)) == (passes.sum(), (passes & (errors <= 0.08)).sum())


@pytest.mark.parametrize("why", ["numbering", "unsure"])
def test_without_shared_sure_poses_nothing_has_to_reproject(two: tuple[Photo, Photo], why: str) -> None:
    other = changed(two[1], **({"numbering": "other"} if why == "numbering" else {"is_sure": False}))
    found = []
    for limit in (0.0, 1e-9):
        config = dataclasses.replace(FLAT, tau_geo=0.19, tau_reprojection=limit)
        found.append(match_pair(Described(two[0].features, config), Described(other, config), "body", config))
    assert len(found[0]) == len(found[1])


def test_what_is_behind_the_camera_has_no_prior(two: tuple[Photo, Photo]) -> None:
    source, target = (posed(one) for one in two)
    behind = dataclasses.replace(target, projected=np.full_like(target.projected, np.nan))
    found = squared_distances(np.arange(4), source, np.arange(30), behind)
    np.testing.assert_array_equal(found, np.zeros((4, 30)))


def changed(one: Photo, **surface: object) -> Features:
    assert one.features.surface is not None
    return dataclasses.replace(one.features, surface=dataclasses.replace(one.features.surface, **surface))  # type: ignore[arg-type]


LEFT_OUT: dict[str, Callable[[Photo], Features]] = {
    "another template": lambda one: changed(one, numbering="other"),
    "a mesh of its own": lambda one: changed(one, numbering=""),
    "an unsure pose": lambda one: changed(one, is_sure=False),
    "no mesh": lambda one: dataclasses.replace(one.features, surface=None, shape=None),
    "nothing covered": lambda one: changed(one, fill_distance=np.full(len(one.features.surface.cells), 3, np.float16)),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_without_shared_sure_poses_there_is_no_prior(two: tuple[Photo, Photo], why: str) -> None:
    """Neither in readouts nor for labels: both are what they are without the option."""
    source, target = two
    other = LEFT_OUT[why](target)
    templates = PosedTemplate.of_features(source.features), PosedTemplate.of_features(other)
    assert not share_pose(*templates)
    assert guided(np.zeros((1, SIDE * SIDE), np.float32), np.array([3]), templates, 10) is None
    plain, prior = (
        match_pair(*(Described(one, config) for one in (source.features, other)), "toy", config)
        for config in (FLAT, dataclasses.replace(FLAT, template_prior=10.0))
    )
    assert prior.n_cycle == plain.n_cycle > 0
    for name in ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error"):
        np.testing.assert_array_equal(getattr(prior, name), getattr(plain, name))


def test_readouts_go_to_the_place_and_features_decide_near_it(two: tuple[Photo, Photo]) -> None:
    source, target = (posed(one) for one in two)
    cells = np.flatnonzero(two[0].features.foreground.reshape(-1))[::9]
    rng = np.random.default_rng(3)
    features = rng.uniform(-0.2, 0.6, (len(cells), SIDE * SIDE)).astype(np.float32)
    places = places_of(cells, source, target)
    box = two[1].features.letterbox
    alone = guided(features, cells, (source, target), 10, alone=True)
    assert alone is not None
    half = box.cell_pixels / 2
    for read in (nearest_cells(alone, SIDE), window_soft_argmax(alone, SIDE, temperature=0.002)):
        off = np.abs(box.to_image((read + 0.5) * box.cell_size) - places)
        assert off.max() <= half + 0.5
    both = guided(features, cells, (source, target), 10)
    assert both is not None
    distances = squared_distances(cells, source, np.arange(SIDE * SIDE), target).numpy()
    np.testing.assert_allclose(both, features - 10 * distances, atol=1e-5)
    weak = guided(features, cells, (source, target), 1e-6)
    assert weak is not None
    np.testing.assert_array_equal(weak.argmax(axis=1), features.argmax(axis=1))
    assert (both.argmax(axis=1) != features.argmax(axis=1)).any()
    assert (both.argmax(axis=1) != alone.argmax(axis=1)).any()


def test_candidates_are_the_nearest_with_the_prior_and_keep_their_cosines(two: tuple[Photo, Photo]) -> None:
    config = dataclasses.replace(FLAT, template_prior=10.0)
    source, target = (Described(one.features, config) for one in two)
    cosines = similarity(source, target)
    templates = posed(two[0]), posed(two[1])
    less = 10 * squared_distances(source.cells, templates[0], target.cells, templates[1])
    forward, backward = nearest(cosines - less)
    found = find_candidates(source, target)
    np.testing.assert_array_equal(found.target_rows, forward)
    np.testing.assert_array_equal(found.cosine, cosines.numpy()[np.arange(len(forward)), forward])
    returned = source.cells[backward[forward]]
    apart = np.hypot(returned // SIDE - source.cells // SIDE, returned % SIDE - source.cells % SIDE)
    np.testing.assert_allclose(found.cycle_error, apart * source.letterbox.cell_pixels, rtol=1e-5)
    plain = find_candidates(*(Described(one.features, FLAT) for one in two))
    assert (plain.target_rows != forward).mean() > 0.5


def test_memory_counts_the_template(two: tuple[Photo, Photo]) -> None:
    features = two[0].features
    plain, prior = (Described(features, one) for one in (FLAT, dataclasses.replace(FLAT, template_prior=1.0)))
    assert plain.template is None
    assert prior.n_bytes == plain.n_bytes + posed(two[0]).n_bytes
    assert isinstance(prior.dense, torch.Tensor)


def test_the_weight_is_part_of_the_recipes_of_what_matches_and_of_nothing_before() -> None:
    for option, values in {"match.template_prior": (0, 1, 10), "match.tau_reprojection": (0, 0.1, 0.2)}.items():
        configs = [load_config(None, ["run=nowhere", f"{option}={value}"]) for value in values]
        check_recipes(configs)


def check_recipes(configs: Sequence[RunConfig]) -> None:
    for stage in (MatchStage, JudgeStage, CompareStage, SweepStage):
        assert len({stage(config).recipe for config in configs}) == 3
    assert len({DescribeStage(config).recipe for config in configs}) == 1


def test_a_run_uses_it_with_templates_and_a_weight_alone() -> None:
    template, weight = "reconstruct.mesh=template", "match.template_prior=10"
    assert uses_prior(load_config(None, [template, weight]))
    assert not uses_prior(load_config(None, [template]))
    assert not uses_prior(load_config(None, [weight]))
