r"""Theorem 1 with two and more hidden layers: false at stationary points, at strict local minima too.

Three layers, rows u_k of layer 1, V = (v_jk), w_j: the blocks that the formula leaves out are

    B_jk = (u_k, v_jk) = (1/n) Σ_i r_ij w_j κ_ij κ_ik x̃_i,   (u_k, w_j) = v_jk B_jk / w_j,   r_ij = ε_i + s_j f^j_i,

and the gradient forces only their sums: ∇_{u_k} = Σ_j v_jk B_jk = 0 and ∂_{v_jk} = u_kᵀB_jk = 0. With one unit in
layer 2 the sum has one term and B vanishes; with two it need not. In general, where every path through a parameter a
goes through the weight b too, ∂_a∂_b f^j = ∂_a f^j/b, so the entry (a, b) is ∂_a E_ηR/b: with hidden layers of one unit
after the first all entries are of that kind.

That this is no matter of saddles: a multiple of a null vector of Jᵀ, J = (∇f_i)_i, can be added to ε without moving
the gradient or H_printed, and H − H_printed is linear in the r_ij. Where H_printed is positive definite across the
rescalings of units (row times 1 + t, outgoing weights over 1 + t), so is H for small r_ij. Then θ is a local minimum
of E_ηR, strict but for these rescalings, along which E_ηR is constant. A unit of a lower layer that is active on every
sample adds another such direction: its bias against those behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from verification.claims.dropout_flatness._planted import (
    AWAY,
    STATIONARY,
    Point,
    at,
    build,
    build_float,
    points,
)
from verification.claims.dropout_flatness._second import bends, inertia, rounding, scalings, shifts
from verification.claims.dropout_flatness.theorem_1 import (
    LEFT_OUT,
    ONE_OVER_P,
    SOURCE,
    Matrix,
    against_all,
    exact,
    printed_matrix,
)
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity


def line(theta: list[int], x: list[int], **more: Any) -> dict[str, Any]:
    """A planted 1-1-2-1 network of leaky ReLUs on samples of one input."""
    X, y = [[k] for k in x], [0] * len(x)
    return at([1, 1, 2, 1], "leaky_relu", theta=theta, X=X, y=y, planted=True, **more)


SADDLE = line([-1, -2, -2, -1, -1, 2, 2, -1, 0], [-5, -3, -1, 0, 4, 5])
MINIMUM = line([-1, 2, -2, 3, 1, -3, 2, -2, 0], [-5, -4, -2, 0, 1, 3, 5])
HINGES = at(  # ReLU: U = (1, 0), h = k, V = (1, −1), f odd about k = 3
    [2, 1, 2, 1],
    theta=[1, 0, 0, 1, "-11/4", -1, "13/4", 1, -1, 0],
    X=[[k, (k - 3) ** 2] for k in range(1, 6)],
    y=["-17/4", -3, 0, 3, "17/4"],
)
HINGES_MINIMUM = {**HINGES, "y": ["-35/12", "-11/6", 0, "11/6", "35/12"], "keep": [6]}
LAST_NARROW = at(  # one unit in the last hidden layer, two in the one before
    [2, 1, 2, 1, 1],
    "leaky_relu",
    theta=[2, -2, -1, -1, -3, -2, 1, 2, -1, 2, 2, -1],
    X=[
        *([-3, 3], [4, 5], [5, -5], [2, 5], [3, 1], [1, 1], [1, -4]),
        *([2, 5], [1, -5], [-2, -4], [-2, 2], [-3, -4], [0, 4], [-5, -4]),
    ],
    y=[0] * 14,
    planted=True,
    shift=[8],
)
CHAIN = at([1, 2, 1, 1], "relu", n=7, seed=1, planted=True)

DEEP = Hypothesis("three layers or more", r"L \ge 3", lambda case: _deep(len(case.net.shapes)))
UPPER = Hypothesis(
    "no upper weight is zero",
    r"\text{no weight above layer 1 is zero}",
    lambda case: _nonzero([to_numpy(W)[:, :-1] for W in case.net.layers(case.theta)[1:]]),
)
NARROW = Hypothesis(
    "hidden layers of one unit",
    r"\text{every hidden layer after the first has one unit}",
    lambda case: (max(case.net.hidden[1:]) == 1, list(case.net.hidden)),
)
STRICT = Hypothesis(
    "strict local minimum",
    r"H \succeq 0, \text{ its kernel spanned by tangents along which } E_\eta R \text{ is constant}",
    lambda case: _strict(case),
)


def _deep(layers: int) -> tuple[bool, int]:
    return layers > 2, layers


def _nonzero(weights: list[np.ndarray]) -> tuple[bool, float]:
    found = min(float(np.abs(W).min()) for W in weights)
    return found > 0, found


def _strict(case: Point) -> tuple[bool, str]:
    """Exactly: signs by elimination, and H T = 0 for independent tangents T, as many as H has zero eigenvalues.

    T: the rescalings of hidden units, and shifts of biases behind units that are active on every sample.
    """
    T, H = np.concatenate([scalings(case), shifts(case)]), case.hessian
    positive, negative, zero = inertia(H)
    independent = inertia(T @ T.T)[0]
    flat = bool((T @ H == 0).all())
    shown = f"{positive} positive, {negative} negative, {zero} zero eigenvalues; {independent} invariances"
    return negative == 0 and flat and zero == independent, shown


def in_floats(matrix: Matrix) -> Callable[[Point], Measurement]:
    """The matrix against every mask's Hessian, with rounding."""
    return lambda case: identity(matrix(case), case.enumerated, rounding=rounding(case))


def shifted(params: dict[str, Any]) -> Any:
    """Strategy: the same θ and samples, other keep probabilities, other planted errors."""
    others = {
        "keep": st.lists(st.integers(1, 7), min_size=1, max_size=2),
        "shift": st.lists(st.integers(-8, 8), max_size=1),
    }
    return st.fixed_dictionaries({**{k: st.just(v) for k, v in params.items()}, **others})


def planted(**more: Any) -> Any:
    """Strategy over planted 2-2-2-1 networks, of which about a quarter are stationary."""
    wide = st.just([2, 2, 2, 1])
    return points(wide, ["leaky_relu"], n=(14, 18), planted=st.just(True), **more)


chains = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)).map(
    lambda drawn: [drawn[0], drawn[1], *[1] * drawn[2], 1]
)
CHEAP = Correction(
    tex=LEFT_OUT.tex, measure=against_all(exact()), proof=LEFT_OUT.proof
)  # one channel of @corrected's
FLOAT_LEFT_OUT = Correction(tex=LEFT_OUT.tex, measure=in_floats(exact()), proof=LEFT_OUT.proof)
STATEMENT = (
    r"H = \frac1n\sum_i\Big[\nabla f\nabla f^{\top} + \frac{1-p}p\sum_j\nabla f^j(\nabla f^j)^{\top}\Big]"
)

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-1@three-layers",
        title="Theorem 1 with two or more hidden layers, at exactly stationary points",
        source=SOURCE + ", L ≥ 3",
        statement=r"L \ge 3, \; \nabla E_\eta R = 0: \quad " + STATEMENT,
        hypotheses=(DEEP, STATIONARY, UPPER, AWAY),
        strategy=shifted(SADDLE),
        explicit=(SADDLE, HINGES, at([2, 2, 2, 1], "leaky_relu", n=16, seed=8, planted=True), LAST_NARROW),
        build=build,
        measure=against_all(),
        grade="proved",
        corrected=CHEAP,
        budget=Budget(quick=10, full=100),
        notes="1-1-2-1 leaky ReLU, p = ½, six samples: no smaller network of three layers with biases allows it, by "
        "@chains. And a ReLU network 2-1-2-1, five samples (k, (k − 3)²): $\\theta = (1, 0, 0 \\mid 1, "
        "-\\tfrac{11}4 \\mid -1, \\tfrac{13}4 \\mid 1, -1, 0)$, $y = (-\\tfrac{17}4, -3, 0, 3, \\tfrac{17}4)$, p = ½. "
        "The gradient is exactly zero, and no upper weight is; the nearest kink is a quarter away. A last hidden layer "
        "of one unit is not enough: leaky ReLU 2-1-2-1-1, p = ½, $\\theta = (2, -2, -1 \\mid -1, -3, -2, 1 \\mid "
        "2, -1, 2 \\mid 2, -1)$, fourteen samples with planted labels, is stationary too and fails: the two units "
        "before it are enough.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@three-layers-floats",
        title="Theorem 1 with two or more hidden layers in floating point, at gradients below 10⁻¹² of their terms",
        source=SOURCE + ", L ≥ 3",
        statement=r"L \ge 3, \; \nabla E_\eta R \approx 0: \quad " + STATEMENT,
        hypotheses=(DEEP, STATIONARY, UPPER, AWAY),
        strategy=planted(keep=st.just([6])),
        explicit=(HINGES, at([2, 2, 2, 1], "leaky_relu", n=16, seed=8, planted=True)),
        build=build_float,
        measure=in_floats(printed_matrix),
        grade="exact",
        corrected=FLOAT_LEFT_OUT,
        budget=Budget(quick=20, full=400),
        notes="“≈ 0” in assumption 1 is no excuse: the gradient is zero to rounding here, the formula's error is not.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@local-minimum",
        title="Theorem 1 with two hidden layers, at local minima of the expected dropout loss",
        source=SOURCE + ", L ≥ 3, at minima",
        statement=r"L \ge 3, \; \theta \text{ a local minimum of } E_\eta R \text{, strict up to invariances, off "
        r"the kinks}: \quad " + STATEMENT,
        hypotheses=(DEEP, STATIONARY, UPPER, AWAY, STRICT),
        strategy=shifted(MINIMUM),
        explicit=(HINGES_MINIMUM, MINIMUM, {**MINIMUM, "keep": [7]}),
        build=build,
        measure=against_all(),
        grade="proved",
        corrected=CHEAP,
        budget=Budget(quick=10, full=100),
        notes="ReLU 2-1-2-1 at @three-layers' θ and x, p = ¾, $y = (-\\tfrac{35}{12}, -\\tfrac{11}6, 0, \\tfrac{11}6, "
        "\\tfrac{35}{12})$: six positive eigenvalues, four zero: three rescalings, one shift of a bias. "
        "And 1-1-2-1 leaky ReLU, seven samples, p = ½, strict up to rescaling: $\\theta = (-1, 2 \\mid -2, 3 "
        "\\mid 1, -3 \\mid 2, -2, 0)$. Signs are counted exactly. With one hidden layer it cannot happen: see @minima.",
    ),
    Claim(
        id="dropout-flatness/theorem-1@chains",
        title="Deep networks whose hidden layers after the first have one unit: the printed Hessian is exact",
        source=SOURCE + ", L ≥ 3, derived here",
        statement=r"m_2 = \dots = m_{L-1} = 1, \; \nabla E_\eta R = 0, \text{ no weight above layer 1 zero}: \quad "
        + STATEMENT,
        hypotheses=(DEEP, NARROW, STATIONARY, UPPER, AWAY),
        strategy=points(chains, ["relu", "leaky_relu"], n=(7, 10), planted=st.just(True)),
        explicit=(CHAIN,),
        build=build,
        measure=against_all(),
        grade="proved",
        controls=(
            Control("two units in layer 2", params=SADDLE),
            Control("not stationary", params=at([1, 1, 1, 1], theta=[1, 1, 1, 1, 1, 0], X=[[1]], y=[1])),
            Control("1/p for (1−p)/p", kind="formula", measure=against_all(ONE_OVER_P)),
            Control(
                "cross-layer terms of f alone added",
                kind="formula",
                measure=against_all(lambda case: case.printed + bends(case, case.errors + 0 * case.pulls)),
            ),
        ),
        budget=Budget(quick=25, full=400),
        notes="Every path through a parameter a of a lower layer goes through each weight b of the upper ones, so the "
        "missing entry is $\\partial_aE_\\eta R/b = 0$. The first hidden layer may be wide; what matters is a layer of "
        "two or more units behind another one, not the last hidden layer as such.",
    ),
)
