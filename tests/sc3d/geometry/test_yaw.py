"""Yaw canonicalisation: rendered views, votes, estimators, and that undoing a turn does not move the picture."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import GeometryError, InputError
from sc3d.geometry.camera import Camera, Pose, project, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import (
    TURNS,
    YAWS,
    ConsensusEstimator,
    OracleEstimator,
    OrientationEstimates,
    render_yaw_views,
    turn_mesh,
    vote_yaw,
)

KNOWN = np.array(YAWS, float)


def car(seed: int) -> Mesh:
    """A long box with a cabin towards the back and a bonnet towards +z."""
    rng = np.random.default_rng(seed)
    width, height, length = rng.uniform(0.35, 0.45), rng.uniform(0.2, 0.25), 1.0
    cabin = trimesh.creation.box([width * 0.9, rng.uniform(0.18, 0.24), length * rng.uniform(0.45, 0.55)])
    cabin.apply_translation([0, height * 0.9, -rng.uniform(0.1, 0.15)])
    return subdivided(trimesh.util.concatenate([trimesh.creation.box([width, height, length]), cabin]))


def subdivided(mesh: trimesh.Trimesh) -> Mesh:
    mesh = mesh.subdivide().subdivide()
    return Mesh(mesh.vertices, mesh.faces)


def turned(mesh: Mesh, degrees: float) -> Mesh:
    return Mesh(turn_mesh(mesh.vertices, degrees), mesh.faces)


def box(x: float, y: float, z: float) -> Mesh:
    return subdivided(trimesh.creation.box([x, y, z]))


@pytest.fixture(scope="module")
def references() -> np.ndarray:
    """Views (9, 8, 64, 64) of cars, two of which are turned wrongly."""
    return np.stack([render_yaw_views(turned(car(seed), {1: 90, 2: 180}.get(seed, 0))) for seed in range(9)])


class TestViews:
    def test_shape_range_and_framing(self) -> None:
        views = render_yaw_views(car(0))
        assert views.shape == (8, 64, 64)
        assert views.dtype == np.float32
        assert views.min() == 0
        assert views.max() <= 1
        border = np.concatenate([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]], axis=1)
        assert not border.any()
        # The long side seen from the side nearly fills the view.
        assert 45 <= np.ptp(np.flatnonzero(views[2].any(axis=0))) <= 62

    def test_yaw_0_sees_the_front_and_yaw_90_turns_it_to_the_right(self) -> None:
        nose = trimesh.creation.box([0.2, 0.2, 0.2]).apply_translation([0, 0, 0.6])
        mesh = subdivided(trimesh.util.concatenate([trimesh.creation.box([0.6, 0.6, 1.0]), nose]))
        views = render_yaw_views(mesh, [0, 90, 180, 270])
        # From the front the nose stands out of the flat face beside it; from behind there is only the face.
        front, back = (float(views[k, 33, 32] - views[k, 33, 25]) for k in (0, 2))
        assert front > 0.03
        assert abs(back) < 0.01
        # The box is centred: the body is left of the middle when the nose points to the right.
        right, left = (float(np.nonzero(views[k])[1].mean()) for k in (1, 3))
        assert right < 31 < 32 < left

    def test_views_do_not_depend_on_place_and_unit(self) -> None:
        mesh = car(0)
        moved = Mesh(mesh.vertices * 250 + [10, -20, 30], mesh.faces)
        a, b = render_yaw_views(mesh), render_yaw_views(moved)
        assert np.mean((a > 0) != (b > 0)) < 0.002
        both = (a > 0) & (b > 0)
        assert np.median(np.abs(a - b)[both]) < 1e-4

    @given(st.sampled_from(TURNS))
    def test_a_turned_mesh_shows_the_views_of_later_yaws(self, degrees: int) -> None:
        views, of_turned = render_yaw_views(car(0)), render_yaw_views(turned(car(0), degrees))
        assert np.mean(np.abs(of_turned - np.roll(views, -degrees // 45, axis=0)) > 0.01) < 0.01

    def test_a_point_and_a_yaw_that_is_not_a_number_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="one point"):
            render_yaw_views(Mesh(np.zeros((4, 3)), np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])))
        with pytest.raises(InputError, match="finite"):
            render_yaw_views(car(0), [0, np.nan])


class TestTurn:
    @given(st.sampled_from(TURNS), st.integers(0, 100))
    def test_undoing_a_turn_does_not_move_the_projection(self, degrees: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        mesh, camera = car(seed), Camera.from_focal(700, 640, 480)
        pose = Pose(yaw_rotation(rng.uniform(0, 360)), np.array([*rng.uniform(-0.5, 0.5, 2), 3.0]), rng.uniform(0.5, 1.5))
        before, _ = project(mesh.vertices, pose, camera)
        after, _ = project(turn_mesh(mesh.vertices, degrees), pose.turned(degrees), camera)
        assert np.abs(before - after).max() <= 0.01

    def test_the_front_goes_to_the_right(self) -> None:
        assert turn_mesh(np.array([[0.0, 0.5, 1.0]]), 90) == pytest.approx(np.array([[1.0, 0.5, 0.0]]))


class TestVote:
    @given(st.sampled_from(TURNS), st.lists(st.floats(-44.9, 44.9), min_size=8, max_size=8))
    def test_noise_under_45_degrees_does_not_matter(self, injected: int, noise: list[float]) -> None:
        vote = vote_yaw((KNOWN + injected + noise) % 360, KNOWN)
        assert vote.turn == -injected % 360
        assert vote.votes.tolist() == [vote.turn] * 8
        assert not vote.uncertain
        assert not vote.symmetric

    def test_five_of_eight_right_views_are_enough(self) -> None:
        estimated = KNOWN + 90
        estimated[[0, 3, 6]] += [90, 180, 90]
        assert vote_yaw(estimated % 360, KNOWN).turn == 270

    def test_three_votes_are_not_enough(self) -> None:
        votes = np.array([90, 90, 90, 0, 0, 180, 180, 270])
        vote = vote_yaw((KNOWN - votes) % 360, KNOWN)
        assert vote.votes.tolist() == votes.tolist()
        assert (vote.turn, vote.uncertain) == (0, True)
        assert vote_yaw((KNOWN - votes) % 360, KNOWN, min_votes=3).turn == 90

    def test_a_tie_leaves_the_mesh_alone(self) -> None:
        vote = vote_yaw((KNOWN - np.repeat([90, 180], 4)) % 360, KNOWN)
        assert (vote.turn, vote.uncertain) == (0, True)

    def test_views_without_a_front_abstain(self) -> None:
        symmetry = np.array([1, 1, 1, 0, 0, 0, 0, 0])
        vote = vote_yaw((KNOWN + 90) % 360, KNOWN, symmetry)
        assert vote.votes.tolist() == [270] * 3 + [-1] * 5
        assert (vote.turn, vote.uncertain, vote.symmetric) == (0, True, False)
        assert vote_yaw(np.full(8, np.nan), KNOWN).votes.tolist() == [-1] * 8

    def test_exact_halves_abstain(self) -> None:
        assert vote_yaw((KNOWN + 45) % 360, KNOWN).votes.tolist() == [-1] * 8

    @given(st.sampled_from(TURNS), st.lists(st.booleans(), min_size=8, max_size=8))
    def test_two_equal_fronts_are_turned_to_the_axis_and_reported(self, injected: int, other: list[bool]) -> None:
        # Which of the two fronts a view names is random; the turn must not be.
        vote = vote_yaw((KNOWN + injected + 180 * np.array(other)) % 360, KNOWN, np.full(8, 2))
        assert vote.symmetric
        assert not vote.uncertain
        assert vote.turn == -injected % 180

    @given(st.lists(st.floats(0, 359), min_size=8, max_size=8))
    def test_four_equal_fronts_are_never_turned(self, estimated: list[float]) -> None:
        vote = vote_yaw(np.array(estimated), KNOWN, np.full(8, 4))
        assert (vote.turn, vote.uncertain, vote.symmetric) == (0, False, True)

    @given(
        st.lists(st.floats(0, 360, exclude_max=True), min_size=8, max_size=8),
        st.lists(st.sampled_from([0, 1, 2, 4]), min_size=8, max_size=8),
    )
    def test_a_turn_always_has_enough_votes_and_no_tie(self, estimated: list[float], symmetry: list[int]) -> None:
        vote = vote_yaw(np.array(estimated), KNOWN, np.array(symmetry))
        if vote.turn:
            asked = [np.count_nonzero(vote.votes == turn) for turn in TURNS]
            # A view with two fronts asks for the opposite turn as well.
            assert asked[TURNS.index(vote.turn)] + asked[TURNS.index((vote.turn + 180) % 360)] >= 4
            assert not vote.uncertain

    def test_lengths_and_orders_are_checked(self) -> None:
        with pytest.raises(InputError, match="one estimate"):
            vote_yaw(KNOWN[:7], KNOWN)
        with pytest.raises(InputError, match="one estimate"):
            vote_yaw(np.array([]), np.array([]))
        with pytest.raises(InputError, match="0, 1, 2 or 4"):
            vote_yaw(KNOWN, KNOWN, np.full(8, 3))


class TestOracle:
    def undone(self, views: int, trials: int = 1000) -> tuple[float, float]:
        """Share of injected quarter turns that are undone by an estimator that is right in 70 % of the views, and of wrong turns."""
        known = np.arange(views) * 360.0 / views
        right = wrong = 0
        for trial in range(trials):
            injected = TURNS[1 + trial % 3]
            oracle = OracleEstimator((known + injected) % 360, error_rate=0.3, seed=trial)
            vote = vote_yaw(oracle.estimate(np.zeros((views, 8, 8))).yaw_degrees, known)
            right += vote.turn == 360 - injected
            wrong += vote.turn not in (0, 360 - injected)
        return right / trials, wrong / trials

    def test_sixteen_views_undo_99_percent(self) -> None:
        right, wrong = self.undone(16)
        assert right >= 0.99
        assert wrong <= 0.001

    def test_eight_views_undo_what_four_votes_allow(self) -> None:
        # P(at least 4 of 8 right) = 0.942 for independent errors; the rest is flagged, not turned wrongly.
        right, wrong = self.undone(8)
        assert right == pytest.approx(0.942, abs=0.025)
        assert wrong <= 0.01

    def test_whichever_views_are_wrong_70_percent_right_undo_every_turn(self) -> None:
        rng = np.random.default_rng(0)
        for trial in range(1000):
            injected = TURNS[1 + trial % 3]
            # 6 of 8 are 75 %, and 5 of 8 are 62 %.
            wrong = rng.choice(8, 2 + trial % 2, replace=False)
            estimated = KNOWN + injected
            estimated[wrong] += rng.choice(TURNS[1:], len(wrong))
            assert vote_yaw(estimated % 360, KNOWN).turn == 360 - injected

    def test_a_random_estimator_never_turns_on_a_split_vote(self) -> None:
        rng = np.random.default_rng(0)
        turns = 0
        for _ in range(1000):
            vote = vote_yaw(rng.uniform(0, 360, 8), KNOWN)
            counts = np.sort([np.count_nonzero(vote.votes == turn) for turn in TURNS])
            split = counts[-1] < 4 or counts[-1] == counts[-2]
            assert vote.uncertain == split
            assert not (split and vote.turn)
            turns += vote.turn != 0
        # 0.75 * P(one of four options has 4 to 8 of 8 votes, without a tie) = 0.33
        assert turns < 400

    def test_the_same_seed_makes_the_same_errors(self) -> None:
        a, b = (OracleEstimator(KNOWN, 0.5, seed=3).estimate(KNOWN).yaw_degrees for _ in range(2))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, KNOWN)
        with pytest.raises(InputError, match="8 views"):
            OracleEstimator(KNOWN).estimate(KNOWN[:3])


class TestConsensus:
    @pytest.mark.parametrize("injected", TURNS)
    @pytest.mark.parametrize("seed", [20, 21])
    def test_undoes_a_quarter_turn_with_two_wrong_references(self, references: np.ndarray, injected: int, seed: int) -> None:
        estimates = ConsensusEstimator(references).estimate(render_yaw_views(turned(car(seed), injected)))
        vote = vote_yaw(estimates.yaw_degrees, KNOWN, estimates.symmetry)
        assert (vote.turn, vote.uncertain, vote.symmetric) == (-injected % 360, False, False)

    @pytest.mark.parametrize(
        ("make", "order"), [(lambda w: box(w, 0.5, 1.0), 2), (lambda w: box(w, 1.0, w), 4)], ids=["slab", "square column"]
    )
    def test_derives_the_symmetry(self, make, order: int) -> None:
        peers = np.stack([render_yaw_views(make(width)) for width in (0.4, 0.42, 0.45)])
        estimates = ConsensusEstimator(peers).estimate(render_yaw_views(make(0.43)))
        assert np.count_nonzero(estimates.symmetry == order) >= 6
        assert vote_yaw(estimates.yaw_degrees, KNOWN, estimates.symmetry).symmetric

    def test_a_slab_lying_across_is_turned_by_its_short_turn(self) -> None:
        peers = np.stack([render_yaw_views(box(width, 0.5, 1.0)) for width in (0.4, 0.42, 0.45)])
        estimates = ConsensusEstimator(peers).estimate(render_yaw_views(turned(box(0.43, 0.5, 1.0), 270)))
        vote = vote_yaw(estimates.yaw_degrees, KNOWN, estimates.symmetry)
        assert (vote.turn, vote.symmetric, vote.uncertain) == (90, True, False)

    def test_without_references_nothing_is_reliable(self) -> None:
        estimates = ConsensusEstimator(np.zeros((0, 8, 64, 64))).estimate(np.zeros((8, 64, 64)))
        assert estimates.symmetry.tolist() == [0] * 8
        vote = vote_yaw(estimates.yaw_degrees, KNOWN, estimates.symmetry)
        assert (vote.turn, vote.uncertain) == (0, True)

    def test_empty_views_have_no_front(self, references: np.ndarray) -> None:
        assert ConsensusEstimator(references).estimate(np.zeros((2, 64, 64))).symmetry.tolist() == [0, 0]

    def test_shapes_are_checked(self, references: np.ndarray) -> None:
        with pytest.raises(InputError, match="shape"):
            ConsensusEstimator(references[0])
        with pytest.raises(InputError, match="square"):
            ConsensusEstimator(references).estimate(np.zeros((8, 60, 64)))

    def test_is_deterministic(self, references: np.ndarray) -> None:
        views = render_yaw_views(car(30))
        a, b = (ConsensusEstimator(references).estimate(views) for _ in range(2))
        assert isinstance(a, OrientationEstimates)
        assert np.array_equal(a.yaw_degrees, b.yaw_degrees)
        assert np.array_equal(a.symmetry, b.symmetry)
