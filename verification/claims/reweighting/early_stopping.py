"""Solving (2) fully learns label noise, and wrong labels at wrong weights: linear models over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem, solvers
from refimpl.arrays.backend import Array
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._penalty import fraction, ratio, rational
from verification.claims.reweighting._rational import RATIONAL
from verification.claims.reweighting._systems import System
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, section 4.1.1"
WINDOW = 4  # numbers of steps looked at beyond t_0

# -- label noise in every direction ------------------------------------------------------------------------


@dataclass(frozen=True)
class Noisy:
    """G = ½(θ − θ°)ᵀH(θ − θ°), θ° = T + ε; F = ½(θ − T)ᵀK(θ − T). In H's eigenbasis T_i, and ε_i = ±σ_i of mean 0.

    ε_i are independent. K is diag(h) in H's eigenbasis, with ``mixed`` at every other place.
    """

    lower: System
    upper: System
    T: tuple[int, ...]
    sigma: tuple[int, ...]
    eta: fmpq
    mixed: int = 0

    @cached_property
    def K(self) -> Array:
        basis, d = self.lower.reflection, len(self.T)
        return self.upper.a + self.mixed * (basis @ (rational([[1] * d] * d) - RATIONAL.eye(d)) @ basis)

    def problem(self, signs: tuple[int, ...]) -> BilevelProblem:
        """For the noise with these signs."""
        d, basis, zero = len(self.T), self.lower.reflection, RATIONAL.zeros
        truth = basis @ rational(self.T)
        noisy = truth + basis @ rational([s * sign for s, sign in zip(self.sigma, signs, strict=True)])
        upper, lower = (
            Quadratic(
                a[None], zero((1, 1, d)), zero((1, 1, 1)), -(a @ at)[None], zero((1, 1)), backend=RATIONAL
            )
            for a, at in ((self.K, truth), (self.lower.a, noisy))
        )
        return BilevelProblem(upper, lower)

    def risk(self, t: int | None) -> Any:
        """The mean of F(θ_t) over the signs of the noise, less its value at T; None: at the minimiser of G."""
        total, every = fmpq(0), list(product((1, -1), repeat=len(self.T)))
        for signs in every:
            p = self.problem(signs)
            lam, w = rational([0]), rational([0] * len(self.T))
            solver = solvers.Newton() if t is None else solvers.GradientDescent(t, self.step)
            total += p.upper.value(lam, solver.run(p, lam, w).w) / len(every)
        truth = self.lower.reflection @ rational(self.T)
        return total + truth @ self.K @ truth / 2

    @property
    def step(self) -> Any:
        return fraction(self.eta)

    def left(self, t: int) -> list[fmpq]:
        """x_i = (1 − ηs_i)^t."""
        return [(1 - self.eta * s) ** t for s in self.lower.spectrum]

    def excess(self, t: int, noise: int = 2) -> fmpq:
        """½ Σ h_i [x_i²(T_i² + σ_i²) − ``noise`` x_i σ_i²]."""
        parts = zip(self.upper.spectrum, self.left(t), self.T, self.sigma, strict=True)
        return sum((h * (x * x * (T * T + s * s) - noise * x * s * s) / 2 for h, x, T, s in parts), fmpq(0))

    def late(self, noise: int = 2) -> int:
        """The least t with x_i (T_i² + σ_i²) < ``noise`` σ_i² in every direction that has noise."""
        pairs = [
            (T * T + s * s, noise * s * s, i)
            for i, (T, s) in enumerate(zip(self.T, self.sigma, strict=True))
            if s
        ]
        t = 0
        while any(self.left(t)[i] * size >= most for size, most, i in pairs):
            t += 1
        return t


def noisy(params: Mapping[str, Any]) -> Noisy:
    """``modes``: for each direction [s_i, h_i, T_i, σ_i]; the eigenbasis is drawn by ``seed``; ``mixed``."""
    s, h, T, sigma = (tuple(map(int, column)) for column in zip(*params["modes"], strict=True))
    mirror = tuple(map(int, np.random.default_rng(params["seed"]).integers(-2, 3, len(s))))
    zero = (0,) * len(s)
    lower, upper = System(s, zero, mirror), System(h, zero, mirror)
    return Noisy(lower, upper, T, sigma, ratio(params["eta"]), params.get("mixed", 0))


def modes(
    *rows: tuple[int, int, int, int], eta: tuple[int, int] = (1, 2), seed: int = 0, **more: Any
) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"modes": [list(row) for row in rows], "eta": list(eta), "seed": seed, **more}


def _every_direction(p: Noisy) -> tuple[bool, Any]:
    return all(p.sigma), list(p.sigma)


def _short(p: Noisy) -> tuple[bool, Any]:
    longest = p.eta * max(p.lower.spectrum)
    return longest < 1, str(longest)


def _one_basis(p: Noisy) -> tuple[bool, Any]:
    basis, d = p.lower.reflection, len(p.T)
    turned = basis @ p.K @ basis
    off = max((abs(turned[i, j]) for i in range(d) for j in range(d) if i != j), default=fmpq(0))
    return off == 0, f"largest entry off the diagonal {off}"


def no_better(noise: int = 2) -> Callable[[Noisy], Measurement]:
    """How many of the next numbers of steps from t_0 on have a risk that is not below the limit's."""

    def measure(p: Noisy) -> Measurement:
        first, limit = p.late(noise), p.risk(None)
        worse = sum(int(p.risk(t) >= limit) for t in range(first, first + WINDOW))
        return Measurement(observed=worse, bound=0)

    return measure


def excess(of: Callable[[Noisy, int], fmpq]) -> Callable[[Noisy], Measurement]:
    """Risks less their limit, at 0 … WINDOW steps."""
    return lambda p: identity(
        [p.risk(t) - p.risk(None) for t in range(WINDOW + 1)], [of(p, t) for t in range(WINDOW + 1)]
    )


# -- one parameter, one clean sample and one corrupted one -------------------------------------------------


MODES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)),
    min_size=2,
    max_size=2,
)
ETAS = st.sampled_from([[1, 8], [1, 5], [1, 10]])
UNIT = modes((1, 1, 1, 1))
SLOW = modes((4, 1, 2, 0), (7, 1, 2, 1), eta=(1, 8))
TURNED = modes((1, 1, 17, 10), (1, 1, 17, 10), mixed=1)  # K = 11ᵀ, in units of a tenth
ONE_BASIS = Hypothesis(
    "one eigenbasis", r"K = \mathrm{diag}(h) \text{ where } H = \mathrm{diag}(s)", _one_basis
)
CLAIMS = (
    Claim(
        id="reweighting/early-stopping",
        title="With label noise, and no weights, solving a linear training problem fully is worse than stopping",
        source=SOURCE,
        statement=r"$$x_i^t(T_i^2 + \sigma_i^2) < 2\sigma_i^2 \;\forall i \;\Rightarrow\; \mathbb E F(\theta_t) < "
        r"\mathbb E F(\theta_\infty)$$ $$x_i = 1 - \eta s_i \in (0, 1)$$ so the number of steps of least expected "
        r"validation loss is finite.",
        printed="it might lead networks to learn the wrong pattern",
        hypotheses=(
            Hypothesis("noise in every direction", r"\sigma_i > 0", _every_direction),
            Hypothesis("step", r"\eta s_i < 1", _short),
            ONE_BASIS,
        ),
        strategy=st.fixed_dictionaries({"modes": MODES, "eta": ETAS, "seed": st.integers(0, 99)}),
        explicit=(UNIT, modes((4, 1, 2, 1), (7, 1, 2, 1), eta=(1, 8))),
        build=noisy,
        measure=no_better(),
        grade="proved",
        controls=(
            Control("a slow direction without noise", params=SLOW),
            Control("K = 11ᵀ where H = I", params=TURNED),
            Control("4σ² for 2σ²", kind="formula", measure=no_better(4)),
        ),
        budget=Budget(quick=25, full=400),
        notes="Gradient descent from 0 on $G = \\frac12(\\theta - T - \\varepsilon)^\\top H(\\theta - T - "
        "\\varepsilon)$ with eigenvalues $s_i$ of $H$, independent label noise $\\varepsilon_i = "
        "\\pm\\sigma_i$ of mean 0; $F = \\frac12(\\theta - T)^\\top "
        "K(\\theta - T)$ is clean. $s_i, h_i, T_i, \\sigma_i$ are entries in one "
        "basis, in which $H$ and $K$ are diagonal. Else it fails: $s = (1, 1)$, $\\eta = \\frac12$, $K = "
        "11^\\top$, $T = (1.7, 1.7)$, $\\sigma = (1, 1)$ has $1.945 < 2$ at one step, and $\\mathbb EF = 1.695$ "
        "there, 1 in the limit. Counted are the numbers of steps among "
        f"the first {WINDOW} beyond the bound that are no better than the limit. "
        "Where a slow direction has no noise, solving fully can be best: the hypothesis control.",
    ),
    Claim(
        id="reweighting/early-stopping@risk",
        title="The expected validation loss after every number of steps, exactly",
        source=SOURCE,
        statement=r"$$\mathbb EF(\theta_t) - \mathbb EF(\theta_\infty) = \frac12\sum_ih_i\left[x_i^{2t}(T_i^2 + "
        r"\sigma_i^2) - 2x_i^t\sigma_i^2\right]$$ $$\nabla^2F = K \text{ with eigenvalues } h_i \text{ in the "
        r"eigenbasis of } H$$",
        hypotheses=(ONE_BASIS,),
        strategy=st.fixed_dictionaries({"modes": MODES, "eta": ETAS, "seed": st.integers(0, 99)}),
        explicit=(UNIT, SLOW),
        build=noisy,
        measure=excess(Noisy.excess),
        grade="proved",
        controls=(
            Control("K = 11ᵀ where H = I", params=TURNED),
            Control("σ² for 2σ²", kind="formula", measure=excess(lambda p, t: p.excess(t, 1))),
            Control("a step more", kind="formula", measure=excess(lambda p, t: p.excess(t + 1))),
        ),
        curve=lambda p: {
            "x": list(range(13)),
            "predicted": [float(p.excess(t)) for t in range(13)],
            "measured": [float(p.risk(t) - p.risk(None)) for t in range(13)],
            "xlabel": "lower steps t",
            "ylabel": "E F(θ_t) − E F(θ_∞)",
        },
        budget=Budget(quick=15, full=300),
        notes="With $T = \\sigma = 1$, $\\eta s = \\frac12$ the losses are 1/2, 1/4, 5/16, 25/64, … towards 1/2: "
        "one step is best.",
    ),
)
