"""The control: places in the object's box."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.matching.box_position import box_positions, copied_cells, position_descriptors

SIDE = 12


def flat(columns, rows):
    return np.array([row * SIDE + column for row in rows for column in columns])


def test_positions_go_from_edge_to_edge():
    cells = flat(range(2, 6), range(3, 5))
    xy = box_positions(cells, cells, SIDE)
    assert xy[0] == pytest.approx([1 / 8, 1 / 4])
    assert xy[-1] == pytest.approx([7 / 8, 3 / 4])
    assert box_positions(np.array([3 * SIDE + 1]), cells, SIDE)[0] == pytest.approx([-1 / 8, 1 / 4])


def test_a_larger_copy_of_the_object_is_matched_cell_by_cell():
    small, large = flat(range(3), range(2)), flat(range(4, 10), range(6, 10))
    expected = flat(range(4, 10, 2), range(6, 10, 2))
    found = copied_cells(small, large, SIDE)
    # Each small cell stands for two by two large ones, and their centres are equally near.
    assert (abs(found % SIDE - expected % SIDE - 0.5) == 0.5).all()
    assert (abs(found // SIDE - expected // SIDE - 0.5) == 0.5).all()
    assert copied_cells(large, large, SIDE).tolist() == large.tolist()
    assert copied_cells(small, small[:0], SIDE).tolist() == []
    assert copied_cells(small[:0], large, SIDE).tolist() == []


@given(st.lists(st.booleans(), min_size=SIDE * SIDE, max_size=SIDE * SIDE).filter(any))
def test_a_cell_is_its_own_nearest_neighbour_within_half_a_box(values):
    foreground = np.array(values).reshape(SIDE, SIDE)
    descriptors = position_descriptors(foreground).reshape(4, -1)
    assert np.linalg.norm(descriptors, axis=0) == pytest.approx(np.ones(SIDE * SIDE), abs=1e-6)
    xy = box_positions(np.arange(SIDE * SIDE), np.flatnonzero(foreground), SIDE)
    inside = np.flatnonzero((np.abs(xy - 0.5) <= 1).all(axis=1))
    assert (descriptors[:, inside].T @ descriptors[:, inside]).argmax(axis=1).tolist() == list(range(len(inside)))


def test_no_object_has_no_place():
    assert not position_descriptors(np.zeros((SIDE, SIDE), bool)).any()
