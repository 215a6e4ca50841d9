r"""Remark 2: expected smoothness E‖f(x,ξ) − f(y,ξ)‖² <= C²‖x − y‖², its constant instance by instance, in rationals.

Quadratic Ĝ: ∇Ĝ(w) − ∇Ĝ(w') = H_ξ(w − w'), so C² = λ_max(E H_ξ²), attained, and C² >= ‖E H_ξ‖² = L² by Jensen. For a map
with ∂₁Φ̂ = A + N: E‖(A + N)u‖² = ‖Au‖² + E‖Nu‖² <= (q² + σ'₁)‖u‖²: C(iii) implies it for Φ̂, whereas variances of the
values alone, C(ii) and C(iv), imply nothing: they do not see how fast the noise turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.rates import Constant
from refimpl.zoo.quadratic import Quadratic
from verification.claims.contraction._noise import A_I, FAIR, QUIET, Noisy, halved, noisy, rationals
from verification.claims.contraction._noise import build as noisy_map
from verification.claims.dropout_bilevel._iterates import semidefinite
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

RATIONAL = backend("rational")


@dataclass(frozen=True)
class Sum:
    """A finite sum of quadratics over the rationals, two points, and C² as stated."""

    loss: Quadratic
    w: Array
    other: Array
    square: fmpq

    @property
    def lam(self) -> Array:
        return rationals([0])

    def moved(self) -> fmpq:
        """E‖∇Ĝ(w) − ∇Ĝ(w')‖², every sample by the loss itself."""
        drawn = self.loss.at(np.arange(len(self.loss.w1)))
        difference = drawn.grad_w(self.lam, self.w) - drawn.grad_w(self.lam, self.other)
        return (difference**2).sum() / len(difference)


def finite_sum(p: dict[str, Any]) -> Sum:
    """Hessians (a, b; b, c) from ``hessians``, in halves; C² by trial, the least multiple of 1/64 above λ_max."""
    d = p["d"]
    halves = [[fmpq(k, 2) for k in row] for row in p["hessians"]]
    H = np.stack([np.array([[a, b], [b, c]], dtype=object)[:d, :d] for a, b, c in halves])
    count, zero = len(H), RATIONAL.zeros
    loss = Quadratic(
        H, zero((count, 1, d)), zero((count, 1, 1)), zero((count, d)), zero((count, 1)), RATIONAL
    )
    w, other = (rationals(p[name][:d]) for name in ("w", "other"))
    second = np.stack([M @ M for M in H]).sum(axis=0) / count
    return Sum(loss, w, other, fmpq(*p.get("stated", [1, 1])) * largest(second))


def largest(M: Array) -> fmpq:
    """The largest eigenvalue where it is a multiple of 1/64, else the next such multiple, decided exactly."""
    value = float(np.max(np.linalg.eigvalsh(np.array(M, dtype=float))))
    step = fmpq(1, 64)
    c = step * (int(value * 64) - 1)
    while not semidefinite(c * RATIONAL.eye(len(M)) - M):
        c += step
    return c


def smooth(bound: Callable[[Sum], fmpq] = lambda one: one.square) -> Callable[[Sum], Measurement]:
    """E‖∇Ĝ(w) − ∇Ĝ(w')‖² against C²‖w − w'‖²."""

    def measure(one: Sum) -> Measurement:
        return Measurement(observed=one.moved(), bound=bound(one) * ((one.w - one.other) ** 2).sum())

    return measure


def of_mean(one: Sum) -> fmpq:
    """‖E H‖²: L²."""
    mean = one.loss.ww.mean(axis=0)
    return largest(mean @ mean)


def _stated(one: Sum) -> tuple[bool, str]:
    second = np.stack([M @ M for M in one.loss.ww]).sum(axis=0) / len(one.loss.ww)
    ok = semidefinite(one.square * RATIONAL.eye(len(second)) - second)
    return ok, f"C² = {one.square} stated"


# -- maps -------------------------------------------------------------------------------------------------


def of_map(spread: Any = 1) -> Callable[[Noisy], Measurement]:
    """E‖Φ̂(w_0) − Φ̂(w(λ))‖² against (q² + σ'₁)‖w_0 − w(λ)‖²."""

    def measure(one: Noisy) -> Measurement:
        phi, known = one.problem.phi, one.stated
        drawn = phi.at(np.arange(phi.space.size))
        difference = drawn.value(one.lam, one.w0) - drawn.value(one.lam, one.centre)
        return Measurement(
            observed=(difference**2).sum() / len(difference),
            bound=(known.q**2 + spread * known.d_sigma1) * ((one.w0 - one.centre) ** 2).sum(),
        )

    return measure


def _columns(one: Noisy) -> tuple[bool, str]:
    """E‖Nu‖² <= σ'₁‖u‖²."""
    _, N, _ = one.parts
    form = one.stated.d_sigma1 * RATIONAL.eye(N.shape[-1]) - (N.swapaxes(1, 2) @ N).sum(axis=0) / len(N)
    return semidefinite(form), f"σ'₁ = {one.stated.d_sigma1} stated"


# -- what does not bound it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fast:
    """Noise ε tri(Nw) on R, ε = ±1, tri the triangle wave of slopes ±1 between −1 and 1, period 4; Nw at two points."""

    N: int
    first: fmpq
    second: fmpq

    def wave(self, w: fmpq) -> fmpq:
        """tri(w)."""
        x = w - 4 * ((w + 1) / 4).floor()  # in [−1, 3)
        return x if x <= 1 else 2 - x

    def drawn(self, w: fmpq) -> Array:
        """f(w, ε) for both ε."""
        return rationals([sign * self.wave(self.N * w) for sign in FAIR])

    def variance(self, w: fmpq) -> fmpq:
        """V[f(w, ·)]."""
        values = self.drawn(w)
        return ((values - values.sum() / len(values)) ** 2).sum() / len(values)

    def moved(self, share: Any = 1, most: Any = 1) -> Measurement:
        """E|f(w) − f(w')|² against N²|w − w'|², and the largest V over a period in eighths against 1."""
        w, other = self.first / self.N, self.second / self.N
        square = ((self.drawn(w) - self.drawn(other)) ** 2).sum() / len(FAIR)
        largest = max(self.variance(fmpq(k, 8) / self.N) for k in range(32))
        return identity([square, largest], [share * self.N**2 * (w - other) ** 2, most])


def fast(p: dict[str, Any]) -> Fast:
    """Nw and Nw' on slope ``slope`` (they rise and fall in turn), ``first`` and ``second`` 8ths above its foot."""
    foot = 2 * p["slope"] - 1
    return Fast(p["N"], *(foot + fmpq(p[name], 8) for name in ("first", "second")))


def _one_slope(one: Fast) -> tuple[bool, str]:
    slopes = [((x + 1) / 2).floor() for x in (one.first, one.second)]
    return bool(slopes[0] == slopes[1]), f"Nw = {one.first}, Nw' = {one.second}"


RARE = {
    "d": 1,
    "hessians": [[8, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
    "w": [1, 0],
    "other": [0, 0],
}  # L = 1, C² = 4
SIMPLE = {
    "d": 1,
    "hessians": [[1, 0, 0], [3, 0, 0], [1, 0, 0], [3, 0, 0]],
    "w": [1, 0],
    "other": [0, 0],
}  # C² = 5/4
PLANE = {"d": 2, "hessians": [[2, 0, 4], [0, 0, 4], [2, 2, 0], [1, -2, 2]], "w": [1, 2], "other": [0, -1]}
ABSOLUTE = {**QUIET, "law": "absolute", "strength": 2}
SLOPE = {"N": 1, "slope": 0, "first": 4, "second": 12}
HALF = fmpq(1, 2)
_entry = st.integers(-4, 4)
_hessian = st.tuples(_entry, _entry, _entry).map(list)
_point = st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(list)
CLAIMS = (
    Claim(
        id="contraction/remark-2",
        title="The expected-smoothness constant of a finite sum of quadratics",
        source="contraction, Remark 2; its formula is lost, restored",
        statement=r"\mathbb E\|\nabla_1\hat G(w,\xi)-\nabla_1\hat G(w',\xi)\|^2\le C^2\|w-w'\|^2,\qquad "
        r"C^2=\lambda_{\max}(\mathbb EH_\xi^2)\ge\|\mathbb EH_\xi\|^2=L^2",
        hypotheses=(Hypothesis("C²", r"\mathbb EH_\xi^2\preceq C^2I", _stated),),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 2),
                "hessians": st.tuples(*[_hessian] * 4).map(list),
                "w": _point,
                "other": _point,
            }
        ),
        explicit=(SIMPLE, RARE, PLANE),
        build=finite_sum,
        measure=smooth(),
        grade="proved",
        controls=(
            Control("C² stated too small", params={**SIMPLE, "stated": [9, 10]}),
            Control("L² for C²", kind="formula", measure=smooth(of_mean), params=SIMPLE),
            Control("3L² for C²", kind="formula", measure=smooth(lambda one: 3 * of_mean(one)), params=RARE),
        ),
        equality=Equality(params=SIMPLE, reaches=1.0),
        budget=Budget(quick=80, full=600),
        notes=r"Attained along the top eigenvector of $\mathbb EH_\xi^2$: $h\in\{\tfrac12,\tfrac32\}$ has "
        r"$L=1$, $C^2=\tfrac54$. No function of $L$ bounds it: $h=N$ with chance $1/N$ has $L=1$ and "
        r"$C^2=N$ (here 4). Methods with variance reduction depend on it, SID does not.",
    ),
    Claim(
        id="contraction/remark-2@map",
        title="Bounded noise of the Jacobian already is expected smoothness of the map",
        source="contraction, Remark 2 for Φ̂; derived here",
        statement=r"\mathbb E\|\hat\Phi(w)-\hat\Phi(w')\|^2\le(q^2+\sigma_1')\|w-w'\|^2\quad\text{for "
        r"}\hat\Phi\text{ affine given }\zeta",
        hypotheses=(
            A_I,
            Hypothesis(
                "C(iii)", r"\mathbb E\|(\partial_1\hat\Phi-\partial_1\Phi)u\|^2\le\sigma_1'\|u\|^2", _columns
            ),
        ),
        strategy=noisy(steps=st.just(1)),
        explicit=(ABSOLUTE, {**ABSOLUTE, "d": 2, "left": 1, "skew": True}),
        build=lambda p: noisy_map(p, lambda known, _: Constant(fmpq(1))),
        measure=of_map(),
        grade="proved",
        controls=(
            halved("q", "q", ABSOLUTE),
            halved("d_sigma1", "σ'₁", ABSOLUTE),
            Control("without σ'₁", kind="formula", measure=of_map(0), params=ABSOLUTE),
        ),
        equality=Equality(params=ABSOLUTE, reaches=1.0),
        budget=Budget(quick=80, full=600),
        notes=r"So what variance reduction asks for beyond assumption C concerns $\partial\hat\Phi$ and "
        r"$\nabla\hat E$, not $\hat\Phi$. Equality: $\hat\Phi=(q\pm s)w$.",
    ),
    Claim(
        id="contraction/remark-2@variance",
        title="Bounded variances do not imply expected smoothness",
        source="contraction, Remark 2: why it is an additional assumption",
        statement=r"f(w,\varepsilon)=\varepsilon\operatorname{tri}(Nw),\;\varepsilon=\pm1:\quad\max_w\mathbb "
        r"V[f(w,\cdot)]=1,\quad\mathbb E|f(w,\cdot)-f(w',\cdot)|^2=N^2|w-w'|^2\text{ on one slope, "
        r"so }C^2\ge N^2",
        hypotheses=(
            Hypothesis(
                "on one slope", r"\lfloor\tfrac{Nw+1}2\rfloor=\lfloor\tfrac{Nw'+1}2\rfloor", _one_slope
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "N": st.integers(1, 1000),
                "slope": st.integers(-6, 6),
                **{name: st.integers(0, 15) for name in ("first", "second")},
            }
        ),
        explicit=(SLOPE, {**SLOPE, "N": 100, "slope": 3, "second": 5}),
        build=fast,
        measure=Fast.moved,
        grade="proved",
        controls=(
            Control("past the top", params={**SLOPE, "N": 10, "second": 20}),
            Control("2N² for N²", kind="formula", measure=lambda one: one.moved(2)),
            Control("a variance of at most ½", kind="formula", measure=lambda one: one.moved(most=HALF)),
        ),
        budget=Budget(quick=60, full=600),
        notes=r"tri is the triangle wave between $-1$ and 1 with slopes $\pm1$: the noise has variance at "
        r"most 1, attained at its tops, and turns as fast as $N$ says. C(ii) and C(iv) hold "
        r"with constants that do not depend on $N$.",
    ),
)
