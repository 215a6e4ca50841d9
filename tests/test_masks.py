"""Dropout as a decorator: derivatives, expectations, closed forms, bounds, and the exact quantities above them."""

from __future__ import annotations

import dataclasses
import itertools as it
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl import networks
from refimpl.arrays import backend, to_numpy
from refimpl.constants import Region
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.masks import Dropout
from refimpl.spaces import Bernoulli, covariance, expect
from refimpl.zoo import quadratic
from tests.backends import everywhere, round_trip
from tests.rounding import EPS, assert_rounded, condition_number
from tests.zoo_things import THINGS

GROUPED = {"lam": 0.7, "w": [0.8, 0.5, 1.0]}  # three variables for the four coordinates of w
QUANTITIES = ("value", "grad_lam", "grad_w", "hess_ww", "cross")


def quantity(f: Any, name: str, lam: Any, w: Any) -> Any:
    found = getattr(f, name)(lam, w)
    return found.dense() if hasattr(found, "dense") else found


class Enumerated(Dropout):
    """Dropout that forgets every closed form."""

    closed = None


def enumerated(f: Dropout) -> Dropout:
    return Enumerated(f.f, f.lam, f.w, f.scale, f.site, backend=f.backend)


def groups(f: Any) -> dict[str, list[int]]:
    return {"lam": list(range(f.n)), "w": [i % 3 for i in range(f.d)]}


FAMILIES = ["quadratic", "ridge.log_penalty per feature", "logistic per feature", "log-cosh", "linear"]


@pytest.mark.parametrize("scale", ["none", "inverse"])
@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives_of_the_expectation_by_two_channels(name, scale):
    """check_derivatives: autograd, complex step, structure, leading axes, and E over masks × data of its terms.

    Kills: the outer M missing, masks of λ taken for w's, M once instead of twice in the Hessian.
    """
    f = THINGS[name]()
    over = f.with_dropout(GROUPED, groups=groups(f), scale=scale)
    rows = ri.check_derivatives(enumerated(over), seed=3)
    assert {r.channel for r in rows} >= {"autograd", "complex step", "adjoint"}
    fixed = over.masked(over.masks.points(np.array(over.masks.size - 2)))
    ri.check_derivatives(fixed, seed=4)


@pytest.mark.parametrize("scale", ["none", "inverse"])
@pytest.mark.parametrize("name", ["quadratic", "ridge.penalty per feature", "linear"])
def test_expectations_are_the_literal_sums_over_the_rationals(name, scale):
    """(9), (10) written out: Σ_m P(m) M ∇f(MW), Σ_m P(m) M ∇²f(MW) M, by loops over fractions.

    Kills: p for 1 − p, a missing outer M, groups ignored, scaled where it must not be and the reverse.
    """
    B = backend("rational")
    f = THINGS[name]().to("rational")
    keep = {"lam": [Fraction(2, 3)] + [1] * (f.n - 1), "w": [Fraction(4, 5), Fraction(1, 2), 1]}
    over = f.with_dropout(keep, groups=groups(f), scale=scale)
    rng = np.random.default_rng(5)
    lam, w = B.asarray(rng.integers(-4, 5, f.n) / 4), B.asarray(rng.integers(-4, 5, f.d) / 4)
    literal = dict.fromkeys(QUANTITIES, 0)
    for bits in it.product((0, 1), repeat=3):  # λ_0 and two variables of w
        chance = Fraction(1)
        for bit, p in zip(bits, (Fraction(2, 3), Fraction(4, 5), Fraction(1, 2)), strict=True):
            chance *= p if bit else 1 - p
        kept = [[bits[0], 1, 1, 1, 1], [bits[1], bits[2], 1]]
        probs = [[Fraction(2, 3), 1, 1, 1, 1], [Fraction(4, 5), Fraction(1, 2), 1]]
        if scale == "inverse":
            kept = [[b / p for b, p in zip(row, q, strict=True)] for row, q in zip(kept, probs, strict=True)]
        ml = B.asarray([B.scalar(Fraction(kept[0][i])) for i in range(f.n)])
        mw = B.asarray([B.scalar(Fraction(kept[1][i % 3])) for i in range(f.d)])
        at = (ml * lam, mw * w)
        terms = {
            "value": f.value(*at),
            "grad_lam": ml * f.grad_lam(*at),
            "grad_w": mw * f.grad_w(*at),
            "hess_ww": mw[:, None] * f.hess_ww(*at).dense() * mw,
            "cross": ml[:, None] * f.cross(*at).dense() * mw,
        }
        literal = {k: literal[k] + B.scalar(chance) * terms[k] for k in QUANTITIES}
    for name_, expected in literal.items():
        for over_ in (over, enumerated(over)):
            assert (np.asarray(quantity(over_, name_, lam, w)) == np.asarray(expected)).all(), name_


@everywhere
@pytest.mark.parametrize("name", ["quadratic", "ridge.log_penalty", "logistic", "log-cosh"])
def test_every_backend_computes_the_same_expectation(name, place):
    f = THINGS[name]()
    over = f.with_dropout(0.6, groups=[0, 1, 0, 2], scale="inverse")
    there = place.move(over)
    rng = np.random.default_rng(6)
    lam, w = rng.standard_normal((3, 1, f.n)), rng.standard_normal((2, f.d))
    for name_ in QUANTITIES:
        expected = quantity(over, name_, lam, w)
        found = quantity(there, name_, place.array(lam), place.array(w))
        assert_rounded(found, expected, terms=1 + np.abs(expected).max(), count=over.masks.size * f.d)


@pytest.mark.parametrize("name", FAMILIES)
def test_keep_everything_is_the_plain_objective_bit_for_bit(name):
    f = THINGS[name]()
    rng = np.random.default_rng(7)
    lam, w = rng.standard_normal(f.n), rng.standard_normal(f.d)
    for over in (f.with_dropout(1), enumerated(f.with_dropout({"lam": 1.0, "w": 1.0}, scale="inverse"))):
        for name_ in QUANTITIES:
            assert np.array_equal(quantity(over, name_, lam, w), quantity(f, name_, lam, w)), name_


def _cleaning() -> ri.BilevelProblem:
    return ri.zoo.weighted_softmax.digits(train=12, validation=12, classes=(1, 4), pool=4)


ROWS = [0, 1, 2, 3] * 2  # a feature of both classes at once


def test_keep_everything_is_the_plain_problem_bit_for_bit():
    """In every room above: exact values and certificates, implicit, reverse, forward and truncated modes."""
    plain = _cleaning()
    kept = plain.with_dropout(lower=1, upper={"lam": 1, "w": 1}, groups=None)
    lam = plain.start()
    for certify in ("always", "never"):
        a, b = (ri.exact_hypergradient(p, lam, certify=certify) for p in (plain, kept))
        assert (a.value == b.value).all()
        assert (a.kind, a.bound) == (b.kind, b.bound)
    step = ri.solvers.GradientDescent(20, step=0.5)
    for mode in (
        lambda p: ri.approximate.implicit(p, lam, lower=step, linear=ri.solvers.ConjugateGradient(5)),
        lambda p: ri.approximate.reverse(p, lam, lower=step),
        lambda p: ri.approximate.forward(p, lam, lower=step),
        lambda p: ri.approximate.truncated(p, lam, lower=step, last=5),
    ):
        assert (mode(plain).value == mode(kept).value).all()


def test_the_hypergradient_is_the_derivative_of_the_dropout_hyperobjective():
    """Must-show 4, over the rationals: central differences of λ ↦ F̄(λ, w(λ)), exact for quadratics, with F̄ and Ḡ
    as literal sums over masks and w(λ) from their literal normal equations: no code shared below the coefficients.
    """
    B = backend("rational")
    plain = quadratic.random(n=2, d=3, seed=9, terms=2).to("rational")
    keep = {"lam": Fraction(2, 3), "w": Fraction(4, 5)}
    up = {"lam": Fraction(1, 2), "w": Fraction(3, 4)}
    problem = plain.with_dropout(lower=keep, upper=up)
    lam = B.asarray([0.5, -1.0])

    def literal(f, keep, lam, w):
        total = B.scalar(0)
        for bits in it.product((0, 1), repeat=5):
            chance = Fraction(1)
            for i, bit in enumerate(bits):
                p = keep["lam"] if i < 2 else keep["w"]
                chance *= p if bit else 1 - p
            m = B.asarray(np.array(bits, dtype=float))
            total = total + B.scalar(chance) * f.value(m[:2] * lam, m[2:] * w)
        return total

    def slope(f, keep, lam, w, i):  # exact for quadratics
        e = B.eye(3)[i]
        return (literal(f, keep, lam, w + e) - literal(f, keep, lam, w - e)) / B.scalar(2)

    def lower_solution(lam):
        zero = B.zeros((3,))
        g0 = B.asarray([slope(plain.lower, keep, lam, zero, i) for i in range(3)])
        columns = [
            B.asarray([slope(plain.lower, keep, lam, B.eye(3)[j], i) for i in range(3)]) - g0
            for j in range(3)
        ]
        return ri.arrays.factor(B, np.stack(columns, axis=1)).solve(-g0)

    def hyper(lam):
        return literal(plain.upper, up, lam, lower_solution(lam))

    expected = [(hyper(lam + e) - hyper(lam - e)) / B.scalar(2) for e in B.eye(2)]
    for levels in (problem, _without_closed_forms(problem)):
        found = ri.exact_hypergradient(levels, lam)
        assert found.kind == "exact"
        assert found.value.tolist() == expected


def _without_closed_forms(problem: Any) -> Any:
    return dataclasses.replace(problem, upper=enumerated(problem.upper), lower=enumerated(problem.lower))


def test_the_hypergradient_is_the_complex_step_through_the_literal_iteration():
    """Not quadratic: logistic with log-penalties. The judge iterates w ← w − η Σ_m P(m) m ∇G(λ + ih, m w) on plain
    NumPy sums until it stands still together with its derivative; the imaginary part of F̄ is h times ∇f.
    """
    problem = ri.zoo.logistic.random(d=3, seed=2, per_feature=True)
    X, y, X_val, y_val = (to_numpy(a) for f in (problem.lower.data, problem.upper) for a in (f.X, f.y))
    keep, up = [0.8, 0.6, 0.9], [0.5, 1.0, 0.7]
    dropout = problem.with_dropout(lower=keep, upper=up)
    lam, h = np.array([-1.0, 0.3, -0.5]), 1e-30

    def masks(keep):
        for bits in it.product((0.0, 1.0), repeat=3):
            m = np.array(bits)
            yield m, np.prod(np.where(m > 0, keep, 1 - np.array(keep)))

    found = ri.exact_hypergradient(dropout, lam, certify="always")
    assert found.kind == "bounded"
    expected = []
    for e in np.eye(3):
        z, w = lam + 1j * h * e, np.zeros(3, dtype=complex)
        for _ in range(4000):
            g = np.zeros(3, dtype=complex)
            for m, chance in masks(keep):
                score = X @ (m * w)
                g = g + chance * m * (X.T @ (-y / (1 + np.exp(y * score))) / len(X) + np.exp(z) * m * w)
            new = w - 0.5 * g
            if (new == w).all():
                break
            w = new
        F = sum(c * np.mean(np.log1p(np.exp(-y_val * (X_val @ (m * w))))) for m, c in masks(up))
        expected.append(F.imag / h)
    H = np.asarray(dropout.lower.hess_ww(lam, found.w).dense())
    size = 1 + np.linalg.norm(found.v) * np.linalg.norm(np.asarray(dropout.lower.cross(lam, found.w).dense()))
    # GD stops within eps/(1 − q) of its fixed point: condition twice, once for w and once for its derivative
    assert_rounded(
        found.value,
        expected,
        terms=size * (1 + np.linalg.norm(found.w)),
        count=8,
        condition=condition_number(H) ** 2,
    )


@pytest.mark.parametrize("level", ["lower", "upper"])
def test_keep_to_one_has_first_order(level):
    """∇F̄_p − ∇f = c (1 − p) + O((1 − p)²): over the rationals, where a quadratic's error is a ratio of polynomials
    of p, halving 1 − p halves the difference to within a factor 1 ± 32 (1 − p).
    """
    B = backend("rational")
    plain = quadratic.random(n=2, d=3, seed=11).to("rational")
    lam = B.asarray([0.5, -1.0])
    base = ri.exact_hypergradient(plain, lam).value
    gaps = []
    for power in (10, 11, 12):
        keep = {"lower": None, "upper": None, level: 1 - Fraction(1, 2**power)}
        gap = ri.exact_hypergradient(plain.with_dropout(**keep), lam).value - base
        gaps.append(np.array([float(Fraction(int(e.p), int(e.q))) for e in gap]))
    for power, (coarse, fine) in zip((10, 11), it.pairwise(gaps), strict=True):
        assert np.all(np.abs(coarse / fine - 2) <= 32 * 2.0**-power)
    assert np.all(gaps[0] != 0)


def test_bounds_hold_at_sampled_points_and_contain_the_equality_case():
    """Every constant over 60 random points and pairs of a region; for μ/2 ‖w‖² the ends of the spectrum are attained.

    Kills: L_G unscaled where 1/p scales it up, p_max for p_min, the centre w for w/2.
    """
    rng = np.random.default_rng(12)
    for name in ("quadratic", "logistic per feature", "ridge.log_penalty", "log-cosh"):
        f = THINGS[name]()
        for scale in ("none", "inverse"):
            over = f.with_dropout({"lam": 0.7, "w": 0.6}, groups=groups(f), scale=scale)
            region = Region(rng.standard_normal(f.n) / 4, rng.standard_normal(f.d), 0.3, 0.5)
            b, eps = over.bounds(region), 1e3 * EPS["float64"]
            for _ in range(20):
                (l1, w1), (l2, w2) = (_inside(region, rng) for _ in range(2))
                H1, H2, H3 = (quantity(over, "hess_ww", *at) for at in ((l1, w1), (l1, w2), (l2, w1)))
                C1, C2, C3 = (quantity(over, "cross", *at) for at in ((l1, w1), (l1, w2), (l2, w1)))
                dw, dl = np.linalg.norm(w1 - w2), np.linalg.norm(l1 - l2)
                norm = lambda a: float(np.linalg.norm(a, 2))  # noqa: E731  # one word for six lines
                assert np.linalg.norm(over.grad_w(l1, w1)) <= b.grad_w * (1 + eps)
                assert norm(H1) <= b.hess_ww * (1 + eps)
                assert np.linalg.eigvalsh(H1)[0] >= b.hess_ww_min - eps * b.hess_ww
                assert norm(C1) <= b.cross * (1 + eps)
                assert norm(H1 - H2) <= b.hess_ww_by_w * dw + eps * b.hess_ww
                assert norm(H1 - H3) <= b.hess_ww_by_lam * dl + eps * b.hess_ww
                assert norm(C1 - C2) <= b.cross_by_w * dw + eps * (b.cross + 1)
                assert norm(C1 - C3) <= b.cross_by_lam * dl + eps * (b.cross + 1)
    ball = quadratic.objective(ww=3.0 * np.eye(2), n=0).with_dropout([0.5, 0.9])
    at = ball.bounds(Region(np.zeros(0), np.zeros(2)))
    assert (at.hess_ww_min, at.hess_ww) == (1.5, 2.7)


def _inside(region: Region, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    def ball(centre, radius):
        x = rng.standard_normal(centre.shape)
        return centre + radius * rng.random() * x / np.linalg.norm(x)

    return ball(region.lam, region.lam_radius), ball(region.w, region.w_radius)


def test_negative_curvature_is_bounded_from_below_too():
    """μ < 0: E m_i² scales it, and the most negative curvature is μ times the *largest* c."""
    over = quadratic.objective(ww=-np.eye(2), n=0).with_dropout([0.5, 0.25], scale="inverse")
    b = over.bounds(Region(np.zeros(0), np.zeros(2)))
    assert b.hess_ww_min <= np.linalg.eigvalsh(over.hess_ww(np.zeros(0), np.zeros(2)).dense())[0] == -4


def test_terms_are_what_an_algorithm_samples():
    """at((masks, s)) is f.at(s) under that mask; their expectation over masks × data is f̄; a batch is their mean."""
    problem = _cleaning().with_dropout(lower=0.7, upper=None, groups=ROWS)
    f, rng = problem.lower, np.random.default_rng(13)
    lam, w = rng.standard_normal(f.n), rng.standard_normal(f.d)
    masks, s = f.space.sample(rng, (5,))
    terms = f.at((masks, s)).grad_w(lam, w)
    for k in range(5):
        mask = masks[1][k][ROWS].astype(float)
        assert_rounded(
            terms[k], mask * f.f.at(int(s[k])).grad_w(lam, mask * w), terms=1 + np.abs(terms[k]), count=f.d
        )
    shared = tuple(m[:1] for m in masks)
    batch = f.batch((tuple(m[0] for m in shared), s)).grad_w(lam, w)
    mean = f.at((tuple(np.repeat(m, 5, axis=0) for m in shared), s)).grad_w(lam, w).mean(axis=0)
    assert_rounded(batch, mean, terms=1 + np.abs(mean), count=f.d)
    total = covariance(f.space, lambda p: f.at(p).grad_w(lam, w))
    assert np.trace(total) > np.trace(covariance(f.masks, lambda m: f.masked(m).grad_w(lam, w))) > 0


def test_masks_of_the_two_variables_and_levels_are_independent():
    # kills: one mask shared by λ and w, which would make E m_λ m_w = p instead of p²
    f = quadratic.objective(ww=[[1.0]], lw=[[1.0]]).with_dropout({"lam": 0.5, "w": 0.5})
    for over in (f, enumerated(f)):
        assert float(over.cross(np.ones(1), np.ones(1)).dense()[0, 0]) == 0.25


def test_every_executor_gives_the_same_bits():
    f = enumerated(THINGS["logistic"]().with_dropout(0.7))
    lam, w = np.array([-1.0]), np.arange(4.0)
    with ThreadPoolExecutor(3) as threads:
        found = f.mean(lambda g: g.grad_w(lam, w), 1, 0, executor=threads)
    assert found.tobytes() == f.grad_w(lam, w).tobytes()


def test_dropout_pickles_and_moves():
    problem = _cleaning().with_dropout(lower=0.7, upper=0.9, groups=ROWS, scale="inverse")
    again = round_trip(problem)
    assert (again.lower.w, again.upper.scale) == (problem.lower.w, "inverse")
    assert problem.to("strict").lower.enumerated == 16


def test_dropout_of_dropout_multiplies_the_masks():
    """A decorator decorates anything: two independent layers of masks keep with the product of probabilities."""
    f = quadratic.objective(ww=[[2.0, 1.0], [1.0, 2.0]], w1=[1.0, -1.0], n=0)
    twice = enumerated(f.with_dropout(0.5)).with_dropout(0.5)
    once = f.with_dropout(0.25)
    w = np.array([0.5, 2.0])
    for name in QUANTITIES:
        assert np.array_equal(quantity(twice, name, np.zeros(0), w), quantity(once, name, np.zeros(0), w))


def test_a_problem_with_dropout_is_a_problem():
    """Every lower and linear solver brings the implicit hypergradient to the exact one of the dropout model."""
    problem = _cleaning().with_dropout(lower=0.8, upper=0.9, groups=ROWS)
    lam = problem.start()
    exact = ri.exact_hypergradient(problem, lam)
    assert exact.kind == "bounded"
    measured = problem.check(lam, exact.w)
    c, mu = measured.constants, 0.8 * 0.01  # proposition 1: p_min × the ridge
    # theorem 4 with the exact adjoint: ‖error‖ <= c₁‖w_t − w‖; Newton stops at ‖r‖ <= tol, so ‖w_t − w‖ <= tol/μ
    tol = 1e-9
    reached = {
        ri.solvers.Newton(tol): tol / mu,
        ri.solvers.NewtonCG(tol): tol / mu,
        ri.solvers.GradientDescent(60): c.q**60 * np.linalg.norm(exact.w),
    }
    for lower, distance in reached.items():
        near = ri.approximate.implicit(problem, lam, lower=lower, linear=ri.solvers.Cholesky())
        assert np.linalg.norm(near.value - exact.value) <= 2 * c.c1 * distance + exact.bound
    assert measured.solved
    assert not measured.violations
    assert measured.smallest >= mu * (1 - 10 * problem.d * EPS["float64"])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"lower": 1.2, "upper": None}, BadInput, "outside"),
        ({"lower": -0.1, "upper": None}, BadInput, "outside"),
        ({"lower": None, "upper": {"v": 0.5}}, BadInput, "of what"),
        ({"lower": [0.8] * 7, "upper": None}, BadInput, "do not fit"),
        ({"lower": 0.8, "upper": None, "groups": [0] * 7}, BadInput, "do not fit"),
        ({"lower": [0.8], "upper": None, "groups": [0] * 7 + [1]}, BadInput, "group"),
        ({"lower": {"lam": 0.8}, "upper": None, "groups": {"w": [0] * 8}}, BadInput, "without keep"),
        ({"lower": Bernoulli([0.5] * 8), "upper": None, "groups": ROWS}, BadInput, "twice"),
        ({"lower": 0.8, "upper": None, "scale": "1/p"}, BadInput, "no such dropout"),
        ({"lower": 0.8, "upper": None, "site": "inputs"}, BadInput, "no such dropout"),
        ({"lower": 0.8, "upper": None, "site": "activations"}, BadInput, "hidden units"),
        ({"lower": None, "upper": 0, "scale": "inverse"}, BadInput, "divides by zero"),
        ({"lower": [0.8] * 6 + [0, 1], "upper": None}, HypothesisViolated, r"w\[6\]"),
        ({"lower": 0, "upper": None}, HypothesisViolated, "3 more"),
    ],
)
def test_bad_dropout_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        _cleaning().with_dropout(**options)


def test_an_upper_level_may_drop_a_coordinate_for_good():
    problem = quadratic.random(n=1, d=2, seed=3).with_dropout(lower=None, upper=[0, 0.5])
    assert problem.upper.grad_w(problem.start(), np.ones(2))[0] == 0


def test_too_many_masks_are_refused_where_they_are_asked_for():
    problem = ri.zoo.weighted_softmax.digits(train=20, validation=20, classes=(0, 1)).with_dropout(
        lower=0.8, upper=None
    )
    with pytest.raises(TooLarge, match="executor"):
        ri.exact_hypergradient(problem, problem.start())
    few = dataclasses.replace(enumerated(THINGS["logistic"]().with_dropout(0.5)), max_masks=15)
    with pytest.raises(TooLarge, match="16 points"):
        few.value(np.zeros(1), np.zeros(4))


def test_more_masks_than_are_enclosed_give_an_estimate():
    problem = quadratic.random(n=1, d=9, seed=5).with_dropout(lower=0.5, upper=None)
    problem = dataclasses.replace(problem, lower=enumerated(problem.lower))
    found = ri.exact_hypergradient(problem, problem.start())
    assert found.kind == "estimated"
    assert "512 masks" in found.why_not_bounded
    assert problem.as_fixed_point(0.1).enumerated == 512


def test_a_closed_form_needs_no_enumeration():
    """2^60 masks of a quadratic: the exact hypergradient is that of the quadratic with masked coefficients."""
    plain = quadratic.random(n=2, d=60, seed=4)
    problem = plain.with_dropout(lower=0.9, upper=None)
    found = ri.exact_hypergradient(problem, plain.start())
    assert problem.lower.enumerated == 1
    assert found.kind == "bounded"
    second = np.full((60, 60), 0.81) + np.diag(np.full(60, 0.9 - 0.81))
    masked = dataclasses.replace(
        plain.lower, ww=plain.lower.ww * second, lw=plain.lower.lw * 0.9, w1=plain.lower.w1 * 0.9
    )
    expected = ri.exact_hypergradient(dataclasses.replace(plain, lower=masked), plain.start())
    assert np.linalg.norm(found.value - expected.value) <= 100 * (found.bound + expected.bound)


def test_expectation_by_the_space_itself():
    """Σ over space of at(point) equals f̄ to rounding, also through ``expect`` handed by a user."""
    f = THINGS["logistic"]().with_dropout(0.7, groups=[0, 0, 1, 1])
    lam, w = np.array([-0.5]), np.array([0.5, -1.0, 2.0, 0.25])
    whole = expect(f.space, lambda p: f.at(p).grad_w(lam, w))
    assert_rounded(whole, f.grad_w(lam, w), terms=1 + np.abs(whole), count=f.space.size)


@pytest.mark.parametrize("activation", sorted(networks.ACTIVATIONS))
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_the_two_sites_agree_exactly_where_theory_says(activation, scale):
    """Masks 0 or 1: iff a(0) = 0. Masks 0 or 1/p: iff a(cz) = c a(z) too (2^-3 units of difference elsewhere).

    Kills: units' masks on the wrong layer, output rows masked, the bias of a row left out of its group.
    """
    rng, net = np.random.default_rng(21), networks.MLP((2, 3, 2), activation)
    f = networks.loss(net, rng.standard_normal((5, 2)), [0, 1, 1, 0, 1])
    weights = f.with_dropout(net.rows([0.5]), scale=scale)
    units = f.with_dropout(net.unit_masks([0.5]), scale=scale, site="activations")
    assert weights.enumerated == units.enumerated == 8
    lam, w = np.zeros(0), net.random(rng) + 0.25
    ours, theirs = (np.concatenate([[g.value(lam, w)], g.grad_w(lam, w)]) for g in (weights, units))
    a = networks.ACTIVATIONS[activation]
    size = np.abs(ours).max() + np.linalg.norm(w)
    if a.zero_at_zero and (scale == "none" or a.homogeneous):
        assert_rounded(ours, theirs, terms=size, count=f.d)
    else:
        assert np.abs(ours - theirs).max() > 2.0**-10
    ri.check_derivatives(units, seed=22)


@everywhere
def test_dropped_units_on_every_backend(place):
    net = networks.MLP((2, 3, 1), ("sigmoid",))
    f = networks.loss(net, [[1.0, 2.0], [0.5, -1.0]], [0.0, 1.0], loss="squared", reg=0.1)
    over = f.with_dropout(net.unit_masks(0.5), scale="inverse", site="activations")
    w = net.random(np.random.default_rng(23))
    for name in QUANTITIES:
        expected = quantity(over, name, np.zeros(0), w)
        found = quantity(place.move(over), name, place.array(np.zeros(0)), place.array(w))
        assert_rounded(found, expected, terms=1 + np.abs(expected).max(initial=0), count=8 * f.d)


@pytest.mark.parametrize(
    "f", [networks.loss(networks.MLP((2, 2, 2), "tanh"), np.eye(2), [0, 1], reg=9.0, n=2)]
)
def test_masks_on_lam_alone_leave_what_does_not_depend_on_lam(f):
    """Dense Hessians of such an f have one entry on the masks' axis: every mask has the same one."""
    over, lam, w = f.with_dropout({"lam": 0.5}), np.ones(2), np.linspace(-1, 1, f.d)
    for name in QUANTITIES:
        assert_rounded(quantity(over, name, lam, w), quantity(f, name, lam, w), terms=9 * f.d, count=f.d)


@pytest.mark.parametrize(
    "levels", [{"lower": None, "upper": {"lam": 0.8}}, {"lower": {"lam": 0.5}, "upper": {"lam": 0.8}}]
)
def test_certificates_of_levels_whose_masks_change_nothing(levels):
    """Over balls a value without axes is a bare ball; masks on λ where the upper level has no λ."""
    plain = ri.zoo.weighted_softmax.digits(train=4, validation=6, classes=(1, 4), pool=4, reg=0.1)
    assert (
        ri.exact_hypergradient(plain.with_dropout(**levels), plain.start(), certify="always").kind
        == "bounded"
    )


def _relu_cleaning() -> ri.BilevelProblem:
    net, X, y = networks.MLP((2, 2, 2), "relu"), [[1.0, 0], [0, 1], [1, 1]], [0, 1, 1]
    return ri.BilevelProblem(networks.loss(net, X, y, n=3), networks.loss(net, X, y, reg=0.01, weighted=True))


@pytest.mark.parametrize("dropout", [False, True])
def test_a_solution_at_a_kink_is_refused(dropout):
    """From the origin Newton leaves every ReLU unit at 0, where G has no derivative and no minimum either."""
    problem = _relu_cleaning()
    if dropout:
        problem = problem.with_dropout(lower=problem.lower.net.rows(0.7), upper=None)
    with pytest.raises(HypothesisViolated, match="kink"):
        ri.exact_hypergradient(problem, np.zeros(3))
    assert "kink" in problem.check(np.zeros(3), np.zeros(problem.d)).violations[-1]


def test_a_dropped_unit_stands_at_no_kink():
    """m w has rows of zeros, so pre-activations of exactly 0; w ↦ f(m w) is smooth there all the same."""
    problem = _relu_cleaning()
    over = problem.lower.with_dropout(problem.lower.net.rows(0.7))
    w = np.linspace(0.5, 1.5, problem.d)
    assert over.kink_distance(np.zeros(3), w) == problem.lower.kink_distance(np.zeros(3), w) > 0
    w[:3] = 0.0  # but a row of w itself that is zero is one
    assert over.kink_distance(np.zeros(3), w) == 0


@pytest.mark.parametrize(
    "points",
    [np.full((3, 8), 0.5), np.full((3, 8), 2), np.ones((3, 7), dtype=bool), np.array(True)],
    ids=["half", "two", "too few", "a number"],
)
def test_masks_that_are_no_points_are_refused(points):
    f = _cleaning().lower.with_dropout(0.5)
    with pytest.raises(BadInput, match="not points"):
        f.masked((np.ones((3, 1), dtype=bool), points))


@pytest.mark.parametrize("sample", [-1, 12, 1.5, [], [0.0, 1.0]], ids=str)
def test_terms_that_are_not_there_are_refused(sample):
    f = _cleaning().lower
    for take in (f.at, f.batch):
        with pytest.raises(BadInput, match="numbers of the objective's terms"):
            take(np.asarray(sample))


def test_the_limit_of_masks_is_an_option():
    problem = _cleaning().with_dropout(lower=0.8, upper=None, max_masks=128)
    with pytest.raises(TooLarge, match="max_masks"):
        problem.lower.value(problem.start(), np.zeros(8))
