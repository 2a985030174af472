"""Beta distributions, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta

from sc3d.class_shapes.beta import BetaLikelihood, fit_beta


@pytest.mark.parametrize("ab", [(5, 9), (30, 3), (1.2, 1.1), (0.7, 2)])
def test_parameters_are_scipys(ab: tuple[float, float]) -> None:
    """From 600 samples: the same as SciPy's fit, and within 20 % of the truth (specification, section 8)."""
    x = beta.rvs(*ab, size=600, random_state=np.random.default_rng(0))
    found = fit_beta(np.log(x).mean(), np.log1p(-x).mean())
    np.testing.assert_allclose(found, beta.fit(x, floc=0, fscale=1)[:2], rtol=2e-4)
    np.testing.assert_allclose(found, ab, rtol=0.2)


def test_many_are_fitted_at_once() -> None:
    """Each as it would be alone."""
    rng = np.random.default_rng(1)
    x = beta.rvs([[2.0], [400.0], [9.0]], [[3.0], [30.0], [1.0]], size=(3, 500), random_state=rng)
    logs = np.log(x).mean(axis=1), np.log1p(-x).mean(axis=1)
    found = fit_beta(*logs)
    np.testing.assert_allclose(found, [fit_beta(one, other) for one, other in zip(*logs, strict=True)], rtol=1e-8)


def test_the_likelihood_is_scipys() -> None:
    """And finite at 0 and 1."""
    ab = np.array([[2.0, 3.0], [40.0, 5.0]])
    likelihood = BetaLikelihood(torch.from_numpy(ab))
    x = np.array([[0.1, 0.9], [0.6, 0.99]])
    np.testing.assert_allclose(likelihood(torch.from_numpy(x)), -beta.logpdf(x, *ab.T), rtol=1e-10)
    assert torch.isfinite(likelihood(torch.tensor([[0.0, 1.0]], dtype=torch.float64))).all()
