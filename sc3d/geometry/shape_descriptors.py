"""A descriptor per vertex from the mesh alone: the offline stand-in in the slot of PartField's features.

Two parts, each of unit length, with fixed weights, so that a cosine of descriptors is the weighted mean of two similarities:

- *canonical position*: random Fourier features (Rahimi and Recht 2007) of the position in the canonical box. Their cosine falls smoothly
  with the distance, and tells left from right and front from back, which no intrinsic descriptor can.
- *shape*: heat and wave kernel signatures (Sun et al. 2009; Aubry et al. 2011) of the Laplacian, in units of its own spectrum and so
  without scale. They depend on squared eigenfunctions, and so on neither their sign nor the vertex order.
"""

from __future__ import annotations

import numpy as np

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.spectrum import laplacian_spectrum

# The cosine's weights. Position leads: parts repeat (four wheels, four legs) while their places do not.
_POSITION_WEIGHT = 0.8
_EIGENPAIRS = 32
_SIGNATURES = 16
# Standard deviations of the Gaussian kernels that the position part mixes, in box sides: the narrow ones tell neighbours apart, the wide
# ones keep the cosine falling at a distance.
_POSITION_SCALES = (0.08, 0.2, 0.5)
_FREQUENCIES = 32
_SEED = 20605


def shape_descriptors(mesh: Mesh) -> np.ndarray:
    """Descriptors (V, 224) float32 of unit length; the same for the same mesh on every machine up to rounding.

    Args:
        mesh: in the canonical frame (y up, front +z), any unit; several components and non-manifold faces are fine.

    Raises:
        GeometryError: all vertices coincide, or the Laplacian's spectrum cannot be computed.
    """
    if not 0 < mesh.diagonal < np.inf:
        raise GeometryError(f"no descriptors for a mesh whose box has the diagonal {mesh.diagonal}")
    position = np.sqrt(_POSITION_WEIGHT) * _position_encoding(mesh.vertices)
    shape = np.sqrt(1 - _POSITION_WEIGHT) * kernel_signatures(*laplacian_spectrum(mesh, _EIGENPAIRS))
    return np.concatenate([position, shape], axis=1).astype(np.float32)


def _position_encoding(vertices: np.ndarray) -> np.ndarray:
    """Unit-length Fourier features (V, 2 * scales * frequencies) of the place in the box."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extent = np.ptp(vertices, axis=0)
    # Half way between the unit box, where a long and a short bus disagree about the front wheels, and a cube of equal sides, where the
    # noise of a thin object's short side would count as much as its length.
    side = np.sqrt(np.maximum(extent, 1e-3 * extent.max()) * extent.max())
    place = (vertices - (low + high) / 2) / side
    rng = np.random.default_rng(_SEED)
    waves = np.concatenate([rng.standard_normal((3, _FREQUENCIES)) / scale for scale in _POSITION_SCALES], axis=1)
    angles = place @ waves
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(waves.shape[1])


def kernel_signatures(values: np.ndarray, functions: np.ndarray) -> np.ndarray:
    """Heat and wave kernel signatures (V, 32), each standardised over the mesh, together of unit length.

    Args:
        values: (k,) ascending eigenvalues of the mesh's Laplacian, the first of them that of the constant.
        functions: (V, k) their eigenfunctions.
    """
    values, squared = values[1:], functions[:, 1:] ** 2
    first, last = max(float(values[0]), 1e-9), max(float(values[-1]), 2e-9)
    times = np.geomspace(4 * np.log(10) / last, 4 * np.log(10) / first, _SIGNATURES)
    heat = np.exp(-values[:, None] * times)
    logs = np.log(np.maximum(values, first))
    energies = np.linspace(logs[0], logs[-1], _SIGNATURES)
    width = max(7 * (logs[-1] - logs[0]) / _SIGNATURES / 2, 1e-6)
    wave = np.exp(-((energies - logs[:, None]) ** 2) / (2 * width**2))
    kernels = np.concatenate([heat / heat.sum(axis=0), wave / wave.sum(axis=0)], axis=1)
    signatures = np.log(np.maximum(squared @ kernels, 1e-12))
    signatures -= signatures.mean(axis=0)
    signatures /= signatures.std(axis=0) + 1e-9
    return signatures / np.maximum(np.linalg.norm(signatures, axis=1, keepdims=True), 1e-9)
