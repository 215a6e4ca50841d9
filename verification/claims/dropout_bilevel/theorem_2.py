r"""Theorem 2 as printed: do the masked gradients at the iterates become small?

The masks of iteration k are drawn independently of λ_k, so E‖∇F_{M_k}(λ_k)‖² = E φ(λ_k) with φ(λ) = E_M‖∇F_M(λ)‖²: at
least inf φ for every k, whatever the algorithm, its steps and its use of randomness. And φ = ‖∇F̄‖² + tr Cov(∇F_M),
which has no zero unless all masked gradients have a common one.

F = ½(λ₁+λ₂−1)², both coordinates kept with probability p. With a = λ₁−1, b = λ₂−1, c = 1−λ₁−λ₂:
φ = 2p²c² + p(1−p)(a²+b²), and a+b+c = −1, so by Cauchy–Schwarz φ >= 1/(1/(2p²) + 2/(p(1−p))) = 2p²(1−p)/(1+3p), with
equality at λ₁ = λ₂ = (1+p)/(1+3p): 32/425 for p = 4/5.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.algorithms import FSLA
from refimpl.algorithms.exact import Joint, whole_state
from refimpl.arrays import factor, to_numpy
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._descent import masked_model, random_problems
from verification.claims.dropout_bilevel._masks import RATIONAL, Model
from verification.claims.dropout_bilevel.hypergradient import each_mask, hyperobjective
from verification.model import Budget, Claim, Control, Correction, Equality, Measurement, identity

SOURCE = "dropout-bilevel, Theorem 2"
SEVERAL: list[tuple[Any, Any]] = list(it.product(("shared", "fresh-cross"), ("new", "old")))


# -- φ(λ) = E‖∇F_M(λ)‖² -----------------------------------------------------------------------------------------


def masked_gradients(case: Model) -> tuple[Array, Array, Array]:
    """∇F_M(λ) = L_M λ + a_M for every mask: probabilities (K,), L (K, n, n), a (K, n)."""
    zero = RATIONAL.zeros((case.plain.n,))
    at_zero = each_mask(replace(case, lam=zero))
    columns = [each_mask(replace(case, lam=e)) - at_zero for e in RATIONAL.eye(case.plain.n)]
    return case.law.literal[0], np.stack(columns, axis=-1), at_zero


def smallest(case: Model) -> Any:
    """min_λ φ(λ), by the normal equations."""
    chances, L, a = masked_gradients(case)
    normal = (chances[:, None, None] * (L.swapaxes(1, 2) @ L)).sum(axis=0)
    right = (chances[:, None] * (a[:, None, :] @ L)[:, 0]).sum(axis=0)
    lam = -factor(RATIONAL, normal).solve(right)
    g = (L @ lam) + a
    return (chances * (g * g).sum(axis=1)).sum()


def vanishes(case: Model) -> Measurement:
    """inf φ <= 0."""
    return Measurement(observed=smallest(case), bound=0)


def split(case: Model) -> Measurement:
    """φ = ‖∇F̄‖² + E‖∇F_M − ∇F̄‖², with ∇F̄ from central differences of F̄."""
    chances, g, mean = case.law.literal[0], each_mask(case), hyperobjective(case)
    both = mean @ mean + (chances * ((g - mean) ** 2).sum(axis=1)).sum()
    return identity((chances * (g * g).sum(axis=1)).sum(), both)


SPLIT = Correction(
    tex=r"E\|\nabla F_M(\lambda)\|^2 = \|\nabla\bar F(\lambda)\|^2 + \operatorname{tr}\operatorname{Cov}(\nabla "
    r"F_M(\lambda)), \quad \text{so the left side stays above } \min_\lambda E\|\nabla F_M(\lambda)\|^2 \text{; "
    r"what can vanish is } \|\nabla\bar F(\lambda_k)\|^2",
    measure=split,
    proof="This identity is why the theorem fails; what stands in its place are @floor for the left side, and for "
    "$E\\|\\nabla\\bar F(\\lambda_k)\\|^2$ @fresh and @fresh-cross (own masks of the cross derivative) and "
    "@shared-old-bound; with shared masks and h at v⁺ @shared-new: not even that. "
    "$M_k$ is independent of $\\lambda_k$ and $E_M\\nabla F_M = \\nabla\\bar F$, so $E\\|\\nabla "
    "F_{M_k}(\\lambda_k)\\|^2 = E\\varphi(\\lambda_k) \\ge \\inf\\varphi$ for every k, any algorithm and any "
    "step. For $F = (\\lambda_1+\\lambda_2-1)^2/2$ Cauchy–Schwarz gives $\\varphi \\ge 2p^2(1-p)/(1+3p)$, "
    "attained.",
)

# -- along the algorithm ---------------------------------------------------------------------------------------


def moments(case: Model, steps: int, use: int, arithmetic: str = "rational") -> Joint:
    """Exact moments of λ_0, …, λ_steps of Algorithm 1 without line 8 (F here does not depend on w, nor λ on v)."""
    randomness, reading = SEVERAL[use]
    a = FSLA(delta=Fraction(1, 4), eta=4, randomness=randomness, reading=reading)
    level = case.law.level
    problem = case.plain.to(arithmetic).with_dropout(lower={"w": level["w"]}, upper={"lam": level["lam"]})
    return whole_state(a, problem, problem.backend.asarray(to_numpy(case.lam)), steps=steps).curve(steps)


def along(case: Model, steps: int, use: int, arithmetic: str = "rational") -> list[Any]:
    """E‖∇F_{M_k}(λ_k)‖², k = 0, …, steps."""
    joint = moments(case, steps, use, arithmetic)
    convert = joint.moments.backend.asarray
    chances, L, a = (convert(x if arithmetic == "rational" else to_numpy(x)) for x in masked_gradients(case))
    mean, second = joint.mean("lam"), joint.second("lam", "lam")
    values = []
    for m, S in zip(mean, second, strict=True):
        square = np.trace(L @ S @ L.swapaxes(1, 2), axis1=1, axis2=2)
        values.append((chances * (square + 2 * (a * (L @ m)).sum(axis=1) + (a * a).sum(axis=1))).sum())
    return values


def floor(p: Fraction) -> Fraction:
    """min φ for F = ½(λ₁ + λ₂ − 1)²."""
    return 2 * p**2 * (1 - p) / (1 + 3 * p)


def above_floor(stated: Callable[[Fraction], Fraction] = floor) -> Callable[[Model], Measurement]:
    """The stated floor against the least of E‖∇F_{M_k}(λ_k)‖²."""

    def measure(case: Model) -> Measurement:
        values = along(case, case.params["steps"], case.params["use"])
        return Measurement(observed=stated(case.law.keep_lam[0]), bound=min(values))

    return measure


def plane(num: int, den: int, keep_w: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """Parameters of F = ½(λ₁ + λ₂ − 1)² with keep probability num/den."""
    return {"kind": "plane", "keep_lam": [num, den], "keep_w": keep_w or [num, den], **more}


def at_minimum(num: int, den: int) -> dict[str, Any]:
    """Started at the minimiser of φ, where it is a float: (1+p)/(1+3p) = ¾ for p = ⅕."""
    p = Fraction(num, den)
    best = (1 + p) / (1 + 3 * p)
    assert float(best) == best
    return plane(num, den, lam=[float(best)] * 2, steps=0, use=0)


CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@a",
        title="Theorem 2 with all terms over √T: the masked gradients at the iterates become small on average",
        source=SOURCE + ", every term multiplied by $1/\\sqrt T$",
        statement=r"$$\frac1T\sum_{k=1}^TE\|\nabla F_{M_k}(\lambda_k)\|^2 \to 0 \text{ as } T \to \infty, "
        r"\text{ so } \inf_\lambda E\|\nabla F_M(\lambda)\|^2 = 0$$",
        printed=r"\sum_{k=1}^T E\|\nabla F_{M_k}(\lambda_k)\|^2 \;\; \frac{1}{\sqrt "
        r"T}\left(\frac{1}{p_wp_\lambda}I_0 + \ln(T+1)\left(\dots\right)(\sigma^2 + \sigma_h^2) + "
        r"\ln(T+1)\left(p_w^2(1-p_w^2) + p_w(1-p_w)\right)\right)",
        strategy=random_problems(),
        explicit=(plane(4, 5), plane(1, 2), plane(4, 5, [1, 1])),
        build=masked_model,
        measure=vanishes,
        grade="proved",
        corrected=SPLIT,
        budget=Budget(quick=40, full=800),
        notes="What is measured, $\\min_\\lambda E\\|\\nabla F_M(\\lambda)\\|^2$, is a lower bound of the "
        "left side for every k: 32/425 for $F = (\\lambda_1+\\lambda_2-1)^2/2$ and p = 4/5. See @floor for "
        "the iterates themselves and @lipschitz for an F with bounded gradient.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@floor",
        title="The masked gradients stay above a number that no algorithm can change",
        source=SOURCE + ", derived here",
        statement=r"$$F = \tfrac12(\lambda_1+\lambda_2-1)^2: \quad E\|\nabla F_{M_k}(\lambda_k)\|^2 \ge "
        r"\frac{2p^2(1-p)}{1+3p} \text{ for every } k$$",
        strategy=st.fixed_dictionaries(
            {
                "kind": st.just("plane"),
                "keep_lam": st.integers(1, 9).map(lambda k: [k, 10]),
                "keep_w": st.sampled_from([[1, 2], [1, 1]]),
                "lam": st.lists(st.integers(-2, 6).map(lambda k: k / 4), min_size=2, max_size=2),
                "steps": st.integers(1, 2),
                "use": st.integers(0, 3),
            }
        ),
        explicit=tuple(plane(4, 5, steps=3, use=use) for use in range(4)),
        build=masked_model,
        measure=above_floor(),
        grade="proved",
        controls=(
            Control(
                "1+2p for 1+3p",
                kind="formula",
                measure=above_floor(lambda p: 2 * p**2 * (1 - p) / (1 + 2 * p)),
                params=at_minimum(1, 5),
            ),
            Control(
                "(1−p) dropped",
                kind="formula",
                measure=above_floor(lambda p: 2 * p**2 / (1 + 3 * p)),
                params=at_minimum(1, 5),
            ),
        ),
        equality=Equality(params=at_minimum(1, 5), reaches=1.0),
        budget=Budget(quick=25, full=400),
        notes="Exact second moments of the iterates, both readings of line h, shared and own masks of the cross "
        "derivative. Equality: $\\lambda_0 = (1+p)/(1+3p)$ in both coordinates, k = 0.",
    ),
)
