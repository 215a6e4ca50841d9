r"""Families on W = [−1, 1] over the rationals: G(λ, w) = ½h w² + e w + k, h, e, k affine in λ, F = ½q(w − a)².

Everything is known exactly. S_λ = Argmin G(λ, ·) is an interval: the point −e/h cut to W where h > 0, an end of W
where h = 0 ≠ e, W where both are 0. The largest σ with G − min G >= (σ/2)dist² on W is max{h, |e|}: with D =
dist(w, S) <= 2, G − min G is ½hD² where |e| <= h, else (|e| − h)D + ½hD² >= ½|e|D²; where S = W any σ will do.
w_λ is a cut to S_λ, f(λ) = F(w_λ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from hypothesis import strategies as st

from verification.model import Hypothesis

ZERO, ONE = Fraction(0), Fraction(1)


def cut(x: Fraction, low: Fraction, high: Fraction) -> Fraction:
    """The nearest point of [low, high]."""
    return min(max(x, low), high)


@dataclass(frozen=True)
class Lower:
    """G at one λ."""

    h: Fraction
    e: Fraction
    k: Fraction

    def __call__(self, w: Fraction) -> Fraction:
        return self.h * w * w / 2 + self.e * w + self.k

    @property
    def argmin(self) -> tuple[Fraction, Fraction]:
        if self.h > 0:
            w = cut(-self.e / self.h, -ONE, ONE)
            return w, w
        if self.e:
            w = -ONE if self.e > 0 else ONE
            return w, w
        return -ONE, ONE

    @property
    def least(self) -> Fraction:
        return self(self.argmin[0])

    @property
    def growth(self) -> Fraction | None:
        """σ; None where S = W, so that any σ will do."""
        return max(self.h, abs(self.e)) or None

    def distance(self, w: Fraction) -> Fraction:
        return abs(w - cut(w, *self.argmin))


@dataclass(frozen=True)
class Pair:
    """G, F and two values of λ; ``params``: h, e, k as [constant, slope], q, a in halves, λ and μ as fractions."""

    params: Mapping[str, Any]

    def at(self, lam: Fraction) -> Lower:
        return Lower(*(Fraction(c) + Fraction(m) * lam for c, m in (self.params[name] for name in "hek")))

    @cached_property
    def lam(self) -> Fraction:
        return Fraction(*self.params["lam"])

    @cached_property
    def mu(self) -> Fraction:
        return Fraction(*self.params["mu"])

    @cached_property
    def first(self) -> Lower:
        return self.at(self.lam)

    @cached_property
    def second(self) -> Lower:
        return self.at(self.mu)

    @property
    def approached(self) -> Lower:
        """What has the limit of S_{λ_n} for its minimisers, λ_n → λ from μ's side: h and e go to 0 together or not."""
        return self.first if self.first.h or self.first.e else self.second

    @cached_property
    def delta(self) -> Fraction:
        """sup |G(λ, ·) − G(μ, ·)| over S_λ ∪ S_μ: at an end of one of them or where the difference is flat."""
        difference = Lower(
            *(getattr(self.first, name) - getattr(self.second, name) for name in ("h", "e", "k"))
        )
        points = [*self.first.argmin, *self.second.argmin]
        if difference.h:
            flat = -difference.e / difference.h
            points += (
                [flat]
                if any(low <= flat <= high for low, high in (self.first.argmin, self.second.argmin))
                else []
            )
        return max(abs(difference(w)) for w in points)

    @cached_property
    def excess(self) -> Fraction:
        """sup over S_λ of dist(·, S_μ)."""
        return max(self.second.distance(w) for w in self.first.argmin)

    @cached_property
    def hausdorff(self) -> Fraction:
        return max(self.excess, *(self.first.distance(w) for w in self.second.argmin))

    @cached_property
    def sigma(self) -> Fraction | None:
        """The smaller growth constant of the two; None where both have S = W."""
        known = [of.growth for of in (self.first, self.second) if of.growth is not None]
        return min(known) if known else None

    # -- the upper level --

    @property
    def q(self) -> Fraction:
        return Fraction(self.params["q"])

    @property
    def a(self) -> Fraction:
        return Fraction(self.params["a"], 2)

    def F(self, w: Fraction) -> Fraction:
        return self.q * (w - self.a) ** 2 / 2

    def slope(self, w: Fraction) -> Fraction:
        """|F'(w)|."""
        return abs(self.q * (w - self.a))

    def selected(self, of: Lower) -> Fraction:
        """w_λ."""
        return cut(self.a, *of.argmin)

    def f(self, of: Lower) -> Fraction:
        return self.F(self.selected(of))


def _convex(case: Pair) -> tuple[bool, Any]:
    least = min(case.first.h, case.second.h)
    return least >= 0, str(least)


def _one_growth(case: Pair) -> tuple[bool, Any]:
    wanted = Fraction(*case.params["stated"]) if "stated" in case.params else case.sigma
    return case.sigma is None or (wanted is not None and 0 < wanted <= case.sigma), str(case.sigma)


CONVEX = Hypothesis("G convex", r"G(\lambda,\cdot),\ G(\mu,\cdot) \text{ convex}", _convex)
GROWTH = Hypothesis(
    "one growth constant",
    r"G - \min G \ge \tfrac\sigma2\operatorname{dist}(\cdot, S)^2 \text{ for λ and μ, with one } \sigma > 0",
    _one_growth,
)


def _curved(case: Pair) -> tuple[bool, Any]:
    return all(of.h > 0 or not of.e for of in (case.first, case.second)), [
        str(case.first.h),
        str(case.second.h),
    ]


CURVED = Hypothesis(
    "curvature off the minimisers", r"\nabla^2_{ww}G \succeq \sigma I \text{ off } S,\ \sigma > 0", _curved
)


def stated(case: Pair) -> Fraction:
    """σ as stated, or the largest that is true."""
    if "stated" in case.params:
        return Fraction(*case.params["stated"])
    return case.sigma if case.sigma is not None else ONE


def pairs(**fixed: Any) -> Any:
    """Strategy; λ and μ in eighths."""
    # h >= 0 at 0 and at 1, so in between
    affine = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda ends: [ends[0], ends[1] - ends[0]])
    signed = st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(list)
    eighths = st.integers(0, 8).map(lambda i: [i, 8])
    boxes = {
        "h": affine,
        "e": st.one_of(st.just([0, 0]), signed),
        "k": signed,
        "q": st.integers(1, 3),
        "a": st.integers(-6, 6),
        "lam": eighths,
        "mu": eighths,
    }
    return st.fixed_dictionaries({**boxes, **fixed})


def pair(**more: Any) -> dict[str, Any]:
    """G = ½λw² at λ = 0 and μ = 1, F = ½(w − 1)²; ``more`` changes it."""
    return {"h": [0, 1], "e": [0, 0], "k": [0, 0], "q": 1, "a": 2, "lam": [0, 1], "mu": [1, 1], **more}
