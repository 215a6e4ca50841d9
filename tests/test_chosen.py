"""The proved bound of the improved model's hypergradient: never below the error, hardly above it; what it refuses."""

from __future__ import annotations

import dataclasses
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays import Backend, backend
from refimpl.combined import Combined
from refimpl.errors import BadInput, HypothesisViolated, NotCertified, TooLarge
from refimpl.exact import improved_hypergradient, solve_simple
from refimpl.exact.chosen import proved_error
from refimpl.objective import Objective
from refimpl.operators import matrix
from refimpl.zoo import overparametrised, quadratic, weighted_softmax
from refimpl.zoo.quadratic import Quadratic
from tests.rounding import EPS, exactly, squared_distance
from tests.test_overparametrised import FAMILIES, every_family
from tests.test_overparametrised import _point as near_the_start
from tests.test_simple import LAM, PARTS, at, by_differences, parts

TINY = 2.0**-200  # what 256 bits leave of problems of this size, by far


@given(st.integers(0, 3), st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**16), st.integers(-12, 12))
def test_the_bound_is_the_error(n, d, r, seed, power):
    """Against the KKT system and differences in fractions: ‖value − ∇f‖ <= bound, and the bound is no more than that.

    The value is moved by about 2^power of its rounding, so that the error is not always of one size.
    """
    # kills: every chosen/ mutant of a formula
    m = parts(n, d, min(r, d), seed)
    lam = np.array([float(x) for x in at(n)])
    found = improved_hypergradient(m.problem, lam, certify="always")
    assert (found.kind, found.why_not_bounded) == ("bounded", "")
    wanted, rng = by_differences(m, at(n)), np.random.default_rng(seed)
    moved = found.value + 2.0**power * EPS["float64"] * rng.standard_normal(n)
    for value, bound in (
        (found.value, found.bound),
        (moved, proved_error(m.problem, lam, found.solution, moved)),
    ):
        error = float(squared_distance(value, wanted)) ** 0.5
        assert error <= bound * (1 + 10 * EPS["float64"])  # the root of the error is rounded
        assert bound <= error * (1 + 10 * EPS["float64"]) + TINY


@every_family
def test_every_family_has_one_within_the_estimate(name):
    """Two roads: H⁺ in floats with what first-order rounding explains, and the square system over balls."""
    # kills: chosen/levels-exchanged
    problem = FAMILIES[name]()
    lam = near_the_start(problem)
    proved = improved_hypergradient(problem, lam, certify="always")
    estimated = improved_hypergradient(problem, lam, certify="never")
    assert (proved.kind, estimated.kind) == ("bounded", "estimated")
    assert np.array_equal(proved.value, estimated.value)
    assert proved.bound <= estimated.bound


@dataclasses.dataclass(frozen=True)
class Quartic(Objective):
    """½(λ⁴(w_1 + 1)² + w_2²)."""

    backend: Backend = Backend()
    n = 1
    d = 2

    def through(self):
        return self.backend.eye(2)

    def _weights(self, lam, w, power=4):
        first = lam[..., :1] ** power
        return self.backend.concat([first, 0 * first + 1]) + 0 * w

    def value(self, lam, w):
        moved = w + self.backend.asarray([1.0, 0.0])
        return self.backend.dot(self._weights(lam, w) * moved, moved) / 2

    def grad_w(self, lam, w):
        return self._weights(lam, w) * (w + self.backend.asarray([1.0, 0.0]))

    def grad_lam(self, lam, w):
        return 2 * lam**3 * (w[..., :1] + 1) ** 2

    def hess_ww(self, lam, w):
        weights = self._weights(lam, w)
        return matrix(self.backend, weights[..., None] * self.backend.eye(2))

    def cross(self, lam, w):
        first = 4 * lam**3 * (w[..., :1] + 1)
        return matrix(self.backend, self.backend.concat([first, 0 * first])[..., None, :])


def test_one_minimiser_needs_no_matrix():
    """A level that says nothing of its directions, of full rank: that of ``exact_hypergradient``."""

    class Silent(Quadratic):
        def through(self):
            return None

    H = np.array([[2.0, 1.0], [1.0, 3.0]])
    lower = _as(Silent, quadratic.objective(ww=H, lw=[[1.0, -1.0]]))
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), w1=[1.0, 2.0], n=1), lower)
    found = improved_hypergradient(problem, [0.3], certify="always")
    ordinary = ri.exact_hypergradient(problem, [0.3])
    assert abs(found.value - ordinary.value) <= found.bound + ordinary.bound
    flat = ri.BilevelProblem(
        problem.upper, _as(Silent, quadratic.objective(ww=np.diag([1.0, 0.0]), lw=[[1.0, 0.0]]))
    )
    assert "no enclosure is made" in improved_hypergradient(flat, [0.3]).why_not_bounded
    with pytest.raises(NotCertified, match="may be flat along directions which it does not tell"):
        improved_hypergradient(flat, [0.3], certify="always")


def _as(kind, level):
    return kind(**{f.name: getattr(level, f.name) for f in dataclasses.fields(level)})


def test_a_wrong_matrix_is_found_out():
    """Of the right rank, but flat elsewhere: ∇_wG changes along what it calls flat."""

    class Wrong(Quadratic):
        def through(self):
            return self.backend.asarray([[2.0, 1.0]])

    lower = _as(Wrong, quadratic.objective(ww=np.diag([1.0, 0.0]), lw=[[1.0, 0.0]]))
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), lower)
    with pytest.raises(NotCertified, match="not constant along the directions"):
        improved_hypergradient(problem, [0.3], certify="always")


@pytest.mark.parametrize(
    "slope",
    [
        {"w1": [0, 2.0**-60]},
        {"lw": [[1.0, 2.0**-60]]},
        {"lw": [[1.0, 2.0**-60]], "w1": [0, -(2.0**-61)]},  # 0 at λ = 1/2, not beside it
    ],
)
def test_a_slope_along_what_is_called_flat_is_found_out(slope):
    """Below rounding, so that floats see none; but G is not bounded below. A family's own rows tell."""
    # kills: chosen/slope-unchecked, chosen/quadratic-without-w1, and -lw

    class Wrong(Quadratic):
        def through(self):
            return self.backend.asarray([[1.0, 0.0]])

    level = quadratic.objective(ww=np.diag([1.0, 0.0]), **{"lw": [[1.0, 0.0]], **slope})
    upper = quadratic.objective(ww=np.eye(2), n=1)
    with pytest.raises(NotCertified, match="not constant along the directions"):
        improved_hypergradient(ri.BilevelProblem(upper, _as(Wrong, level)), [0.5], certify="always")
    with pytest.raises(NotCertified, match="not the exact one"):
        improved_hypergradient(ri.BilevelProblem(upper, level), [0.5], certify="always")


@given(st.integers(2, 12), st.floats(2.0**-20, 0.99))
def test_smoothed_labels_sum_to_one_exactly(classes, smoothing):
    """Else ∇_wG has a part along the equal shifts of all classes, and G no minimiser."""
    # kills: chosen/labels-that-sum-to-about-one
    data = np.eye(2), np.array([0, 1])
    task = weighted_softmax.problem(
        *data, *data, classes=classes, reg=0, singular=True, reg_upper=1.0, smoothing=smoothing
    )
    assert [sum(map(Q, column)) for column in task.lower.y.T.tolist()] == [1, 1]


@pytest.mark.parametrize("which", ["lower", "upper"])
def test_a_saddle_is_no_minimiser_though_it_is_the_only_solution(which):
    """RᵀHR or NᵀQN indefinite: r = 0 has one solution, and it is not w_λ."""
    # kills: chosen/curvature-unchecked
    saddle, bowl = np.diag([1.0, -1.0, 0, 0]), np.diag([1.0, 1.0, 0, 0])
    H, P = (saddle, np.eye(4)) if which == "lower" else (bowl, np.diag([1.0, 1.0, 1.0, -1.0]))
    lower = quadratic.objective(ww=H, lw=[[1.0, 1.0, 0, 0]])
    problem = ri.BilevelProblem(quadratic.objective(ww=P, w1=[0, 0, 1.0, 1.0], n=1), lower)
    convex = ri.BilevelProblem(quadratic.objective(ww=np.eye(4), n=1), quadratic.objective(ww=bowl, n=1))
    w = np.array([-0.3, 0.3 if which == "lower" else -0.3, -1.0, -1.0 if which == "lower" else 1.0])
    found = dataclasses.replace(solve_simple(convex, [0.3]), w=w)
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        proved_error(problem, np.array([0.3]), found, np.zeros(1))


def test_the_exact_rank_is_the_one_that_counts():
    """Products of rows that are rounded, H = fl(XᵀX), have a higher exact rank than floats see."""
    m = dataclasses.replace(PARTS, X=PARTS.X * np.random.default_rng(0).uniform(0.5, 1, PARTS.X.shape))
    found = improved_hypergradient(m.problem, LAM)
    assert (found.kind, found.bound, found.solution.rank) == ("estimated", np.inf, 2)
    assert "the rank counted in floats is not the exact one" in found.why_not_bounded
    with pytest.raises(NotCertified, match="rank counted in floats"):
        improved_hypergradient(m.problem, LAM, certify="always")


@pytest.mark.parametrize("certify", ["auto", "never"])
def test_data_that_floats_centred_have_no_finite_bound(certify):
    """X − mean: a rank of 3 in floats, of 4 in fractions, and the two problems have other solutions."""
    # kills: simple/known-rank-ignored
    rng = np.random.default_rng(0)
    X, y, X_val, y_val = (rng.standard_normal(shape) for shape in ((4, 8), 4, (5, 8), 5))
    problem = overparametrised.least_squares(
        X - X.mean(0), y, X_val, y_val, reg_upper=0.1, weights="identity"
    )
    there = problem.to("rational")
    exact = improved_hypergradient(there, there.start())
    found = improved_hypergradient(problem, problem.start(), certify=certify)
    assert (found.solution.rank, exact.solution.rank) == (3, 4)
    assert np.linalg.norm(found.value - np.array(exactly(exact.value), float)) > 0.01
    assert (found.kind, found.bound) == ("estimated", np.inf)
    counted, dropped = found.solution.gap
    said = f"counted in floats is 3, that of the matrix through which G sees w is 4: the singular value {counted:.3g} "
    assert said + f"counts, {dropped:.3g} does not" in found.why_not_bounded
    assert "round the data to fewer bits before they are multiplied or centred" in found.why_not_bounded


@pytest.mark.parametrize("certify", ["auto", "never"])
def test_a_matrix_that_lacks_rows_has_no_finite_bound(certify):
    class Lacking(Quadratic):
        def through(self):
            return self.backend.asarray([[1.0, 0.0]])

    lower = _as(Lacking, quadratic.objective(ww=np.eye(2), lw=[[1.0, 0.0]]))
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), lower)
    found = improved_hypergradient(problem, [0.3], certify=certify)
    assert (found.bound, found.solution.rank) == (np.inf, 2)
    assert "through() lacks rows by which w enters" in found.solution.in_doubt


def test_a_matrix_that_has_no_rational_form_leaves_the_rank_to_floats():
    class Rooted(Quadratic):
        def through(self):
            return self.backend.sqrt(self.mean[0] * self.mean[0])

    lower = _as(Rooted, quadratic.objective(ww=np.diag([2.0, 0.0]), lw=[[1.0, 0.0]]))
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), lower)
    found = improved_hypergradient(problem, [0.3], certify="never")
    assert (found.solution.rank, found.solution.in_doubt) == (1, "")
    assert found.bound < np.inf


def test_what_is_not_enclosed_is_said():
    with pytest.raises(BadInput, match="unknown certify option"):
        improved_hypergradient(PARTS.problem, LAM, certify="perhaps")
    large = overparametrised.random(d=65, rank=2, seed=0)
    assert "d = 65" in improved_hypergradient(large, large.start()).why_not_bounded
    with pytest.raises(TooLarge):
        improved_hypergradient(large, large.start(), certify="always")
    bare = ri.BilevelProblem(
        quadratic.objective(ww=np.eye(1), n=1),
        ri.from_function(lambda lam, w: ((w - lam) ** 2).sum(), n=1, d=1),
    )
    assert improved_hypergradient(bare, [1.0]).kind == "estimated"
    with pytest.raises(NotCertified, match="bare function"):
        improved_hypergradient(bare, [1.0], certify="always")


def test_over_the_rationals_there_is_nothing_to_prove():
    problem = PARTS.problem.to("rational")
    found = improved_hypergradient(problem, backend("rational").asarray(LAM), certify="always")
    assert found.kind == "exact"
    assert exactly(found.value) == by_differences(PARTS, [Q(int(x)) for x in LAM])


# -- what is flat, or not bounded below, in all but name -------------------------------------------------
def bilevel(lower, d=2):
    return ri.BilevelProblem(quadratic.objective(ww=np.eye(d), n=1), ri.from_function(lower, n=1, d=d))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_level_without_a_minimiser_is_refused(scale):
    """G = s exp(w_1 − λ) + ½(w_2 − λ)² falls for ever: its slope ends below rounding."""
    # kills: simple/attained-unchecked
    np_ = pytest.importorskip("autograd.numpy")
    problem = bilevel(lambda lam, w: scale * np_.exp(w[0] - lam[0]) + (w[1] - lam[0]) ** 2 / 2)
    with pytest.raises(HypothesisViolated, match="no minimiser of G"):
        solve_simple(problem, [0.5])


def test_an_upper_level_without_a_minimiser_is_refused():
    """F = exp(w_2) falls for ever along what G leaves free."""
    # kills: simple/attained-of-G-alone
    np_ = pytest.importorskip("autograd.numpy")
    upper = ri.from_function(lambda lam, w: np_.exp(w[1] - lam[0]) + w[0] ** 2, n=1, d=2)
    lower = quadratic.objective(ww=np.diag([1.0, 0.0]), lw=[[-1.0, 0.0]])
    with pytest.raises(HypothesisViolated, match="no minimiser of F"):
        solve_simple(ri.BilevelProblem(upper, lower), [0.5])


def test_a_slope_below_rounding_attains_nothing():
    """exp(−w_1) + 10⁻¹⁷w_1 has its minimum at 39, out of the floats' sight: the slope points outward by rounding."""
    # kills: simple/attained-by-rounding
    np_ = pytest.importorskip("autograd.numpy")
    problem = bilevel(lambda lam, w: np_.exp(-w[0]) + 1e-17 * w[0] + (w[1] - lam[0]) ** 2 / 2)
    with pytest.raises(HypothesisViolated, match="no minimiser of G"):
        solve_simple(problem, [0.5])


def test_softmax_with_a_ridge_sees_all_of_w():
    # kills: chosen/softmax-without-its-ridge
    data = np.array([[1, 0], [0, 1], [1, 1]]), np.array([0, 1, 1])
    task = weighted_softmax.problem(*data, *data, classes=2, reg=0.5)
    found = improved_hypergradient(task, task.start(), certify="always")
    ordinary = ri.exact_hypergradient(task, task.start())
    assert np.linalg.norm(found.value - ordinary.value) <= found.bound + ordinary.bound


@pytest.mark.parametrize("fall", ["exp", "hyperbola"])
def test_what_is_flat_far_out_alone_has_no_affine_set_of_minimisers(fall):
    """exp(−w_1) is 0 in floats where F would like to be, at 10⁶; √(1 + w_1²) − w_1 has lost its curvature there."""
    # kills: simple/flatness-not-looked-at
    np_ = pytest.importorskip("autograd.numpy")
    falls = {"exp": lambda x: np_.exp(-x), "hyperbola": lambda x: np_.sqrt(1 + x**2) - x}
    level = bilevel(lambda lam, w: falls[fall](w[0]) + (w[1] - lam[0]) ** 2 / 2).lower
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), w1=[-1e6, 0], n=1), level)
    with pytest.raises(HypothesisViolated, match="no affine set"):
        solve_simple(problem, [0.5], start=[1e6, 0.0])


@every_family
def test_a_level_that_tells_no_matrix_is_answered_all_the_same(name):
    problem = FAMILIES[name]()
    lam, lower = near_the_start(problem), problem.lower
    silent = Combined(1, lower, 0, lower)
    assert silent.through() is None
    found = improved_hypergradient(ri.BilevelProblem(problem.upper, silent, problem.domain), lam)
    assert (found.kind, found.solution.rank < problem.d) == ("estimated", True)


def test_separated_data_have_no_solution():
    """The logistic loss of hard labels at distinct points of a line, beside a level that has one."""
    np_ = pytest.importorskip("autograd.numpy")
    problem = bilevel(lambda lam, w: np_.log(1 + np_.exp(-3 * w[0])) + (w[1] - lam[0]) ** 2 / 2)
    with pytest.raises(HypothesisViolated, match="no minimiser of G"):
        solve_simple(problem, [0.5])


def test_a_flat_but_attained_minimum_is_answered():
    """log cosh levels off, too, but has its minimum at λ."""
    np_ = pytest.importorskip("autograd.numpy")
    found = solve_simple(bilevel(lambda lam, w: np_.log(np_.cosh(w[0] - lam[0]))), [0.5])
    assert abs(found.w - [0.5, 0.0]).max() <= 10 * EPS["float64"]
    assert found.in_doubt == ""


def test_a_rank_in_doubt_has_no_finite_bound():
    """A singular value between rounding's floor and ten times as much, of a level that does not tell its rank."""
    # kills: simple/doubt-silent
    small = 4e-15

    def lower(lam, w):
        return ((w[0] - lam[0]) ** 2 + small * (w[1] - 1) ** 2) / 2

    found = improved_hypergradient(bilevel(lower), [0.5])
    assert found.solution.rank == 1
    assert found.solution.gap == pytest.approx((1.0, small), rel=10 * EPS["float64"] / small)
    assert (found.kind, found.bound) == ("estimated", float("inf"))
    assert found.why_not_bounded.startswith("the rank is in doubt: the singular value 4e-15")
    lower_rank_known = quadratic.objective(ww=np.diag([1.0, small]), lw=[[-1.0, 0.0]])
    with pytest.raises(HypothesisViolated, match="floats do not see the rank"):
        solve_simple(ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), lower_rank_known), [0.5])


def test_a_matrix_that_holds_at_one_lam_only_is_found_out():
    """G = ½(λ⁴(w_1 + 1)² + w_2²) at λ = 0, as if it saw w_2 alone: beside λ it does not, by 1e-16 of exact balls."""
    # kills: chosen/flatness-at-one-lam

    class Here(Quartic):
        def through(self):
            return self.backend.asarray([[0.0, 1.0]])

    upper = quadratic.objective(ww=np.eye(2), w1=[-1.0, -1.0], n=1)
    with pytest.raises(NotCertified, match="not constant along the directions"):
        improved_hypergradient(ri.BilevelProblem(upper, Here()), [0.0], certify="always")
    honest = improved_hypergradient(ri.BilevelProblem(upper, Quartic()), [0.0])
    assert honest.kind == "estimated"
    assert "the rank changes here" in honest.why_not_bounded


@pytest.mark.parametrize("rows", [[1.0, 0.0], [[1.0]]])
def test_what_is_no_matrix_is_said(rows):
    class Odd(Quartic):
        def through(self):
            return self.backend.asarray(rows)

    upper = quadratic.objective(ww=np.eye(2), n=1)
    assert (
        "through() is no matrix"
        in improved_hypergradient(ri.BilevelProblem(upper, Odd()), [1.0]).why_not_bounded
    )
