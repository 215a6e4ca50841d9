"""Objectives and maps from bare functions: autograd's derivatives against formulas written by hand."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
import pytest

import refimpl as ri
from refimpl.errors import BadInput
from refimpl.functions import map_from_function
from refimpl.objective import descent_map
from refimpl.zoo import maps, quadratic
from tests.rounding import assert_rounded

LEADS = [((), ()), ((2, 1), (3,)), ((2,), (2,)), ((), (2,)), ((0,), ())]


def _bare(f):
    """A quadratic's formula as a bare function of plain vectors."""
    ww, lw, ll, w1, l1 = f.mean

    def value(lam, w):
        return (anp.dot(w, anp.dot(ww, w)) + anp.dot(lam, anp.dot(ll, lam))) / 2 + (
            anp.dot(lam, anp.dot(lw, w)) + anp.dot(w1, w) + anp.dot(l1, lam)
        )

    return ri.from_function(value, n=f.n, d=f.d)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize(("lam_lead", "w_lead"), LEADS, ids=str)
def test_a_bare_function_equals_the_family(n, lam_lead, w_lead):
    # kills: gradient in the wrong variable, cross for its transpose, a leading axis lost in the loop
    f, rng = quadratic.random(n=n, d=3, seed=0).lower, np.random.default_rng(0)
    g = _bare(f)
    lam, w = rng.standard_normal((*lam_lead, n)), rng.standard_normal((*w_lead, 3))
    lead = np.broadcast_shapes(lam_lead, w_lead)
    u, v = rng.standard_normal(n), rng.standard_normal(3)
    for name, found, expected in (
        ("value", g.value(lam, w), f.value(lam, w)),
        ("grad_lam", g.grad_lam(lam, w), f.grad_lam(lam, w)),
        ("grad_w", g.grad_w(lam, w), f.grad_w(lam, w)),
        ("hess_ww", g.hess_ww(lam, w) @ v, f.hess_ww(lam, w) @ v),
        ("cross", g.cross(lam, w) @ v, f.cross(lam, w) @ v),
        ("cross.T", g.cross(lam, w).T @ u, f.cross(lam, w).T @ u),
        ("hess_ww dense", g.hess_ww(lam, w).dense(), f.hess_ww(lam, w).dense()),
        ("cross dense", g.cross(lam, w).dense(), f.cross(lam, w).dense()),
    ):
        own = 0 if name == "value" else 1 + ("dense" in name)
        expected = np.asarray(expected)
        expected = np.broadcast_to(expected, (*lead, *expected.shape[expected.ndim - own :]))
        size = 100 + np.abs(expected).max(initial=0.0)  # 10 (n+d)² entries of size 10
        assert_rounded(found, expected, terms=size, count=n + 3)


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize(("lam_lead", "w_lead"), LEADS, ids=str)
def test_a_bare_map_equals_the_family(n, lam_lead, w_lead):
    phi, rng = maps.random(n=n, d=3, seed=0, kind="tanh").phi, np.random.default_rng(1)
    bare = map_from_function(
        lambda lam, w: anp.tanh(anp.dot(phi.A, w) + anp.dot(phi.B, lam) + phi.c), n=n, d=3
    )
    lam, w = rng.standard_normal((*lam_lead, n)), rng.standard_normal((*w_lead, 3))
    lead = np.broadcast_shapes(lam_lead, w_lead)
    for found, expected, own in (
        (bare.value(lam, w), phi.value(lam, w), 1),
        (bare.d_w(lam, w).dense(), phi.d_w(lam, w).dense(), 2),
        (bare.d_lam(lam, w).dense(), phi.d_lam(lam, w).dense(), 2),
    ):
        expected = np.broadcast_to(expected, (*lead, *expected.shape[expected.ndim - own :]))
        assert_rounded(found, expected, terms=1 + np.abs(expected).max(initial=0.0), count=10)


def test_its_own_derivatives_pass_the_checks():
    f = ri.from_function(lambda lam, w: anp.sum(anp.exp(lam[0] * w)) + lam[1] * anp.sum(w**4), n=2, d=3)
    found = {(row.quantity, row.channel) for row in ri.check_derivatives(f)}
    assert {(q, "autograd") for q in ("grad_lam", "grad_w", "hess_ww", "cross", "cross.T")} <= found
    ri.check_derivatives(descent_map(f, 0.1))


def test_a_term_without_lambda_or_w_has_zero_derivatives():
    f = ri.from_function(lambda lam, w: anp.sum(w**2), n=2, d=2)
    lam, w = np.ones(2), np.ones(2)
    assert f.grad_lam(lam, w).tolist() == [0.0, 0.0]
    assert f.cross(lam, w).dense().tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("make", [ri.from_function, map_from_function])
@pytest.mark.parametrize(("n", "d"), [(-1, 2), (1, 0)])
def test_sizes_must_be_possible(make, n, d):
    with pytest.raises(BadInput, match="impossible sizes") as caught:
        make(lambda lam, w: w, n=n, d=d)
    assert f"n = {n}, d = {d}" in str(caught.value.measured)


def test_values_must_have_the_promised_shape():
    lam, w = np.zeros(1), np.zeros(3)
    f = ri.from_function(lambda lam, w: w, n=1, d=3)
    for call in (f.value, f.grad_w, f.grad_lam):
        with pytest.raises(BadInput, match="objective has the wrong shape") as caught:
            call(lam, w)
        assert caught.value.measured == "shape (3,)"
    phi = map_from_function(lambda lam, w: anp.sum(w), n=1, d=3)
    for call in (phi.value, phi.d_w, phi.d_lam):
        with pytest.raises(BadInput, match="map has the wrong shape"):
            call(lam, w)
