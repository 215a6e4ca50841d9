"""Objectives and maps: moving between backends is exact, the descent map is its definition."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import BadInput
from refimpl.objective import DescentMap, Movable, Objective, descent_map, hypergradient
from refimpl.operators import identity, zero
from refimpl.spaces import Indices, expect
from refimpl.zoo import quadratic
from tests.backends import everywhere, round_trip
from tests.rounding import assert_rounded

NUMPY, TWO = Backend(), Indices(2)


@dataclass(frozen=True)
class Mixed(Movable):
    """A field of every kind."""

    array: Any = dataclasses.field(default_factory=lambda: np.array([0.1, 0.2]))
    index: Any = dataclasses.field(default_factory=lambda: np.array([1, 0]))
    number: Any = 0.1
    count: int = 3
    flag: bool = True
    label: str = "name"
    nothing: Any = None
    space: Indices = TWO
    inner: Any = dataclasses.field(default_factory=lambda: quadratic.objective(ww=np.eye(2), n=1))
    pair: tuple[Any, ...] = (0.25, "a")
    backend: Backend = NUMPY


@pytest.mark.parametrize("name", ["numpy", "strict", "autograd", "rational", "interval"])
def test_every_kind_of_field_moves(name):
    # kills: a number left as a float (rationals then raise, balls lose), an index made floating
    moved = Mixed().to(name)
    B = backend(name)
    assert moved.backend == moved.inner.backend == B
    assert B.owns(moved.array)
    assert B.owns(moved.inner.ww)
    assert type(moved.number) is type(B.scalar(0.1))
    assert type(moved.pair[0]) is type(B.scalar(0.25))
    assert (moved.count, moved.flag, moved.label, moved.nothing) == (3, True, "name", None)
    assert (moved.space, moved.pair[1]) == (Indices(2), "a")
    assert "int" in str(moved.index.dtype)
    assert to_numpy(moved.array).tolist() == [0.1, 0.2]
    back = moved.to("numpy") if name != "strict" else moved.to("rational").to("numpy")
    assert back.array.tolist() == [0.1, 0.2]
    assert back.number == 0.1


def test_moving_to_rationals_is_exact_and_leaves_the_original_alone():
    before = Mixed()
    moved = before.to("rational")
    exact = Fraction(0.1)
    assert (int(moved.number.p), int(moved.number.q)) == (exact.numerator, exact.denominator)
    assert before.backend == Backend()
    assert before.array.dtype == np.float64


def test_precision_and_device_are_options():
    single = Mixed().to("numpy", dtype="float32")
    assert single.array.dtype == single.inner.ww.dtype == np.float32
    assert single.backend.eps == 2.0**-23
    on_cpu = Mixed().to("strict", device="CPU_DEVICE")
    assert str(on_cpu.array.device) != str(Mixed().to("strict").array.device)


def test_a_function_moves_to_no_backend_without_autograd():
    f = ri.from_function(lambda lam, w: w @ w, n=1, d=2)
    assert f.to("autograd").n == 1
    for name in ("strict", "rational", "interval"):
        with pytest.raises(BadInput, match="bare function") as caught:
            f.to(name)
        assert "grad_w" in caught.value.required


@pytest.mark.parametrize("name", ["numpy", "strict", "rational"])
def test_problems_pickle(name):
    problem = quadratic.random(n=2, d=3, seed=0).to(name)
    again = round_trip(problem)
    lam = problem.start()
    assert np.array_equal(
        to_numpy(again.residual(again.start(), again.w(None))),
        to_numpy(problem.residual(lam, problem.w(None))),
    )


# -- what an objective has without saying so ----------------------------------------------------------
@dataclass(frozen=True)
class Plain(Objective):
    """f = w·w/2, with the defaults for everything optional."""

    n: int = 1
    d: int = 2
    backend: Backend = NUMPY

    def value(self, lam, w):
        return self.backend.dot(w, w) / 2

    def grad_lam(self, lam, w):
        return 0 * lam

    def grad_w(self, lam, w):
        return w

    def hess_ww(self, lam, w):
        return identity(self.backend, self.d)

    def cross(self, lam, w):
        return zero(self.backend, self.n, self.d)


def test_defaults():
    f = Plain()
    assert f.space == Indices(1)
    assert f.at(np.array(0)) is f
    assert f.lead == 0
    assert f.lead_of(np.zeros((2, 3, 1)), np.zeros((3, 2))) == 2
    assert f.lead_of(np.zeros(1), np.zeros((4, 2))) == 1
    term = quadratic.random(n=1, d=2, seed=0, terms=5).lower.at(np.zeros((2, 3), dtype=int))
    assert term.lead == term.lead_of(np.zeros(1), np.zeros(2)) == 2
    with pytest.raises(BadInput, match="no constants") as caught:
        f.bounds(None)
    assert caught.value.measured == "Plain"
    ri.check_derivatives(f)


@pytest.mark.parametrize("missing", ["value", "grad_lam", "grad_w", "hess_ww", "cross"])
def test_every_quantity_must_be_written(missing):
    body = {k: v for k, v in vars(Plain).items() if k != missing and callable(v)}
    with pytest.raises(TypeError, match=missing):
        type("Partial", (Objective,), {k: v for k, v in body.items() if not k.startswith("__")})()


# -- descent map ---------------------------------------------------------------------------------------
@everywhere
@pytest.mark.parametrize(("lam_lead", "w_lead"), [((), ()), ((2, 1), (3,)), ((2,), (2,))])
def test_descent_map_is_its_definition(place, lam_lead, w_lead):
    # kills: + for −, a step missing from one Jacobian, d_lam without the transpose
    lower, step, rng = quadratic.random(n=2, d=3, seed=1, terms=4).lower, 0.07, np.random.default_rng(0)
    lam, w = rng.standard_normal((*lam_lead, 2)), rng.standard_normal((*w_lead, 3))
    phi = place.move(descent_map(lower, step))
    there = place.array(lam), place.array(w)
    hess, cross, gradient = lower.hess_ww(lam, w).dense(), lower.cross(lam, w).dense(), lower.grad_w(lam, w)
    size = np.abs(w) + step * np.abs(gradient).max() + 1
    assert_rounded(phi.value(*there), w - step * gradient, terms=size, count=30)
    for found, expected in (
        (phi.d_w(*there), np.eye(3) - step * hess),
        (phi.d_lam(*there), -step * np.swapaxes(cross, -1, -2)),
    ):
        assert_rounded(found.dense(), expected, terms=np.abs(expected) + np.abs(expected).max(), count=30)


def test_descent_map_over_the_rationals_and_its_terms():
    # kills: at that forgets the step, or takes the mean
    problem = quadratic.random(n=2, d=3, seed=2, terms=5)
    phi = descent_map(problem.lower, 0.25).to("rational")
    B, lower = phi.backend, problem.lower.to("rational")
    lam, w = B.asarray([Fraction(1, 3), 2]), B.asarray([1, Fraction(-1, 7), 0])
    quarter = B.scalar(Fraction(1, 4))
    assert (phi.value(lam, w) == w - quarter * lower.grad_w(lam, w)).all()
    assert (expect(phi.space, lambda k: phi.at(k).value(lam, w), B) == phi.value(lam, w)).all()
    one = phi.at(np.arange(2))
    assert one.lead == 1
    assert (one.value(lam, w)[1] == w - quarter * lower.at(np.array(1)).grad_w(lam, w)).all()


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_a_step_must_be_positive(step):
    with pytest.raises(BadInput, match="the step is out of range"):
        descent_map(Plain(), step)


def test_the_two_line_hypergradient_is_the_definition():
    # kills: + for −, crossᵀ, the lower gradient for the upper one: all over the rationals, with no rounding
    problem = quadratic.random(n=2, d=3, seed=3).to("rational")
    B, lower, upper = problem.backend, problem.lower, problem.upper
    lam, w = problem.start(), B.asarray([1, 2, 3])
    found = hypergradient(upper, lower, lam, w)
    v = B.asarray(np.linalg.solve(np.eye(3), np.zeros(3)))
    H, b = lower.hess_ww(lam, w).dense(), upper.grad_w(lam, w)
    # Cramer's rule, written out
    det = _det(H)
    for j in range(3):
        Hj = H.copy()
        Hj[:, j] = b
        v[j] = _det(Hj) / det
    C = lower.cross(lam, w).dense()
    expected = [g - sum(C[i, j] * v[j] for j in range(3)) for i, g in enumerate(upper.grad_lam(lam, w))]
    assert found.tolist() == expected
    assert isinstance(descent_map(lower, 1), DescentMap)


def _det(m):
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )
