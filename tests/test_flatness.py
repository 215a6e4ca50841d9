"""Measures of flatness against closed forms, exact fractions and loops; test_invariances has the symmetries."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import backend, to_numpy
from refimpl.curvature.alignment import alignment
from refimpl.curvature.directions import eigen_directions, embedded, filter_normalised, network_filters
from refimpl.curvature.exploration import stationary_from
from refimpl.curvature.flatness import interval_flatness, quadratic_width
from refimpl.curvature.profiles import profile, surface
from refimpl.curvature.variance import along, projected_variance
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.functions import from_function
from refimpl.networks import MLP, loss
from refimpl.networks.traced import Convolutional
from refimpl.zoo.quadratic import objective as quadratic
from refimpl.zoo.quadratic import spectrum_matrix
from tests.backends import Place, everywhere
from tests.flatness_things import NONE, short
from tests.rounding import EPS, assert_rounded, exactly


def _fractions(x: Any) -> Any:
    return [_fractions(e) for e in x] if np.ndim(x) else Fraction(float(x))


# -- interval flatness --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Parabolas:
    """A positive quadratic loss, a point and directions; along each of them a + g t + h t²/2."""

    f: Any
    w: np.ndarray
    V: np.ndarray
    loss: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    sizes: np.ndarray  # Σ|terms| of the value, at |t| <= 1 and more where t is

    def roots(self, factor: float) -> np.ndarray:
        """Both places where the loss is ``factor`` times that at w, without cancellation: (2, k)."""
        g, h, c = self.slope, self.curvature, (factor - 1) * self.loss
        far = -(g + np.copysign(np.sqrt(g * g + 2 * h * c), g))
        return np.sort(np.stack([far / h, -2 * c / far]), axis=0)


def _parabolas(seed: int, d: int = 5) -> Parabolas:
    rng = np.random.default_rng(seed)
    A, a = spectrum_matrix(np.geomspace(0.1, 30, d).tolist(), rng), rng.standard_normal(d)
    constant = 1 + a @ np.linalg.solve(A, a)  # the smallest value is above 0
    f = quadratic(ww=A, w1=a, l1=np.array([constant]))
    w, V = rng.standard_normal(d), rng.standard_normal((2, 4, d))
    L = w @ A @ w / 2 + a @ w + constant
    far = np.abs(w) + 4 * np.abs(V)
    sizes = np.einsum("...i,ij,...j->...", far, np.abs(A), far) / 2 + far @ np.abs(a) + constant
    return Parabolas(f, w, V, np.full((2, 4), L), V @ (A @ w + a), np.sum(V @ A * V, -1), sizes)


@everywhere
@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_interval_flatness_of_quadratics_is_the_closed_form(place: Place, factor: float, seed: int) -> None:
    # kills: factor for factor − 1, one side for both, |left| swapped with right, ½ lost, a normalised v, a lost axis
    q = _parabolas(seed)
    lam = place.array([1.0])
    found = interval_flatness(
        place.move(q.f), place.array(q.w), place.array(q.V), lam=lam, factor=factor, limit=2.0**6
    )
    expected = q.roots(factor)
    slope = np.sqrt(q.slope**2 + 2 * q.curvature * (factor - 1) * q.loss)  # |dL/dt| at both crossings
    reach = np.maximum(1, np.abs(expected) / 4) ** 2
    allowed = factor * q.sizes * reach / slope + np.abs(expected)
    for got, known, terms in zip((found.left, found.right), expected, allowed, strict=True):
        assert_rounded(got, known, terms=terms, count=q.f.d)
    width = quadratic_width(q.loss, q.slope, q.curvature, factor=factor)
    assert_rounded(found.width, width, terms=allowed.sum(axis=0), count=q.f.d)
    assert np.all(found.residuals <= 10 * q.f.d * EPS["float64"] * factor * q.sizes * reach / q.loss)


def test_crossings_are_enclosed_exactly() -> None:
    """Over the rationals: not above 4 eps before the crossing found, above 4 eps behind it; fractions decide."""
    # kills: a tolerance relative to the limit, a crossing from above, strict for not strict
    q = _parabolas(7)
    f = q.f.to("rational")
    B, eps = f.backend, Fraction(2) ** -52
    found = interval_flatness(f, B.asarray(q.w), B.asarray(q.V[0]), lam=B.asarray([1]))
    A, a, c = _fractions(q.f.ww[0]), _fractions(q.f.w1[0]), Fraction(float(q.f.l1[0, 0]))

    def value(w: list[Fraction]) -> Fraction:
        pairs = itertools.product(range(len(w)), repeat=2)
        return sum((A[i][j] * w[i] * w[j] for i, j in pairs), c * 2) / 2 + sum(
            x * y for x, y in zip(a, w, strict=True)
        )

    w = _fractions(q.w)
    for v, places in zip(_fractions(q.V[0]), zip(found.left, found.right, strict=True), strict=True):
        for place in map(Fraction, places):
            near, far = (
                value([x + place * (1 + s * 4 * eps) * y for x, y in zip(w, v, strict=True)]) for s in (-1, 1)
            )
            assert near < 2 * value(w) <= far


def _line(of: Callable[[Any], Any]) -> Any:
    """The objective L(w) = of(w₁) of one variable."""
    return from_function(lambda lam, w: of(w[0]), n=0, d=1)


ONE = np.ones((1, 1))


def test_the_nearest_crossing_is_nearest_among_the_points_tried() -> None:
    """A bump at 0.3, narrower than the points' distance, is passed over; with a finer resolution it is found."""
    import autograd.numpy as anp

    f = _line(lambda x: 1 + x * x / 4 + 5 * anp.exp(-(((x - 0.3) / 1e-3) ** 2)))
    coarse, fine = (
        interval_flatness(f, np.zeros(1), ONE, growth=g, start=0.25, limit=4.0) for g in (2.0, 1.001)
    )
    edge = 0.3
    for _ in range(10):  # where the bump reaches 2: a fixed point of a map that contracts by 10⁻⁴
        edge = 0.3 - 1e-3 * math.sqrt(-math.log((1 - edge**2 / 4) / 5))
    assert_rounded(fine.right, np.array([edge]), terms=1.0, count=10)
    assert fine.evaluations > coarse.evaluations
    assert_rounded(fine.left, np.array([-2.0]), terms=2.0, count=4)


def test_it_tries_every_point_that_it_says_in_this_order() -> None:
    # kills: a point left out, growth per side, the limit not tried, and any undocumented evaluation
    seen: list[float] = []

    def watched(x: Any) -> Any:
        seen.append(float(getattr(x, "_value", x)))
        return 1 + 0 * x

    found = interval_flatness(_line(watched), np.zeros(1), ONE, start=0.25, limit=1.25, growth=2.0)
    assert [x for x in seen if x > 0] == [0.25, 0.5, 1.0, 1.25]
    assert [x for x in seen if x < 0] == [-0.25, -0.5, -1.0, -1.25]
    assert found.evaluations == 1 + 8
    assert found.left.tolist() == [-np.inf]
    assert found.right.tolist() == [np.inf]
    assert found.width.tolist() == [np.inf]
    assert found.residuals.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(("limit", "right"), [(1024.0, 1024.0), (1023.0, np.inf)])
def test_the_limit_itself_counts(limit: float, right: float) -> None:
    f = _line(lambda x: 1 + x * x / 2**20)
    assert interval_flatness(f, np.zeros(1), ONE, limit=limit).right.tolist() == [right]


@pytest.mark.parametrize(("scale", "power"), [(1e-9, 2), (1e-5, 2), (1.0, 2), (700.0, 2), (1.1, 400)])
def test_a_crossing_costs_no_more_than_bisection(scale: float, power: int) -> None:
    """Wherever it is, nearer than the first point tried too, and where regula falsi would crawl."""
    # kills: an absolute tolerance, a bracket that is not halved often enough, a search without end
    f = _line(lambda x: 1 + (x / scale) ** power)
    found = interval_flatness(f, np.zeros(1), ONE)
    for place in (-found.left, found.right):
        assert_rounded(place, np.array([scale]), terms=scale, count=4)
    tried = abs(math.log2(scale * 2**16)) * (2 if scale > 2**-16 else 1) + 3
    assert found.evaluations <= 1 + 2 * (tried + 52 + 1)


def test_where_secants_crawl_bisection_takes_over() -> None:
    """[1, 2] has 2⁵⁰ intervals of 2 eps · 2: 50 halvings and one step more, after 2 points tried on each side."""
    # kills: a search that may use up more than its one step of slack
    import autograd.numpy as anp

    f = _line(lambda x: 1 + anp.exp(10_000 * (x - 1.1)))
    found = interval_flatness(f, np.zeros(1), ONE, start=1.0, limit=2.0, growth=2.0)
    assert found.evaluations <= 1 + 4 + 51
    assert_rounded(found.right, np.array([1.1]), terms=1.1, count=4)


def test_a_gap_below_all_floats_is_decided_over_the_rationals() -> None:
    """1 + (1 − 2⁻¹²⁰⁰) t² does not double at t = 1; its distance to 2 is no float."""
    exact = quadratic(ww=[[2.0]], l1=[1.0]).to("rational")
    B = exact.backend
    almost = dataclasses.replace(exact, ww=exact.ww * (1 - B.scalar(Fraction(1, 2**1200))))
    for f, right in ((exact, 1.0), (almost, np.inf)):
        found = interval_flatness(
            f, B.asarray([0]), B.eye(1), lam=B.asarray([1]), start=0.5, limit=1.0, growth=2.0
        )
        assert found.right.tolist() == [right]


def test_a_loss_that_is_all_rounding_is_refused() -> None:
    # kills: a search without end
    values = itertools.chain([1.0], itertools.repeat(3.0))
    with pytest.raises(HypothesisViolated, match="as near to w"):
        interval_flatness(_line(lambda x: next(values) + 0 * x), np.zeros(1), ONE)


def test_smooth_crossings_cost_a_dozen_values() -> None:
    found = interval_flatness(_line(lambda x: 1 + x * x + x**3 / 8), np.zeros(1), ONE, start=0.5, limit=2.0)
    assert found.evaluations <= 1 + 2 * (4 + 12)


def test_a_jump_shows_in_the_residual() -> None:
    import autograd.numpy as anp

    found = interval_flatness(_line(lambda x: anp.where(x > 1, 10.0, 2.0) + 0 * x), np.zeros(1), ONE)
    assert_rounded(found.right, np.ones(1), terms=1.0, count=1)
    assert found.residuals.tolist() == [[0.0], [1.0]]
    assert found.left.tolist() == [-np.inf]


def test_an_overflow_is_above() -> None:
    import autograd.numpy as anp

    found = interval_flatness(_line(lambda x: anp.exp(1000 * x)), np.zeros(1), ONE)
    assert_rounded(found.right, np.log([2.0]) / 1000, terms=1 / 1000, count=4)
    assert found.left.tolist() == [-np.inf]


def test_chunks_change_nothing() -> None:
    q = _parabolas(8)
    f = q.f.to("rational")
    B = f.backend
    all_at_once, one_by_one = (
        interval_flatness(f, B.asarray(q.w), B.asarray(q.V), lam=B.asarray([1]), chunk=chunk)
        for chunk in (64, 1)
    )
    for name in ("left", "right", "residuals", "evaluations"):
        assert np.array_equal(getattr(all_at_once, name), getattr(one_by_one, name)), name


def test_two_readings_with_and_without_dropout() -> None:
    """The loss is whatever is handed in: under dropout the widths are those of the expected loss."""
    net = MLP((2, 3, 1), "leaky_relu")
    f = loss(net, short(0, 5, 2), short(1, 5), loss="squared")
    D = f.with_dropout(net.unit_masks(0.5), site="activations", scale="inverse")
    w, V = short(2, net.size), short(3, 2, net.size)
    plain, dropped = (interval_flatness(g, w, V) for g in (f, D))
    assert np.all(plain.width != dropped.width)
    for g, found in ((f, plain), (D, dropped)):
        B = g.to("rational").backend
        exact = interval_flatness(g.to("rational"), B.asarray(w), B.asarray(V))
        slopes = np.abs(
            [np.sum(g.grad_w(NONE, w + t[:, None] * V) * V, -1) for t in (exact.left, exact.right)]
        )
        sizes = [
            1 + np.linalg.norm(np.abs(w) + np.abs(t)[:, None] * np.abs(V), axis=-1)
            for t in (exact.left, exact.right)
        ]
        terms = np.array(sizes) ** 6 / slopes  # a loss of degree 4 in w, with data and 1/p² of size 4 at most
        for got, known, most in zip((found.left, found.right), (exact.left, exact.right), terms, strict=True):
            assert_rounded(got, known, terms=most + np.abs(known), count=2 * net.size)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_loss_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(HypothesisViolated, match="not positive") as caught:
        interval_flatness(_line(lambda x: value + x * x), np.zeros(1), ONE)
    assert str(value) in str(caught.value.measured)


def test_losses_that_are_no_numbers_are_refused() -> None:
    # kills: a NaN that counts as above, to either side, found outwards or between two points; a level of ∞ or NaN
    import autograd.numpy as anp

    for of, where in (
        (lambda x: anp.where(x > 0.84, anp.nan, 1.0) + 0 * x, "δ = 1 along direction 0"),
        (lambda x: anp.where(x < -0.84, anp.nan, 1.0) + 0 * x, "δ = -1 along direction 0"),
        (lambda x: anp.where(abs(x - 0.55) < 0.05, anp.nan, 1 + 4 * x * x), "δ = 0.55"),
    ):
        with pytest.raises(HypothesisViolated, match="not a number at a point") as caught:
            interval_flatness(_line(of), np.zeros(1), ONE, start=0.25, limit=4.0, growth=4.0)
        assert where in str(caught.value.measured)
    second = from_function(lambda lam, w: anp.where(w[1] > 0.84, anp.nan, 1.0) + 0 * w[0], n=0, d=2)
    with pytest.raises(HypothesisViolated, match="δ = 1 along direction 1"):
        interval_flatness(second, np.zeros(2), np.eye(2), start=0.25, growth=2.0, chunk=1)
    for value in (np.inf, np.nan, 1.7e308):
        with pytest.raises(HypothesisViolated, match="no finite number"):
            interval_flatness(_line(lambda x, value=value: value + 0 * x), np.zeros(1), ONE)


def test_directions_that_rounding_stops_are_refused() -> None:
    """At 10²⁰ neighbours are 2¹⁴ apart: 2¹⁰ v moves nothing, 2²⁰ v does, and rationals always do."""
    f = quadratic(ww=[[2.0]], n=0)
    w = np.array([1e20])
    with pytest.raises(BadInput, match="does not move"):
        interval_flatness(f, w, ONE)
    assert interval_flatness(f, w, ONE, limit=2.0**20).right.tolist() == [np.inf]
    exact, B = f.to("rational"), backend("rational")
    assert interval_flatness(exact, B.asarray(w), B.eye(1)).right.tolist() == [np.inf]
    two = quadratic(ww=2 * np.eye(2), n=0)
    with pytest.raises(BadInput, match="does not move"):  # one of two directions
        interval_flatness(two, np.array([0.0, 1e20]), np.eye(2))


@pytest.mark.parametrize(("start", "growth"), [(2.0**-16, 1 + 1e-12), (2.0**-1022, 1.05)])
def test_too_many_points_are_refused_beforehand(start: float, growth: float) -> None:
    with pytest.raises(TooLarge, match="too many points") as caught:
        interval_flatness(_line(lambda x: 1 + x * x), np.zeros(1), ONE, start=start, growth=growth)
    assert "10000" in str(caught.value.required)


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 1.0}, {"factor": np.nan}, {"factor": np.inf}, {"growth": 1.0}, {"start": 0.0},
        {"start": 5e-324, "growth": 2.0}, {"start": 2.0, "limit": 1.0}, {"limit": np.inf}, {"chunk": 0},
    ],
)  # fmt: skip
def test_options_that_find_nothing_are_refused(options: Any) -> None:
    with pytest.raises(BadInput, match="nothing can be searched"):
        interval_flatness(_line(lambda x: 1 + x * x), np.zeros(1), ONE, **options)


def test_what_is_no_point_or_direction_is_refused() -> None:
    f = _line(lambda x: 1 + x * x)
    g = quadratic(ww=np.eye(2), l1=np.ones(1))
    for call, text in (
        (lambda: interval_flatness(f, np.zeros(1), np.zeros((1, 1))), "direction is zero"),
        (lambda: interval_flatness(f, np.zeros(1), np.ones((1, 2))), "wrong shape"),
        (lambda: interval_flatness(f, np.zeros((2, 1)), ONE), "several points"),
        (lambda: interval_flatness(g, np.zeros(2), np.eye(2)), "depends on λ"),
        (lambda: profile(g, np.zeros(2), np.eye(2), [0.0]), "depends on λ"),
        (lambda: interval_flatness(f, np.zeros(1), np.full((1, 1), np.nan)), "not finite"),
        (lambda: interval_flatness(g.to("interval"), np.zeros(2), np.eye(2)), "balls"),
        (lambda: interval_flatness(lambda w: w @ w, np.zeros(1), ONE), "not an objective"),  # type: ignore[arg-type]  # refused
        (lambda: profile(lambda w: w @ w, np.zeros(1), ONE, [0.0]), "not an objective"),  # type: ignore[arg-type]  # refused
        (lambda: surface(lambda w: w @ w, np.zeros(1), ONE[0], ONE[0], [0.0], [0.0]), "not an objective"),  # type: ignore[arg-type]  # refused
        (lambda: interval_flatness(f, np.zeros(1), np.ones((0, 1))), "no directions"),
        (lambda: profile(f, np.zeros(1), np.ones((2, 0, 1)), [0.0]), "no directions"),
        (lambda: surface(f, np.zeros(1), np.ones((2, 1)), ONE[0], [0.0], [0.0]), "u is several points"),
        (lambda: surface(f, np.zeros(1), ONE[0], ONE, [0.0], [0.0]), "v is several points"),
    ):
        with pytest.raises(BadInput, match=text):
            call()
    net = MLP((2, 1))
    terms = loss(net, np.eye(2), [1.0, 2.0], loss="squared").at([0, 1])
    with pytest.raises(BadInput, match="several losses"):
        interval_flatness(terms, np.zeros(3), np.eye(3))


def test_the_width_of_parabolas_by_hand() -> None:
    # 1 + 3t + 2t² = 3 at t = −2 and 1/2; h <= 0 never gets there on one side at least
    assert quadratic_width(1.0, 3.0, 4.0, factor=3.0).tolist() == 2.5
    assert quadratic_width([1.0, 1.0], 1.0, [0.0, -1.0]).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_parabolas_without_a_width_are_refused(loss: float) -> None:
    with pytest.raises(HypothesisViolated, match="not positive") as caught:
        quadratic_width([1.0, loss], 0.0, 1.0)
    assert str(loss) in str(caught.value.measured)
    for factor in (1.0, 0.5, np.nan, np.inf):
        with pytest.raises(BadInput, match="no parabola"):
            quadratic_width(1.0, 0.0, 1.0, factor=factor)
    for place in range(3):
        with pytest.raises(BadInput, match="no parabola"):
            quadratic_width(*np.where(np.arange(3) == place, np.nan, 1.0))


# -- directions and variances -------------------------------------------------------------------------------
@everywhere
def test_eigen_directions_of_known_spectra(place: Place) -> None:
    # kills: ascending for descending, columns for rows, the smallest ones, a lost leading axis
    spectra = [[3.0, -1.0, 0.5, 0.0], [8.0, 4.0, 2.0, 1.0]]
    H = np.stack([spectrum_matrix(s, np.random.default_rng(0)) for s in spectra])
    found = eigen_directions(place.array(H), most=3, backend=backend(place.backend))
    values, vectors = to_numpy(found.values), to_numpy(found.vectors)
    assert vectors.shape == (2, 3, 4)
    assert eigen_directions(place.array(H), most=9, backend=backend(place.backend)).values.shape == (2, 4)
    for k, spectrum in enumerate(spectra):
        size = max(np.abs(spectrum))
        assert_rounded(values[k], sorted(spectrum)[:0:-1], terms=size, count=4)  # Weyl: p(d) eps ‖H‖
        residual = vectors[k] @ H[k] - values[k][:, None] * vectors[k]
        assert_rounded(residual, np.zeros((3, 4)), terms=size, count=4)
        assert_rounded(vectors[k] @ vectors[k].T, np.eye(3), terms=1.0, count=4)


def test_matrices_without_eigen_directions_are_refused() -> None:
    H = np.diag([1.0, 2.0])
    assert eigen_directions(H, most=9).values.tolist() == [2.0, 1.0]
    for call, text in (
        (lambda: eigen_directions(np.triu(np.ones((2, 2)))), "not symmetric"),
        (lambda: eigen_directions(np.full((2, 2), np.nan)), "matrix is not finite"),
        (lambda: eigen_directions(H.tolist()), "must be an array"),
        (lambda: eigen_directions(np.float64(1.0)), "wrong shape"),
        (lambda: eigen_directions(H, most=1.5), "no eigenvectors"),  # type: ignore[arg-type]  # refused
        (lambda: eigen_directions(backend("strict").asarray(H)), "another backend"),
        (lambda: along(H, np.full((1, 2), np.nan)), "directions is not finite"),
        (lambda: along(np.full((2, 2), np.inf), np.ones((1, 2))), "matrix is not finite"),
        (lambda: projected_variance(np.full((3, 2), np.nan), H), "samples is not finite"),
        (lambda: projected_variance(backend("strict").asarray(H), H), "another backend"),
        (lambda: embedded([[1.0]], [0], 4), "must be an array"),
        (lambda: filter_normalised([1.0], np.ones(1), [[0]]), "must be an array"),
        (lambda: eigen_directions(np.ones((2, 3))), "square"),
        (lambda: eigen_directions(H, most=0), "no eigenvectors"),
        (
            lambda: eigen_directions(backend("rational").asarray(H), backend=backend("rational")),
            "floating point",
        ),
        (lambda: eigen_directions(H, backend=backend("interval")), "floating point"),
        (lambda: along(H, np.ones(2)), "no directions"),
        (lambda: projected_variance(np.ones((3, 2)), np.ones((1, 3))), "no directions"),
        (lambda: projected_variance(np.ones((1, 2)), H), "samples"),
        (lambda: embedded(np.ones((1, 2)), slice(0, 3), 4), "not of this part"),
        (lambda: embedded(np.ones((1, 2)), [0, 4], 4), "no parts"),
    ):
        with pytest.raises(BadInput, match=text):
            call()


@everywhere
@pytest.mark.parametrize("part", [slice(1, 3), [4, 0]])
def test_directions_of_a_part_stand_still_elsewhere(place: Place, part: Any) -> None:
    v = np.arange(1.0, 13.0).reshape(2, 3, 2)
    expected = np.zeros((2, 3, 5))
    expected[..., part] = v
    assert np.array_equal(
        to_numpy(embedded(place.array(v), part, 5, backend=backend(place.backend))), expected
    )


@everywhere
def test_variances_along_directions_are_the_definitions(place: Place) -> None:
    # kills: S − 1 for S, an uncentred mean, VᵀΣ for Σ, a mean that cancels at 10⁸
    rng = np.random.default_rng(1)
    X, V = rng.standard_normal((2, 6, 3)), rng.standard_normal((4, 3))
    on = backend(place.backend)
    literal = np.array([[np.var([math.fsum(v * x) for x in samples]) for v in V] for samples in X])
    sizes = np.array([np.sum((np.abs(s) @ np.abs(V).T) ** 2, axis=0) for s in X])
    found = to_numpy(projected_variance(place.array(X), place.array(V), backend=on))
    assert_rounded(found, literal, terms=sizes, count=9)
    moved = to_numpy(projected_variance(place.array(X + 2.0**26), place.array(V), backend=on))
    shifted = np.array([np.var((s + 2.0**26 - 2.0**26) @ V.T, axis=0) for s in X])
    # the samples' own mean is rounded by eps 2²⁶, whose square is added
    error = np.abs(V).sum(-1) * 2.0**26 * 6 * EPS["float64"]
    assert np.all(np.abs(moved - shifted) <= error**2 + 10 * 9 * EPS["float64"] * sizes)
    S = np.stack([np.cov(s.T, bias=True) for s in X])[:, None]
    forms = to_numpy(along(place.array(S[:, 0]), place.array(V), backend=on))
    assert_rounded(forms, literal, terms=sizes, count=9)


def test_the_variance_of_samples_is_that_of_their_covariance_exactly() -> None:
    B = backend("rational")
    X, V = (B.asarray(short(seed, *shape)) / 3 for seed, shape in ((4, (5, 3)), (5, (2, 3))))
    centred = X - B.mean(X, 0)
    S = B.mT(centred) @ centred / 5
    assert (projected_variance(X, V, backend=B) == along(S, V, backend=B)).all()


# -- alignment ----------------------------------------------------------------------------------------------
def _symmetric(seed: int, *lead: int) -> np.ndarray:
    a = short(seed, *lead, 3, 3)
    return a + np.swapaxes(a, -1, -2)


def test_alignment_is_exact_over_the_rationals() -> None:
    # kills: D lost or squared, Tr H Tr Σ for Tr HΣ, a diagonal only, norms that are not squared
    B = backend("rational")
    H, S = (B.asarray(_symmetric(seed) + 4 * np.eye(3)) / 3 for seed in (0, 1))
    found = alignment(H, S, backend=B)
    h, s = ([exactly(row) for row in m] for m in (H, S))
    every = list(itertools.product(range(3), repeat=2))
    trace = sum((h[i][j] * s[j][i] for i, j in every), Fraction(0))
    reference = sum(h[i][i] for i in range(3)) * sum(s[i][i] for i in range(3)) / 3
    squares = [sum(m[i][j] ** 2 for i, j in every) for m in (h, s)]
    got = [found.trace, found.isotropic, found.ratio, found.hessian_squared, found.noise_squared]
    assert [Fraction(int(x.p), int(x.q)) for x in got] == [trace, reference, trace / reference, *squares]
    with pytest.raises(BadInput, match="square root"):
        _ = found.cosine


@everywhere
def test_cosines_and_leading_axes(place: Place) -> None:
    on = backend(place.backend)
    H, S = _symmetric(2, 2, 1), _symmetric(3, 3)
    found = alignment(place.array(H), place.array(S), backend=on)
    norms = np.sqrt(np.sum(H**2, (-1, -2)) * np.sum(S**2, (-1, -2)))
    assert_rounded(found.cosine, np.sum(H * S, (-1, -2)) / norms, terms=1.0, count=9)
    itself = alignment(place.array(S), place.array(S), backend=on)
    assert_rounded(itself.cosine, np.ones(3), terms=1.0, count=9)
    isotropic = alignment(place.array(S), place.array(np.eye(3)), backend=on)
    assert_rounded(isotropic.cosine, to_numpy(isotropic.isotropic_cosine), terms=1.0, count=9)
    assert_rounded(isotropic.trace, to_numpy(isotropic.isotropic), terms=9.0, count=9)


def test_a_reference_that_is_not_positive_gives_no_ratio() -> None:
    flat, noise = np.diag([1.0, -1.0]), np.eye(2)
    for H, S, name in (
        (flat, noise, "Tr H"),
        (-noise, noise, "Tr H"),
        (noise, 0 * noise, "Tr Σ"),
        (noise, -noise, "Tr Σ"),
    ):
        found = alignment(H, S)
        assert (
            float(found.isotropic) == np.trace(H) * np.trace(S) / 2
        )  # the numbers are there; the ratio is not
        with pytest.raises(HypothesisViolated, match="isotropic") as caught:
            _ = found.ratio
        assert name in str(caught.value.required)
    for case in ("cosine", "isotropic_cosine"):
        with pytest.raises(HypothesisViolated, match="no direction"):
            getattr(alignment(0 * noise, noise), case)
    for H, S in ((np.ones((2, 3)), noise), (noise, np.eye(3)), (np.ones(2), noise)):
        with pytest.raises(BadInput, match="do not fit"):
            alignment(H, S)


def test_what_has_no_alignment_is_refused() -> None:
    # kills: a NaN that is called a matrix of 0
    H, strict = np.eye(2), backend("strict").asarray(np.eye(2))
    for first, second, text in (
        (np.full((2, 2), np.nan), H, "H is not finite"),
        (H, np.full((2, 2), np.nan), "Σ is not finite"),
        (H.tolist(), H, "H must be an array"),
        (H, H.tolist(), "Σ must be an array"),
        (strict, strict, "another backend"),
    ):
        with pytest.raises(BadInput, match=text):
            alignment(first, second)


# -- filters and profiles -----------------------------------------------------------------------------------
NET = MLP((2, 2, 1), "relu")  # theta = (w w b | w w b)(w w b)
WEIGHTS = {"layer": [[0, 1, 3, 4], [6, 7]], "row": [[0, 1], [3, 4], [6, 7]]}
BIASES = {"layer": [[2, 5], [8]], "row": [[2], [5], [8]]}


@pytest.mark.parametrize("per", ["layer", "row"])
def test_filters_of_a_network_by_hand(per: Any) -> None:
    own = [f.tolist() for f in network_filters(NET, per=per)]
    assert sorted(own) == sorted(WEIGHTS[per] + BIASES[per])
    assert [f.tolist() for f in network_filters(NET, per=per, biases="zero")] == WEIGHTS[per]
    together = [sorted(w + b) for w, b in zip(WEIGHTS[per], BIASES[per], strict=True)]
    assert [f.tolist() for f in network_filters(NET, per=per, biases="part")] == together
    for options in ({"per": "unit"}, {"biases": "none"}):
        with pytest.raises(BadInput, match="no such filters"):
            network_filters(NET, **options)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(BadInput, match=r"net\.filters"):
        network_filters(Convolutional(2, ((2,),), 3))  # type: ignore[arg-type]  # that is the test


@everywhere
@pytest.mark.parametrize(
    "filters", [network_filters(NET, per="row"), [slice(4, 6), [8, 0, 3]]], ids=["row", "generic"]
)
def test_filter_normalised_directions_have_the_filters_lengths(place: Place, filters: Any) -> None:
    # kills: one norm for all, θ's direction for d's, a filter's entries in the wrong place, 1 outside every filter
    theta, d = short(6, 9), short(7, 2, 3, 9)
    d[d == 0] = 1
    found = to_numpy(
        filter_normalised(place.array(theta), place.array(d), filters, backend=backend(place.backend))
    )
    expected = np.zeros_like(d)
    for index in np.ndindex(2, 3):
        for f in filters:
            part = d[index][f]
            expected[index][f] = part * math.sqrt(math.fsum(theta[f] ** 2) / math.fsum(part**2))
    assert_rounded(found, expected, terms=np.abs(expected), count=9)


def test_filters_that_are_zero_or_none() -> None:
    theta = np.array([3.0, 4.0, 0.0, 0.0])
    found = filter_normalised(theta, np.array([0.0, 2.0, 1.0, 1.0]), [[0, 1], [2, 3]])
    assert found.tolist() == [0.0, 5.0, 0.0, 0.0]  # a filter of length 0 stands still
    for filters, text in (
        ([[0, 2], [1], [3]], None),
        ([[0], [1]], "vanishes"),
        ([[0, 1], [1, 2]], "no parts"),
        ([[-1]], "no parts"),
        ([[4]], "no parts"),
        ([[]], "no parts"),
        ([], "no parts"),
        ([[0.5]], "no parts"),
    ):
        if text is None:
            filter_normalised(theta, np.array([0.0, 2.0, 1.0, 1.0]), filters)
            continue
        with pytest.raises(BadInput, match=text):
            filter_normalised(theta, np.array([0.0, 2.0, 1.0, 1.0]), filters)
    with pytest.raises(BadInput, match="wrong shape"):
        filter_normalised(theta, np.ones(3), [[0]])


@everywhere
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_profiles_are_values_on_lines_and_planes(place: Place, chunk: int) -> None:
    # kills: α for β, rows for columns, a chunk's end lost, steps in the order of the directions
    net = MLP((2, 2, 1), "tanh")
    f = loss(net, short(8, 4, 2), short(9, 4), loss="squared")
    w, V = short(10, net.size), short(11, 2, 3, net.size)
    alphas, betas = np.array([-1.0, 0.0, 0.5, 2.0, 3.0]), np.array([0.25, -2.0])
    there, lam = place.move(f), np.zeros(0)
    lines = profile(there, place.array(w), place.array(V), place.array(alphas), chunk=chunk)
    expected = np.array([[[f.value(lam, w + a * v) for a in alphas] for v in row] for row in V])
    count, sizes = (
        2 * net.size,
        (1 + np.abs(V).max() * 4) ** 4,
    )  # tanh is bounded: the output is linear in the last layer
    assert_rounded(lines.values, expected, terms=sizes, count=count)
    plane = surface(
        there,
        place.array(w),
        place.array(V[0, 0]),
        place.array(V[0, 1]),
        alphas.tolist(),
        betas.tolist(),
        chunk=chunk,
    )
    expected = np.array([[f.value(lam, w + a * V[0, 0] + b * V[0, 1]) for b in betas] for a in alphas])
    assert_rounded(plane.values, expected, terms=sizes, count=count)
    assert np.array_equal(to_numpy(lines.alphas), alphas)
    assert np.array_equal(to_numpy(plane.betas), betas)


def test_profiles_of_rationals_and_of_nothing() -> None:
    f = quadratic(ww=[[2.0]], n=0)
    B = backend("rational")
    found = profile(
        f.to("rational"), B.asarray([1]), B.asarray([1]), B.asarray([Fraction(1, 3), Fraction(-1, 7)])
    )
    assert exactly(found.values) == [Fraction(16, 9), Fraction(36, 49)]
    for steps, text in (([], "no steps"), ([[1.0]], "no steps"), ([np.inf], "not finite")):
        with pytest.raises(BadInput, match=text):
            profile(f, np.ones(1), np.ones(1), steps)
    with pytest.raises(BadInput, match="chunk"):
        profile(f, np.ones(1), np.ones(1), [1.0], chunk=0)


# -- exploration --------------------------------------------------------------------------------------------
def test_a_straight_descent_is_never_stationary_and_a_plateau_is() -> None:
    # kills: the first half's spread for the second's, ddof 0, a lost √2: each changes a stated ratio
    found = stationary_from(np.arange(200.0)[::-1], 64)
    assert found.first is None
    assert found.later == 0
    ratio = np.abs(found.differences) / found.errors
    assert_rounded(ratio, np.full(ratio.shape, 8 * math.sqrt(6 / 9)), terms=200 * 8, count=64)
    bent = stationary_from(np.r_[np.arange(96.0)[::-1], np.zeros(160)], 64)
    assert (
        bent.first == 96
    )  # at 95 and before, the second half alone is constant, and no error excuses the first
    assert bent.later == 1
    assert bent.starts.tolist() == list(range(0, 256 - 64 + 1, 4))


def test_a_run_that_moves_on_says_so() -> None:
    found = stationary_from(np.r_[np.ones(64), np.zeros(64), -np.arange(128.0)], 32, batches=4)
    assert found.first == 0
    assert found.later < 0.5


def test_stationary_losses_fail_as_often_as_students_t_says() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng, windows = np.random.default_rng(0), 1000
    refused = sum(stationary_from(rng.standard_normal(64), 64).first is None for _ in range(windows))
    p = 2 * stats.t.sf(3.0, 7)
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], windows, p)
    assert low <= refused <= high
    assert round(100 * p) == 2  # what the docstring says


@pytest.mark.parametrize(
    ("losses", "window", "options", "text"),
    [
        (np.zeros(10), 16, {}, "no window"), (np.zeros((2, 64)), 16, {}, "no window"),
        (np.r_[np.zeros(63), np.nan], 16, {}, "no window"), (np.zeros(64), 24, {}, "equal length"),
        (np.zeros(64), 8, {}, "equal length"), (np.zeros(64), 16, {"batches": 1}, "equal length"),
        (np.zeros(64), 16, {"z": 7.0}, "straight descent"), (np.zeros(64), 16, {"z": 0.0}, "straight descent"),
        (np.zeros(64), 16, {"batches": 2}, "straight descent"),
    ],
)  # fmt: skip
def test_windows_that_say_nothing_are_refused(losses: Any, window: int, options: Any, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        stationary_from(losses, window, **options)
