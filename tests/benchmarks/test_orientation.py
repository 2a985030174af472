"""The bookkeeping of the trials, with methods of which it is known what they do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.orientation import TRIALS, Joint, disturbed, trials
from sc3d.geometry.mesh import Mesh
from tests.sc3d.geometry.orientation.test_joint import TYPICAL, category
from tests.sc3d.geometry.orientation.test_pooling import animal


def test_an_oracle_undoes_all_and_harms_none() -> None:
    sure = np.zeros(8, bool)
    oracle = trials(lambda chosen, injected: (-injected % 4, sure), 12, 8, seed=41)
    assert oracle.undone == oracle.injected
    assert oracle.harmed == oracle.unsure == 0
    assert oracle.injected + oracle.right == 8 * TRIALS
    assert oracle.injected == pytest.approx(0.06 * 8 * TRIALS, rel=0.4)


def test_who_turns_everything_harms_all_that_was_right() -> None:
    found = trials(lambda chosen, injected: (np.full(8, 2), np.ones(8, bool)), 12, 8, seed=41)
    assert found.harmed == found.right
    assert 0 < found.undone < found.injected
    assert found.unsure == 8 * TRIALS


def test_the_joint_problem_is_solved_on_the_turned_meshes() -> None:
    chosen, injected = np.array([7, 3, 1, 0, 9, 5, 2, 8, 11, 4]), np.array([0, 0, 3, 0, 0, 0, 0, 1, 0, 0])
    turns, unsure = Joint(category(12), TYPICAL)(chosen, injected)
    assert ((turns + injected) % 4 == 0).all()
    assert not unsure.any()


def test_a_disturbed_mesh_still_faces_forward() -> None:
    mesh = animal()
    fine = Mesh(np.asarray(mesh.vertices), mesh.faces)
    rough = disturbed(fine, np.random.default_rng(41))
    assert len(rough.faces) < len(fine.faces)
    # The head is in front and high up, as it was.
    box = np.ptp(rough.vertices, axis=0)
    low = rough.vertices.min(axis=0)
    high = (rough.vertices[:, 1] - low[1]) / box[1] > 0.8
    assert ((rough.vertices[high, 2] - low[2]) / box[2]).min() > 0.5
