"""(11) is the total derivative, in exact arithmetic and on problems that are not quadratic."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.zoo import quadratic
from verification.claims.reweighting._rational import RATIONAL, SOLVED, Exact, at, problem, sizes
from verification.claims.reweighting._shared import CONTRACTION
from verification.instances import EPS, Case, case, cases, point, size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, (10) and (11)"
STATEMENT = (
    r"$$\frac{df}{du}(u, v^*(u)) = \nabla_uf - \nabla^2_{uv}g\,(\nabla^2_{vv}g)^{-1}\nabla_vf$$ with "
    r"$\nabla^2_{uv}g$ of shape $n \times d$"
)

Formula = Callable[[Exact], Array]


def formula_11(case: Exact) -> Array:
    """∇_λF − C H⁻¹ ∇_wF, from the four derivatives."""
    H, C, direct, gradient = case.parts
    return direct - C @ factor(RATIONAL, H).solve(gradient)


def plus(case: Exact) -> Array:
    """A sign lost."""
    H, C, direct, gradient = case.parts
    return direct + C @ factor(RATIONAL, H).solve(gradient)


def not_inverted(case: Exact) -> Array:
    """H in place of its inverse."""
    H, C, direct, gradient = case.parts
    return direct - C @ (H @ gradient)


def not_direct(case: Exact) -> Array:
    """∇_λF dropped."""
    return formula_11(case) - case.parts[2]


def transposed(case: Exact) -> Array:
    """(∇²_λwG)ᵀ in place of ∇²_λwG, where n = d; else the formula."""
    H, C, direct, gradient = case.parts
    return direct - (C.T if len(C) == len(H) else C) @ factor(RATIONAL, H).solve(gradient)


def equals(formula: Formula, library: bool = False) -> Callable[[Exact], Measurement]:
    """The formula (and what exact_hypergradient returns) against central differences of λ ↦ F(λ, w(λ))."""

    def measure(case: Exact) -> Measurement:
        both = [formula(case), case.hypergradient.value] if library else [formula(case)]
        return identity(both, [case.total_derivative] * len(both))

    return measure


# -- all two-variable problems, from finitely many ---------------------------------------------------------

GRID = [
    {"h": list(h), "c": list(c), "a": list(a), "b": b}
    for h in [*it.product((3, 4), (3, 4), (-1, 0, 1)), (3,), (4,)]
    for c in it.product((0, 1), repeat=2 if len(h) == 3 else 1)
    for a in it.product((0, 1), repeat=2 if len(h) == 3 else 1)
    for b in (0, 1)
]


def grid_point(params: dict[str, Any]) -> Exact:
    """G = ½wᵀHw + λ c·w, F = a·w + bλ (+ ½‖w‖² where ``curved``): n = 1, d = 1 or 2."""
    h = params["h"]
    H = [[h[0]]] if len(h) == 1 else [[h[0], h[2]], [h[2], h[1]]]
    lower = quadratic.objective(ww=H, lw=[params["c"]])
    upper = quadratic.objective(ww=params.get("curved", 0) * np.eye(len(H)), w1=params["a"], l1=[params["b"]])
    problem = quadratic.BilevelProblem(upper, lower).to("rational")
    return Exact(problem, RATIONAL.asarray(np.array([1.0])), params)


# -- not quadratic -----------------------------------------------------------------------------------------


H = 1e-30  # of the complex step, whose own error is H² times a third derivative: less than H


def complex_step(case: Case) -> np.ndarray:
    """dF(λ, w(λ))/dλ as the imaginary part through the iteration itself, run until q^T T < eps: no Jacobian used."""
    q = max(case.constants.q, 0.1)
    steps = int(np.ceil(np.log(EPS) / np.log(q)))
    steps += int(np.ceil(np.log(steps) / -np.log(q)))
    lam = case.lam + 1j * H * np.eye(case.problem.n)
    w = case.w0 + 0j * np.zeros((case.problem.n, case.problem.d))
    phi = case.as_map.phi
    for _ in range(steps):
        w = phi.value(lam, w)
    return np.imag(case.problem.upper.value(lam, w)) / H


def used(case: Case) -> np.ndarray:
    """The lower-level point that the formula is evaluated at: w(λ), or w_0 where ``off``."""
    return np.asarray(case.w0 if case.params.get("off") else case.exact.w)


def nonlinear(sign: int = 1, direct: int = 1, inverse: bool = True) -> Callable[[Case], Measurement]:
    """direct·∇_λF + sign·∂_λΦᵀ v_Φ at w(λ) against the complex step."""

    mutated = (sign, direct, inverse) != (1, 1, True)

    def measure(case: Case) -> Measurement:
        w, lam, upper = used(case), case.lam, case.problem.upper
        A, B = case.jacobians(w)
        system = np.eye(len(A)) - A.T
        gradient = upper.grad_w(lam, w)
        v = np.linalg.solve(system, gradient) if inverse else system @ gradient
        value = direct * upper.grad_lam(lam, w) + sign * B.T @ v
        expected = complex_step(case)
        both = (value, value if mutated or case.params.get("off") else case.exact.value)
        return Measurement(
            observed=max(size(found - expected) for found in both),
            bound=0.0,
            rounding=case.rounding + H,
            detail={"scale": size(expected)},
        )

    return measure


def _converged(case: Case) -> tuple[bool, Any]:
    r = size(case.problem.residual(case.lam, used(case)))
    return r <= case.rounding, r


CLAIMS = (
    Claim(
        id="reweighting/hypergradient",
        title="The implicit formula is the total derivative",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(SOLVED,),
        strategy=sizes(),
        explicit=(at(1, 1), at(2, 1), at(1, 2), at(2, 2), at(3, 2)),
        build=problem,
        measure=equals(formula_11, library=True),
        grade="proved",
        controls=(
            Control("lower level not solved", params=at(2, 2, off=1)),
            Control("sign", kind="formula", measure=equals(plus)),
            Control("Hessian not inverted", kind="formula", measure=equals(not_inverted)),
            Control("∇_uf dropped", kind="formula", measure=equals(not_direct)),
            Control("∇²_uv g transposed", kind="formula", measure=equals(transposed)),
        ),
        budget=Budget(quick=100, full=1000),
        notes="On quadratics $\\lambda \\mapsto F(\\lambda, w(\\lambda))$ is a quadratic polynomial, so its "
        "central difference over the rationals is its derivative. (10) is read in the layout of (11): "
        "$dv/du$ is $n \\times d$, the transpose of the Jacobian of $v^*$.",
    ),
    Claim(
        id="reweighting/hypergradient@two-variables",
        title="The implicit formula on quadratics, proved for up to two lower-level variables",
        source=SOURCE,
        statement=STATEMENT + r", $d \le 2$, for quadratic $g$ and affine $f$",
        hypotheses=(SOLVED,),
        explicit=GRID,
        build=grid_point,
        measure=equals(formula_11),
        grade="proved",
        complete="times det H both sides are polynomials in the entries of H, C, ∇_vf, ∇_uf, of degree at "
        "most one in each but two in H's off-diagonal one; they agree on a grid with one point more than "
        "that in every direction. The other coefficients of a quadratic g enter neither side of an affine f, and "
        "each u_j enters separately.",
        controls=(
            Control(
                "lower level not solved", params={"h": [3], "c": [1], "a": [0], "b": 0, "off": 1, "curved": 1}
            ),
            Control("sign", kind="formula", measure=equals(plus)),
            Control("Hessian not inverted", kind="formula", measure=equals(not_inverted)),
            Control("∇_uf dropped", kind="formula", measure=equals(not_direct)),
        ),
        notes="A grid of 2·2·3 Hessians (and 2 for $d = 1$) times 0/1 for every other entry. By the "
        "implicit function theorem, which is not executed here, the derivative at $u$ of a smooth problem depends on "
        "these entries at the solution only, so the formula carries over; see @nonlinear for such problems.",
    ),
    Claim(
        id="reweighting/hypergradient@nonlinear",
        title="The implicit formula on problems that are not quadratic",
        source=SOURCE,
        statement=r"$$\frac{df}{du}(u, v^*(u)) = \nabla_uf + \partial_u\Phi^\top(I - "
        r"\partial_v\Phi^\top)^{-1}\nabla_vf$$",
        hypotheses=(*CONTRACTION, Hypothesis("lower level solved", r"w = w(\lambda)", _converged)),
        strategy=cases(("tanh", "logistic", "bent", "parabola")),
        explicit=(
            point("tanh"),
            point("logistic", d=2),
            point("parabola", upper="bowl", nu=0.5),
            point("tanh", n=2, d=2),
        ),
        build=case,
        measure=nonlinear(),
        grade="exact",
        controls=(
            Control("lower level not solved", params=point("parabola", upper="bowl", nu=0.5, off=1)),
            Control("sign", kind="formula", measure=nonlinear(sign=-1)),
            Control("∇_uf dropped", kind="formula", measure=nonlinear(direct=0)),
            Control("not inverted", kind="formula", measure=nonlinear(inverse=False)),
        ),
        budget=Budget(quick=80, full=1000),
        notes="The judge is the complex step through the plain iteration, run until it has converged "
        "together with its derivative: it uses values of $\\Phi$ only.",
    ),
)
