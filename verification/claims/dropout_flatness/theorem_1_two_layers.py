r"""Theorem 1 for one hidden layer: what its formula leaves out is the gradient over w_j, and what that says at minima.

Row j of layer 1 is u_j (bias included), x̃ = (x, 1), κ_ij the slope of unit j at sample i. Then f^j = w_j κ u_jᵀx̃ has
only the second derivatives ∂_{u_j}∂_{w_j} f^j_i = κ_ij x̃_i. Put C_j = (1/n) Σ_i r_ij κ_ij x̃_i, r_ij = ε_i + s_j f^j_i.
So H − H_printed has the blocks (u_j, w_j) = C_j and their transposes, nothing else, while

    ∇_{u_j} E_ηR = w_j C_j,   ∂_{w_j} E_ηR = u_jᵀC_j,   ‖H − H_printed‖_F² = 2 Σ_j ‖C_j‖² .

- w_j ≠ 0 for all j: ‖H − H_printed‖_F² = 2 Σ_j ‖∇_{u_j}‖²/w_j², and a stationary point has C_j = 0.
- w_j = 0: ∇_{u_j} vanishes by itself, stationarity says u_jᵀC_j = 0 only, and C_j ≠ 0 is possible. But then the block
  (u_j, u_j) of H, every term of which has the factor w_j², is zero beside C_j ≠ 0: in the plane of the unit vectors
  C_j/‖C_j‖ and w_j the form is ((0, ‖C_j‖), (‖C_j‖, h)), whose smaller eigenvalue is (h − √(h² + 4‖C_j‖²))/2 < 0.

So with one hidden layer the formula is right at every stationary point where H is positive semidefinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._planted import (
    AWAY,
    STATIONARY,
    Point,
    at,
    build,
    build_float,
    networks,
    points,
)
from verification.claims.dropout_flatness._second import inertia, rounding
from verification.claims.dropout_flatness.theorem_1 import (
    ONE_OVER_P,
    PIECEWISE,
    SOURCE,
    TWO,
    TWO_LAYERS,
    against_all,
)
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SMALLEST = at([1, 1, 1], theta=[1, 2, 1, 0], X=[[-1], [-3], [0]], y=[0, 0, 0], planted=True)
ZERO = at([1, 1, 1], theta=[0, 1, 0, 0], X=[[0], [1]], y=[-1, 1])  # u = (0, 1), w = 0, ε = (1, −1)
TRIVIAL = at([1, 1, 1], "linear", theta=[0, 0, 0, 0], X=[[1], [-1]], y=[1, -1])

WEIGHTS = Hypothesis(
    "no weight is zero", r"w_j \ne 0 \text{ for all } j", lambda case: _least(to_numpy(case.w))
)
SEMIDEFINITE = Hypothesis(
    "H is positive semidefinite", r"H \succeq 0", lambda case: _semidefinite(inertia(case.hessian))
)


def _least(w: np.ndarray) -> tuple[bool, float]:
    found = float(np.abs(w).min())
    return found > 0, found


def _semidefinite(found: tuple[int, int, int]) -> tuple[bool, str]:
    return found[1] == 0, f"{found[0]} positive, {found[1]} negative, {found[2]} zero eigenvalues"


def quotients(case: Point) -> Array:
    """C_j = (1/n) Σ_i r_ij κ_ij x̃_i, (m, d + 1)."""
    B = case.backend
    inputs = B.concat([case.X, 0 * case.X[:, :1] + 1])
    return (case.pulls * case.run.first[0]) @ inputs / case.n


def crossed(case: Point) -> Array:
    """H_printed with the blocks (u_j, w_j) = C_j."""
    found, C = case.printed.copy(), quotients(case)
    width = C.shape[1]
    for j in range(case.m):
        row, w = slice(j * width, (j + 1) * width), case.m * width + j
        found[row, w] = found[row, w] + C[j]
        found[w, row] = found[w, row] + C[j]
    return found


def norms(power: int = 2, share: int = 2) -> Callable[[Point], Measurement]:
    """‖H − H_printed‖_F² against 2 Σ_j ‖∇_{u_j}‖²/w_j²."""

    def measure(case: Point) -> Measurement:
        gap = (case.enumerated - case.printed).ravel()
        rows = case.net.layers(case.slope)[0]
        return identity(share * ((rows * rows).sum(axis=1) / case.w**power).sum(), gap @ gap)

    return measure


def descent(factor: float = 4) -> Callable[[Point], Measurement]:
    """(√(h² + 4‖C_j‖²) − h)/2 <= −λ_min(H) for the unit j with w_j = 0 whose left side is largest."""

    def measure(case: Point) -> Measurement:
        H, C = case.enumerated, quotients(case)
        first = case.net.spans[1].start
        found = [0.0]
        for j in np.flatnonzero(case.w == 0):
            h = H[first + j, first + j]
            found.append((float(np.sqrt(h * h + factor * (C[j] @ C[j]))) - h) / 2)
        steepest = max(-float(np.linalg.eigvalsh(H)[0]), 0.0)
        return Measurement(observed=max(found), bound=steepest, rounding=rounding(case))

    return measure


def linear_at_zero(drawn: tuple[int, int, list[int], list[int], list[int]]) -> dict[str, Any]:
    """A linear network at θ = 0 with centred targets: the output bias is stationary."""
    d, m, x, y, keep = drawn
    X = [x[i * d : (i + 1) * d] for i in range(len(y) + 1)]
    size = m * (d + 1) + m + 1
    return {**at([d, m, 1], "linear"), "theta": [0] * size, "X": X, "y": [*y, -sum(y)], "keep": keep}


SMALL = st.integers(-3, 3)
AT_ZERO = st.tuples(
    st.integers(1, 2),
    st.integers(1, 2),
    st.lists(SMALL, min_size=8, max_size=8),
    st.lists(SMALL, min_size=1, max_size=3),
    st.lists(st.integers(1, 8), min_size=1, max_size=2),
).map(linear_at_zero)
SHIFTS = st.lists(st.integers(-8, 8), max_size=3)
PLANTED = {"planted": st.just(True), "shift": SHIFTS}
ONE_LAYER = networks((1, 1))


def planted(**more: Any) -> Any:
    """Strategy over planted points of one hidden layer."""
    return points(ONE_LAYER, ["relu", "leaky_relu"], n=(3, 9), **PLANTED, **more)


CROSSED = Correction(
    tex=r"H = H_{\text{printed}} + \sum_j\left(e_{u_j}\,C_j\,e_{w_j}^{\top} + e_{w_j}\,C_j^{\top}\,e_{u_j}^{\top}"
    r"\right), \quad C_j = \frac1n\sum_i\left(\varepsilon_i + s_jf^j_i\right)\kappa_{ij}\tilde x_i, \quad "
    r"\nabla_{u_j}E_\eta R = w_jC_j, \; \partial_{w_j}E_\eta R = u_j^{\top}C_j",
    measure=against_all(crossed),
    proof="The only second derivatives of $f^j$ are $\\partial_{u_j}\\partial_{w_j}f^j_i = \\kappa_{ij}\\tilde x_i$. "
    "Where $w_j = 0$ the gradient over $u_j$ vanishes whatever $C_j$ is, and stationarity forces $u_j^{\\top}C_j = 0$ "
    "only. H is then indefinite: its block $(u_j, u_j)$ is zero beside $C_j \\ne 0$. See @minima.",
)

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-1@two-layers",
        title="Theorem 1 with one hidden layer, at stationary points without zero weights: exact",
        source=SOURCE + ", L = 2",
        statement=r"L = 2, \; \nabla E_\eta R = 0, \; w_j \ne 0 \text{ for all } j: \quad H = \frac1n\sum_i\Big["
        r"\nabla f\nabla f^{\top} + \frac{1-p}p\sum_j\nabla f^j(\nabla f^j)^{\top}\Big]",
        hypotheses=(TWO_LAYERS, STATIONARY, WEIGHTS, AWAY),
        strategy=planted(),
        explicit=(SMALLEST, at([2, 2, 1], n=8, seed=4, planted=True, keep=[4, 2])),
        build=build,
        measure=against_all(),
        grade="proved",
        controls=(
            Control("not stationary", params=TWO),
            Control("a zero weight", params=ZERO),
            Control("1/p for (1−p)/p", kind="formula", measure=against_all(ONE_OVER_P)),
        ),
        budget=Budget(quick=60, full=1200),
        notes="What the formula leaves out is $C_j = \\nabla_{u_j}E_\\eta R/w_j$: see @norm-identity. Stationary "
        "points are planted: y is solved for, exactly.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@norm-identity",
        title="With one hidden layer the error of the printed Hessian is the gradient over the last weights",
        source=SOURCE + ", L = 2, derived here",
        statement=r"\left\|H - H_{\text{printed}}\right\|_F^2 = 2\sum_j\frac{\|\nabla_{u_j}E_\eta R\|^2}{w_j^2}, "
        r"\quad u_j \text{ row } j \text{ of layer 1 with its bias}",
        hypotheses=(TWO_LAYERS, WEIGHTS, AWAY),
        strategy=points(ONE_LAYER, PIECEWISE, n=(1, 4)),
        explicit=(TWO, at([2, 2, 1], n=3, seed=1)),
        build=build,
        measure=norms(),
        grade="proved",
        controls=(
            Control("three layers", params=at([1, 1, 2, 1], "leaky_relu", n=3, seed=2)),
            Control("each block once", kind="formula", measure=norms(share=1)),
            Control("w_j⁴ for w_j²", kind="formula", measure=norms(power=4)),
        ),
        budget=Budget(quick=60, full=1200),
        notes="At any point. So a gradient of norm at most τ gives $\\|H - H_{\\text{printed}}\\|_F \\le "
        "\\sqrt2\\,\\tau/\\min_j|w_j|$: what “nearly stationary” in assumption 1 is worth.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@zero-weight",
        title="Theorem 1 with one hidden layer, at any stationary point",
        source=SOURCE + ", L = 2, zero weights allowed",
        statement=r"L = 2, \; \nabla E_\eta R = 0: \quad H = H_{\text{printed}}",
        hypotheses=(TWO_LAYERS, STATIONARY, AWAY),
        strategy=planted(zero=st.integers(1, 2)),
        explicit=(ZERO, at([1, 1, 1], n=5, seed=2, planted=True, zero=1, shift=[8])),
        build=build,
        measure=against_all(),
        grade="proved",
        corrected=CROSSED,
        budget=Budget(quick=60, full=1200),
        notes="Smallest: ReLU, $f = w\\,\\sigma(ux + b) + c$ at (u, b, w, c) = (0, 1, 0, 0), x = (0, 1), y = (−1, 1): "
        "the gradient is exactly zero, $\\partial_u\\partial_wE_\\eta R = -\\tfrac12$, the formula says 0.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@trivial",
        title="Theorem 1 at the trivial stationary point of a linear network with one hidden layer",
        source=SOURCE + ", linear activation, θ = 0",
        statement=r"W = 0, \; w = 0, \; c = \bar y: \quad \nabla E_\eta R = 0 \text{ and } H = H_{\text{printed}}",
        hypotheses=(TWO_LAYERS, STATIONARY),
        strategy=AT_ZERO,
        explicit=(TRIVIAL,),
        build=build,
        measure=against_all(),
        grade="proved",
        corrected=CROSSED,
        budget=Budget(quick=60, full=1200),
        notes="Smallest: 1-1-1, x = (1, −1) = y. In (u, w) the Hessian is ((0, −1), (−1, 0)), indefinite, for every "
        "keep probability; the formula gives 0 there, and is positive semidefinite everywhere.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@minima",
        title="With one hidden layer the printed Hessian is exact wherever second-order conditions hold",
        source=SOURCE + ", L = 2, derived here",
        statement=r"L = 2, \; \nabla E_\eta R = 0, \; H \succeq 0 \;\Rightarrow\; H = H_{\text{printed}}, "
        r"\text{ zero weights or not}",
        hypotheses=(TWO_LAYERS, STATIONARY, AWAY, SEMIDEFINITE),
        strategy=planted(zero=st.integers(0, 1)),
        explicit=(
            SMALLEST,
            {**ZERO, "theta": [0, 1, 0, 0], "y": [0, 0]},
            at([1, 2, 1], theta=[1, -1, 1, 1, 0, 0, 0], X=[[0], [2]], y=[1, 1], planted=True),
        ),
        build=build,
        measure=against_all(),
        grade="proved",
        controls=(
            Control("a saddle", params=ZERO),
            Control("1/p for (1−p)/p", kind="formula", measure=against_all(ONE_OVER_P)),
        ),
        budget=Budget(quick=60, full=1200),
        notes="In particular at every local minimum off the kinks. A zero weight with $C_j \\ne 0$ makes H indefinite: "
        "@saddle says by how much. With two or more hidden layers this is false: see @local-minimum.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@saddle",
        title="Where the printed Hessian fails at a stationary point of one hidden layer, H has negative curvature",
        source=SOURCE + ", L = 2, derived here",
        statement=r"w_j = 0: \quad -\lambda_{\min}(H) \ge \frac{\sqrt{h_j^2 + 4\|C_j\|^2} - h_j}2, \quad h_j = "
        r"\partial^2_{w_j}E_\eta R",
        strategy=planted(zero=st.just(1)),
        explicit=(ZERO, TRIVIAL),
        build=build_float,
        measure=descent(),
        grade="exact",
        controls=(Control("8 for 4", kind="formula", measure=descent(8)),),
        equality=Equality(params=TRIVIAL, reaches=0.999),
        budget=Budget(quick=60, full=1200),
        notes="Two dimensions of H: $u_j$ along $C_j$, and $w_j$; stationary or not. "
        "Equality where they are coupled to nothing else, as at the trivial stationary point.",
    ),
)
