r"""Assumption 1's instances: when a given θ can be made stationary by the choice of targets.

n∇E_ηR = Jᵀε + b with J = (∇f_i) (n × P) and b = Σ_i Σ_j s_j f^j_i ∇f^j_i = ∇_θ ½ Σ_i Σ_j s_j (f^j_i)². For positively
homogeneous activations f_i and every f^j_i stay the same when unit k's row is multiplied by 1 + t and its outgoing
weights are divided by it. With T the tangents of these rescalings, T∇f_i = 0 and Tb = 0: so rank J <= P − rank T, and
where this is attained the range of Jᵀ is the whole complement of T, in which b lies: every such θ can be planted.

A unit j of the last hidden layer that is active on all samples: ∂_{b_j} − w_j ∂_c of the errors' part cancels, and

    ∂_{b_j} E_ηR − w_j ∂_c E_ηR = s_j w_j² (1/n) Σ_i a_ij,

which is not zero where w_j ≠ 0 and p_j < 1: then no choice of targets is stationary.

Linear units, L = 2, w_j ≠ 0, s_j > 0, G = Σ x̃x̃ᵀ regular, rows u_j: ∇_{u_j} = 0 says Σ_i ε_i x̃_i = −s_j w_j G u_j, for
all j the same vector, whose last entry Σ_i ε_i is 0 by ∂_c; ∂_{w_j} = 0 follows. So θ can be planted exactly when
s_j w_j u_j is the same v for all j and the last entry of Gv is zero; else the gradient vanishes for no y.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.networks import MLP
from verification.claims.dropout_flatness._planted import (
    PARTS,
    RATIONAL,
    Point,
    at,
    build,
    networks,
    planted,
    point,
    points,
    rank,
)
from verification.claims.dropout_flatness._second import scalings
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "dropout-flatness, Assumption 1"


def free(case: Point) -> int:
    """P less the number of independent rescalings."""
    return case.net.size - rank(scalings(case))


def _rank(case: Point) -> tuple[bool, str]:
    found, most = rank(case.terms.whole), free(case)
    return found == most, f"rank {found} of {most}"


def _active(case: Point) -> tuple[bool, float]:
    """The least pre-activation of the first last hidden unit, where its weight is not zero and it can be dropped."""
    least = min(float(z) for z in case.run.before[-1][0])
    return least > 0 and case.w[0] != 0 and case.keep[0] < 1, least


FULL = Hypothesis("full rank", r"\operatorname{rank} J = P - \operatorname{rank} T", _rank)
ACTIVE = Hypothesis(
    "active on every sample", r"z_{i1} > 0 \text{ for all } i, \; w_1 \ne 0, \; p_1 < 1", _active
)


def stationary(keep: Callable[[Any], Any] = lambda p: p) -> Callable[[Point], Measurement]:
    """∇E_ηR at the planted point; ``keep`` changes the keep probabilities that it is planted for."""

    def measure(case: Point) -> Measurement:
        other = planted(replace(case, keep=tuple(keep(p) for p in case.keep)))
        slope = replace(case, y=other.y).slope
        return identity(slope, 0 * slope)

    return measure


def counted(less: int = 0) -> Callable[[Point], Measurement]:
    """rank J <= P − rank T."""
    return lambda case: Measurement(observed=rank(case.terms.whole), bound=free(case) - less)


def pushed(share: Fraction = Fraction(1), power: int = 2) -> Callable[[Point], Measurement]:
    """∂_{b_1} − w_1 ∂_c of E_ηR against s_1 w_1² (1/n) Σ_i a_i1, the gradient by every mask."""

    def measure(case: Point) -> Measurement:
        chances, masked = case.each_mask()
        g = (chances[:, None] * masked.grad_w(case.lam, case.theta)).sum(axis=0)
        bias = case.net.spans[-2].start + case.net.shapes[-2][1] - 1
        mean = case.run.values[-1][0].sum() / case.n
        expected = RATIONAL.scalar(share) * case.spread[0] * case.w[0] ** power * mean
        return identity(g[bias] - case.w[0] * g[-1], expected)

    return measure


# -- linear units ----------------------------------------------------------------------------------------------


def linear(params: Mapping[str, Any]) -> Point:
    """d-m-1 linear with s_j w_j u_j = v for all j and (Gv)_last = 0; ``broken`` 1 spoils a row, 2 all rows' biases."""
    rng, d, m, n = np.random.default_rng(params["seed"]), params["d"], params["m"], params["n"]
    X = rng.integers(-3, 4, (n, d)).tolist()
    keep = [Fraction(k, PARTS) for k in params["keep"]][:m]
    w = [Fraction(int(k)) for k in rng.choice([-2, -1, 1, 2], m)]
    v = [Fraction(int(k)) for k in rng.choice([-2, -1, 1, 2], d)]
    mean = [sum(Fraction(row[k]) for row in X) / n for k in range(d)]
    v.append(-sum((a * b for a, b in zip(mean, v, strict=True)), Fraction(0)))
    rows = [[x / (w_j * (1 - p) / p) for x in v] for w_j, p in zip(w, keep, strict=True)]
    if params["broken"] == 1:
        rows[0][0] += 1
    if params["broken"] == 2:
        rows = [[*row[:-1], row[-1] + p / ((1 - p) * w_j)] for row, w_j, p in zip(rows, w, keep, strict=True)]
    theta = [*(x for row in rows for x in row), *w, Fraction(0)]
    return point(MLP((d, m, 1), "linear").to("rational"), theta, X, [0] * n, keep, params)


def _solvable(case: Point) -> bool:
    return bool((planted(case).slope == 0).all())


def predicted(case: Point, *, bias: bool = True, spread: bool = True) -> bool:
    """s_j w_j u_j the same for all j, and (Gv)_last = 0."""
    rows = case.net.layers(case.theta)[0]
    s = case.spread if spread else 0 * case.spread + 1
    v = (s * case.w)[:, None] * rows
    inputs = np.concatenate([case.X, 0 * case.X[:, :1] + 1], axis=1)
    return bool((v == v[:1]).all()) and (not bias or (inputs @ v[0]).sum() == 0)


def decided(**without: bool) -> Callable[[Point], Measurement]:
    """Whether θ can be planted, 0 or 1, against the condition."""
    return lambda case: identity(int(_solvable(case)), int(predicted(case, **without)))


def _regular(case: Point) -> tuple[bool, int]:
    inputs: Array = np.concatenate([case.X, 0 * case.X[:, :1] + 1], axis=1)
    return rank(inputs) == inputs.shape[1], rank(inputs)


REGULAR = Hypothesis("regular inputs", r"\operatorname{rank}(\tilde x_i)_i = d + 1", _regular)
SOME = at([1, 1, 1], theta=[1, 2, 1, 0], X=[[-1], [-3], [0]], y=[0, 0, 0])
ALWAYS = at([1, 1, 1], theta=[1, 1, 1, 0], X=[[0], [1], [2]], y=[0, 0, 0])
OFF = at([1, 1, 1], theta=[1, 1, 1, 0], X=[[0], [-2]], y=[0, 1])
KINDS = ["relu", "leaky_relu"]


def lines(broken: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of a linear network."""
    return {"d": 1, "m": 2, "n": 3, "seed": 1, "keep": [4, 2], "broken": broken, **more}


CLAIMS = (
    Claim(
        id="dropout-flatness/planted",
        title="Any point where the outputs' Jacobian has full rank can be made stationary by its targets",
        source=SOURCE + ", derived here",
        statement=r"\operatorname{rank}(\nabla f_i)_i = P - \operatorname{rank} T \;\Rightarrow\; \text{there is } y "
        r"\text{ with } \nabla E_\eta R(\theta) = 0",
        hypotheses=(FULL,),
        strategy=points(networks((1, 2)), KINDS, n=(3, 16)),
        explicit=(SOME, at([2, 2, 1], n=8, seed=4, keep=[4, 2])),
        build=build,
        measure=stationary(),
        grade="proved",
        controls=(
            Control("a unit that is active on every sample", params=ALWAYS),
            Control("planted for p²", kind="formula", measure=stationary(lambda p: p * p)),
        ),
        budget=Budget(quick=40, full=400),
        notes="T: tangents of the rescalings of hidden units. Positively homogeneous units, any depth. For one hidden "
        "layer $P - \\operatorname{rank} T = m(d+1) + 1$: as many samples at least, and every unit has to switch "
        "within them.",
    ),
    Claim(
        id="dropout-flatness/planted@counts",
        title="The rank of the outputs' Jacobian is at most the number of parameters less that of rescalings",
        source=SOURCE + ", derived here",
        statement=r"\operatorname{rank}(\nabla f_i)_i \le P - \operatorname{rank} T",
        strategy=points(networks((1, 3)), ["linear", *KINDS], n=(3, 16)),
        explicit=(SOME,),
        build=build,
        measure=counted(),
        grade="proved",
        controls=(Control("one less", kind="formula", measure=counted(1)),),
        equality=Equality(params=SOME, reaches=1.0),
        budget=Budget(quick=60, full=400),
        notes="Each rescaling leaves every output alone: $T\\nabla f_i = 0$. Equality at 1-1-1 with three samples.",
    ),
    Claim(
        id="dropout-flatness/planted@always-active",
        title="No point is stationary where a last hidden unit is active on every sample",
        source=SOURCE + ", derived here",
        statement=r"z_{ij} > 0 \text{ for all } i: \quad \partial_{b_j}E_\eta R - w_j\,\partial_cE_\eta R = "
        r"\frac{1-p_j}{p_j}\,w_j^2\,\frac1n\sum_ia_{ij} > 0",
        hypotheses=(ACTIVE,),
        strategy=points(networks((1, 2)), ["linear", *KINDS], n=(1, 3)),
        explicit=(
            ALWAYS,
            at([1, 1, 2, 1], "leaky_relu", theta=[1, 0, 1, 1, -1, 4, 2, 1, 1], X=[[1], [2]], y=[0, 1]),
        ),
        build=build,
        measure=pushed(),
        grade="proved",
        controls=(
            Control("a unit that switches", params=OFF),
            Control("w for w²", kind="formula", measure=pushed(power=1)),
            Control("half of it", kind="formula", measure=pushed(Fraction(1, 2))),
        ),
        budget=Budget(quick=60, full=800),
        notes="With an output bias c and a bias $b_j$ on the unit. The errors' parts of the two derivatives cancel; "
        "the rest has a sign. So $\\|\\nabla E_\\eta R\\| \\ge s_jw_j^2\\bar a_j/\\sqrt{1 + w_j^2}$ for every choice "
        "of targets.",
    ),
    Claim(
        id="dropout-flatness/planted@linear",
        title="Linear networks with one hidden layer: stationary only if all units do the same",
        source=SOURCE + ", derived here",
        statement=r"\text{linear, } L = 2, \; w_j \ne 0, \; p_j < 1: \quad \exists y: \nabla E_\eta R = 0 \iff "
        r"s_jw_ju_j = v \text{ for all } j \text{ and } \sum_i\tilde x_i^{\top}v = 0",
        hypotheses=(REGULAR,),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 2),
                "m": st.integers(1, 3),
                "n": st.integers(3, 6),
                "seed": st.integers(0, 999),
                "keep": st.lists(st.integers(1, PARTS - 1), min_size=3, max_size=3),
                "broken": st.integers(0, 2),
            }
        ),
        explicit=(lines(), lines(1), lines(2)),
        build=linear,
        measure=decided(),
        grade="proved",
        controls=(
            Control("inputs that are all zero", params=lines(1, n=1, seed=1)),
            Control("without the biases' condition", kind="formula", measure=decided(bias=False)),
            Control("w_j u_j for s_j w_j u_j", kind="formula", measure=decided(spread=False)),
        ),
        budget=Budget(quick=80, full=1200),
        notes="Measured: whether the linear system has a solution, 0 or 1, against the condition. So a linear network "
        "with rows in general position is stationary for no targets; dropout equalises units. One unit (m = 1) with "
        "$\\sum_i\\tilde x_i^{\\top}u = 0$ is stationary.",
    ),
)
