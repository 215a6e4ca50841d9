r"""Definitions 1, 3 and 4 and random gradient data, executed where the answer is known.

1. λ_i(Σ) is the variance along v_i(Σ), and no unit vector has more variance than the first.
3. The population variance of v·x over samples x is vᵀΣv, Σ = (1/S) Σ_s (x_s − x̄)(x_s − x̄)ᵀ. Random gradient data
   are independent draws of a gradient with covariance C: Σ has the mean (1 − 1/S) C, and rank at most S − 1, so at most
   min(D, S − 1) of its directions carry variance.
4. λ_1(H) = max_v vᵀHv over unit v, so a convex quadratic at its minimum has its least interval flatness along v_1(H):
   F_v = 2 √(2(c − 1)L/vᵀHv) >= 2 √(2(c − 1)L/λ_1).
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.curvature import along, eigen_directions, interval_flatness, projected_variance
from verification.claims.dropout_flatness._bowls import Bowl
from verification.claims.dropout_flatness._noise import Noise, build
from verification.claims.dropout_flatness._planted import RATIONAL, at, networks, points, rank
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "dropout-flatness, section 3.5"
BUDGET = Budget(quick=100, full=800)

# -- samples ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Samples:
    """Vectors (S, d) in rows and directions (k, d), on one backend; Σ with a divisor S − ``less``."""

    backend: Backend
    rows: Array
    directions: Array

    def covariance(self, *, less: int = 0, centred: bool = True) -> Array:
        mean = self.rows.sum(axis=0) / len(self.rows)
        moved = self.rows - mean if centred else self.rows
        return moved.T @ moved / (len(self.rows) - less)


def samples(params: Mapping[str, Any], exact: bool = True) -> Samples:
    """Whole numbers from ``seed``: S rows and three directions of d entries."""
    rng, B = np.random.default_rng(params["seed"]), RATIONAL if exact else Backend()
    drawn = rng.integers(-9, 10, (params["S"] + 3, params["d"])).astype(float)
    return Samples(B, B.asarray(drawn[3:]), B.asarray(drawn[:3]))


def is_form(**mutation: Any) -> Callable[[Samples], Measurement]:
    """The library's projected variance against vᵀΣv, exactly."""

    def measure(case: Samples) -> Measurement:
        found = projected_variance(case.rows, case.directions, backend=case.backend)
        return identity(along(case.covariance(**mutation), case.directions, backend=case.backend), found)

    return measure


def eigenvalues(shift: int = 0) -> Callable[[Samples], Measurement]:
    """λ_i(Σ) against the samples' variance along v_i; ``shift``: along another one's."""

    def measure(case: Samples) -> Measurement:
        found = eigen_directions(case.covariance())
        variances = projected_variance(case.rows, np.roll(found.vectors, shift, axis=0))
        size = 10 * case.rows.size * EPS * float((case.rows * case.rows).sum(axis=1).mean())
        return identity(found.values, variances, rounding=size)

    return measure


def most(worse: int = 0) -> Callable[[Samples], Measurement]:
    """The variance along unit vectors, at most λ_1 (``worse``: λ_2)."""

    def measure(case: Samples) -> Measurement:
        found = eigen_directions(case.covariance())
        some = case.directions + 0.5  # none of them zero
        units = some / np.linalg.norm(some, axis=1, keepdims=True)
        units = np.concatenate([units, found.vectors[:1]])
        size = 10 * case.rows.size * EPS * float((case.rows * case.rows).sum(axis=1).mean())
        variances = projected_variance(case.rows, units)
        return Measurement(observed=variances.max(), bound=found.values[worse], rounding=size)

    return measure


DRAWN = st.fixed_dictionaries({"S": st.integers(2, 6), "d": st.integers(2, 4), "seed": st.integers(0, 999)})

# -- random gradient data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Gradients:
    """All values (K, P) of the full batch's gradient under one mask, and their probabilities (K,); S of them drawn."""

    of: Noise
    S: int

    @cached_property
    def values(self) -> tuple[Array, Array]:
        chances, errors, slopes = self.of.masked
        return chances, RATIONAL.sum(errors[..., None] * slopes, 1) / self.of.at.n

    def mean_of_sample_covariance(self) -> Array:
        """E Σ over every S-tuple of masks."""
        chances, values = self.values
        total = 0 * (values.T @ values)
        for drawn in it.product(range(len(chances)), repeat=self.S):
            chance = RATIONAL.scalar(1)
            for k in drawn:
                chance = chance * chances[k]
            rows = values[list(drawn)]
            total = total + chance * Samples(RATIONAL, rows, rows).covariance()
        return total


def gradients(params: Mapping[str, Any]) -> Gradients:
    """A random point, and the number of draws ``S``."""
    return Gradients(build(params), params["S"])


def is_unbiased(
    share: Callable[[int], Fraction] = lambda S: 1 - Fraction(1, S),
) -> Callable[[Gradients], Measurement]:
    """E Σ = (1 − 1/S) C, C the library's exact covariance."""

    def measure(case: Gradients) -> Measurement:
        C = case.of.exact("shared mask")
        return identity(case.mean_of_sample_covariance(), RATIONAL.scalar(share(case.S)) * C)

    return measure


def at_most(less: int) -> Callable[[Samples], Measurement]:
    """rank Σ <= min(D, S − less), exactly."""

    def measure(case: Samples) -> Measurement:
        S, d = case.rows.shape
        return Measurement(observed=rank(case.covariance()), bound=min(d, S - less))

    return measure


DROPPED = points(
    networks((1, 1)),
    ["relu", "leaky_relu"],
    n=(1, 2),
    S=st.integers(2, 3),
)

# -- interval flatness beside Hessian flatness --------------------------------------------------------------------


def bowl(params: Mapping[str, Any]) -> tuple[Bowl, Array]:
    """L = level + ½wᵀHw + Σ quartic w_i⁴, H = GᵀG + ½I with G's ``rows``; unit directions, or the ``first`` of H."""
    G = np.array(params["rows"], dtype=float)
    d = G.shape[1]
    H = G.T @ G + np.eye(d) / 2
    f = Bowl(float(params["level"]), np.zeros(d), H, np.zeros(d) + params.get("quartic", 0.0), Backend())
    v = np.random.default_rng(d).standard_normal((3, d))
    v = eigen_directions(H).vectors[:1] if params.get("first") else v
    return f, v / np.linalg.norm(v, axis=1, keepdims=True)


def narrowest(power: float = 0.5) -> Callable[[Any], Measurement]:
    """2 √(2L/λ_1) is at most the width along every unit vector."""

    def measure(case: tuple[Bowl, Array]) -> Measurement:
        f, v = case
        top = float(eigen_directions(f.H).values[0])
        least = 2 * (2 * f.level / top) ** power
        width = float(interval_flatness(f, np.zeros(f.d), v, limit=2.0**20).width.min())
        size = 10 * f.d**2 * EPS * np.linalg.norm(f.H) / np.linalg.eigvalsh(f.H)[0]
        return Measurement(observed=least, bound=width, rounding=float(size) * width)

    return measure


MINIMUM = Hypothesis(
    "quadratic with its minimum at 0",
    r"L = L_0 + \tfrac12w^{\top}Hw",
    lambda case: (not case[0].q.any(), float(case[0].q.max())),
)
BOWLS = st.integers(2, 4).flatmap(
    lambda d: st.fixed_dictionaries(
        {
            "rows": st.lists(st.lists(st.integers(-2, 2), min_size=d, max_size=d), min_size=1, max_size=3),
            "level": st.integers(1, 9),
        }
    )
)
ROUND = {"rows": [[2, 0], [0, 1]], "level": 1}

CLAIMS = (
    Claim(
        id="dropout-flatness/definition-1",
        title="Eigenvalues of a covariance are variances along its eigen-directions",
        source=SOURCE + ", definition 1",
        statement=r"\lambda_i(\Sigma) = \operatorname{Var}(v_i\cdot x), \quad \Sigma v_i = \lambda_iv_i, \; "
        r"\|v_i\| = 1",
        strategy=DRAWN,
        explicit=({"S": 2, "d": 2, "seed": 0}, {"S": 5, "d": 3, "seed": 1}),
        build=lambda params: samples(params, exact=False),
        measure=eigenvalues(),
        grade="exact",
        controls=(Control("the next direction", kind="formula", measure=eigenvalues(1)),),
        budget=BUDGET,
        notes="By the library's eigenvectors and projected variance, on samples of whole numbers. The sum over "
        "i is "
        "$\\operatorname{Tr}\\Sigma$, the whole variance.",
    ),
    Claim(
        id="dropout-flatness/definition-1@largest",
        title="No direction has more variance than the first eigen-direction",
        source=SOURCE + ", definition 1",
        statement=r"\operatorname{Var}(v\cdot x) \le \lambda_1(\Sigma), \quad \|v\| = 1",
        strategy=DRAWN,
        explicit=({"S": 2, "d": 2, "seed": 0}, {"S": 5, "d": 3, "seed": 1}),
        build=lambda params: samples(params, exact=False),
        measure=most(),
        grade="exact",
        controls=(Control("λ₂ for λ₁", kind="formula", measure=most(1)),),
        equality=Equality(params={"S": 5, "d": 3, "seed": 1}, reaches=0.999),
        budget=BUDGET,
        notes="Equality along $v_1$, which is one of the directions tried.",
    ),
    Claim(
        id="dropout-flatness/definition-3",
        title="Projected variance of samples is the quadratic form of their covariance with divisor S",
        source=SOURCE + ", definition 3",
        statement=r"\operatorname{Var}\{v\cdot x_1, \ldots, v\cdot x_S\} = v^{\top}\Sigma v, \quad \Sigma = "
        r"\frac1S\sum_s"
        r"(x_s - \bar x)(x_s - \bar x)^{\top}",
        strategy=DRAWN,
        explicit=({"S": 2, "d": 2, "seed": 0}, {"S": 5, "d": 3, "seed": 1}),
        build=samples,
        measure=is_form(),
        grade="proved",
        controls=(
            Control("divisor S − 1", kind="formula", measure=is_form(less=1)),
            Control("not centred", kind="formula", measure=is_form(centred=False)),
        ),
        budget=BUDGET,
        notes="Population variance, exactly, over the rationals; v is not normalised: it scales with "
        "$\\|v\\|^2$.",
    ),
    Claim(
        id="dropout-flatness/definition-4",
        title="On convex quadratics at the minimum the loss is narrowest along the top eigenvector of the "
        "Hessian",
        source=SOURCE + ", definitions 2 and 4",
        statement=r"\|v\| = 1: \quad F_v \ge 2\sqrt{\frac{2L}{\lambda_1(H)}} = F_{v_1(H)}",
        hypotheses=(MINIMUM,),
        strategy=BOWLS,
        explicit=(ROUND, {"rows": [[1, 1, 0], [0, 1, 2]], "level": 2}),
        build=bowl,
        measure=narrowest(),
        grade="exact",
        controls=(
            Control("a fourth-order term", params={**ROUND, "quartic": 9.0, "first": True}),
            Control("L/λ₁ for its root", kind="formula", measure=narrowest(1.0)),
        ),
        equality=Equality(params={**ROUND, "first": True}, reaches=0.999),
        budget=BUDGET,
        notes="So the two notions of flatness agree there. They need not where the loss is no parabola up to "
        "twice its value, or has a "
        "slope: see dropout-flatness/prefactor@any-loss and @without-dropout.",
    ),
    Claim(
        id="dropout-flatness/gradient-data",
        title="Random gradient data: the mean of their sample covariance",
        source="dropout-flatness, section 3.4.2",
        statement=r"\mathbb E\,\Sigma_{g_1,\ldots,g_S} = \left(1 - \frac1S\right)\operatorname{Cov}g, \quad g "
        r"= \nabla R_\eta",
        strategy=DROPPED,
        explicit=(
            {**at([1, 1, 1], n=1, seed=0), "S": 2},
            {**at([1, 2, 1], n=2, seed=1, keep=[4, 2]), "S": 3},
        ),
        build=gradients,
        measure=is_unbiased(),
        grade="proved",
        controls=(
            Control("the covariance itself", kind="formula", measure=is_unbiased(lambda S: Fraction(1))),
        ),
        budget=Budget(quick=30, full=400),
        notes="Every S-tuple of masks, in rationals, against the library's closed form for one mask shared by "
        "the batch: sampling N gradients, as "
        "the document does, estimates that matrix and neither of the other two.",
    ),
    Claim(
        id="dropout-flatness/gradient-data@rank",
        title="S samples in D dimensions have at most min(D, S − 1) directions with variance",
        source=SOURCE + ": indices run over at most min(D, N − 1)",
        statement=r"\operatorname{rank}\Sigma \le \min(D, S-1)",
        strategy=DRAWN,
        explicit=({"S": 2, "d": 2, "seed": 0}, {"S": 4, "d": 4, "seed": 1}),
        build=samples,
        measure=at_most(1),
        grade="proved",
        controls=(Control("S − 2", kind="formula", measure=at_most(2)),),
        equality=Equality(params={"S": 2, "d": 2, "seed": 0}, reaches=1.0),
        budget=BUDGET,
        notes="Centred samples add up to zero. Eigenvalues beyond that are rounding, and must not enter a fit "
        "on logarithmic axes.",
    ),
)
