"""Arrays of users, of either library, are checked with messages that say what was given and what is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sc3d.arrays import as_numpy, checked_array
from sc3d.errors import InputError


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
def test_tensors_of_every_kind_keep_their_values(kind: torch.dtype) -> None:
    values = torch.tensor([[1, 2], [3, 5]], dtype=kind, requires_grad=kind.is_floating_point)
    np.testing.assert_array_equal(as_numpy(values), [[1, 2], [3, 5]])


def test_arrays_are_not_copied() -> None:
    values = np.zeros((3, 2))
    assert checked_array(values, "xy", ("N", 2)) is values


@pytest.mark.parametrize(
    ("values", "shape", "kind", "message"),
    [
        (np.zeros(3), ("N", 2), "f", r"^it must have the shape \(N, 2\), got \(3,\)$"),
        (np.zeros((2, 2)), (3,), "f", r"^it must have the shape \(3,\), got \(2, 2\)$"),
        (np.array(["a"]), ("N",), "f", r"^it must hold real numbers, got <U1 of the shape \(1,\)$"),
        (np.array([1.5]), ("N",), "iu", r"^it must hold whole numbers, got float64"),
        (np.array([1]), ("N",), "b", r"^it must hold truth values, got int64"),
        (None, ("N",), "f", r"^it must have the shape \(N,\), got \(\)$"),
        ([[1], [2, 3]], ("N", 2), "f", r"^it must be an array of the shape \(N, 2\): "),
    ],
)
def test_what_was_given_and_what_is_wanted_is_said(values: Any, shape: tuple[int | str, ...], kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_array(values, "it", shape, kind)
