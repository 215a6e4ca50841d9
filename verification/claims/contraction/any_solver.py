r"""The analysis of section 5 for any solvers, with the ρ(t) and σ(k) that the library's solvers state.

A minimisation is the map Φ = w − η∇_wG, η = 2/(μ + L); its adjoint is that of the minimisation over η. Stated:
ρ(t) = q^{2t}‖w_0 − w(λ)‖² (gradient descent), β^t(1 + t + t√β)²‖w_0 − w(λ)‖² (Polyak's heavy ball, √β =
(√κ−1)/(√κ+1), κ = L/μ), 0 (Newton, t >= 1; G is quadratic); σ(k) = 4κβ^kκ_q²G² (conjugate gradients), q^{2k}κ_q²G²
(Neumann), 0 (a direct solve). Conjugate gradients are no linear function of the right side, so the forms for (7) do
not apply to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.approximate import SID, guarantees, stated_rates
from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.constants import Constants, Noise, Region, constants, noise
from refimpl.problem import BilevelProblem
from refimpl.rates import Constant
from refimpl.solvers import LU, ConjugateGradient, GradientDescent, HeavyBall, Neumann, Newton
from refimpl.zoo.quadratic import Quadratic
from verification.claims.contraction._sid import mean, square
from verification.claims.contraction._sizes import Sizes, theorem_5_any
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Params = Mapping[str, Any]
Q = backend("rational")
EPS = 2.0**-52


@dataclass(frozen=True)
class Solved:
    """SID with the solvers that ``p`` names, at λ = 0 = w(λ); everything rational."""

    problem: BilevelProblem
    w0: Array
    p: Params

    @cached_property
    def lam(self) -> Array:
        return Q.zeros((self.problem.n,))

    @property
    def ends(self) -> tuple[Fraction, Fraction]:
        """μ and L."""
        return Fraction(min(self.p["h"])), Fraction(max(self.p["h"]))

    @property
    def eta(self) -> Fraction:
        """2/(μ + L)."""
        mu, L = self.ends
        return 2 / (mu + L)

    @cached_property
    def sid(self) -> SID:
        """With its solvers."""
        p, (mu, L) = self.p, self.ends
        root, slow = _root(L), _root(mu)
        ball: tuple[Any, Any] = Fraction(4, (root + slow) ** 2), Fraction(root - slow, root + slow) ** 2
        eta: Any = self.eta
        lower = {
            "descent": GradientDescent(p["t"], eta),
            "newton": Newton(tol=0, steps=p["t"]),
            "heavy ball": HeavyBall(p["t"], *ball),
        }[p["lower"]]
        linear = {
            "cg": ConjugateGradient(p["k"]),
            "neumann": Neumann(p["k"], eta),
            "direct": LU(),
            "one sample": LU(),
        }[p["linear"]]
        return SID(lower=lower, linear=linear, J=p["J"])

    @cached_property
    def paths(self) -> tuple[Array, Array, Array, Array]:
        """∇̂f, w_t, v_k and v̄ on every path (draws of a Hessian, of the cross derivative, of the upper level)."""
        sid, problem, lam = self.sid, self.problem, self.lam
        *_, cross, upper = sid.groups(problem)
        draws = tuple(g.ahead(g.points(np.arange(g.size)), i) for g, i in ((cross, 1), (upper, 0)))
        w = sid.solve_lower(problem, lam, self.w0, None)
        direct, rhs = sid.upper_gradients(problem, lam, w, draws[1])
        at = problem
        if self.p["linear"] == "one sample":
            at = problem.with_level(problem.lower.at(np.arange(problem.lower.space.size)[:, None, None]))
        v = sid.solve_linear(at, lam, w, rhs, 0 * rhs, None)
        exact = LU().solve(problem.residual_w(lam, w).T, rhs).v
        return direct - sid.indirect(problem, lam, w, v, draws[0]), w, v, exact

    @cached_property
    def error(self) -> Any:
        """E‖∇̂f − ∇f‖²."""
        origin = 0 * self.w0
        rhs = self.problem.upper.grad_w(self.lam, origin)
        v = LU().solve(self.problem.residual_w(self.lam, origin).T, rhs).v
        truth = self.problem.hypergradient_at(self.lam, origin, v)
        return mean(square(self.paths[0] - truth).ravel(), 0)

    @property
    def reached(self) -> tuple[Any, Any]:
        """‖w_t − w(λ)‖² and E‖v_k − v̄‖², the latter in the scale of the map."""
        _, w, v, exact = self.paths
        return square(w), mean(square((v - exact) / Q.scalar(self.eta)).ravel(), 0)

    @cached_property
    def constants(self) -> tuple[Constants, Noise]:
        """On the ball around w(λ) that holds w_0 and w_t."""
        radius = max(float(square(x)) ** 0.5 for x in (self.w0, self.paths[1]))
        problem, d, n = self.problem.to("numpy"), self.problem.d, self.problem.n
        region = Region(np.zeros(n), np.zeros(d), 0.0, radius)
        c = constants(problem, region, step=float(self.eta))
        return c, noise(problem, region, growth=2, step=float(self.eta))

    @cached_property
    def stated(self) -> Sizes:
        """The rates that the solvers state, times ``rho`` and ``sigma`` where given; ``asymptotic``: ρ = β^t‖w_0‖²."""
        c, n = self.constants
        first = float(square(self.w0))
        rates = stated_rates(self.sid, replace(c, B=first**0.5), n)
        rho = rates.rho
        if self.p.get("asymptotic"):
            assert isinstance(self.sid.lower, HeavyBall)
            rho = float(self.sid.lower.momentum) ** self.p["t"] * first
        return Sizes(
            of=c,
            noise=n,
            operator=n,
            rho=self.p.get("rho", 1) * rho,
            sigma=self.p.get("sigma", 1) * rates.sigma,
            J=self.p["J"],
            k=self.p["k"],
            rate=Constant(1),
        )


def _root(x: Any) -> Any:
    """The root of a square number, as all μ and L here are; rounded down of any other."""
    return int(int(x) ** 0.5)


def build(p: Params) -> Solved:
    """``h``: eigenvalues of ∇²_wwG, the ends squares for the heavy ball; what is not given is drawn by ``seed``.

    G = ½wᵀ(1 ± hessian/2) diag(h) w + λᵀ(C ± D)w, E = ½wᵀMw + λᵀKw + (e ± a)ᵀw ± xᵀλ, integers; D, a, x are halved
    and multiplied by ``noise``, M and K by ``bowl``.
    """
    h, n, rng = p["h"], p["n"], np.random.default_rng(p["seed"])
    d = len(h)

    def entries(name: str, *shape: int, factor: Any = 1) -> Array:
        drawn = rng.integers(-2, 3, shape)
        given = np.array(p.get(name, drawn)).reshape(shape)
        return np.array([fmpq(int(x)) for x in given.ravel()], dtype=object).reshape(shape) * factor

    def pair(centre: Array, spread: Any) -> Array:
        return np.stack([centre + spread, centre - spread])

    half, bowl, zero = fmpq(p["noise"], 2), fmpq(p["bowl"]), fmpq(0)
    H, C, M = np.diag(h) * fmpq(1), entries("C", n, d), entries("M", d, d, factor=bowl)
    D, e, a, x = (
        entries(*s, factor=f) for *s, f in (("D", n, d, half), ("e", d, 1), ("a", d, half), ("x", n, half))
    )
    nothing: dict[str, Any] = {"ll": np.full((2, n, n), zero), "backend": Q}
    lower = Quadratic(
        ww=pair(H, H * fmpq(p.get("hessian", 0), 2)),
        lw=pair(C, D),
        w1=np.full((2, d), zero),
        l1=np.full((2, n), zero),
        **nothing,
    )
    upper = Quadratic(
        ww=pair(M + M.T, 0),
        lw=pair(entries("K", n, d, factor=bowl), 0),
        w1=pair(e, a),
        l1=pair(0 * x, x),
        **nothing,
    )
    return Solved(BilevelProblem(upper, lower), entries("w0", d), p)


# -- measures and hypotheses ------------------------------------------------------------------------------------


def printed(s: Sizes) -> float:
    """Theorem 7."""
    return float(guarantees.theorem_7(s.of, s.noise, s.rho, s.sigma, s.J))


def minkowski(s: Sizes) -> float:
    """(c₁√ρ + L_Φ√σ + ν₂√(ρσ))² and theorem-5@any-solver."""
    return float(guarantees.theorem_4(s.of, s.rho, s.sigma)) ** 2 + theorem_5_any(s)


def at_most(bound: Callable[[Sizes], float]) -> Callable[[Solved], Measurement]:
    """E‖∇̂f − ∇f‖² against the bound with the rates that the solvers state."""

    def measure(one: Solved) -> Measurement:
        s, found = one.stated, float(one.error)
        allowed = bound(s)
        # a dozen constants, each to 10 d eps, κ_q among them; the stated powers of q and of the ratio to as many eps
        relative = EPS * (120 * len(one.w0) * s.of.kappa_q + 20 * (one.p["t"] + one.p["k"]))
        return Measurement(observed=found, bound=allowed, rounding=relative * allowed + 4 * EPS * found)

    return measure


def _left(one: Solved) -> tuple[Measurement, ...]:
    """What the lower and the linear solver leave, each against what it states, to rounding."""
    s = one.stated
    relative = EPS * 20 * (one.p["t"] + one.p["k"] + 10 * s.of.kappa_q)
    return tuple(
        Measurement(observed=float(found), bound=stated, rounding=relative * stated)
        for found, stated in zip(one.reached, (s.rho, s.sigma), strict=True)
    )


def kept(one: Solved) -> Measurement:
    """Of the two, the one that is nearer to what its solver states, or beyond it."""
    return max(_left(one), key=lambda m: m.used)


def _kept(which: int) -> Callable[[Solved], tuple[bool, Any]]:
    def predicate(one: Solved) -> tuple[bool, Any]:
        m = _left(one)[which]
        return m.observed <= m.bound + m.rounding, f"{m.observed:.4g} of {m.bound:.4g}"

    return predicate


HYPOTHESES = (
    Hypothesis("D: ρ(t)", r"\|w_t-w(\lambda)\|^2\le\rho(t),\text{ as the lower solver states}", _kept(0)),
    Hypothesis(
        "D: σ(k)",
        r"E\|v_k-\bar v(w_t)\|^2\le\sigma(k),\text{ as the linear solver states}",
        _kept(1),
    ),
)
_BOXES = {
    "h": st.sampled_from([[1], [4], [1, 4], [1, 9], [1, 4, 9], [1, 100], [4, 9, 25]]),
    "n": st.integers(1, 2),
    "seed": st.integers(0, 30),
    "noise": st.integers(0, 2),
    "bowl": st.integers(0, 1),
    "t": st.integers(0, 6),
    "k": st.integers(0, 4),
    "J": st.integers(1, 2),
    "lower": st.sampled_from(["descent", "heavy ball", "newton"]),
    "linear": st.sampled_from(["cg", "neumann", "direct"]),
}
STRATEGY = st.fixed_dictionaries(_BOXES)


def one(**given: Any) -> dict[str, Any]:
    """An instance; what is not given is 0, and the solvers are conjugate gradients and gradient descent."""
    d, n = len(given["h"]), len(given["h"])
    zeros = {"C": [0] * n * d, "D": [0] * n * d, "K": [0] * n * d, "M": [0] * d * d}
    vectors = {"e": [0] * d, "a": [0] * d, "x": [0] * n, "w0": [0] * d}
    rest = {
        "n": n,
        "seed": 0,
        "noise": 2,
        "bowl": 1,
        "t": 1,
        "k": 1,
        "J": 1,
        "lower": "descent",
        "linear": "cg",
    }
    return {**zeros, **vectors, **rest, **given}


EYE = [1, 0, 0, 1]
TIGHT = one(
    h=[1], C=[-1], D=[1], e=[1], a=[1], x=[1], lower="newton", linear="direct"
)  # SMALL of theorem 5, as a minimisation
SLOW = one(h=[1, 9], C=EYE, e=[1, 1], k=1)  # conjugate gradients after one step of two
TERMS = one(h=[1, 9], C=EYE, e=[1, 0], k=1, linear="neumann")  # the adjoint along the smallest eigenvalue
START = one(h=[1, 9], K=EYE, w0=[1, 1], t=2)  # gradient descent on its way
DRAWN = one(h=[1, 4], C=EYE, D=EYE, e=[1, 2], a=[1, 0], x=[0, 1], M=[1, 0, 0, 1], w0=[1, -1], t=3, J=2)
BALL = one(h=[1, 100], K=EYE, w0=[1, 1], t=20, lower="heavy ball")
SAMPLED = one(h=[1], C=[1], e=[1], hessian=1, linear="one sample", lower="newton")
COMMON: dict[str, Any] = {
    "hypotheses": HYPOTHESES,
    "strategy": STRATEGY,
    "explicit": (TIGHT, SLOW, START, DRAWN, DRAWN | {"linear": "neumann", "k": 2}, BALL),
    "build": build,
    "grade": "exact",
    "budget": Budget(quick=15, full=600),
}


def controls(bound: Callable[[Sizes], float]) -> tuple[Control, ...]:
    """What the rates do to either form."""

    def mutated(name: str, params: Params, **values: Any) -> Control:
        measure = at_most(lambda s: bound(replace(s, **values)))
        return Control(name, kind="formula", measure=measure, params=params)

    return (
        Control("heavy ball stating its asymptotic rate", params=BALL | {"asymptotic": 1}),
        Control("one sample's Hessian inverted", params=SAMPLED),
        Control("ρ stated 100 times too small", params=START | {"rho": 0.01}),
        Control("σ stated 10⁴ times too small", params=SLOW | {"sigma": 1e-4}),
        mutated("without ρ", START, rho=0.0),
        mutated("without σ", SLOW, sigma=0.0),
        mutated("100 J for J", TIGHT, J=100),
    )


SOURCE = "contraction, sections 2 and 5: the analysis does not depend on the solvers"

CLAIMS = (
    Claim(
        id="contraction/any-solver",
        title="Theorem 7 with the rates that gradient descent, heavy ball, Newton, conjugate gradients, Neumann state",
        source=SOURCE,
        statement=r"$$\|w_t-w(\lambda)\|^2\le\rho(t),\ E\|v_k-\bar v\|^2\le\sigma(k)\;\Rightarrow\;E\|\hat\nabla "
        r"f-\nabla f\|^2\le\text{the bound of theorem 7}$$ gradient descent: $\rho=q^{2t}B^2$; heavy ball: "
        r"$\beta^t(1+t+t\sqrt\beta)^2B^2$, $\sqrt\beta=\frac{\sqrt\kappa-1}{\sqrt\kappa+1}$; Newton: 0; conjugate "
        r"gradients: $\sigma=4\kappa\beta^k\kappa_q^2G^2$; Neumann: $q^{2k}\kappa_q^2G^2$; a direct solve: 0",
        measure=at_most(printed),
        controls=controls(printed),
        notes=r"$\Phi=w-\eta\nabla_1\ell$ with $\eta=2/(\mu+L)$, $\kappa=L/\mu$, $\sigma$ in the scale of the map. "
        r"The error is exact. Two traps are controls: the heavy ball's error is not at most its asymptotic rate to "
        r"the power $t$, without the factor that grows (its square is 700 times that after 20 steps at $\kappa=100$), "
        r"and the inverse of one sample's Hessian is biased: with $h\in\{\frac12,\frac32\}$, $E\,h^{-1}=\frac43$, and "
        r"$\frac59$ of the squared adjoint is lost whatever $k$ is. The lower levels "
        r"are quadratic, $\nu_1=\nu_2=0$: those terms are tested in theorem-7.",
        **COMMON,
    ),
    Claim(
        id="contraction/any-solver@sharp",
        title="A sharper bound of the error for any solvers, attained",
        source=SOURCE,
        statement=r"$$E\|\hat\nabla f-\nabla f\|^2\le\bigl(c_1\sqrt\rho+L_\Phi\sqrt\sigma+\nu_2\sqrt{\rho\sigma}"
        r"\bigr)^2+\Bigl(\sqrt{\tfrac{\sigma_{2,E}}J}+\tilde "
        r"L\bigl(\sqrt\sigma+\kappa_q\sqrt{\tfrac{\sigma_{1,E}}J}\bigr)\Bigr)^2+\frac{\sigma'_2}J\bigl(\sqrt\sigma+"
        r"\kappa_qG\bigr)^2$$",
        measure=at_most(minkowski),
        controls=controls(minkowski),
        equality=Equality(params=TIGHT, reaches=0.999),
        notes=r"theorem-6@minkowski and theorem-5@any-solver; conjugate gradients are not linear in the right side, "
        r"so that the forms for (7) say nothing of them. Equality: $\ell=\frac12w^2-(1+\zeta)\lambda w$, $\hat "
        r"E=w(1+\xi)+\xi\lambda$ with both stages solved: 6.",
        **COMMON,
    ),
    Claim(
        id="contraction/any-solver@rates",
        title="Gradient descent, heavy ball, Newton, conjugate gradients and Neumann keep the rates they state",
        source=SOURCE,
        statement=r"$$\|w_t-w(\lambda)\|^2\le\rho(t),\quad E\|v_k-\bar v\|^2\le\sigma(k)$$ with the $\rho$ and "
        r"$\sigma$ of any-solver, where they are hypotheses",
        measure=kept,
        controls=(
            Control(
                "heavy ball stating its asymptotic rate",
                kind="formula",
                measure=kept,
                params=BALL | {"asymptotic": 1},
            ),
            Control("one sample's Hessian inverted", kind="formula", measure=kept, params=SAMPLED),
            Control("ρ stated 1 % too small", kind="formula", measure=kept, params=START | {"rho": 0.99}),
            Control(
                "σ of Neumann stated 1 % too small",
                kind="formula",
                measure=kept,
                params=TERMS | {"sigma": 0.99},
            ),
            Control(
                "σ of conjugate gradients stated 100 times too small",
                kind="formula",
                measure=kept,
                params=SLOW | {"sigma": 0.01},
            ),
        ),
        equality=Equality(params=START, reaches=1 - 2.0**-26),
        notes="Gradient descent attains its rate where $w_0$ lies at either end of the spectrum, Neumann's where "
        "$\\bar v$ lies at the lower end; that of conjugate gradients is Chebyshev's bound times 4κ.",
        **{**COMMON, "hypotheses": (), "explicit": (*COMMON["explicit"], TERMS)},
    ),
)
