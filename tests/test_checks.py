"""check_derivatives must catch every mistake in every quantity of every family of the zoo."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import Backend
from refimpl.checks import Row, check_derivatives
from refimpl.errors import WrongDerivative
from refimpl.objective import Map, Objective, descent_map
from refimpl.operators import Operator
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, uppers, weighted_softmax
from tests.backends import on_cpu

_rng = np.random.default_rng(0)
_X, _y = _rng.standard_normal((5, 2)), np.array([0, 1, 2, 1, 0])
_CLEANING = weighted_softmax.problem(_X, _y, _X + 1, _y, classes=3, reg=0.1)
FAMILIES = {
    "quadratic": quadratic.random(n=3, d=3, seed=1, terms=4).lower,
    "ridge.penalty": ridge.random(d=3, seed=2, per_feature=True).lower,
    "ridge.log_penalty": ridge.random(d=3, seed=3, per_feature=True, log=True).lower,
    "ridge validation": ridge.random(d=3, seed=4).upper,
    "logistic": logistic.random(d=3, seed=5, per_feature=True).lower,
    "logistic validation": logistic.random(d=3, seed=6).upper,
    "weighted softmax": _CLEANING.lower,
    "cross entropy": _CLEANING.upper,
    "linear": uppers.linear(_X, l=_X),
    "log-cosh": uppers.log_cosh(_X, _y, n=2),
    "soft threshold": degenerate.SoftThreshold(0.75, 3),
    "affine map": maps.random(n=3, d=3, seed=7, terms=4).phi,
    "tanh map": maps.random(n=3, d=3, seed=8, kind="tanh").phi,
    "bent line": maps.bent_line(0.5, 0.75).phi,
    "descent map": descent_map(quadratic.random(n=3, d=3, seed=9, terms=4).lower, 0.1),
}
FIRST_POINT = "at() takes the first point always"
VECTORS, OPERATORS = ("value", "grad_lam", "grad_w"), ("hess_ww", "cross", "d_w", "d_lam")


# -- one mistake in one quantity --------------------------------------------------------------------------
def _changed_vector(how: str, x: Any, one_lane: Any, terms: int) -> Any:
    return {
        "sign": lambda: -x,
        "1/N": lambda: terms * x,
        "dropped term": lambda: x * (np.arange(x.shape[-1]) > 0),
        "first lane": lambda: one_lane() + 0 * x,
        "relative 1e-9": lambda: x * (1 + 1e-9),
    }[how]()


def _changed_operator(how: str, A: Operator, one_lane: Any, terms: int) -> Operator:
    def both(f: Any) -> Operator:
        return dataclasses.replace(
            A,
            apply=lambda v: f(A @ v),
            apply_T=lambda u: f(A.T @ u),
            assemble=lambda: f(A.dense()),
            symmetric=False,
        )

    return {
        "sign": lambda: both(lambda x: -x),
        "1/N": lambda: both(lambda x: terms * x),
        "relative 1e-9": lambda: both(lambda x: x * (1 + 1e-9)),
        "dropped term": lambda: dataclasses.replace(
            A, apply=lambda v: (A @ v) * (np.arange(A.shape[0]) > 0), assemble=None, symmetric=False
        ),
        "transpose": lambda: dataclasses.replace(
            A, apply=A.apply_T, apply_T=A.apply, assemble=lambda: np.swapaxes(A.dense(), -1, -2)
        ),
        "wrong T": lambda: dataclasses.replace(A, apply_T=lambda u: -(A.T @ u), symmetric=False),
        "wrong dense": lambda: dataclasses.replace(A, assemble=lambda: 2 * A.dense()),
        "dense transposed": lambda: dataclasses.replace(A, assemble=lambda: np.swapaxes(A.dense(), -1, -2)),
        "first lane": one_lane,
    }[how]()


MISTAKES = {
    **dict.fromkeys(VECTORS, ("sign", "1/N", "dropped term", "first lane", "relative 1e-9")),
    **dict.fromkeys(
        OPERATORS,
        (
            "sign",
            "1/N",
            "relative 1e-9",
            "dropped term",
            "transpose",
            "wrong T",
            "wrong dense",
            "dense transposed",
            "first lane",
        ),
    ),
}


class _Wrong:
    """One quantity of ``inner`` with one mistake; everything else is passed through."""

    inner: Any
    quantity: str
    how: str

    @property
    def n(self):
        return self.inner.n

    @property
    def d(self):
        return self.inner.d

    @property
    def lead(self):
        return self.inner.lead

    @property
    def space(self):
        return self.inner.space

    def at(self, sample):
        term = self.inner.at(sample)
        if self.how == FIRST_POINT:
            term = self.inner.at(np.zeros_like(sample))
        return dataclasses.replace(self, inner=term)

    def _get(self, name, lam, w):
        right = getattr(self.inner, name)(lam, w)
        if name != self.quantity or self.how == FIRST_POINT:
            return right

        def one_lane():
            return getattr(self.inner, name)(lam.reshape(-1, lam.shape[-1])[0], w.reshape(-1, w.shape[-1])[0])

        change = _changed_operator if isinstance(right, Operator) else _changed_vector
        return change(self.how, right, one_lane, max(2, self.inner.space.size))


def _passes(name):
    return lambda self, lam, w: self._get(name, lam, w)


@dataclass(frozen=True)
class WrongObjective(_Wrong, Objective):
    inner: Any
    quantity: str
    how: str
    backend: Backend

    value, grad_lam, grad_w = _passes("value"), _passes("grad_lam"), _passes("grad_w")
    hess_ww, cross = _passes("hess_ww"), _passes("cross")


@dataclass(frozen=True)
class WrongMap(_Wrong, Map):
    inner: Any
    quantity: str
    how: str
    backend: Backend

    value, d_w, d_lam = _passes("value"), _passes("d_w"), _passes("d_lam")


def _wrong(thing, quantity, how):
    return (WrongMap if isinstance(thing, Map) else WrongObjective)(thing, quantity, how, thing.backend)


def _equivalent(thing, quantity, how):
    """Why this mistake changes nothing here, or None."""
    rng = np.random.default_rng(0)
    lam, w = rng.standard_normal((2, thing.n)), rng.standard_normal((2, thing.d))
    right = getattr(thing, quantity)(lam, w)
    dense = right.dense() if isinstance(right, Operator) else np.asarray(right)
    if not np.any(dense):
        return "the quantity is 0"
    if how in ("transpose", "dense transposed"):
        if dense.shape[-1] != dense.shape[-2]:
            return "not square: the shapes alone would raise"
        skew = np.abs(dense - np.swapaxes(dense, -1, -2)).max()
        if skew <= 10 * thing.d * 2.0**-52 * np.abs(dense).max():
            return "the matrix is symmetric"
    if how == "first lane" and (
        dense.ndim == (2 if isinstance(right, Operator) else 1) or not np.any(np.diff(dense, axis=0))
    ):
        return "the same at every point"
    if how == "dropped term" and quantity == "value" and not isinstance(thing, Map):
        return "a scalar has no entry to drop"
    return None


CASES = [
    (family, quantity, how)
    for family, thing in FAMILIES.items()
    for quantity in (
        ("value", "d_w", "d_lam")
        if isinstance(thing, Map)
        else ("value", "grad_lam", "grad_w", "hess_ww", "cross")
    )
    for how in MISTAKES[quantity]
    if _equivalent(thing, quantity, how) is None
]


@pytest.mark.parametrize(("family", "quantity", "how"), CASES)
def test_every_mistake_is_caught(family, quantity, how):
    with pytest.raises(WrongDerivative) as caught:
        check_derivatives(_wrong(FAMILIES[family], quantity, how))
    assert caught.value.advice
    assert "comparisons fail" in caught.value.measured


def test_few_mistakes_are_equivalent():
    """What the table above leaves out, with the reason: nothing is dropped silently."""
    reasons: dict[str, set[str]] = {}
    for family, thing in FAMILIES.items():
        for quantity in (
            ("value", "d_w", "d_lam")
            if isinstance(thing, Map)
            else ("grad_lam", "grad_w", "hess_ww", "cross")
        ):
            for how in MISTAKES[quantity]:
                if reason := _equivalent(thing, quantity, how):
                    reasons.setdefault(reason, set()).add(family)
    zero = {
        "ridge validation",
        "logistic validation",
        "cross entropy",
        "linear",
        "log-cosh",
    }  # no λ, or no curvature
    assert reasons["the quantity is 0"] == zero
    assert len(CASES) > 300


@pytest.mark.parametrize("family", [k for k, f in FAMILIES.items() if f.space.size > 1])
def test_a_term_that_is_not_the_samples_is_caught(family):
    # kills: at() that ignores its points; Σ_k p_k f.at(s_k) is then no longer f
    with pytest.raises(WrongDerivative):
        check_derivatives(_wrong(FAMILIES[family], "value", FIRST_POINT))


@pytest.mark.parametrize("family", FAMILIES)
@on_cpu
def test_the_families_pass_from_every_backend(family, place):
    rows = check_derivatives(place.move(FAMILIES[family]))
    assert all(row.ok for row in rows)
    assert {"adjoint", "dense", "leading axes (2, 1)+(3,)", "leading axes (2,)+(2,)"} <= {
        r.channel for r in rows
    }
    if FAMILIES[family].space.size > 1:
        assert {"finite sum ()", "finite sum (2,)"} <= {r.channel for r in rows}


# -- rows and refusals -------------------------------------------------------------------------------------
def test_a_row_is_judged_by_its_allowance():
    assert Row("grad_w", "autograd", 1.0, 1.0).ok
    assert not Row("grad_w", "autograd", 1.1, 1.0).ok
    assert not Row("grad_w", "autograd", float("nan"), 1.0).ok


def test_the_scale_of_a_function_does_not_hide_its_mistakes():
    """An absolute floor in the allowance would pass any derivative of a function as small as 1e-14."""
    small = quadratic.objective(ww=1e-14 * np.diag([1.0, 2.0]), w1=[1e-14, 0.0], n=1)
    check_derivatives(small)
    with pytest.raises(WrongDerivative):
        check_derivatives(_wrong(small, "grad_w", "sign"))


def test_one_wrong_entry_among_many_is_caught():
    # kills: the mean of the differences for the largest
    right = quadratic.random(n=1, d=40, seed=0).upper
    row = next(r for r in check_derivatives(right) if r.quantity == "grad_w")
    with pytest.raises(WrongDerivative, match="grad_w"):
        check_derivatives(OneEntry(right, "", "", Backend(), 5 * row.allowed))


@dataclass(frozen=True)
class OneEntry(_Wrong, Objective):
    """The first entry of grad_w is off by ``error``."""

    inner: Any
    quantity: str
    how: str
    backend: Backend
    error: float

    def grad_w(self, lam, w):
        return self.inner.grad_w(lam, w) + self.error * (np.arange(self.d) == 0)

    value, grad_lam = _passes("value"), _passes("grad_lam")
    hess_ww, cross = _passes("hess_ww"), _passes("cross")


def test_a_nan_is_no_agreement():
    f = ri.from_function(lambda lam, w: anp.sum(w**2), n=1, d=2)
    with pytest.raises(WrongDerivative), np.errstate(all="ignore"):
        check_derivatives(f, np.zeros(1), np.array([np.nan, 1.0]))


@dataclass(frozen=True)
class Opaque(_Wrong, Objective):
    """Correct derivatives in floats only: neither autograd nor the complex step gets through ``float``."""

    inner: Any
    quantity: str
    how: str
    backend: Backend

    def value(self, lam, w):
        return self.inner.value(np.asarray(lam, dtype=np.float64), np.asarray(w, dtype=np.float64))  # a cast

    def grad_w(self, lam, w):
        if np.iscomplexobj(lam) or np.iscomplexobj(w) or not isinstance(w, np.ndarray):
            raise TypeError("floats only")
        return self.inner.grad_w(lam, w)

    grad_lam, hess_ww, cross = _passes("grad_lam"), _passes("hess_ww"), _passes("cross")


def test_what_no_channel_can_judge_is_refused():
    """Also where other quantities are judged: the refusal names those that are not."""
    f = Opaque(FAMILIES["quadratic"], "", "", Backend())
    with pytest.raises(WrongDerivative, match="could not be judged") as caught, np.errstate(all="ignore"):
        check_derivatives(f)
    assert "hess_ww" in caught.value.measured


def test_a_formula_that_is_not_holomorphic_is_judged_by_autograd_alone():
    # kills: Im |x + ih| = 0 taken for the derivative of |x|, which would accuse a correct formula
    f = ri.from_function(lambda lam, w: anp.sum(anp.abs(w)) * lam[0] ** 2, n=1, d=2)
    rows = check_derivatives(f, np.array([1.5]), np.array([1.0, -2.0]))
    assert {r.channel for r in rows if r.quantity == "grad_w"} & {"autograd", "complex step"} == {"autograd"}


def test_the_point_may_be_chosen():
    kink = degenerate.SoftThreshold(0.75, 2)
    check_derivatives(kink, np.zeros(2), np.array([1.0, -1.0]))
    f = ri.from_function(lambda lam, w: anp.sum(w**3), n=1, d=2)
    assert all(row.ok for row in check_derivatives(f, [0.0], [2.0, 3.0], seed=4))
