r"""The expected dropout loss: section 8's closing formula, and the identity of appendix B.2.

f_η = f + Σ_j η_j f^j with independent η_j of mean 0 and variance s_j, so E(f_η − y)² = ε² + Σ_j s_j (f^j)²: the mean of
the square is the square of the mean plus the variance. With masks of 0 and 1, unscaled, f_m = c + Σ_j m_j f^j has mean
c + Σ_j p_j f^j and variance Σ_j p_j (1 − p_j)(f^j)². With k outputs each has its own variance: Σ_j s_j a_j² ‖W_j‖².
"""

from __future__ import annotations

import itertools as it
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.masks import Dropout
from refimpl.networks import MLP, NetworkLoss
from verification.claims.dropout_flatness._planted import (
    KEEP,
    PARTS,
    RATIONAL,
    Point,
    at,
    build,
    networks,
    points,
)
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

SOURCE = "dropout-flatness, appendix B.2"


@dataclass(frozen=True)
class Output:
    """One sample: f^1, …, f^m, the rest c − y of the error, and a keep probability for every unit."""

    parts: tuple[Fraction, ...]
    rest: Fraction
    keep: tuple[Fraction, ...]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Output:
        """From whole numbers ``parts`` and ``rest``, and ``keep`` in eighths."""
        keep = tuple(Fraction(k, PARTS) for k in params["keep"])
        return cls(tuple(map(Fraction, params["parts"])), Fraction(params["rest"]), keep)

    def mean(self, *, scaled: bool = True) -> Fraction:
        """E (c − y + Σ_j μ_j f^j)², every mask, μ_j = m_j/p_j or m_j."""
        total = Fraction(0)
        for bits in it.product((1, 0), repeat=len(self.keep)):
            chance, out = Fraction(1), self.rest
            for bit, p, f in zip(bits, self.keep, self.parts, strict=True):
                chance *= p if bit else 1 - p
                out += bit * f / (p if scaled else 1)
            total += chance * out**2
        return total

    def formula(self, spread: Callable[[Fraction], Fraction], *, scaled: bool = True) -> Fraction:
        """ε² + Σ_j spread(p_j) (f^j)², ε the error at the masks' mean."""
        pairs = list(zip(self.keep, self.parts, strict=True))
        error = self.rest + sum(f if scaled else p * f for p, f in pairs)
        return error**2 + sum(spread(p) * f**2 for p, f in pairs)


def variance(p: Fraction) -> Fraction:
    """s = (1 − p)/p."""
    return (1 - p) / p


def is_literal(
    spread: Callable[[Fraction], Fraction] = variance, half: int = 1
) -> Callable[[Output], Measurement]:
    """The formula against every mask."""
    return lambda case: identity(half * case.formula(spread), case.mean())


def plain_masks(case: Output) -> Measurement:
    """The formula of scaled masks against masks of 0 and 1."""
    return identity(case.formula(variance), case.mean(scaled=False))


def plain_corrected(case: Output) -> Measurement:
    """(c + Σ p_j f^j − y)² + Σ_j p_j (1 − p_j)(f^j)² against masks of 0 and 1."""
    return identity(case.formula(lambda p: p * (1 - p), scaled=False), case.mean(scaled=False))


def risk(spread: Callable[[Array], Array] = lambda s: s) -> Callable[[Point], Measurement]:
    """R_S + (1/2n) Σ_i Σ_j s_j (f^j_i)², and the library's closed form, against every mask of the network."""

    def measure(case: Point) -> Measurement:
        B, t = case.backend, case.terms
        dropped = B.sum(B.sum(spread(case.spread)[:, None] * t.parts * t.parts)) / (2 * case.n)
        formula = B.sum(t.errors * t.errors) / (2 * case.n) + dropped
        closed = case.dropout.closed
        assert closed is not None
        return identity([formula, closed.value(case.lam, case.theta)], [case.value(case.theta)] * 2)

    return measure


# -- several outputs --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Several:
    """A network with k outputs, the mean of ½‖f − y‖² over samples, and keep probabilities of the last hidden layer."""

    loss: NetworkLoss
    theta: Array
    keep: tuple[Fraction, ...]

    def mean(self) -> Any:
        """E_ηR, every mask."""
        net, lam, total = self.loss.net, RATIONAL.zeros((0,)), RATIONAL.scalar(0)
        before = [Fraction(1)] * (net.units - len(self.keep))
        for bits in it.product((1, 0), repeat=len(self.keep)):
            pairs = list(zip(bits, self.keep, strict=True))
            chance = math.prod((p if b else 1 - p for b, p in pairs), start=Fraction(1))
            mask = RATIONAL.asarray([RATIONAL.scalar(x) for x in [*before, *(b / p for b, p in pairs)]])
            total += RATIONAL.scalar(chance) * self.loss.drop_units(mask).value(lam, self.theta)
        return total

    def formula(self, *, norms: bool = True) -> Any:
        """R_S + (1/2n) Σ_i Σ_j s_j a_ij² ‖W_j‖²; without ``norms`` (Σ_r W_rj)² for ‖W_j‖²."""
        net = self.loss.net
        run = net.forward(self.theta, RATIONAL.mT(self.loss.X))
        W, a = net.layers(self.theta)[-1][:, :-1], run.inputs[-1]
        size = (W * W).sum(axis=0) if norms else W.sum(axis=0) ** 2
        s = RATIONAL.asarray([RATIONAL.scalar((1 - p) / p) for p in self.keep])
        dropped = (s * size) @ (a * a).sum(axis=1) / (2 * self.loss.count)
        return self.loss.value(RATIONAL.zeros((0,)), self.theta) + dropped

    def closed(self) -> Any:
        """E_ηR, by the library."""
        masks = self.loss.net.last_masks(list(self.keep))
        made = self.loss.with_dropout(masks, site="activations", scale="inverse")
        assert isinstance(made, Dropout)
        assert made.closed is not None
        return made.closed.value(RATIONAL.zeros((0,)), self.theta)


def several(params: Mapping[str, Any]) -> Several:
    """Halves, from ``widths``, ``activation``, ``n``, ``seed`` and ``keep`` (eighths, repeated to fit)."""
    rng, widths, n = np.random.default_rng(params["seed"]), tuple(params["widths"]), params["n"]
    net = MLP(widths, params["activation"]).to("rational")
    theta, X, y = (rng.integers(-4, 5, shape) / 2 for shape in (net.size, (n, widths[0]), (widths[-1], n)))
    loss = NetworkLoss(net, RATIONAL.asarray(X), RATIONAL.asarray(y), "squared", 0, 0, backend=RATIONAL)
    keep = it.islice(it.cycle(params["keep"]), widths[-2])
    return Several(loss, RATIONAL.asarray(theta), tuple(Fraction(k, PARTS) for k in keep))


def several_outputs(*, norms: bool = True) -> Callable[[Several], Measurement]:
    """The formula and the library's closed form against every mask."""
    return lambda case: identity([case.formula(norms=norms), case.closed()], [case.mean()] * 2)


GRID = [
    {"parts": [f, g], "rest": rest, "keep": [p, q]}
    for f, g, rest, p, q in it.product((1, 0, -1), (1, 0, -1), (0, 1, -1), (4, 2, 8), (4, 6, 8))
]

CLAIMS = (
    Claim(
        id="dropout-flatness/loss-identity",
        title="Twice the expected dropout loss of a sample",
        source=SOURCE,
        statement=r"2E_\eta\ell(f_\eta, y) = \varepsilon^2 + \frac{1-p}{p}\sum_j (f^j)^2, \quad \ell(f, y) = "
        r"\tfrac12(f-y)^2",
        explicit=GRID,
        build=Output.of,
        measure=is_literal(),
        grade="proved",
        complete="both sides are quadratic forms in (c − y, f¹, …, f^m), no coefficient of which involves more than "
        "two units' masks; the product of all p_j times either side "
        "has degree 2 in every p_j: three values of each of five variables decide "
        "m = 2, and with it every m",
        controls=(
            Control("1/p for (1−p)/p", kind="formula", measure=is_literal(lambda p: 1 / p)),
            Control("half of it: ℓ without its ½", kind="formula", measure=is_literal(half=2)),
        ),
        notes="The mean of a square is the square of the mean plus the variance, and $\\operatorname{Var}\\eta_j = "
        "(1-p)/p$. Units may have different keep probabilities: $s_j = (1-p_j)/p_j$ then stands inside the sum.",
    ),
    Claim(
        id="dropout-flatness/loss-identity@risk",
        title="The expected dropout risk of a network: the risk plus the squares of its last hidden units",
        source="dropout-flatness, section 8 and appendix B.1",
        statement=r"E_\eta R_S^{\text{drop}} = R_S + \frac{1-p}{2np}\sum_{i=1}^n\sum_{j=1}^{m} (f^j(x_i))^2",
        strategy=points(networks((1, 3)), ["linear", "relu", "leaky_relu"], n=(1, 4)),
        explicit=(at([1, 1, 1], n=1, seed=0), at([2, 2, 2, 1], n=3, seed=1, keep=[4, 2])),
        build=build,
        measure=risk(),
        grade="proved",
        controls=(
            Control("1/p for (1−p)/p", kind="formula", measure=risk(lambda s: 1 + s)),
            Control("p(1−p) for (1−p)/p", kind="formula", measure=risk(lambda s: s / (1 + s) ** 2)),
        ),
        budget=Budget(quick=60, full=1200),
        notes="Networks of two to four layers over the rationals, every mask; the library's closed form is compared "
        "too. It needs no stationary point and no piecewise linear activation, only dropout behind the last hidden "
        "layer (setting 1) and the squared loss (setting 2).",
    ),
    Claim(
        id="dropout-flatness/loss-identity@k-outputs",
        title="With k outputs: squared units weighted by their columns' squared norms",
        source=SOURCE + ", without the restriction to one output of setting 3",
        statement=r"2E_\eta R_S^{\text{drop}} = \frac1n\sum_i\left[\|f(x_i) - y_i\|^2 + \sum_j s_j "
        r"a_j(x_i)^2\|W_j\|^2\right]",
        strategy=st.fixed_dictionaries(
            {
                "widths": st.lists(st.integers(1, 2), min_size=1, max_size=2).map(lambda h: [2, *h, 2]),
                "activation": st.sampled_from(["linear", "relu", "leaky_relu"]),
                "n": st.integers(1, 3),
                "seed": st.integers(0, 999),
                "keep": KEEP,
            }
        ),
        explicit=(at([1, 1, 2], n=1, seed=1), at([2, 2, 3], n=2, seed=0)),
        build=several,
        measure=several_outputs(),
        grade="proved",
        controls=(Control("(Σ_r W_rj)² for ‖W_j‖²", kind="formula", measure=several_outputs(norms=False)),),
        budget=Budget(quick=60, full=500),
        notes="Each output has its own variance $\\sum_j s_ja_j^2W_{rj}^2$; sum over r. $W_j$ is the last layer's "
        "column of unit j.",
    ),
    Claim(
        id="dropout-flatness/loss-identity@plain-masks",
        title="The identity with masks of 0 and 1 that are not scaled",
        source=SOURCE + ", with masks as dropout-bilevel has them",
        statement=r"2E_m\ell\left(w\cdot(m\circ a) + c,\, y\right) = \varepsilon^2 + \frac{1-p}{p}\sum_j (f^j)^2",
        strategy=st.fixed_dictionaries(
            {
                "parts": st.lists(st.integers(-4, 4), min_size=2, max_size=2),
                "rest": st.integers(-4, 4),
                "keep": st.lists(st.integers(1, PARTS), min_size=2, max_size=2),
            }
        ),
        explicit=({"parts": [1], "rest": 0, "keep": [4]}, {"parts": [1, 2], "rest": -1, "keep": [4, 2]}),
        build=Output.of,
        measure=plain_masks,
        grade="proved",
        corrected=Correction(
            tex=r"2E_m\ell = \Big(c + \sum_j p_jf^j - y\Big)^2 + \sum_j p_j(1-p_j)(f^j)^2",
            measure=plain_corrected,
            proof="Mean and variance of $c + \\sum_j m_jf^j$. With $\\tilde a = p\\circ a$ for a it is the printed "
            "identity again, since $p(1-p)a^2 = \\frac{1-p}{p}\\tilde a^2$: one code serves both scalings.",
        ),
        budget=Budget(quick=100, full=1000),
        notes="Smallest: f¹ = 1, c = y, p = ½: ½ against 2. The document scales its masks to mean one, so this is not "
        "its claim; it is what happens where the scaling is left out.",
    ),
)
