"""What the approximate hypergradients refuse, and what they say instead."""

from __future__ import annotations

import numpy as np
import pytest

import refimpl as ri
from refimpl import approximate, solvers
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from tests.solver_things import AFFINE, QUADRATIC, D

DESCENT, POINT = solvers.GradientDescent(4, 0.125), solvers.FixedPoint(4)


def test_refusals_say_why():
    lam, w0 = QUADRATIC.start(), np.zeros(D)
    for mode in (approximate.reverse, approximate.forward, approximate.one_step):
        for newton in (solvers.Newton(), solvers.NewtonCG()):
            with pytest.raises(BadInput, match="third derivatives"):
                mode(QUADRATIC, lam, lower=newton)
    with pytest.raises(BadInput, match="as_fixed_point"):
        approximate.implicit(QUADRATIC, lam, lower=DESCENT, linear=solvers.FixedPointAdjoint(3))
    with pytest.raises(HypothesisViolated, match="symmetric"):
        approximate.implicit(AFFINE, AFFINE.start(), lower=POINT, linear=solvers.ConjugateGradient())
    indefinite = ri.zoo.degenerate.indefinite_hessian().problem
    with pytest.raises(HypothesisViolated, match="curvature"):
        approximate.implicit(
            indefinite,
            indefinite.start(),
            lower=solvers.GradientDescent(1, 0.1),
            linear=solvers.ConjugateGradient(),
        )
    with pytest.raises(BadInput, match="last = 5, steps = 4"):
        approximate.truncated(QUADRATIC, lam, lower=DESCENT, last=5)
    for last in (-1, 1.0, True):
        with pytest.raises(BadInput, match="whole number"):
            approximate.truncated(QUADRATIC, lam, lower=DESCENT, last=last)
    with pytest.raises(BadInput, match="w has the wrong shape"):
        approximate.reverse(QUADRATIC, lam, lower=DESCENT, w0=np.zeros(D + 1))
    with pytest.raises(BadInput, match="v0 has the wrong shape"):
        approximate.implicit(
            QUADRATIC, lam, lower=DESCENT, linear=solvers.Neumann(1, 0.1), w0=w0, v0=np.zeros(2)
        )
    with pytest.raises(BadInput, match="another backend"):
        approximate.reverse(QUADRATIC.to("strict"), lam, lower=DESCENT)
    with pytest.raises(BadInput, match="not finite"):
        approximate.forward(QUADRATIC, lam * np.nan, lower=DESCENT)


@pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
def test_divergence_is_an_error(mode):
    with pytest.raises(NotConverged, match="diverged"):
        mode(QUADRATIC, QUADRATIC.start(), lower=solvers.GradientDescent(3000, 1.0))
