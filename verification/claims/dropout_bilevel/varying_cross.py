r"""Reading @b of line h where ∇²_λwG depends on w: shared samples leave a bias γ/η, whatever the step sizes.

G(λ, w; ξ) = ½w² − ξw + ½κξλw² with ξ = ±1, F = w + ½λ², no dropout. The mean over ξ is ½w², so w(λ) = 0, F̄ = ½λ² and
∇F̄(0) = 0. Hold λ = 0, the stationary point, and start at w_0 = w(0) = 0, v_0 = v(0) = 1. Then w⁺ = (1−γ_k)w + γ_kξ,
v stays 1, and with one ξ per iteration E h_k(x_k) = −κE[ξw⁺]v = −κγ_k: w⁺ has moved along ξ. The subtracted
h_k(x_{k−1}) has mean −κE[ξ]E[w]v = 0. With η_0 = 1 the first direction has mean −κγ_0 = −κγ/η, and
E d⁺ = −κγ_k + (1−η_k)E d keeps it there, as γ_k/η_k = γ/η: the algorithm leaves the stationary point at every step
size, with v̂ = v as with v̂ = v⁺. Set free, its means
settle near λ = κγ/η (``varying_cross_run``).

What of the document's assumptions: the mean of G is ½w², strongly convex; a single sample is for |κλ| < 1 only,
with 1 − |κλ|, so that assumption 3 (ii) holds of every sample on |λ| < 1/κ and not beyond. The claims here hold λ at 0,
where all samples have curvature 1; those of ``varying_cross_run`` have κ <= 0.3 and end at |κλ| <= 0.11. Bounded
derivatives (2 (iii), 3 (v)) hold on bounded sets only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms import FSLA
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.spaces import Indices, Space
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._masks import RATIONAL
from verification.model import Budget, Claim, Control, Correction, Measurement, identity


@dataclass(frozen=True)
class Bent(Objective):
    """The mean of ½w² − ξw + ½κξλw² over ξ (..., N); n = d = 1."""

    xi: Array
    kappa: Array
    backend: Backend = RATIONAL

    n = 1
    d = 1

    @property
    def lead(self) -> int:
        return int(self.xi.ndim) - 1

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(self.xi.shape[:-1])

    @property
    def space(self) -> Space:
        return Indices(int(self.xi.shape[-1]))

    def batch(self, sample: Any) -> Bent:
        return replace(self, xi=self.backend.terms(self.xi, self.backend.indices(sample), -1))

    @property
    def mean(self) -> Array:
        """(..., 1)."""
        return self.backend.mean(self.xi, -1)[..., None]

    def value(self, lam: Array, w: Array) -> Array:
        return (w * w / 2 - self.mean * w + self.kappa * self.mean * lam * w * w / 2)[..., 0]

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.kappa * self.mean * w * w / 2 + 0 * lam

    def grad_w(self, lam: Array, w: Array) -> Array:
        return w - self.mean + self.kappa * self.mean * lam * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (1 + self.kappa * self.mean * lam + 0 * w)[..., None], symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (self.kappa * self.mean * w + 0 * lam)[..., None])


@dataclass(frozen=True)
class Held:
    """The problem, the algorithm, and λ held at its stationary point 0."""

    kappa: Fraction
    algorithm: FSLA
    steps: int

    @property
    def problem(self) -> BilevelProblem:
        upper = quadratic.objective(ww=[[0.0]], ll=[[1.0]], w1=[1.0])
        lower = Bent(RATIONAL.asarray(np.array([-1.0, 1.0])), RATIONAL.asarray([RATIONAL.scalar(self.kappa)]))
        rational = BilevelProblem(upper, quadratic.objective(ww=[[1.0]], n=1)).to("rational").upper
        return BilevelProblem(rational, lower)

    @property
    def stated(self) -> Any:
        """−κγ/η."""
        a = self.algorithm
        return RATIONAL.scalar(-self.kappa * a.gamma / a.eta)

    def directions(self, **changed: Any) -> list[Any]:
        """E d_1, …, E d_steps: every path of samples, each step the algorithm's own, λ put back to 0 after it."""
        a, problem, zero = replace(self.algorithm, **changed), self.problem, RATIONAL.zeros((1, 1))
        state = a.init(problem, zero, zero, zero + 1)
        space, found = a.space(problem), []
        chances = RATIONAL.zeros((1,)) + 1
        for _ in range(self.steps):
            count, paths = space.size, len(chances)
            index = np.tile(np.arange(count), paths)
            spread: dict[str, Any] = {name: np.repeat(x, count, axis=0) for name, x in state.arrays.items()}
            p = RATIONAL.asarray([RATIONAL.scalar(q) for q in space.exact_probabilities(index)])
            chances = np.repeat(chances, count) * p
            state = a.step(problem, replace(state, **spread), space.points(index))
            shape = (len(chances), 1)
            state = state.broadcast(problem.backend, (len(chances),))
            state = replace(state, lam=RATIONAL.zeros(shape), lam_prev=RATIONAL.zeros(shape))
            found.append((chances * state.d[:, 0]).sum())
        return found


def held(params: dict[str, Any]) -> Held:
    """κ, γ, η in eighths, δ = 1/η, β = 1; ``randomness`` and ``reading``."""
    kappa, gamma, eta = (Fraction(params[name], 8) for name in ("kappa", "gamma", "eta"))
    a = FSLA(
        delta=1 / eta,
        gamma=gamma,
        beta=Fraction(1),
        eta=eta,
        randomness=params.get("randomness", "shared"),
        reading=params["reading"],
        schedule=params["schedule"],
        lower_batch=1,
    )
    return Held(kappa, a, params["steps"])


def leaves(case: Held) -> Measurement:
    """min_k (E d_k)² <= 0."""
    return Measurement(observed=min(d * d for d in case.directions()), bound=0)


def constant(sign: int = 1, **changed: Any) -> Callable[[Held], Measurement]:
    """E d_k = −κγ/η for every k."""

    def measure(case: Held) -> Measurement:
        found = case.directions(**changed)
        return identity(found, [sign * case.stated] * len(found))

    return measure


def at(**more: Any) -> dict[str, Any]:
    """Parameters with κ = γ = η = 1."""
    return {"kappa": 8, "gamma": 8, "eta": 8, "reading": "old", "schedule": "sqrt", "steps": 5, **more}


SOURCE = "dropout-bilevel, Algorithm 1, line 9"
HALVES = st.sampled_from([2, 4, 8, 16])  # products with a rounded square root stay exact


def drawn(schedule: str, gamma: Any, eta: Any) -> Any:
    """Strategy with one schedule."""
    boxes = {
        "kappa": st.integers(1, 16),
        "gamma": gamma,
        "eta": eta,
        "reading": st.sampled_from(["old", "new"]),
        "schedule": st.just(schedule),
        "steps": st.integers(1, 4),
    }
    return st.fixed_dictionaries(boxes)


RANDOM = st.one_of(drawn("constant", st.integers(1, 16), st.integers(4, 24)), drawn("sqrt", HALVES, HALVES))

CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@shared-old-varying",
        title="With the v before, shared samples are harmless for every cross derivative",
        source=SOURCE + ", reading @b",
        statement=r"\text{at a stationary point of } \bar F \text{, held, } E\,d_k \to 0 \text{ for "
        r"Algorithm 1 with one draw per iteration and } \hat v = v, \text{ where } G(\lambda, \cdot\,; \xi) \text{ is "
        r"strongly convex near } \lambda",
        strategy=RANDOM,
        explicit=(at(), at(schedule="constant")),
        build=held,
        measure=leaves,
        grade="proved",
        corrected=Correction(
            tex=r"E\,d_k = -\kappa\gamma/\eta \text{ for every } k; \text{ in general } \tfrac\gamma\eta "
            r"\operatorname{Cov}\left(\partial_w[\hat C\bar v], \hat g\right), \text{ which is } 0 \text{ where "
            r"} \nabla^2_{\lambda w}G \text{ does not depend on } w",
            measure=constant(),
            proof="$G(\\lambda, w; \\xi) = w^2/2 - \\xi w + \\kappa\\xi\\lambda w^2/2$, $\\xi = \\pm1$, $F = "
            "w + \\lambda^2/2$: at λ = 0, v = 1 the new h has mean $-\\kappa E[\\xi w^+] = "
            "-\\kappa\\gamma_k$, the old one 0, so $E d^+ = -\\kappa\\gamma_k + (1-\\eta_k)E d$, and "
            "$\\gamma_k/\\eta_k$ is constant.",
        ),
        budget=Budget(quick=25, full=400),
        notes="No dropout: the draw is one training sample. Every path of samples in rationals, each step "
        "the algorithm's own. Reading @a has the same bias here. The exact moments of "
        "``refimpl.algorithms.exact`` refuse this problem, whose step is not affine. A sample has "
        "$\\nabla^2_{ww}G = 1 + \\kappa\\xi\\lambda$: assumption 3 (ii) holds of every sample for $|\\kappa\\lambda| < "
        "1$, of the mean always; λ is held at 0, where it is 1.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@shared-old-varying-fixed",
        title="An own sample of the cross derivative removes that bias",
        source=SOURCE,
        statement=r"E\,d_k = 0 \text{ for every } k \text{ with randomness fresh-cross}",
        strategy=RANDOM,
        explicit=(at(steps=3), at(steps=3, reading="new")),
        build=held,
        measure=lambda case: identity(case.directions(randomness="fresh-cross"), [0] * case.steps),
        grade="proved",
        controls=(
            Control(
                "shared", kind="formula", measure=lambda case: identity(case.directions(), [0] * case.steps)
            ),
        ),
        budget=Budget(quick=20, full=300),
        notes="The same problem, λ held at the stationary point 0, where every sample is strongly convex "
        "(for $|\\kappa\\lambda| < 1$ it is); both readings of line h.",
    ),
)
