"""Arrays that a user hands over, NumPy's, PyTorch's or lists: as NumPy arrays of the wanted shape, or an error that says both shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sc3d.errors import InputError

_KINDS = {"f": "real numbers", "iu": "whole numbers", "b": "truth values"}


def as_numpy(values: Any) -> np.ndarray:
    """Any array, tensor (of any device, with a gradient or without) or nested list as a NumPy array.

    Raises:
        ValueError: it is no array, such as a ragged list.
    """
    if hasattr(values, "detach"):
        # A tensor; PyTorch need not be imported to tell. NumPy has no bfloat16.
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def checked_array(values: Any, name: str, shape: tuple[int | str, ...], kind: str = "f") -> np.ndarray:
    """``values`` as an array of a shape and kind.

    Args:
        values: as of :func:`as_numpy`. Whether real numbers are finite is not looked at.
        name: what messages call it.
        shape: lengths of the axes; a letter is any length.
        kind: "f" for real numbers, in which whole ones are welcome; "iu" for whole ones, "b" for truth values.

    Raises:
        InputError: another shape or kind; says what was given and what is wanted.
    """
    wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    try:
        found = as_numpy(values)
    except ValueError as error:
        raise InputError(f"{name} must be an array of the shape {wanted}: {error}") from None
    fits = found.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise InputError(f"{name} must have the shape {wanted}, got {found.shape}")
    if found.dtype.kind not in ("fiu" if kind == "f" else kind):
        raise InputError(f"{name} must hold {_KINDS[kind]}, got {found.dtype} of the shape {found.shape}")
    return found
