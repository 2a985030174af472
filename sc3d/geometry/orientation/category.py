"""What is kept of a category: its compass, and how its anchors face. It grows with the category and never turns round what it has found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sc3d.errors import DamagedFileError
from sc3d.geometry.orientation.compass import Compass
from sc3d.geometry.orientation.joint import UNKNOWN, solve_joint

SURE = 0.8
"""Probability from which an anchor counts as known when more anchors join."""

FORWARD = 0
"""The turn of a mesh that is known to face forward as it is."""


@dataclass(frozen=True, eq=False)
class CategoryCompass:
    """``compass`` for all meshes of a category but its ``anchors``, for which there are ``posteriors`` (n, 4): each told by the others.
    An anchor is named by what its descriptor was made from."""

    compass: Compass
    anchors: tuple[str, ...]
    posteriors: np.ndarray

    @cached_property
    def of_anchor(self) -> Mapping[str, np.ndarray]:
        """Anchor -> its posterior (4,)."""
        return dict(zip(self.anchors, self.posteriors, strict=True))

    def serves(self, available: int) -> bool:
        """Whether it is kept when so many meshes could be anchors: until there are twice as many."""
        return available < 2 * len(self.anchors)

    def encode(self) -> bytes:
        """The compass as safetensors."""
        return save(
            {
                "weights": self.compass.weights,
                "scalars": np.array([self.compass.sharpness, self.compass.prior]),
                "anchors": np.frombuffer(json.dumps(self.anchors).encode(), np.uint8),
                "posteriors": np.asarray(self.posteriors, np.float64),
            }
        )


def decode_category(data: bytes, where: str) -> CategoryCompass:
    """Inverse of :meth:`CategoryCompass.encode`.

    Raises:
        DamagedFileError: damaged, or not a compass.
    """
    try:
        arrays = load(data)
        sharpness, prior = (float(value) for value in arrays["scalars"])
        anchors = tuple(str(name) for name in json.loads(arrays["anchors"].tobytes()))
        weights, posteriors = np.asarray(arrays["weights"], np.float32), np.asarray(arrays["posteriors"], np.float64)
        fits = weights.ndim == 2 and posteriors.shape == (len(anchors), 4)
        if not fits or not all(np.isfinite(one).all() for one in (weights, posteriors, arrays["scalars"])):
            raise ValueError("its arrays do not fit each other")
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedFileError(f"{where}: not a readable compass ({error}); delete it and run orient again") from None
    return CategoryCompass(Compass(weights, sharpness, prior), anchors, posteriors)


def orient_category(
    anchors: Sequence[str],
    descriptors: np.ndarray,
    forward: Sequence[bool],
    sharpness: float,
    before: CategoryCompass | None = None,
) -> CategoryCompass:
    """Solve a category's joint problem.

    Args:
        anchors: names of n meshes.
        descriptors: (n, 8, D) of them.
        forward: (n,), which of them are known to face forward as they are.
        sharpness: how much a difference of scores says with these descriptors in most categories.
        before: what was found of the category with fewer anchors: those of them that were sure are known now.

    Raises:
        InputError: there is no mesh, or the shapes do not fit.
    """
    found = {} if before is None else before.of_anchor
    sure = {name: int(q.argmax()) for name, q in found.items() if q.max() >= SURE}
    known = [FORWARD if faces else sure.get(name, UNKNOWN) for name, faces in zip(anchors, forward, strict=True)]
    settled, compass = solve_joint(np.asarray(descriptors, np.float32), sharpness, known)
    posteriors = np.array([found[name] if name in sure else q for name, q in zip(anchors, settled.posteriors, strict=True)])
    return CategoryCompass(compass, tuple(anchors), posteriors)
