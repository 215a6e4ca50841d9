"""Meta-Weight-Net with weights that are a function of the loss: its derivative, and what its step descends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq, fmpq_poly
from hypothesis import strategies as st

from refimpl.algorithms import MetaWeightNet
from refimpl.arrays.backend import Array
from refimpl.problem import FixedPointProblem
from refimpl.zoo import weight_function
from verification.claims.reweighting._one_step import Step, line, one, sizes, step
from verification.claims.reweighting._penalty import rational
from verification.instances import EPS, size
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

SOURCE = "reweighting, (5) and (6), weights as in Shu et al. 2019"
REG = 0.125
TINY = 1e-200  # of the complex step: its square underflows, so that nothing is truncated or cancelled

# -- in floats: softmax losses, V a network of one hidden layer --------------------------------------------


@dataclass(frozen=True)
class Net:
    """Softmax losses, weights V(ℓ; Θ) = σ(Σ_k c_k tanh(a_k ℓ + b_k) + e), F a mean of clean losses; written out."""

    problem: FixedPointProblem
    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    Theta: np.ndarray
    theta: np.ndarray
    step: float
    eta: float
    classes: int

    def softmax(self, X: np.ndarray, y: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Losses (N,) and gradients (N, d); θ may be complex."""
        z = X @ theta.reshape(self.classes, -1).T
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        excess = p - np.eye(self.classes)[y]
        return -np.log(p[range(len(y)), y]), (excess[:, :, None] * X[:, None]).reshape(len(y), -1)

    def V(self, loss: np.ndarray, Theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V (N,) and ∂_ΘV (N, n)."""
        (a, b, c), e = np.split(Theta[:-1], 3), Theta[-1]
        t = np.tanh(a * loss[:, None] + b)
        V = 1 / (1 + np.exp(-(t @ c + e)))
        inner = c * (1 - t * t)
        by = np.concatenate([inner * loss[:, None], inner, t, np.ones((len(loss), 1))], axis=1)
        return V, (V * (1 - V))[:, None] * by

    def ahead(self, Theta: np.ndarray) -> np.ndarray:
        """θ̂(Θ), the losses' weights at θ; the lower level has a ridge."""
        loss, gradients = self.softmax(self.X, self.y, self.theta)
        return self.theta - self.step * (self.V(loss, Theta)[0] @ gradients / len(self.y) + REG * self.theta)

    def F(self, theta: np.ndarray) -> Any:
        return self.softmax(self.X_val, self.y_val, theta)[0].mean()

    def slope(self, theta: np.ndarray) -> np.ndarray:
        return self.softmax(self.X_val, self.y_val, theta)[1].mean(0)

    @cached_property
    def judged(self) -> np.ndarray:
        """∂F(θ̂(Θ))/∂Θ by complex steps."""
        return np.array(
            [np.imag(self.F(self.ahead(self.Theta + 1j * TINY * u))) / TINY for u in np.eye(len(self.Theta))]
        )

    def formula(self, *, at: str = "ahead", losses: str = "theta", through: bool = False) -> np.ndarray:
        """−(α/n) Σ_i (F'(θ̂)ᵀ∇L_i(θ)) ∂_ΘV(L_i(θ); Θ); mutants take F' or V's losses elsewhere."""
        points = {"ahead": self.ahead(self.Theta), "theta": self.theta}
        gradients = self.softmax(self.X, self.y, self.theta)[1]
        seen = self.softmax(self.X, self.y, points[losses])[0]
        by = self.V(seen, self.Theta)[1]
        if through:  # ∂V without the factor ℓ of a's part
            k = (len(self.Theta) - 1) // 3
            by = np.concatenate([by[:, k : 2 * k], by[:, k:]], axis=1)
        return -self.step / len(self.y) * ((gradients @ self.slope(points[at])) @ by)

    @property
    def package(self) -> np.ndarray:
        """(Θ − Θ⁺)/η of the package's iteration."""
        algorithm = MetaWeightNet(alpha=1, eta=self.eta)
        state = algorithm.init(self.problem, self.Theta, self.theta)
        end = algorithm.step(self.problem, state, algorithm.space(self.problem).sample(0, ()))
        return np.asarray((self.Theta - end.lam) / self.eta)

    @property
    def rounding(self) -> float:
        """10·eps × the operations of a sum over samples, units and classes × the squared sizes; Θ/η once more."""
        data = 1 + sum(size(x) for x in (self.X, self.X_val, self.Theta, self.theta)) ** 2
        count = len(self.Theta) + len(self.theta) + len(self.y) * (len(self.Theta) + self.classes)
        return float(10 * EPS * (count * data * max(1, self.step) + size(self.Theta) / self.eta))


def net(params: Mapping[str, Any]) -> Net:
    """``samples`` training samples of two features and as many clean ones, three classes."""
    rng, classes = np.random.default_rng(params["seed"]), 3
    N, hidden = params["samples"], params["hidden"]
    X, X_val = rng.standard_normal((2, N, 2))
    y, y_val = rng.integers(0, classes, (2, N))
    posed = weight_function.problem(
        X,
        y,
        X_val,
        y_val,
        classes=classes,
        hidden=hidden,
        step=params["step"],
        reg=REG,
        seed=params["seed"],
    )
    theta = rng.standard_normal(posed.d)
    Theta = np.asarray(posed.initial) + 0.5 * rng.standard_normal(posed.n)
    return Net(posed, X, y, X_val, y_val, Theta, theta, params["step"], 0.5, classes)


def close(value: Callable[[Net], np.ndarray]) -> Callable[[Net], Measurement]:
    """A stated derivative and the package's, against complex steps."""

    def measure(s: Net) -> Measurement:
        gap = max(size(v - s.judged) for v in (value(s), s.package))
        return Measurement(observed=gap, bound=0.0, rounding=s.rounding, detail={"scale": size(s.judged)})

    return measure


# -- over the rationals: V a polynomial of the loss -----------------------------------------------------------


def polynomial(s: Step) -> fmpq_poly:
    """V(ℓ) = Θ_0 + Θ_1 ℓ + Θ_2 ℓ²."""
    return fmpq_poly([fmpq(int(c)) for c in s.params["V"]])


def along(s: Step, j: int) -> list[fmpq_poly]:
    """L_i(θ + t e_j), polynomials in t."""
    rests = s.x @ s.theta - s.y
    residuals = [fmpq_poly([fmpq(r), fmpq(x[j])]) for r, x in zip(rests, s.x, strict=True)]
    return [r * r / 2 for r in residuals]


def gradient(s: Step, of: Callable[[fmpq_poly, fmpq_poly], fmpq_poly]) -> Array:
    """∇_θ (1/n) Σ of(V, L_i)(θ): the coefficients of t, exactly."""
    V, d = polynomial(s), len(s.theta)
    slopes = [sum((of(V, L)[1] for L in along(s, j)), fmpq(0)) / len(s.y) for j in range(d)]
    return rational([0] * d) + np.array(slopes, dtype=object)


def held(s: Step) -> Array:
    """(1/n) Σ V(L_i(θ)) ∇L_i(θ): what (6) takes."""
    V, rests = polynomial(s), s.x @ s.theta - s.y
    weights = np.array([V(fmpq(r * r / 2)) for r in rests], dtype=object)
    return (weights[:, None] * s.gradients(s.theta)).sum(axis=0) / len(s.y)


def latent(V: fmpq_poly, L: fmpq_poly) -> fmpq_poly:
    """∫₀^L V."""
    return V.integral()(L)


def inserted(V: fmpq_poly, L: fmpq_poly) -> fmpq_poly:
    """V(L) L: (2) with the weight function in place of ω_i."""
    return V(L) * L


def descends(
    of: Callable[[fmpq_poly, fmpq_poly], fmpq_poly], factor: int = 1
) -> Callable[[Step], Measurement]:
    """(6)'s direction against the gradient of an objective."""
    return lambda s: identity(held(s), gradient(s, of) * factor)


CURVES = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
CONSTANT = line([1], [1]) | {"V": [2, 0, 0]}
LINEAR = line([1], [1]) | {"V": [0, 1, 0]}
EXPLICIT = (CONSTANT, LINEAR, one(2, 2, 1) | {"V": [1, -1, 2]})
CLAIMS = (
    Claim(
        id="reweighting/mwn-step@weight-function",
        title="The derivative of the one-step objective in a weight function's parameters",
        source=SOURCE,
        statement=r"$$\omega_i = V(L_i(\theta); \Theta): \quad \frac{\partial "
        r"F(\hat\theta(\Theta))}{\partial\Theta} = -\frac\alpha n\sum_i\left(\nabla F(\hat\theta)^\top\nabla "
        r"L_i(\theta)\right)\partial_\Theta V(L_i(\theta); \Theta)$$ $$V(\ell) = "
        r"\sigma\left(\textstyle\sum_kc_k\tanh(a_k\ell + b_k) + e\right)$$",
        strategy=st.fixed_dictionaries(
            {
                "samples": st.integers(1, 6),
                "hidden": st.integers(1, 3),
                "seed": st.integers(0, 999),
                "step": st.sampled_from([0.25, 1.0, 4.0]),
            }
        ),
        explicit=(
            {"samples": 1, "hidden": 1, "seed": 0, "step": 1.0},
            {"samples": 5, "hidden": 2, "seed": 1, "step": 4.0},
        ),
        build=net,
        measure=close(Net.formula),
        grade="exact",
        controls=(
            Control("∇F at θ", kind="formula", measure=close(lambda s: s.formula(at="theta"))),
            Control(
                "∂V at the losses of θ̂", kind="formula", measure=close(lambda s: s.formula(losses="ahead"))
            ),
            Control(
                "the factor ℓ of ∂V/∂a missing",
                kind="formula",
                measure=close(lambda s: s.formula(through=True)),
            ),
            Control("the other sign", kind="formula", measure=close(lambda s: -s.formula())),
        ),
        budget=Budget(quick=40, full=600),
        notes="The weights are those of $\\theta$, held while $\\hat\\theta$ is made. The judge is a complex step "
        "through the virtual step written out; the package's iteration is judged beside the formula.",
    ),
    Claim(
        id="reweighting/mwn-step@through",
        title="Reading (6) with a weight function as a gradient step on (2) with that function inserted",
        source=SOURCE,
        statement=r"$$\frac1n\sum_iV(L_i)\nabla L_i = \nabla_\theta\,\frac1n\sum_iV(L_i(\theta))L_i(\theta)$$",
        printed=r"\nabla_\theta\left(\sum_i\omega_{i,t+1}\mathcal L(f(x_i, \theta_t), y_i)\right)",
        strategy=sizes(V=CURVES),
        explicit=(CONSTANT, LINEAR),
        build=step,
        measure=descends(inserted),
        grade="proved",
        corrected=Correction(
            tex=r"$$\frac1n\sum_iV(L_i)\nabla L_i = \nabla_\theta\,\frac1n\sum_i\int_0^{L_i(\theta)}V(s)\,ds$$",
            measure=descends(latent),
            proof="The fundamental theorem of calculus, sample by sample.",
        ),
        budget=Budget(quick=60, full=800),
        notes="Inserted, the function is differentiated too: $\\sum(V + V'L_i)\\nabla L_i$. With $V(\\ell) = "
        "\\ell$, $L = \\frac12$, $L' = 1$: $\\frac12$ against $1$.",
    ),
    Claim(
        id="reweighting/mwn-step@latent",
        title="What (6) descends on with a weight function of the loss",
        source=SOURCE,
        statement=r"$$\frac1n\sum_iV(L_i)\nabla L_i = \nabla_\theta\,\frac1n\sum_i\int_0^{L_i(\theta)}V(s)\,ds$$",
        strategy=sizes(V=CURVES),
        explicit=EXPLICIT,
        build=step,
        measure=descends(latent),
        grade="proved",
        controls=(
            Control("V(L)L for the integral", kind="formula", measure=descends(inserted)),
            Control("½V(L)L for the integral", kind="formula", measure=descends(lambda V, L: V(L) * L / 2)),
            Control("1/n missing", kind="formula", measure=lambda s: descends(latent, len(s.y))(s)),
        ),
        budget=Budget(quick=80, full=1500),
        notes="So the lower level of the bilevel problem that this method approximates is this latent loss: an exact "
        "hypergradient with (2) as the lower level answers another question. It need not be convex where $V$ falls.",
    ),
)
