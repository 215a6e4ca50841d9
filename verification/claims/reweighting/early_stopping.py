"""Solving (2) fully learns label noise, and wrong labels at wrong weights: linear models over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient, solvers
from refimpl.approximate import reverse
from refimpl.arrays.backend import Array
from refimpl.zoo.quadratic import Quadratic
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights
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


@dataclass(frozen=True)
class Pair:
    """L = ½(θ − y)² at y = a (clean) and y = b (wrong), weights ω; F = ½(θ − a)²; θ_0 = 0, and α such that θ_1 = a."""

    a: fmpq
    b: fmpq
    omega: tuple[int, int]

    @property
    def full(self) -> fmpq:
        """θ_∞ = Σω_i y_i/Σω_i."""
        return (self.omega[0] * self.a + self.omega[1] * self.b) / sum(self.omega)

    @property
    def alpha(self) -> fmpq:
        """n a/Σω_i y_i."""
        return 2 * self.a / (self.full * sum(self.omega))

    @cached_property
    def problem(self) -> BilevelProblem:
        ones = rational([[1]])
        rows = HalfSquares(
            rational([[1], [1]]), np.array([self.a, self.b], dtype=object), 2, backend=RATIONAL
        )
        clean = HalfSquares(ones, np.array([self.a], dtype=object), 2, backend=RATIONAL)
        return BilevelProblem(
            clean, WeightedRows(rows, SampleWeights("identity", backend=RATIONAL), RATIONAL)
        )

    @property
    def lam(self) -> Array:
        return rational(self.omega)

    def step(self, alpha: Any = None) -> Any:
        """α as Python's fraction; another one if it is given."""
        return fraction(self.alpha if alpha is None else alpha)

    def after(self, t: int, alpha: Any = None) -> Any:
        """θ_t."""
        solver = solvers.GradientDescent(t, self.step(alpha))
        return solver.run(self.problem, self.lam, rational([0])).w[0]

    def F(self, theta: Any) -> Any:
        return self.problem.upper.value(self.lam, np.array([theta], dtype=object))


def pair(params: Mapping[str, Any]) -> Pair:
    """Small integers a and b, weights ω."""
    return Pair(fmpq(params["a"]), fmpq(params["b"]), tuple(params["omega"]))


def two(a: int = 1, b: int = 3, omega: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"a": a, "b": b, "omega": list(omega)}


def _beyond(p: Pair) -> tuple[bool, Any]:
    return p.a > 0 and p.b > p.a and p.omega[1] > 0, f"a = {p.a}, b = {p.b}, ω = {p.omega}"


def _right(p: Pair) -> tuple[bool, Any]:
    return p.omega[1] == 0, f"ω = {p.omega}"


def learns(late: int = 1) -> Callable[[Pair], Measurement]:
    """F(θ_t) against ½(θ_∞ − a)²(1 − x^{t−1})², and how often it does not rise, t = 1, …; ``late`` is the power's 1."""

    def measure(p: Pair) -> Measurement:
        x, steps = 1 - p.a / p.full, range(1, WINDOW + 3)
        found = [p.F(p.after(t)) for t in steps]
        stated = [(p.full - p.a) ** 2 * (1 - x ** (t - late)) ** 2 / 2 for t in steps]
        still = sum(int(after <= before) for before, after in pairwise(found))
        return identity([*found, fmpq(still)], [*stated, fmpq(0)])

    return measure


def converges(power: int = 2) -> Callable[[Pair], Measurement]:
    """F(θ_t) against (1 − ηω_1/n)^{2t} F(θ_0), at step η = 1/4."""

    def measure(p: Pair) -> Measurement:
        x, steps = 1 - fmpq(1, 8) * p.omega[0], range(WINDOW + 1)
        found = [p.F(p.after(t, fmpq(1, 4))) for t in steps]
        return identity(found, [x ** (power * t) * p.a**2 / 2 for t in steps])

    return measure


def signal(formula: Callable[[Pair], Any]) -> Callable[[Pair], Measurement]:
    """The exact hypergradient at θ_∞ and its signs, and the unrolled one after the best step, against (formula, 0)."""

    def measure(p: Pair) -> Measurement:
        exact = exact_hypergradient(p.problem, p.lam).value
        one = solvers.GradientDescent(1, p.step())
        unrolled = reverse(p.problem, p.lam, lower=one, w0=rational([0])).value
        wrong = int(exact[0] >= 0) + int(exact[1] <= 0)
        return identity([*exact, *unrolled, fmpq(wrong)], [*formula(p), *([fmpq(0)] * 3)])

    return measure


def tells_apart(p: Pair) -> tuple[fmpq, fmpq]:
    """(−(θ_∞ − a)², (θ_∞ − a)(b − θ_∞))/Σω, with the sign that raises the clean weight."""
    off = p.full - p.a
    return -off * off / sum(p.omega), off * (p.b - p.full) / sum(p.omega)


MODES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)),
    min_size=2,
    max_size=2,
)
ETAS = st.sampled_from([[1, 8], [1, 5], [1, 10]])
PAIRS = {"a": st.integers(1, 5), "b": st.integers(-5, 12)}
WEIGHTS = st.tuples(st.integers(1, 4), st.integers(0, 4))
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
    Claim(
        id="reweighting/early-stopping@wrong-weights",
        title="At wrong weights every step beyond the first one learns the wrong label",
        source=SOURCE,
        statement=r"$$F(\theta_t) = \tfrac12(\theta_\infty - a)^2(1 - x^{t-1})^2, \quad t \ge 1$$ $$x = 1 - "
        r"a/\theta_\infty, \quad \theta_\infty = \textstyle\sum\omega_iy_i/\sum\omega_i$$",
        hypotheses=(Hypothesis("wrong weights", r"\omega_2 > 0,\ y_2 = b > a > 0", _beyond),),
        strategy=st.fixed_dictionaries({**PAIRS, "omega": WEIGHTS}),
        explicit=(two(), two(2, 5, (3, 1))),
        build=pair,
        measure=learns(),
        grade="proved",
        controls=(
            Control("b on the other side", params=two(1, -1, (3, 1))),
            Control("x^t for x^{t−1}", kind="formula", measure=learns(0)),
        ),
        budget=Budget(quick=60, full=600),
        notes="One parameter, losses $\\frac12(\\theta - y)^2$, a clean sample $y_1 = a$ and a wrong one $y_2 = b$; "
        "the step is that with $\\theta_1 = a$. With $a = 1$, $b = 3$, $\\omega = (1, 1)$: $F = \\frac12, 0, "
        "\\frac18, \\frac9{32}, …$ towards $\\frac12$.",
    ),
    Claim(
        id="reweighting/early-stopping@right-weights",
        title="At right weights solving the training problem fully is best",
        source=SOURCE,
        statement=r"$$F(\theta_t) = \left(1 - \frac{\alpha\omega_1}n\right)^{2t}F(\theta_0)$$",
        hypotheses=(Hypothesis("right weights", r"\omega_2 = 0", _right),),
        strategy=st.fixed_dictionaries(
            {**PAIRS, "omega": st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0, 1]))}
        ),
        explicit=(two(omega=(1, 0)),),
        build=pair,
        measure=converges(),
        grade="proved",
        controls=(
            Control("wrong weights", params=two()),
            Control("t for 2t", kind="formula", measure=converges(1)),
        ),
        budget=Budget(quick=60, full=400),
        notes="So the warning is about the weights, not about solving.",
    ),
    Claim(
        id="reweighting/early-stopping@signal",
        title="Where stopping is best the unrolled derivative is zero; the fully solved one tells the samples apart",
        source=SOURCE,
        statement=r"$$\theta_1 = a: \quad \frac{\partial F(\theta_1)}{\partial\omega} = 0$$ $$\frac{\partial "
        r"F(\theta_\infty)}{\partial\omega} = \frac{1}{\sum\omega}\left(-(\theta_\infty - a)^2,\ (\theta_\infty - "
        r"a)(b - \theta_\infty)\right)$$",
        hypotheses=(Hypothesis("wrong weights", r"\omega_2 > 0,\ y_2 = b > a > 0", _beyond),),
        strategy=st.fixed_dictionaries({**PAIRS, "omega": WEIGHTS}),
        explicit=(two(), two(2, 5, (3, 1))),
        build=pair,
        measure=signal(tells_apart),
        grade="proved",
        controls=(
            Control("right weights", params=two(omega=(1, 0))),
            Control(
                "the other sign", kind="formula", measure=signal(lambda p: tuple(-x for x in tells_apart(p)))
            ),
        ),
        budget=Budget(quick=60, full=600),
        notes="The exact hypergradient at the noise that was "
        "learnt raises the right weight and lowers the wrong one, $(-\\frac12, \\frac12)$ with $a = 1$, $b = 3$, "
        "$\\omega = (1, 1)$. Stopping at the best step removes the signal that would mend the weights.",
    ),
)
