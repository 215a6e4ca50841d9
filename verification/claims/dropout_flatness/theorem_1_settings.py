r"""What setting 3 is needed for: theorem 1 with a smooth activation, and with several outputs.

One hidden layer with a smooth σ, rows u_j, x̃ = (x, 1), r_ij = ε_i + s_j f^j_i: besides the cross-layer blocks C_j =
(1/n) Σ_i r_ij σ'(z_ij) x̃_i, for which ∇_{u_j} E_ηR = w_j C_j still, f^j has a second derivative within its row,

    D_j = (w_j/n) Σ_i r_ij σ''(z_ij) x̃_i x̃_iᵀ   on the diagonal block (u_j, u_j).

At a stationary point without zero weights C_j = 0 and H − H_printed is the block diagonal of the D_j.

With k outputs the loss is a sum over outputs, C_jr = (1/n) Σ_i r_ijr κ_ij x̃_i is the block (u_j, W_rj), and a
stationary point has Σ_r W_rj C_jr = 0 and u_jᵀC_jr = 0, no more: the formula fails at strict local minima of one
hidden layer already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import curvature
from refimpl.arrays.backend import Array
from refimpl.networks import MLP, NetworkLoss
from verification.claims.dropout_flatness._planted import (
    PARTS,
    RATIONAL,
    STATIONARY,
    Point,
    at,
    build_float,
    networks,
    point,
    points,
)
from verification.claims.dropout_flatness._second import bends, inertia, rounding
from verification.claims.dropout_flatness.theorem_1 import SOURCE, TWO_LAYERS, Matrix, printed_matrix
from verification.claims.dropout_flatness.theorem_1_two_layers import WEIGHTS, crossed
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity

# -- a smooth activation -------------------------------------------------------------------------------------------


def bent(share: float = -2.0, matrix: Matrix = crossed) -> Matrix:
    """``matrix`` with the blocks D_j of tanh: σ'' = −2 σ σ', ``share`` for −2."""

    def found(case: Point) -> Array:
        total, inputs = matrix(case).copy(), np.concatenate([case.X, np.ones((case.n, 1))], axis=1)
        second = share * case.run.values[0] * case.run.first[0]
        for j in range(case.m):
            row = slice(j * inputs.shape[1], (j + 1) * inputs.shape[1])
            total[row, row] += case.w[j] * (case.pulls[j] * second[j] * inputs.T) @ inputs / case.n
        return total

    return found


def smooth(matrix: Matrix) -> Callable[[Point], Measurement]:
    """The matrix against every mask's Hessian, in floats.

    Rounding: |σ''| <= 1 bends each row by at most |w_j| |r_ij| ‖x̃_i‖², which the network of absolute values lacks.
    """

    def measure(case: Point) -> Measurement:
        squares = 1 + (case.X**2).sum(axis=1)
        extra = float((np.abs(case.w[:, None] * case.pulls) * squares).sum()) / case.n
        allowed = rounding(case) + 10 * case.net.size * EPS * extra / min(case.keep) ** 2
        return identity(matrix(case), case.enumerated, rounding=allowed)

    return measure


SMOOTH = Correction(
    tex=r"H = H_{\text{printed}} + \sum_j\left[D_j\right]_{u_j,u_j} + \sum_j\left[C_j\right]_{u_j,w_j} + "
    r"\sum_j\left[C_j^{\top}\right]_{w_j,u_j}, \quad D_j = \frac{w_j}n\sum_i\left(\varepsilon_i + s_jf^j_i\right)"
    r"\sigma''(z_{ij})\,\tilde x_i\tilde x_i^{\top}, \quad C_j = \frac{\nabla_{u_j}E_\eta R}{w_j}",
    measure=smooth(bent()),
    proof="$\\nabla^2f^j$ has the blocks $w_j\\sigma''\\tilde x\\tilde x^{\\top}$ in row j and $\\sigma'\\tilde x$ "
    "between row j and $w_j$. At a stationary point the $C_j$ vanish, the $D_j$ do not.",
)

# -- several outputs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Several:
    """A network with k outputs at θ, targets Y (k, n), the same keep probability for all last hidden units."""

    net: MLP
    theta: Array
    X: Array
    Y: Array
    keep: Fraction
    params: Mapping[str, Any]

    @cached_property
    def outputs(self) -> list[tuple[np.ndarray, Point]]:
        """For every output where its parameters stand, and the network of that output alone."""
        body, (k, width) = self.net.spans[-1].start, self.net.shapes[-1]
        net, found = MLP((*self.net.widths[:-1], 1), self.net.activations).to("rational"), []
        for r in range(k):
            index = np.r_[np.arange(body), body + r * width + np.arange(width)]
            keep = [self.keep] * self.net.hidden[-1]
            found.append((index, point(net, self.theta[index], self.X, self.Y[r], keep, {})))
        return found

    def summed(self, of: Matrix) -> Array:
        """Σ_r of the matrix of output r, in the place of its parameters."""
        total = RATIONAL.zeros((self.net.size, self.net.size))
        for index, alone in self.outputs:
            total[np.ix_(index, index)] = total[np.ix_(index, index)] + of(alone)
        return total

    @cached_property
    def slope(self) -> Array:
        """∇E_ηR."""
        total = RATIONAL.zeros((self.net.size,))
        for index, alone in self.outputs:
            total[index] = total[index] + alone.slope
        return total

    @cached_property
    def hessian(self) -> Array:
        """∇²E_ηR, by the library: the closed form for k outputs."""
        f = NetworkLoss(self.net, self.X, self.Y, "squared", 0, 0, backend=RATIONAL)
        masks = self.net.last_masks([self.keep] * self.net.hidden[-1])
        return curvature.hessian(f.with_dropout(masks, site="activations", scale="inverse"), self.theta)


def two_outputs(params: Mapping[str, Any]) -> Several:
    """2-1-2 linear: ±a e_1 has the target ±t_1 (1, 1), ±b e_2 has ±t_2 (1, −1); u = e_1, W = t_1/((1 + s) a) (1, 1)."""
    a, b, first, second = (Fraction(params[name]) for name in ("a", "b", "first", "second"))
    keep = Fraction(params["keep"], PARTS)
    v = first * keep / a  # 1/(1 + s) = p
    X = [[a, 0], [-a, 0], [0, b], [0, -b]]
    Y = [[first, -first, second, -second], [first, -first, -second, second]]
    net = MLP((2, 1, 2), "linear").to("rational")
    parts = [np.array(x, dtype=object) for x in ([1, 0, 0, v, 0, v, 0], X, Y)]
    theta, X_, Y_ = (
        np.array([RATIONAL.scalar(e) for e in x.ravel()], dtype=object).reshape(x.shape) for x in parts
    )
    return Several(net, theta, X_, Y_, keep, params)


def outputs(of: Matrix) -> Callable[[Several], Measurement]:
    """The sum over outputs against the library's Hessian."""
    return lambda case: identity(case.summed(of), case.hessian)


def _one_zero(case: Several) -> tuple[bool, str]:
    """The one rescaling u, W is a null vector at a stationary point: it has to be the only one."""
    positive, negative, zero = inertia(case.hessian)
    return (
        negative == 0 and zero == 1,
        f"{positive} positive, {negative} negative, {zero} zero eigenvalues",
    )


MANY = Correction(
    tex=r"H = H_{\text{printed}} + \frac1n\sum_i\sum_{r=1}^k\sum_j\left(\varepsilon_{ir} + s_jf^j_{ir}\right)"
    r"\nabla^2f^j_{ir}",
    measure=outputs(lambda alone: alone.printed + bends(alone)),
    proof="$\\tfrac12\\|f-y\\|^2$ is a sum over outputs, each with the exact Hessian of @corrected.",
)
DOES_NOT_MOVE = Hypothesis(
    "stationary",
    r"\nabla E_\eta R = 0",
    lambda case: (bool((case.slope == 0).all()), max(float(abs(x)) for x in case.slope)),
)
ONLY_RESCALED = Hypothesis(
    "strict local minimum",
    r"H \succeq 0, \text{ its kernel the tangent of the unit's rescaling}",
    lambda case: _one_zero(case),
)
TANH = at([1, 1, 1], "tanh", theta=[1, "1/4", 1, 0], X=[[-2], [-1], [0], [1]], y=[0] * 4, planted=True)
FREE = at([2, 2, 1], "tanh", n=3, seed=1)

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-1@smooth",
        title="Theorem 1 with a smooth activation, at stationary points of one hidden layer",
        source=SOURCE + ", tanh instead of setting 3's piecewise linear functions",
        statement=r"\sigma = \tanh, \; \nabla E_\eta R = 0, \; w_j \ne 0: \quad H = H_{\text{printed}}",
        hypotheses=(TWO_LAYERS, STATIONARY, WEIGHTS),
        strategy=points(networks((1, 1)), ["tanh"], n=(5, 12), planted=st.just(True)),
        explicit=(TANH,),
        build=build_float,
        measure=smooth(printed_matrix),
        grade="exact",
        corrected=SMOOTH,
        budget=Budget(quick=40, full=800),
        notes="Not the document's claim: it shows what setting 3 is for. Even the layers' diagonal blocks are wrong.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@smooth-corrected",
        title="The Hessian with a smooth activation and one hidden layer: row blocks besides the cross-layer ones",
        source=SOURCE + ", derived here",
        statement=SMOOTH.tex,
        strategy=points(networks((1, 1)), ["tanh"], n=(1, 6), planted=st.booleans()),
        explicit=(TANH, FREE),
        build=build_float,
        measure=smooth(bent()),
        grade="exact",
        controls=(
            Control("no row blocks", kind="formula", measure=smooth(crossed)),
            Control("no cross-layer blocks", kind="formula", measure=smooth(bent(matrix=printed_matrix))),
            Control("−σσ' for σ'' = −2σσ'", kind="formula", measure=smooth(bent(-1.0))),
        ),
        budget=Budget(quick=60, full=1200),
        notes="tanh, stationary or not. Where a last weight is 0, $C_j$ is $\\frac1n\\sum_i r_{ij}\\sigma'\\tilde x_i$"
        ", as in @zero-weight.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@k-outputs",
        title="Theorem 1 with two outputs, at strict local minima of one hidden layer",
        source=SOURCE + ", more than one output",
        statement=r"k = 2, \; L = 2: \quad H = \frac1n\sum_i\sum_{r=1}^k\Big[\nabla f_r\nabla f_r^{\top} + "
        r"\frac{1-p}p\sum_j\nabla f^j_r(\nabla f^j_r)^{\top}\Big]",
        hypotheses=(DOES_NOT_MOVE, ONLY_RESCALED),
        strategy=st.fixed_dictionaries(
            {
                "a": st.integers(1, 3),
                "b": st.integers(1, 3),
                "first": st.integers(1, 6),
                "second": st.integers(-2, 2),
                "keep": st.integers(1, PARTS - 1),
            }
        ),
        explicit=({"a": 1, "b": 1, "first": 2, "second": 1, "keep": 4},),
        build=two_outputs,
        measure=outputs(printed_matrix),
        grade="proved",
        corrected=MANY,
        budget=Budget(quick=60, full=1000),
        notes="Setting 3 takes one output “for convenience”; for theorem 1 it is essential. 2-1-2 linear, x = ±(1, 0) "
        "with targets ±(2, 2), x = ±(0, 1) with ±(1, −1), p = ½: u = (1, 0), W = (1, 1), no bias.",
    ),
)
