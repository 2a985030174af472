"""Cross-mesh prediction: where a point of one mesh lies on another (3D-SC, stage 2).

The paper takes the nearest descriptor, and names optimal transport, functional maps and denser registration as what may come after it; all
are here behind :class:`Transfer`. Two images of one template need no prediction: the same vertex is the same place.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sc3d.config import TransferName
from sc3d.matching.described import DescribedSurface
from sc3d.matching.functional_map import FunctionalMapTransfer
from sc3d.matching.optimal_transport import TransportTransfer
from sc3d.matching.registration import RegistrationTransfer


class Transfer(Protocol):
    """Predicts vertices on another mesh of the category."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """The vertex (K,) int64 of ``destination`` that corresponds to each surface hit (K,) of ``origin``.

        It does not depend on the other hits that are asked for.
        """
        ...


class NearestTransfer:
    """The paper's: the shape descriptor interpolated at the hit, and its nearest vertex descriptor by cosine."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`Transfer.predict`. Each distinct hit is searched once, however many matches end in it."""
        distinct, inverse = np.unique(hits, return_inverse=True)
        return destination.vertices.nearest(origin.queries.numpy()[distinct])[inverse]


class TemplateTransfer:
    """Between two meshes of one template: the dominant vertex of the hit, whose number is the same on both."""

    def predict(self, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface) -> np.ndarray:
        """See :meth:`Transfer.predict`."""
        return origin.surface.dominant[hits].astype(np.int64)


def transfers_between(origin: DescribedSurface, destination: DescribedSurface, otherwise: Transfer) -> tuple[Transfer, ...]:
    """Those that are asked about a pair: the template's numbering where two meshes share it, else the configured transfer, of which a
    registration has one a reference."""
    if share_template(origin, destination):
        return (TemplateTransfer(),)
    return otherwise.each(origin) if isinstance(otherwise, RegistrationTransfer) else (otherwise,)


def predict_with_gap(
    transfer: Transfer, hits: np.ndarray, origin: DescribedSurface, destination: DescribedSurface
) -> tuple[np.ndarray, np.ndarray]:
    """The predicted vertices (K,), and how far from the hits the transfer itself finds them (K,), in diagonals; 0 where it cannot tell."""
    if isinstance(transfer, RegistrationTransfer):
        return transfer.find(hits, origin, destination)
    return transfer.predict(hits, origin, destination), np.zeros(len(hits))


def share_template(one: DescribedSurface, other: DescribedSurface) -> bool:
    """Whether two meshes are stretched from one template, so that their vertices have the same numbers."""
    return one.surface.numbering == other.surface.numbering != ""


_TRANSFERS: dict[TransferName, type[Transfer]] = {
    "nearest": NearestTransfer,
    "registration": RegistrationTransfer,
    "transport": TransportTransfer,
    "functional_map": FunctionalMapTransfer,
}


def transfer_of(name: TransferName) -> Transfer:
    """The transfer of a :class:`~sc3d.config.MatchConfig`.

    Raises:
        ConfigError: the library that it needs is not installed.
    """
    return _TRANSFERS[name]()
