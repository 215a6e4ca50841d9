r"""Theorem 1's formula, its exact form, and what of it holds everywhere.

Key: ∇f = Σ_j ∇f^j + e_c, ∇²f = Σ_j ∇²f^j, since the output bias c enters linearly. With r_ij = ε_i + s_j f^j_i,

    ∇E_ηR = (1/n) Σ_i Σ_j r_ij ∇f^j_i + ε̄ e_c,   H − H_printed = (1/n) Σ_i Σ_j r_ij ∇²f^j_i .

Off the kinks of a piecewise linear network every f^j is, near θ, a polynomial that is affine in one layer's parameters
while the other layers stand still. So ∇²f^j vanishes on each layer's diagonal block, and only there: it couples layers.
The document drops it "almost everywhere". Layer blocks, and with them the trace, are therefore right at every θ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._planted import AWAY, Point, at, build, networks, points
from verification.claims.dropout_flatness._second import STEP, along, bends, directions, one_unit
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity
from verification.printed import flatness as printed

SOURCE = "dropout-flatness, Theorem 1"
PIECEWISE = ["linear", "relu", "leaky_relu"]
KINK = at([1, 1, 1], theta=[1, 0, 1, 0], X=[[0]], y=[1])  # z = 0
TWO = at([1, 1, 1], theta=[1, 1, 2, 0], X=[[1]], y=[1])
DEEP = at([1, 1, 2, 1], n=3, seed=2, keep=[4, 2])

Matrix = Callable[[Point], Array]


def printed_matrix(case: Point) -> Array:
    """Theorem 1's."""
    return case.printed


def other_spread(change: Callable[[Any], Any]) -> Matrix:
    """Theorem 1's matrix with another number for s_j = (1 − p_j)/p_j."""

    def matrix(case: Point) -> Array:
        keep = [1 / (1 + change((1 - p) / p)) for p in case.keep]
        return printed.hessian(case.loss, case.theta, keep)

    return matrix


ONE_OVER_P = other_spread(lambda s: 1 + s)
HALF = other_spread(lambda s: s / 2)


def exact(weights: Callable[[Point], Array] = lambda case: case.pulls) -> Matrix:
    """H = H_printed + (1/n) Σ_i Σ_j r_ij ∇²f^j_i; ``weights`` (m, n) in place of r."""
    return lambda case: case.printed + bends(case, weights(case))


# -- measures ------------------------------------------------------------------------------------------------------


def layer_blocks(matrix: Matrix = printed_matrix) -> Callable[[Point], Measurement]:
    """The layers' diagonal blocks against those of every mask's Hessian, and second differences within each layer."""

    def measure(case: Point) -> Measurement:
        found, net = matrix(case), case.net
        pairs = [(net.layer(found, k).ravel(), net.layer(case.enumerated, k).ravel()) for k in _layers(case)]
        for k in _layers(case):
            v = directions(case, k)
            ahead, here, behind = case.value(case.theta + STEP * np.stack([v, 0 * v, -v]))
            pairs.append(((v * (v @ found)).sum(axis=1), (ahead - 2 * here + behind) / STEP**2))
        return identity(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))

    return measure


def _layers(case: Point) -> range:
    return range(len(case.net.shapes))


def whole(matrix: Matrix) -> Callable[[Point], Measurement]:
    """The matrix, and the library's, against every mask's Hessian; and along two directions, by values alone."""

    def measure(case: Point) -> Measurement:
        found, v = matrix(case), directions(case)
        judged = [found, case.hessian] if case.margin else [found]  # the library refuses kinks
        by_values = [along(case, direction) for direction in v]
        left = np.concatenate([*(x.ravel() for x in judged), (v * (v @ found)).sum(axis=1)])
        right = np.concatenate([*(case.enumerated.ravel() for _ in judged), by_values])
        return identity(left, right)

    return measure


def against_all(matrix: Matrix = printed_matrix) -> Callable[[Point], Measurement]:
    """The matrix against every mask's Hessian."""
    return lambda case: identity(matrix(case), case.enumerated)


CORRECTED = whole(exact())
LEFT_OUT = Correction(
    tex=r"H = \frac1n\sum_i\Big[\nabla f\nabla f^{\top} + \sum_j s_j\nabla f^j(\nabla f^j)^{\top}\Big] + "
    r"\frac1n\sum_i\sum_j\left(\varepsilon_i + s_jf^j_i\right)\nabla^2f^j_i",
    measure=CORRECTED,
    proof="Differentiate $E_\\eta R = \\frac1{2n}\\sum_i[\\varepsilon_i^2 + \\sum_j s_j(f^j_i)^2]$ twice, with "
    "$\\nabla^2f = \\sum_j\\nabla^2f^j$. Off kinks $f^j$ is affine in each layer but a product across layers, so "
    "$\\nabla^2f^j$ vanishes on the layers' diagonal blocks and not on the others.",
)


def by_squares(share: float = 1) -> Matrix:
    """∇²R_S + Σ_j s_j/(2n) Σ_i ∇²(f^j_i)², each by the library's objective with one unit kept and y = c."""

    def matrix(case: Point) -> Array:
        B, eye, lam = case.backend, case.backend.eye(case.net.size)[:, None, :], case.lam
        bias = 0 * case.y + case.theta[-1]
        one = replace(case, y=bias).loss.drop_units(one_unit(case))
        squares = one.hess_ww(lam, case.theta) @ eye  # (P, m, P)
        plain = case.loss.hess_ww(lam, case.theta) @ eye[:, 0]
        but_c = 1 - B.eye(case.net.size)[-1]  # the bias moves the loss, not f^j
        return plain + share * but_c[:, None] * B.sum(case.spread[:, None] * squares, 1) * but_c

    return matrix


SMALL = points(networks((1, 3)), PIECEWISE, n=(1, 4))

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-1@layer-blocks",
        title="The printed Hessian is exact on every layer's diagonal block, at any point off the kinks",
        source=SOURCE + ", one layer's parameters at a time",
        statement=r"\left[E_\eta\nabla^2R^{\text{drop}}_S\right]_{ll} = \frac1n\sum_i\Big[\nabla f\nabla f^{\top} + "
        r"\frac{1-p}p\sum_j\nabla f^j(\nabla f^j)^{\top}\Big]_{ll} \text{ for every layer } l",
        hypotheses=(AWAY,),
        strategy=SMALL,
        explicit=(TWO, DEEP, at([2, 2, 2, 2, 1], "leaky_relu", n=2, seed=0)),
        build=build,
        measure=layer_blocks(),
        grade="proved",
        controls=(
            Control("a unit at its kink", params=KINK),
            Control("1/p for (1−p)/p", kind="formula", measure=layer_blocks(ONE_OVER_P)),
            Control("half of (1−p)/p", kind="formula", measure=layer_blocks(HALF)),
        ),
        budget=Budget(quick=40, full=800),
        notes="No stationary point is needed. Any depth; unequal keep probabilities. Judged twice: by the Hessian of "
        "every mask's loss, and by second differences of the expected loss within a layer, in which it is a "
        "quadratic polynomial near θ. So the trace of the printed matrix is exact too.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@everywhere",
        title="Theorem 1 as its proof argues: second derivatives vanish almost everywhere",
        source="dropout-flatness, appendix B.1",
        statement=r"\nabla^2f_\theta = \nabla^2f^j_\theta = 0 \text{ a.e., so } E_\eta\nabla^2R^{\text{drop}}_S = "
        r"\frac1n\sum_i\Big[\nabla f\nabla f^{\top} + \frac{1-p}p\sum_j\nabla f^j(\nabla f^j)^{\top}\Big]",
        hypotheses=(AWAY,),
        strategy=SMALL,
        explicit=(TWO, DEEP),
        build=build,
        measure=against_all(),
        grade="proved",
        corrected=LEFT_OUT,
        budget=Budget(quick=40, full=800),
        notes="The proof of theorem 1 nowhere uses that the gradient vanishes. Without it the formula fails at nearly "
        "every point: smallest, 1-1-1 ReLU, one sample, f = 2(x + 1) at x = 1.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@corrected",
        title="The Hessian of the expected dropout loss, with its cross-layer terms",
        source=SOURCE + ", derived here",
        statement=LEFT_OUT.tex,
        hypotheses=(AWAY,),
        strategy=SMALL,
        explicit=(TWO, DEEP, at([2, 2, 2, 2, 1], "leaky_relu", n=2, seed=0)),
        build=build,
        measure=CORRECTED,
        grade="proved",
        controls=(
            Control("a unit at its kink", params=KINK),
            Control("no cross-layer terms", kind="formula", measure=whole(printed_matrix)),
            Control(
                "cross-layer terms of f alone",
                kind="formula",
                measure=whole(exact(lambda case: case.errors + 0 * case.pulls)),
            ),
            Control(
                "1/p for (1−p)/p", kind="formula", measure=whole(lambda case: ONE_OVER_P(case) + bends(case))
            ),
            Control(
                "s/2 for s beside f^j∇²f^j",
                kind="formula",
                measure=whole(exact(lambda case: (case.pulls + case.errors) / 2)),
            ),
        ),
        budget=Budget(quick=40, full=800),
        notes="Three channels: the mean over all masks of the masked loss's Hessian, by products with unit vectors; "
        "the library's matrix, assembled by structure; and second derivatives along two directions from values of the "
        "loss alone, by interpolation of degree 2L, exact over the rationals. Any depth and keep probabilities, "
        "stationary or not.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@eq-2",
        title="The expected Hessian is the plain one plus that of the squared units",
        source="dropout-flatness, (2)",
        statement=r"E_\eta\nabla^2R^{\text{drop}}_S = \nabla^2R_S + \frac{1-p}{2np}\sum_i\sum_j\nabla^2(f^j(x_i))^2",
        hypotheses=(AWAY,),
        strategy=SMALL,
        explicit=(TWO, DEEP),
        build=build,
        measure=whole(by_squares()),
        grade="proved",
        controls=(
            Control("a unit at its kink", params=KINK),
            Control("without its ½", kind="formula", measure=whole(by_squares(2))),
        ),
        budget=Budget(quick=40, full=800),
        notes="The first step of theorem 1's proof, and right: the closing formula of the loss, differentiated twice. "
        "The next step drops two terms.",
    ),
)

TWO_LAYERS = Hypothesis(
    "two layers", r"L = 2", lambda case: (len(case.net.shapes) == 2, len(case.net.shapes))
)
