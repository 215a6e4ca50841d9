"""Penalty, augmented Lagrangian, unrolling and implicit differentiation at equal numbers of gradients and products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.approximate import InnerDescent
from refimpl.solvers import ConjugateGradient, GradientDescent
from refimpl.zoo import quadratic
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Measurement, identity, reals

SOURCE = "reweighting, (19) and (21)"
UNITS = np.unique(np.geomspace(10, 400, 9).astype(int))


@dataclass(frozen=True)
class Priced:
    """H with eigenvalues 1 … κ, Q = qH²; μ, and j inner steps of length ``share``·2/((q + μ)(κ² + 1))."""

    kappa: float
    q: float
    mu: float
    j: int
    share: float
    d: int
    seed: int

    @cached_property
    def problem(self) -> BilevelProblem:
        rng = np.random.default_rng(self.seed)
        H = quadratic.spectrum_matrix(np.geomspace(1, self.kappa, self.d).tolist(), rng)
        Q = self.q * H @ H
        lower = quadratic.objective(ww=H, lw=rng.standard_normal((2, self.d)), w1=rng.standard_normal(self.d))
        upper = quadratic.objective(ww=(Q + Q.T) / 2, w1=rng.standard_normal(self.d), n=2)
        return BilevelProblem(upper, lower)

    def inner(self, mu: float) -> InnerDescent:
        return InnerDescent(self.j, self.share * 2 / ((self.q + mu) * (self.kappa**2 + 1)))

    def updated(self, w: np.ndarray, v: np.ndarray, steps: int = 1) -> Any:
        """The package's own."""
        return ri.approximate.augmented_lagrangian(
            self.problem,
            np.zeros(2),
            mu=self.mu,
            steps=steps,
            inner=self.inner(self.mu),
            w0=w,
            v0=v,
            check=False,
        )

    @cached_property
    def map(self) -> np.ndarray:
        """(w, v) ↦ (w⁺, v⁺) without its constant, column by column from the method itself."""

        def image(x: np.ndarray) -> np.ndarray:
            found = self.updated(x[: self.d], x[self.d :])
            return np.concatenate([found.w, found.v])

        origin = image(np.zeros(2 * self.d))
        return np.stack([image(e) - origin for e in np.eye(2 * self.d)], axis=-1)

    @cached_property
    def radius(self) -> tuple[float, float]:
        """The map's spectral radius, and its rounding (Bauer–Fike; 10 of a product's length of rounding per step)."""
        values, vectors = np.linalg.eig(self.map)
        size = float(np.linalg.norm(self.map, 2)) + 1 + self.mu * self.kappa
        rounding = 10 * 2 * self.d * self.j * EPS * size * float(np.linalg.cond(vectors))
        return float(np.abs(values).max()), rounding


def priced(params: Mapping[str, Any]) -> Priced:
    """The instance of ``params``."""
    return Priced(*(params[k] for k in ("kappa", "q", "mu", "j", "share", "d", "seed")))


def slow(
    kappa: Callable[[float], float] = lambda k: k * k, power: float = 0.5
) -> Callable[[Priced], Measurement]:
    """((κ² − 1)/(κ² + 1))^{j/2} against the radius; mutants: κ for κ², another power."""

    def measure(p: Priced) -> Measurement:
        radius, rounding = p.radius
        k = kappa(p.kappa)
        return Measurement(
            observed=((k - 1) / (k + 1)) ** (p.j * power),
            bound=radius,
            rounding=rounding,
            detail={"per unit": radius ** (1 / (2 * p.j + 1))},
        )

    return measure


def ranked(
    root: float = 0.5, units: Callable[[int], float] = lambda j: 2 * j + 1
) -> Callable[[Priced], Measurement]:
    """((κ − 1)/(κ + 1))^{1/2} against the radius per unit; mutants: another root, units miscounted."""

    def measure(p: Priced) -> Measurement:
        radius, rounding = p.radius
        per_unit = radius ** (1 / units(p.j))
        return Measurement(
            observed=((p.kappa - 1) / (p.kappa + 1)) ** root,
            bound=per_unit,
            rounding=rounding * per_unit / radius,
            detail={"radius": radius},
        )

    return measure


def errors(p: Priced) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Relative errors of the hypergradient, and units spent, per method, for each of UNITS allowed."""
    lam, problem = np.zeros(2), p.problem
    exact = ri.exact_hypergradient(problem, lam).value
    step = 2 / (p.kappa + 1)

    def gradient_descent(n: int) -> GradientDescent:
        return GradientDescent(n, step)

    methods: dict[str, Callable[[int], Any]] = {
        "implicit: descent, CG": lambda n: ri.approximate.implicit(
            problem, lam, lower=gradient_descent(n - n // 4), linear=ConjugateGradient(n // 4)
        ),
        "reverse mode": lambda n: ri.approximate.reverse(problem, lam, lower=gradient_descent(n // 2)),
        "augmented Lagrangian": lambda n: p.updated(np.zeros(p.d), np.zeros(p.d), max(1, n // (2 * p.j + 1))),
        "penalty, γ = 100μ": lambda n: ri.approximate.penalty(
            problem,
            lam,
            gamma=100 * p.mu,
            inner=InnerDescent(n // 2, 2 / ((p.q + 100 * p.mu) * (p.kappa**2 + 1))),
            check=False,
        ),
    }
    found = {name: [method(int(n)) for n in UNITS] for name, method in methods.items()}
    size = float(np.linalg.norm(exact))
    return (
        {k: [float(np.linalg.norm(x.value - exact)) / size for x in xs] for k, xs in found.items()},
        {k: [float(spent(x.calls)) for x in xs] for k, xs in found.items()},
    )


def spent(calls: Mapping[str, int]) -> int:
    """Lower gradients and products with the lower Hessian."""
    return calls.get("lower.grad_w", 0) + calls.get("lower.hess_ww", 0)


def curve(p: Priced) -> Mapping[str, Any]:
    """Every method's error; the curve predicted is reverse mode's rate."""
    lines = errors(p)[0]
    rate = [(((p.kappa - 1) / (p.kappa + 1)) ** (n / 2)) for n in UNITS]
    labels = {"xlabel": "lower gradients and Hessian products", "ylabel": "relative error", "logy": True}
    return {
        "x": UNITS.tolist(),
        "predicted": rate,
        "measured": lines["augmented Lagrangian"],
        "lines": lines,
        **labels,
    }


# -- counts ------------------------------------------------------------------------------------------------

KEYS = ("lower.grad_w", "lower.hess_ww", "lower.cross", "upper.grad_w")


def counts(per_update: int = 1, products: int = 1) -> Callable[[Mapping[str, int]], Measurement]:
    """Calls of the methods, against the table; mutants: the multiplier's gradient forgotten, products miscounted."""

    def measure(n: Mapping[str, int]) -> Measurement:
        p = priced({"kappa": 2.0, "q": 1.0, "mu": 1.0, "share": 1.0, "d": 2, "seed": 0, "j": n["j"]})
        lam, T, K, j = np.zeros(2), n["T"], n["K"], n["j"]
        lower = GradientDescent(T, 0.5)
        seen = [
            p.updated(np.zeros(2), np.zeros(2), K),
            ri.approximate.penalty(p.problem, lam, gamma=1.0, inner=p.inner(1.0), check=False),
            ri.approximate.reverse(p.problem, lam, lower=lower),
        ]
        table = [
            (K * (j + per_update), products * K * j, 1, K * j),
            (j + per_update, products * j, 1, j),
            (T, products * (T - 1), T, 1),
        ]
        return identity([[x.calls.get(key, 0) for key in KEYS] for x in seen], table)

    return measure


def point(**more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"kappa": 4.0, "q": 0.0, "mu": 1.0, "j": 2, "share": 1.0, "d": 2, "seed": 0, **more}


STRATEGY = st.fixed_dictionaries(
    {
        "kappa": reals(1.5, 12),
        "q": reals(0, 4),
        "mu": reals(0.05, 20, log=True),
        "j": st.integers(1, 6),
        "share": reals(0.25, 1.5),
        "d": st.integers(2, 4),
        "seed": st.integers(0, 99),
    }
)
EXPLICIT = (point(), point(q=1.0, j=3), point(kappa=10.0, mu=10.0, q=1.0, d=3, j=5, share=0.5))

CLAIMS = (
    Claim(
        id="reweighting/equal-cost",
        title="At equal numbers of products and Q = qH² the augmented Lagrangian by descent is slower than unrolling",
        source=SOURCE,
        statement=r"$$\left(\frac{\kappa-1}{\kappa+1}\right)^{1/2} \le R^{1/(2j+1)}$$ $$R = \rho\big((v, "
        r"\lambda) \mapsto (v^+, \lambda^+)\big), \quad j \ge 1 \text{ inner gradient steps of any "
        r"length},\ Q = qH^2$$",
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=priced,
        measure=ranked(),
        grade="exact",
        controls=(
            Control(
                "inner products not counted",
                kind="formula",
                measure=ranked(units=lambda j: 1),
                params=point(kappa=1.5, j=6),
            ),
            Control(
                "unrolling at eight times its price",
                kind="formula",
                measure=ranked(root=1 / 16),
                params=point(kappa=1.5),
            ),
        ),
        curve=curve,
        budget=Budget(quick=15, full=400),
        notes="Unit: a lower gradient or a product with the lower Hessian. Reverse mode through gradient "
        "descent, or descent and a Neumann series, spend two per factor $\\frac{\\kappa-1}{\\kappa+1}$ "
        "(rate-itd, rate-neumann); an update of the multiplier spends $2j+1$ (@counts). By @radius $R "
        "\\ge \\left(\\frac{\\kappa^2-1}{\\kappa^2+1}\\right)^{j/2}$, and "
        "$\\left(\\frac{\\kappa^2-1}{\\kappa^2+1}\\right)^{j/(2(2j+1))} > "
        "\\left(\\frac{\\kappa-1}{\\kappa+1}\\right)^{1/2}$. Conjugate gradients (rate-aid-cg) are "
        "faster still; the penalty method stops at its floor (penalty-rate@hypergradient). The plot: "
        "relative errors of four methods that were allowed the same numbers. What speaks for the "
        "augmented Lagrangian is the absent floor and the warm start over $u$, not speed.",
    ),
    Claim(
        id="reweighting/equal-cost@radius",
        title="How fast the augmented Lagrangian by descent can be",
        source=SOURCE,
        statement=r"$$R \ge \left(\frac{\kappa^2-1}{\kappa^2+1}\right)^{j/2}, \quad Q = qH^2,\ j \ge 1 \text{ "
        r"inner steps of any length},\ \mu > 0$$",
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=priced,
        measure=slow(),
        grade="exact",
        controls=(
            Control("the power j/4", kind="formula", measure=slow(power=0.25)),
            Control("κ⁴ for κ²", kind="formula", measure=slow(lambda k: k**4)),
        ),
        equality=Equality(params=point(), reaches=0.999),
        budget=Budget(quick=15, full=400),
        notes="In an eigenvector of $H$ to $h$ the map is $y^+ = \\rho^jy + "
        "(1-\\rho^j)\\frac{\\delta}{q+\\mu}$, $\\delta^+ = \\delta - \\mu y^+$ with $y = h e$, $\\rho = "
        "1 - \\tau(q+\\mu)h^2$: its determinant is $\\rho^j$, and some $|\\rho| \\ge "
        "\\frac{\\kappa^2-1}{\\kappa^2+1}$ whatever the step $\\tau$ is. Equality: $q = 0$, the best "
        "step and even $j$, where the eigenvalues are complex. The condition number is squared, as for "
        "the normal equations.",
    ),
    Claim(
        id="reweighting/equal-cost@counts",
        title="What the methods spend",
        source=SOURCE,
        statement=r"Calls of $(\nabla_vg,\ \nabla^2_{vv}g\,x,\ \nabla^2_{uv}g\,x,\ \nabla_vf)$: the augmented "
        r"Lagrangian with $K$ updates of $j$ inner steps $(K(j+1), Kj, 1, Kj)$; the penalty method "
        r"$(j+1, j, 1, j)$; reverse mode with $T$ steps $(T, T - 1, T, 1)$.",
        strategy=st.fixed_dictionaries(
            {"T": st.integers(1, 9), "K": st.integers(1, 5), "j": st.integers(1, 5)}
        ),
        explicit=({"T": 1, "K": 1, "j": 1}, {"T": 7, "K": 3, "j": 2}),
        build=dict,
        measure=counts(),
        grade="proved",
        controls=(
            Control("the multiplier's gradient forgotten", kind="formula", measure=counts(per_update=0)),
            Control("two products per step", kind="formula", measure=counts(products=2)),
        ),
        budget=Budget(quick=10, full=60),
        notes="Counted through the package's counter at every call, not from its formulas. Checks of the end "
        "(residuals, the lower Hessian's factorisation) are not counted.",
    ),
)
