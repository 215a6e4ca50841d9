"""Penalty, augmented Lagrangian, unrolling and implicit differentiation at equal numbers of gradients and products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.approximate import InnerDescent, InnerGaussNewton
from refimpl.solvers import ConjugateGradient, GradientDescent
from verification.claims.reweighting._priced import EXPLICIT, OURS, STRATEGY, Priced, point, priced, spent
from verification.claims.reweighting.equal_cost_radius import CONVERGENT, DIVERGES, convergent
from verification.model import Budget, Claim, Control, Measurement, identity

UNITS = np.unique(np.geomspace(10, 250, 8).astype(int))


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
    exact = ri.exact_hypergradient(problem, lam, certify="never").value
    step = 2 / (p.kappa + 1)

    def gradient_descent(n: int) -> GradientDescent:
        return GradientDescent(n, step)

    def conjugate_gradients_inside(n: int) -> Any:
        updates = max(1, n // (2 * p.d + 7))
        inner = InnerGaussNewton(1, ConjugateGradient(min(p.d, (n // updates - 7) // 2)))
        return p.updated(np.zeros(p.d), np.zeros(p.d), updates, inner)

    methods: dict[str, Callable[[int], Any]] = {
        "implicit: descent, CG": lambda n: ri.approximate.implicit(
            problem, lam, lower=gradient_descent(n - n // 4), linear=ConjugateGradient(n // 4)
        ),
        "reverse mode": lambda n: ri.approximate.reverse(problem, lam, lower=gradient_descent(n // 2)),
        "augmented Lagrangian": lambda n: p.updated(np.zeros(p.d), np.zeros(p.d), max(1, n // (2 * p.j + 1))),
        "augmented Lagrangian, CG inside": conjugate_gradients_inside,
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


def curve(p: Priced) -> Mapping[str, Any]:
    """Every method's error, with 20 variables; the curve predicted is reverse mode's rate."""
    p = replace(p, d=20)
    lines = errors(p)[0]
    rate = [(((p.kappa - 1) / (p.kappa + 1)) ** (n / 2)) for n in UNITS]
    labels = {
        "xlabel": "lower gradients and Hessian products",
        "ylabel": "relative error, d = 20",
        "logy": True,
    }
    return {
        "x": UNITS.tolist(),
        "predicted": rate,
        "measured": lines["augmented Lagrangian"],
        "lines": lines,
        **labels,
    }


# -- counts ------------------------------------------------------------------------------------------------

KEYS = ("lower.grad_w", "lower.hess_ww", "lower.cross", "upper.grad_w")


def counts(
    per_update: int = 1, products: int = 1, inside: int = 2
) -> Callable[[Mapping[str, int]], Measurement]:
    """Calls of the methods, against the table; mutants: the multiplier's gradient forgotten, products miscounted."""

    def measure(n: Mapping[str, int]) -> Measurement:
        p = priced({"kappa": 2.0, "q": 1.0, "mu": 1.0, "share": 1.0, "d": 2, "seed": 0, "j": n["j"]})
        lam, T, K, j = np.zeros(2), n["T"], n["K"], n["j"]
        lower, linear = GradientDescent(T, 0.5), ConjugateGradient(1)
        seen = [
            p.updated(np.zeros(2), np.zeros(2), K),
            ri.approximate.penalty(p.problem, lam, gamma=1.0, inner=p.inner(1.0), check=False),
            ri.approximate.reverse(p.problem, lam, lower=lower),
            ri.approximate.implicit(p.problem, lam, lower=lower, linear=linear),
            p.updated(np.zeros(2), np.zeros(2), K, InnerGaussNewton(1, linear)),
        ]
        table = [
            (K * (j + per_update), products * K * j, 1, K * j),
            (j + per_update, products * j, 1, j),
            (T, products * (T - 1), T, 1),
            (T, 1, 1, 1),
            (5 * K, (inside + 2) * K, 1, 2 * K),
        ]
        return identity([[x.calls.get(key, 0) for key in KEYS] for x in seen], table)

    return measure


CLAIMS = (
    Claim(
        id="reweighting/equal-cost",
        title="At equal numbers of products and Q = qH² the augmented Lagrangian by descent is slower than unrolling",
        source=OURS,
        statement=r"$$\left(\frac{\kappa-1}{\kappa+1}\right)^{1/2} \le R^{1/(2j+1)}$$ $$R = \rho\big((v, "
        r"\lambda) \mapsto (v^+, \lambda^+)\big) < 1, \quad j \ge 1 \text{ inner gradient steps of any "
        r"length},\ Q = qH^2$$",
        hypotheses=(CONVERGENT,),
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=priced,
        measure=ranked(),
        grade="exact",
        controls=(
            Control(
                "three inner steps too long to converge", params=DIVERGES, measure=convergent(lambda p: True)
            ),
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
        "\\left(\\frac{\\kappa-1}{\\kappa+1}\\right)^{1/2}$. Where $R \\ge 1$ (@converges) there is nothing to "
        "compare. With $m$ steps of conjugate gradients inside, $m$ the number of distinct eigenvalues of $H$, an "
        "update spends $2m + 7$ and leaves $r = \\frac{q}{q+\\mu}$: ahead of unrolling where $r^{1/(2m+7)} < "
        "\\left(\\frac{\\kappa-1}{\\kappa+1}\\right)^{1/2}$, behind it where not (@ahead); stopped before their end "
        "they gain what unrolling gains (@stopped). For one product more than unrolling, conjugate gradients' adjoint "
        "at the same lower iterate is at least as near, in the energy norm, always (@cg); the penalty method stops "
        "at its floor, whatever it spends (@floor). The plot: relative errors of five methods that were allowed the "
        "same numbers, 20 variables, a quarter of the implicit method's for conjugate gradients. So the "
        "absent floor and the warm start over $u$ speak for the augmented Lagrangian at any size, and speed does not "
        "with descent inside; with conjugate gradients inside it does where $H$ has few distinct eigenvalues.",
    ),
    Claim(
        id="reweighting/equal-cost@counts",
        title="What the methods spend",
        source=OURS,
        statement=r"Calls of $(\nabla_vg,\ \nabla^2_{vv}g\,x,\ \nabla^2_{uv}g\,x,\ \nabla_vf)$: the augmented "
        r"Lagrangian with $K$ updates of $j$ inner steps $(K(j+1), Kj, 1, Kj)$; the penalty method "
        r"$(j+1, j, 1, j)$; reverse mode with $T$ steps $(T, T - 1, T, 1)$; $T$ steps, then one of conjugate "
        r"gradients $(T, 1, 1, 1)$; the augmented Lagrangian with one step of conjugate gradients in each of $K$ "
        r"Gauss–Newton steps $(5K, 4K, 1, 2K)$.",
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
            Control("one product per step of CG inside", kind="formula", measure=counts(inside=1)),
        ),
        budget=Budget(quick=10, full=60),
        notes="Counted through the package's counter at every call, not from its formulas. Checks of the end "
        "(residuals, the lower Hessian's factorisation) are not counted. $m$ steps of conjugate gradients inside cost "
        "$2m$ products, and the line search two gradients and a product: $2m + 7$ units for an update. Products with "
        "$Q$ are not counted; the methods with $\\mu$ or $\\gamma$ need one at each of their inner steps.",
    ),
)
