"""The claims of ``dropout-bilevel``: complete, runnable on their explicit instances, built from checked formulas."""

from __future__ import annotations

import itertools as it
import json
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq

from refimpl import exact_hypergradient
from refimpl.arrays import to_numpy
from refimpl.networks import ACTIVATIONS
from verification.claims.dropout_bilevel import (
    _dropout_terms,
    _masks,
    _polynomials,
    eq_7,
    fsla,
    remark_3,
    suffices,
    vanishes_at_1,
)
from verification.hunt import canonical, evaluate, strictly
from verification.runner import discover

CLAIMS = [found.claim for found in discover("verification.claims.dropout_bilevel").values()]
RUNNABLE = [claim for claim in CLAIMS if claim.budget.quick is not None]
each = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
each_runnable = pytest.mark.parametrize("claim", RUNNABLE, ids=lambda claim: claim.id)
EPS = float(np.finfo(float).eps)
MANY = 40  # of a complete class's instances, as many are looked at here


@each
def test_a_claim_says_what_it_owes(claim):
    assert claim.id.startswith("dropout-bilevel/")
    assert claim.source.startswith("dropout-bilevel, ")
    assert claim.statement.strip()
    assert claim.notes.strip()
    kinds = {control.kind for control in claim.controls}
    if claim.corrected is None:
        assert "formula" in kinds
        assert "hypothesis" in kinds or not claim.hypotheses
    else:
        assert claim.corrected.proof.strip()
    assert claim.explicit


@each_runnable
def test_the_explicit_instances_are_used_and_decide(claim):
    """A claim with a correction fails on one of them, which the correction passes; any other claim passes on all."""
    instances = [*claim.explicit[:MANY], *([claim.equality.params] if claim.equality else [])]
    found = [evaluate(claim, claim.measure, canonical(params)) for params in instances]
    assert all(outcome.measurement is not None for outcome in found), [o.broken for o in found]
    if claim.corrected is None:
        assert all(outcome.measurement.holds for outcome in found)
        # a tolerance of the bound's own size would let a wrong formula pass
        assert all(o.measurement.rounding <= 1e-6 * float(o.measurement.bound or 1) for o in found)
        return
    assert not all(outcome.measurement.holds for outcome in found)
    for params in claim.explicit[:MANY]:
        assert evaluate(claim, claim.corrected.measure, canonical(params)).measurement.holds


@each_runnable
def test_the_equality_case_and_the_curve(claim):
    if claim.equality:
        used = evaluate(claim, claim.measure, canonical(claim.equality.params)).measurement.used
        assert claim.equality.reaches <= used <= 1
    if claim.curve:
        params = claim.equality.params if claim.equality else claim.explicit[0]
        with strictly("drawing"):
            data = claim.curve(claim.build(json.loads(canonical(params))))
        assert len(data["x"]) == len(data["predicted"]) == len(data["measured"]) > 5


@each_runnable
def test_the_controls_with_an_instance_fail_on_it(claim):
    for control in (control for control in claim.controls if control.params is not None):
        breaking = control.kind == "hypothesis"
        outcome = evaluate(
            claim, control.measure or claim.measure, canonical(control.params), breaking=breaking
        )
        assert outcome.measurement is not None, control.name
        assert not outcome.measurement.holds, control.name


# -- the formulas beneath, by a second channel --------------------------------------------------------


def five_points(f, x):
    """The derivative of polynomials of degree four, exactly: one row for every coordinate."""
    units = _masks.RATIONAL.eye(len(x))
    rows = [(8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / 12 for e in units]
    return np.array(rows, dtype=object)


@pytest.mark.parametrize("seed", range(5))
def test_the_derivatives_of_a_polynomial(seed):
    # kills: an exponent's factor lost, λ's exponents taken for w's, a transposed mixed derivative
    f = _polynomials.random_polynomial(2, 3, seed, terms=8, degree=4)
    lam, w = _masks.rationals([1, Fraction(-1, 2)]), _masks.rationals([2, Fraction(1, 3), -1])
    assert (f.grad_w(lam, w) == five_points(lambda w: f.value(lam, w), w)).all()
    assert (f.grad_lam(lam, w) == five_points(lambda lam: f.value(lam, w), lam)).all()
    assert (f.hess_ww(lam, w).dense() == five_points(lambda w: f.grad_w(lam, w), w)).all()
    assert (f.cross(lam, w).dense() == five_points(lambda lam: f.grad_w(lam, w), lam)).all()


def test_the_mean_of_a_polynomial_is_its_literal_mean():
    # kills: p² for p on a squared coordinate, a shared variable counted twice, masks of λ taken for w's
    params = {
        **_masks.at(2, 3),
        "keep_lam": [3],
        "groups_lam": [0, 0],
        "keep_w": [2, 5],
        "groups_w": [0, 1, 0],
    }
    law = _masks.law(params)
    f = _polynomials.monomials(2, 3, 1)
    lam, w = _masks.rationals([2, 3]), _masks.rationals([5, 7, 11])
    values = [
        [f.masked([*a, *b]).value(lam, w), p] for p, a, b in zip(*(list(x) for x in law.literal), strict=True)
    ]
    assert (sum(p * value for value, p in values) == f.mean(law).value(lam, w)).all()


def test_the_literal_law_of_the_masks():
    law = _masks.law({**_masks.at(1, 2), "keep_lam": [8], "keep_w": [2, 6]})
    chances, of_lam, of_w = law.literal
    assert sum(chances) == 1
    assert len(chances) == 4
    assert (law.mean(lambda lam, w: w) == _masks.rationals([Fraction(1, 4), Fraction(3, 4)])).all()
    assert (of_lam == 1).all()
    assert {tuple(int(b) for b in m) for m in of_w} == set(it.product((0, 1), repeat=2))


@pytest.mark.parametrize("seed", range(3))
def test_a_model_solved_literally_is_the_librarys(seed):
    of = _masks.model(_masks.at(2, 3, seed, keep_w=[3, 5, 8], groups_w=[0, 1, 1]))
    assert (exact_hypergradient(of.noisy, of.lam).w == of.w).all()


def test_remark_3_at_one_half():
    half = remark_3.build({"p": [1, 2]})
    limits = [remark_3.mean_limit(remark_3.printed_a, outer)(half) for outer in (True, False)]
    assert [limit[0] for limit in limits] == [fmpq(625, 2), fmpq(1625, 2)]
    assert all(limit[1] == 0 for limit in limits)


def test_a_limit_is_refused_where_there_is_none_of_that_form():
    with pytest.raises(ValueError, match="degree two"):
        remark_3.limit(lambda t: _masks.rationals([1 / t]))


def test_the_smallest_mean_square_of_masked_gradients():
    """32/425 at p = 4/5, against the closed form in p and a float minimisation."""
    least, lam = suffices.residual({"p": 8, "n": 2}).smallest()
    assert least == fmpq(32, 425)
    p, (x, y) = 0.8, to_numpy(lam)

    def mean_square(x: float, y: float) -> float:
        return p * (1 - p) * ((x - 1) ** 2 + (y - 1) ** 2) + 2 * p * p * (x + y - 1) ** 2

    around = [mean_square(x + a, y + b) for a in (-0.01, 0.01) for b in (-0.01, 0, 0.01)]
    assert mean_square(x, y) == pytest.approx(32 / 425, rel=20 * EPS)
    assert min(around) > mean_square(x, y)


def test_the_floor_is_the_limit_of_the_second_moment():
    """The stationary second moment against the moment recursion run until it stands, in floats."""
    of = vanishes_at_1.build({**_masks.at(1, 2, 1), "drop_lam": [1, 1], "drop_w": [1, 1]}).at(Fraction(1, 5))
    G, lam, w_bar = of.plain.lower, of.lam, of.w
    H = to_numpy(G.hess_ww(lam, w_bar).dense())
    chances, of_lam, of_w = of.law.literal
    linear = to_numpy(of_w * G.grad_w(of_lam * lam, 0 * of_w))
    chances, of_w = to_numpy(chances), to_numpy(of_w)
    A = np.eye(2) - of_w[:, :, None] * H * of_w[:, None, :] / np.trace(H)
    b = -linear / np.trace(H)
    mean, second = np.zeros(2), np.zeros((2, 2))
    for _ in range(4000):
        drift = np.einsum("k,kij,j,kl->il", chances, A, mean, b)
        second = (
            np.einsum("k,kij,jl,kml->im", chances, A, second, A)
            + drift
            + drift.T
            + np.einsum("k,ki,kj->ij", chances, b, b)
        )
        mean = np.einsum("k,kij,j->i", chances, A, mean) + chances @ b
    target = to_numpy(w_bar)
    assert mean == pytest.approx(target, rel=1e3 * EPS)
    floor = np.trace(second - np.outer(mean, mean))
    cancelled = np.trace(second) * 1e4 * EPS  # 4000 steps round, and the mean's square is subtracted
    assert floor == pytest.approx(float(_dropout_terms.of_floor(of)), abs=cancelled)


def test_the_orders_window_sees_a_wrong_order():
    of = vanishes_at_1.build({**_masks.at(2, 2, 1), "drop_lam": [1, 1], "drop_w": [1, 1]})
    fourth = vanishes_at_1.order(lambda case: _dropout_terms.of_solution(case) ** 2, root=True)(of)
    assert not fourth.holds
    assert fourth.detail["fitted"] == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu"])
def test_the_activations_written_out_are_the_librarys(name):
    z = np.array([-2.0, -0.5, 0.0, 0.25, 3.0])
    value = ACTIVATIONS[name].value(_masks.RATIONAL, _masks.RATIONAL.asarray(z))
    assert [eq_7.EXACT[name](x) for x in _masks.RATIONAL.asarray(z)] == list(value)


def test_the_frozen_v_line_converges_to_the_systems_solution():
    of = fsla.build(_masks.at(2, 2, 1, steps=3, start=5))
    w = of.w(of.model.lam)
    gap = of.v(w, 60) - of.solved(w)
    assert max(abs(x) for x in gap) < max(abs(x) for x in of.v0 - of.solved(w)) / 1000
