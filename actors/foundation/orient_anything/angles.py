"""What OrientAnything's angles mean, and how many of them an object has.

Both versions describe the same: the object's frame has x to its front, y to its left and z up; at azimuth 0 the front is turned to the
camera. With growing azimuth the camera walks around the object to its left, so at 90 degrees it sees the left side, and the front points
to the left of the picture.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.integrate import trapezoid
from scipy.optimize import OptimizeWarning, curve_fit

AZIMUTHS = 360
"""Bins of the azimuth, one a degree; they come first in the output of both versions."""

_GOOD_FIT, _LEAST_FIT = 0.8, 0.45
# How sharp the peaks have to be for each number of fronts.
_LEAST_SHARPNESS = {1: 0.6, 2: 0.5, 4: 0.25}


def yaw_of_azimuth(azimuth: np.ndarray) -> np.ndarray:
    """Yaw in [0, 360) degrees, as :mod:`sc3d.geometry.yaw` has it, of an azimuth in degrees.

    A positive yaw turns the front to the right of the picture.
    """
    return -np.asarray(azimuth, np.float64) % 360.0 % 360.0


def symmetry_of(weights: np.ndarray) -> int:
    """Number of fronts, 1, 2 or 4, of a distribution over the azimuth (360,) with weights of at least 0; 0: no reliable front.

    Fits exp(kappa cos(k (x - mu))) / 2 pi for each number k of equal fronts and takes the first good fit, else the best one, if its peaks
    are sharp enough (OrientAnything V2).
    """
    angles = np.linspace(0, 2 * np.pi, AZIMUTHS)
    density = np.asarray(weights, np.float64)
    density = density / (trapezoid(density, angles) + 1e-8)
    guess = (angles[density.argmax()], 1.0)
    spread = ((density - density.mean()) ** 2).sum() + 1e-8
    best = (0.0, 0, 0.0)
    for fronts in _LEAST_SHARPNESS:

        def model(x: np.ndarray, mu: float, kappa: float, k: int = fronts) -> np.ndarray:
            return np.exp(kappa * np.cos(k * (x - mu))) / (2 * np.pi)

        try:
            with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
                warnings.simplefilter("ignore", OptimizeWarning)
                (mu, kappa), _ = curve_fit(model, angles, density, p0=guess)
                fit = 1 - ((density - model(angles, mu, kappa)) ** 2).sum() / spread
        except (RuntimeError, ValueError):  # it does not converge, or the distribution is not finite
            continue
        best = max(best, (float(fit), fronts, float(kappa)))
        if fit > _GOOD_FIT:
            break
    fit, fronts, kappa = best
    return fronts if fronts and fit >= _LEAST_FIT and kappa >= _LEAST_SHARPNESS[fronts] else 0
