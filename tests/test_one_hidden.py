"""Dropout of one hidden layer: four ways to the same expectation, judged by rationals and by 50 digits."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest

from benchmarks import enumeration, enumeration_split, mask_rows
from refimpl.arrays import Backend
from refimpl.errors import BadInput, NotCertified, TooLarge
from refimpl.networks.one_hidden import (
    ExpectedLoss,
    expected_one_hidden,
    halves,
    literal,
    methods,
    nodes,
    tables,
)
from refimpl.networks.one_hidden.tables import Moments, Sums
from tests.backends import Place, on_cpu

EPS = 2.0**-52
UNEQUAL = (0.9, 0.3, 0.75, 0.5, 0.8, 0.05, 0.99, 0.6, 0.35, 0.85)
both_losses = pytest.mark.parametrize("loss", ["squared", "logistic"])
both_scales = pytest.mark.parametrize("scale", ["none", "inverse"])
weights = pytest.mark.parametrize("factor", [1.0, 15.0])


def network(
    loss: str, n: int, *, B: int = 5, d: int = 3, factor: float = 1.0, seed: int = 0
) -> tuple[Any, ...]:
    """X, y, W, b, a, c with all weights multiplied by ``factor``."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(B)
    parts = (rng.standard_normal((n, d)), 0.3 * rng.standard_normal(n), rng.standard_normal(n) / n**0.5, 0.1)
    X = rng.standard_normal((B, d))
    return (X, np.sign(y) if loss == "logistic" else y, *(factor * part for part in parts))


def keeps(n: int) -> list[float]:
    return list(itertools.islice(itertools.cycle(UNEQUAL), n))


def all_masks(keep: Any) -> Iterator[tuple[float, np.ndarray]]:
    """Every mask with its probability, one by one: independent of the code under test."""
    for m in itertools.product((0, 1), repeat=len(keep)):
        p = math.prod(Fraction(k) if bit else 1 - Fraction(k) for bit, k in zip(m, keep, strict=True))
        yield float(p), np.array(m, dtype=float)


def factors(keep: Any, scale: str) -> np.ndarray:
    return 1 / np.array(keep, dtype=float) if scale == "inverse" else np.ones(len(keep))


def sizes(args: tuple[Any, ...], keep: Any, scale: str, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Σ|terms| of every entry of ``flat``, and what a z that is off by n eps/2 · Σ_j|term_j| does to it.

    |ℓ''| is 1 for the squared loss and at most |ℓ'| for the logistic one.
    """
    X, y, W, b, a, c = args
    s, h = factors(keep, scale), np.tanh(X @ W.T + b)
    slope, n, B = 1 - h * h, len(a), len(y)
    size = np.abs(h * a * s).sum(1) + abs(c)
    total = [np.zeros(2 + W.size + 2 * n)] * 2
    for p, m in all_masks(keep):
        z = h @ (a * s * m) + c
        if loss == "squared":
            value, first, second = (z - y) ** 2 / 2, np.abs(z - y), np.ones(B)
        else:
            value, first = np.logaddexp(0, -y * z), np.exp(-np.logaddexp(0, y * z))
            second = first
        for k, (top, weight) in enumerate(((value, first), (first * size, second * size))):
            inner = weight[:, None] * np.abs(a * s * m * slope)
            parts = (inner.T @ np.abs(X), inner.sum(0), (weight[:, None] * np.abs(h * s * m)).sum(0))
            flat = np.concatenate([[top.sum()], *(part.ravel() for part in parts), [weight.sum()]])
            total[k] = total[k] + p * flat / B
    return total[0], total[1] * n * EPS / 2


def assert_near(found: ExpectedLoss, expected: ExpectedLoss, terms: np.ndarray, shift: Any = 0.0) -> None:
    """Within 4 eps × condition, condition = Σ|terms| / |Σ terms|, and what a rounded z explains."""
    error = np.abs(found.flat - expected.flat)
    allowed = 4 * EPS * terms + shift
    assert np.all(error <= allowed), f"{(error / allowed).max():.2f} times what is allowed"


@weights
@both_scales
@both_losses
@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_the_methods_agree(n: int, loss: Any, scale: Any, factor: float) -> None:
    # kills: any term left out, bits of the wrong half, the offset in both halves, a loss without its x (logistic)
    args, keep = network(loss, n, factor=factor), keeps(n)
    options = {"keep_prob": keep, "scale": scale, "loss": loss}
    literal, split = (expected_one_hidden(*args, method=m, **options) for m in ("literal", "split"))
    fast = expected_one_hidden(*args, method="closed" if loss == "squared" else "nodes", **options)
    terms, shift = sizes(args, keep, scale, loss)
    assert_near(split, literal, terms, shift)
    assert_near(fast, split, terms)
    assert (literal.kind, split.kind, fast.kind) == (
        "exact",
        "exact",
        "exact" if loss == "squared" else "bounded",
    )


@weights
def test_nodes_agree_with_every_mask_visited_of_many_units(factor: float) -> None:
    args = network("logistic", 16, B=8, factor=factor, seed=3)
    options = {"keep_prob": 0.8, "scale": "inverse", "loss": "logistic"}
    split, fast = (expected_one_hidden(*args, method=m, **options) for m in ("split", "nodes"))
    # every term of E ℓ' m_j has the sign of −y, so Σ|terms| comes from the result; |ℓ'| was judged above
    layer_terms = _absolute(args, fast, 0.8)
    assert_near(fast, split, layer_terms)


def _absolute(args: tuple[Any, ...], found: ExpectedLoss, keep: float) -> np.ndarray:
    """Σ|terms| for equal keep probabilities: one sample at a time has no cancellation, so |entries| just add."""
    X, y, *rest = args
    one = [
        expected_one_hidden(
            X[i : i + 1], y[i : i + 1], *rest, keep_prob=keep, scale="inverse", loss="logistic"
        ).flat
        for i in range(len(y))
    ]
    return np.abs(one).mean(0)


# -- rational judge ------------------------------------------------------------------------------


def rational(args: tuple[Any, ...], keep: list[Fraction], scale: str, act: str) -> list[Fraction]:
    """[E loss, dW, db, da, dc] of the squared loss in exact arithmetic, straight from the definition."""
    X, y, W, b, a, c = (np.vectorize(Fraction, otypes=[object])(np.asarray(v)) for v in args)
    n, d = W.shape
    c = c.item()
    inner = X @ W.T + b
    off = {"linear": Fraction(1), "relu": Fraction(0), "leaky_relu": Fraction(1, 8)}[act]
    on = np.vectorize(lambda z: Fraction(1) if z > 0 else off, otypes=[object])(inner)
    total = [Fraction(0)] * (2 + n * d + 2 * n)
    for bits in itertools.product((0, 1), repeat=n):
        p = math.prod((k if bit else 1 - k) for bit, k in zip(bits, keep, strict=True))
        m = np.array(
            [Fraction(bit) / (k if scale == "inverse" else 1) for bit, k in zip(bits, keep, strict=True)]
        )
        for i in range(len(y)):
            h = inner[i] * on[i]
            r = (a * m * h).sum() + c - y[i]
            D = r * a * m * on[i]
            row = [r * r / 2, *np.outer(D, X[i]).ravel(), *D, *(r * m * h), r]
            total = [t + p * e / len(y) for t, e in zip(total, row, strict=True)]
    return total


@pytest.mark.parametrize("act", ["linear", "relu"])
@both_scales
@pytest.mark.parametrize("method", ["literal", "split", "closed"])
def test_rationals_judge_the_squared_loss(method: Any, scale: Any, act: str) -> None:
    # kills: keep_prob p read as 1 − p; no scale, or a scale where none is asked for; p² for p on the diagonal of
    # E m_j m_k (in "closed": E ℓ' m_j = p_j r without its p_j (1 − p_j) A_bj, and no variance in E ℓ)
    rng = np.random.default_rng(1)
    eighths = lambda *shape: rng.integers(-8, 9, shape) / 8  # noqa: E731 (a name for one formula)
    args = (eighths(3, 2), eighths(3), eighths(4, 2), eighths(4), eighths(4), 0.25)
    keep = [Fraction(1, 4), Fraction(1, 2), Fraction(7, 8), Fraction(1, 8)]
    exact = rational(args, keep, scale, act)
    options = {"scale": scale, "loss": "squared", "activation": act, "method": method}
    found = expected_one_hidden(*args, keep_prob=keep, **options)
    X, y, *rest = (np.abs(v) for v in args)
    positive = (X, -y, *rest)
    terms = np.array([float(t) for t in rational(positive, keep, scale, "linear")])  # bounds Σ|terms|
    count = 4 + 2 + 3 + 8  # longest chain: units, features, samples, factors
    error = np.abs([float(Fraction(f) - t) for f, t in zip(found.flat.tolist(), exact, strict=True)])
    assert np.all(error <= count * EPS * terms)
    for wrong_keep, wrong_scale in (
        (([1 - k for k in keep]), scale),
        (keep, {"none": "inverse", "inverse": "none"}[scale]),
    ):
        wrong = np.array([float(t) for t in rational(args, wrong_keep, wrong_scale, act)])
        assert np.any(np.abs(found.flat - wrong) > count * EPS * terms)  # the judge tells the mutants apart


@pytest.mark.parametrize("act", ["linear", "relu", "leaky_relu"])
@both_scales
@pytest.mark.parametrize("method", ["literal", "closed"])
def test_over_the_rationals_nothing_is_rounded(method: Any, scale: Any, act: str) -> None:
    # kills: a keep probability, a scale or c that passes through a float
    rng = np.random.default_rng(2)
    thirds = lambda *shape: (rng.integers(-8, 9, shape) * Fraction(1, 3)).tolist()  # noqa: E731 (as above)
    args = (thirds(3, 2), thirds(3), thirds(4, 2), thirds(4), thirds(4), Fraction(1, 7))
    never = Fraction(0) if scale == "none" else Fraction(1)
    for keep in ([Fraction(1, 3), Fraction(2, 7), Fraction(9, 11), Fraction(1, 5)],
                 [Fraction(1), Fraction(1, 3), never, Fraction(5, 6)]):  # fmt: skip
        exact = rational(args, keep, scale, act)
        options = {"keep_prob": keep, "scale": scale, "loss": "squared", "activation": act, "method": method}
        found = expected_one_hidden(*args, **options, backend="rational")
        parts = (found.value, found.dW, found.db, found.da, found.dc)
        digits = [Fraction(int(q.p), int(q.q)) for x in parts for q in np.ravel(np.asarray(x, dtype=object))]
        assert digits == exact
        assert (found.kind, found.method) == ("exact", method)


@pytest.mark.parametrize("method", ["literal", "closed"])
def test_balls_enclose_thirds(method: Any) -> None:
    # kills: a ball around the float of a keep probability, of a scale, or of c
    import flint

    args = ([[1.0], [2.0]], [0.5, -0.25], [[0.5], [-1.5]], [0.25, 1.0], [1.0, 0.5], Fraction(1, 3))
    keep = [Fraction(1, 3), Fraction(2, 7)]
    exact = rational(args, keep, "inverse", "linear")
    options = {"scale": "inverse", "loss": "squared", "activation": "linear", "method": method}
    with flint.ctx.workprec(200):  # a float's error is far outside every ball
        found = expected_one_hidden(*args, keep_prob=keep, **options, backend="interval")
        parts = (found.value, found.dW, found.db, found.da, found.dc)
        balls = [b for x in parts for b in np.ravel(np.asarray(x, dtype=object))]
        for ball, true in zip(balls, exact, strict=True):
            assert ball.contains(flint.fmpq(true.numerator, true.denominator))
            assert ball.rad() < 2.0**-180


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation": "tanh"}, "tanh is not available"),
        ({"activation": "sigmoid"}, "sigmoid is not available"),
        ({"loss": "logistic", "y": [1, -1]}, "softplus is not available"),
        ({"loss": "logistic", "y": [1, -1], "method": "literal"}, "softplus is not available"),
        ({"method": "split"}, "on the host"),
        ({"c": np.nan}, "not finite"),
        ({"c": 1j}, "not finite"),
    ],
)
def test_what_is_not_polynomial_refuses_the_rationals(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"y": [1, 2], "c": 0, "loss": "squared", "activation": "relu", **changed}
    with pytest.raises(BadInput, match=message) as caught:
        expected_one_hidden(
            [[1], [2]], W=[[1]], b=[0], a=[1], keep_prob=Fraction(1, 3), backend="rational", **given
        )
    assert caught.value.advice


# -- derivatives through two other channels ----------------------------------------------------------


def brute(theta: Any, xp: Any, args: tuple[Any, ...], keep: Any, scale: str, loss: str) -> Any:
    """E loss as a function of θ = (W, b, a, c), for autograd and for steps in the complex plane."""
    X, y, W, *_ = args
    n, d = W.shape
    W, b, a, c = theta[: n * d].reshape(n, d), theta[n * d : n * d + n], theta[n * d + n : -1], theta[-1]
    h = xp.tanh(xp.dot(X, W.T) + b)
    total = 0.0
    for p, m in all_masks(keep):
        z = xp.dot(h, a * m * factors(keep, scale)) + c
        terms = (z - y) ** 2 / 2 if loss == "squared" else xp.log(1 + xp.exp(-y * z))
        total = total + p * xp.mean(terms)
    return total


@both_scales
@both_losses
@pytest.mark.parametrize("method", ["literal", "split", "auto"])
def test_the_gradient_is_the_derivative_of_the_value(method: Any, loss: Any, scale: Any) -> None:
    # kills: a factor s_j lost by the chain rule, act' at the masked unit, a gradient that is not divided by B
    import autograd
    import autograd.numpy as anp

    args, keep = network(loss, 4), keeps(4)
    theta = np.concatenate([np.ravel(v) for v in args[2:]])
    found = expected_one_hidden(*args, keep_prob=keep, scale=scale, loss=loss, method=method)
    rest = (args, keep, scale, loss)
    by_autograd = autograd.grad(lambda t: brute(t, anp, *rest))(theta)
    step = 1e-30
    by_step = [brute(theta + 1j * step * e, np, *rest).imag / step for e in np.eye(theta.size)]
    terms, shift = sizes(args, keep, scale, loss)
    count = len(keep) + args[0].shape[1] + len(args[1]) + 2 ** len(keep)
    for other in (by_autograd, by_step):
        assert np.all(np.abs(found.flat[1:] - other) <= count * EPS * terms[1:] + shift[1:])
    assert abs(found.value - brute(theta, np, *rest)) <= count * EPS * terms[0] + shift[0]


# -- the bound of the nodes --------------------------------------------------------------------------


def sums_of(n: int, factor: float, seed: int = 0, B: int = 3) -> Sums:
    X, y, W, b, a, c = network("logistic", n, B=B, factor=factor, seed=seed)
    return Sums(a * np.tanh(X @ W.T + b), np.full(B, c), np.array(keeps(n)), y, "logistic", Backend())


def truth(sums: Sums) -> Moments:
    """The moments to 50 digits, from the same floats."""
    with mpmath.workdps(50):
        loss, slope, joint = mpmath.mpf(0), [], []
        for terms, offset, y in zip(sums.terms.tolist(), sums.offset.tolist(), sums.y.tolist(), strict=True):
            total = [mpmath.mpf(0)] * (1 + sums.n)
            for m in itertools.product((0, 1), repeat=sums.n):
                p = mpmath.fprod(
                    k if bit else 1 - mpmath.mpf(k) for bit, k in zip(m, sums.keep.tolist(), strict=True)
                )
                x = -y * (mpmath.mpf(offset) + mpmath.fsum(t for t, bit in zip(terms, m, strict=True) if bit))
                loss += p * mpmath.log1p(mpmath.exp(x))
                s = -y * p / (1 + mpmath.exp(-x))
                total = [t + s * e for t, e in zip(total, (1, *m), strict=True)]
            slope.append(total[0])
            joint.append(total[1:])
        return Moments(loss, np.array(slope), np.array(joint))


def errors(found: Moments, true: Moments) -> np.ndarray:
    """|found − true| of [loss, slopes, joints]; the difference is taken exactly."""
    pairs = zip(_row(found), _row(true), strict=True)
    with mpmath.workdps(50):
        return np.array([float(abs(mpmath.mpf(float(f)) - t)) for f, t in pairs])


def _row(m: Moments) -> list[Any]:
    return [m.loss, *np.ravel(m.slope), *np.ravel(m.joint)]


@pytest.mark.parametrize("factor", [0.01, 1.0, 15.0])
def test_the_bound_of_the_nodes_holds_against_fifty_digits(factor: float) -> None:
    # kills: a truncation bound without its e^η or its ρ − 1, one interval for every range, nodes of another interval
    sums = sums_of(8, factor)
    true = truth(sums)
    size = np.abs(np.array([float(t) for t in _row(true)]))
    found, bound = nodes.moments(sums)
    assert np.all(errors(found, true) <= _row(bound))
    assert np.all(errors(found, true) <= 4 * EPS * size)  # every entry is a sum of terms of one sign
    assert np.all(errors(halves.moments(sums), true) <= 4 * EPS * size)
    for count in (2, 4, 6, 8):
        few, bound = nodes.moments(sums, count)
        assert np.all(errors(few, true) <= _row(bound))
    if factor > 0.01:  # and the nodes are needed: with 8 of them the bound is not rounding, nor is the error
        assert np.max(errors(few, true) / size) > 100 * EPS


def test_the_number_of_nodes_is_the_least_that_the_bound_allows() -> None:
    for radius in (1e-3, 0.1, 0.5, nodes.RADIUS, 3.0):
        count = nodes.node_count(radius)
        relative = [nodes.truncation(radius, k) * math.exp(2 * radius) for k in (count, count - 1)]
        assert relative[0] <= EPS / 8 * (1 + 100 * EPS)
        assert relative[1] > EPS / 8 or count == 2
    assert nodes.node_count(nodes.RADIUS) == nodes.MOST


def test_the_interpolation_bound_is_within_its_theory() -> None:
    """One logistic function, no probability: the worst error over the interval against δ σ(hi + v), K by K."""
    radius, s = 1.0, np.linspace(-1, 1, 401)
    for v in (-6.0, -1.0, 0.0, 2.0):
        for count in (3, 6, 9, 12):
            rule = nodes._rule(radius, count)
            values = 1 / (1 + np.exp(-(radius * rule.nodes + v)))
            basis = nodes._barycentric(s, np.eye(s.size), rule, nodes._Work.of(count, s.size, 1))
            fitted = values @ basis
            error = np.abs(fitted - 1 / (1 + np.exp(-(radius * s + v)))).max()
            bound = nodes.truncation(radius, count) / (1 + np.exp(-(radius + v)))
            assert error <= bound + 20 * count * EPS
    # six more nodes gain six factors ρ, of an ellipse between the grid's lowest and the one through the pole i π
    lowest, pole = (h / radius + math.hypot(1, h / radius) for h in (0.3 * math.pi, math.pi))
    assert lowest**6 <= nodes.truncation(radius, 6) / nodes.truncation(radius, 12) <= pole**6


# -- extremes --------------------------------------------------------------------------------------


def test_tiny_losses_keep_their_relative_accuracy() -> None:
    # kills: log(1 + t) for log1p(t), 1 − 1/(1 + t) for the slope
    base = sums_of(6, 1.0)
    for shift in (-40.0, -8.0, 8.0, 600.0):
        sums = dataclasses.replace(base, offset=-base.y * shift)
        true = truth(sums)
        size = np.abs(np.array([float(t) for t in _row(true)]))
        for found in (halves.moments(sums), nodes.moments(sums)[0]):
            # (a rounded sum of a mask would cost |x| eps of e^x, but tables are sums of two floats)
            assert np.all(errors(found, true) <= 4 * EPS * size)


@pytest.mark.parametrize("factor", [400.0, 3000.0])
def test_pre_activations_beyond_the_range_of_exp(factor: float) -> None:
    # kills: an overflow to NaN, a sample that is left out of every group
    args, keep = network("logistic", 6, factor=1.0, seed=2), keeps(6)
    args = (*args[:4], factor * args[4], args[5])
    found = [
        expected_one_hidden(*args, keep_prob=keep, loss="logistic", method=m)
        for m in ("literal", "split", "nodes")
    ]
    terms, shift = sizes(args, keep, "none", "logistic")
    assert np.all(np.isfinite(found[1].flat))
    for other in found[1:]:
        assert_near(other, found[0], terms, shift)


def test_many_samples_share_logarithms_without_overflow() -> None:
    args = network("logistic", 6, B=200, factor=30.0, seed=5)
    sums = Sums(
        args[4] * np.tanh(args[0] @ args[2].T),
        np.zeros(200),
        np.array(keeps(6)),
        args[1],
        "logistic",
        Backend(),
    )
    found = halves._tables(sums)
    assert len(found.groups) > 1
    assert sorted(itertools.chain(*found.groups, found.apart, found.wide)) == list(range(200))
    split, judge = halves.moments(sums), literal.moments(sums)
    size = np.abs(sums.terms).sum(1)
    assert abs(split.loss - judge.loss) <= EPS * (4 * judge.loss + sums.n / 2 * (np.abs(judge.slope) @ size))


# -- units that are not random ---------------------------------------------------------------------


@both_losses
def test_keep_probabilities_0_and_1_are_not_enumerated(loss: Any) -> None:
    # kills: 2ⁿ masks for n units of which few are random; m = 0 taken for m = 1
    n = 40
    args = network(loss, n)
    keep = [1.0] * n
    keep[3], keep[20], keep[31], keep[7] = 0.25, 0.5, 0.0, 0.0
    options = {"keep_prob": keep, "loss": loss, "max_masks": 4}
    found = expected_one_hidden(*args, method="literal", **options)
    alive = [j for j in range(n) if keep[j] > 0]
    X, y, W, b, a, c = args
    smaller = expected_one_hidden(
        X, y, W[alive], b[alive], a[alive], c, keep_prob=[keep[j] for j in alive], loss=loss, method="split"
    )
    for mine, other in ((found.dW, smaller.dW), (found.db, smaller.db), (found.da, smaller.da)):
        assert np.all(mine[[7, 31]] == 0)
        assert np.allclose(mine[alive], other, rtol=n * EPS, atol=n * EPS * np.abs(other).max())
    assert abs(found.value - smaller.value) <= n * EPS * found.value


@both_losses
def test_keeping_every_unit_gives_the_plain_network(loss: Any) -> None:
    X, y, W, b, a, c = args = network(loss, 7)
    z = np.tanh(X @ W.T + b) @ a + c
    plain = np.mean((z - y) ** 2 / 2 if loss == "squared" else np.logaddexp(0, -y * z))
    for method in ("literal", "split", "closed" if loss == "squared" else "nodes"):
        for scale in ("none", "inverse"):
            one = expected_one_hidden(*args, keep_prob=1.0, scale=scale, loss=loss, method=method)
            assert abs(one.value - plain) <= 4 * (len(a) + len(y)) * EPS * plain


# -- symmetries ------------------------------------------------------------------------------------


@weights
@pytest.mark.parametrize(
    ("loss", "method"), [("squared", "closed"), ("squared", "split"), ("logistic", "nodes")]
)
def test_units_may_be_permuted(loss: Any, method: Any, factor: float) -> None:
    # kills: gradients of the sorted units left in their order, keep probabilities of other units
    X, y, W, b, a, c = args = network(loss, 9, factor=factor)
    keep, order = np.array(keeps(9)), np.random.default_rng(0).permutation(9)
    options = {"loss": loss, "method": method, "scale": "inverse"}
    one = expected_one_hidden(*args, keep_prob=keep, **options)
    other = expected_one_hidden(X, y, W[order], b[order], a[order], c, keep_prob=keep[order], **options)
    back = np.argsort(order)
    again = dataclasses.replace(other, dW=other.dW[back], db=other.db[back], da=other.da[back])
    assert_near(again, one, sizes(args, keep, "inverse", loss)[0], sizes(args, keep, "inverse", loss)[1])


def test_inverse_scale_is_a_change_of_a() -> None:
    # kills: a missing scale, p for 1/p
    X, y, W, b, a, c = args = network("logistic", 6)
    keep = np.array(keeps(6))
    scaled = expected_one_hidden(*args, keep_prob=keep, scale="inverse", loss="logistic")
    plain = expected_one_hidden(X, y, W, b, a / keep, c, keep_prob=keep, scale="none", loss="logistic")
    terms, shift = sizes(args, keep, "inverse", "logistic")
    assert_near(dataclasses.replace(plain, da=plain.da / keep), scaled, terms, shift)


# -- where and how it runs ---------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize(
    ("loss", "method"), [("squared", "closed"), ("squared", "literal"), ("logistic", "literal")]
)
def test_on_every_cpu_backend(place: Place, loss: Any, method: Any) -> None:
    args, keep = network(loss, 5), [0.5, 1.0, 0.25, 0.0, 0.75]
    plain = expected_one_hidden(*args, keep_prob=keep, loss=loss, method=method)
    there = [place.array(v) for v in args[:5]]
    found = expected_one_hidden(
        *there, args[5], keep_prob=keep, loss=loss, method=method, backend=place.backend
    )
    terms, shift = sizes(args, keep, "none", loss)
    assert_near(found, plain, terms, shift)


@pytest.mark.parametrize("method", ["split", "nodes"])
def test_host_methods_take_read_only_arrays(method: Any) -> None:
    args = network("logistic", 5)
    for v in args[:5]:
        v.setflags(write=False)
    expected_one_hidden(*args, keep_prob=0.5, loss="logistic", method=method)


@both_losses
@pytest.mark.parametrize("method", ["literal", "split"])
def test_an_executor_changes_no_bit(method: Any, loss: Any) -> None:
    args = network(loss, 13 if method == "literal" else 17, B=2)
    options = {"keep_prob": 0.7, "loss": loss, "method": method}
    alone = expected_one_hidden(*args, **options)
    with ThreadPoolExecutor(3) as pool:
        shared = expected_one_hidden(*args, executor=pool, **options)
    assert np.array_equal(alone.flat, shared.flat)
    sums = sums_of(5, 1.0)
    assert np.array_equal(pickle.loads(pickle.dumps(sums)).terms, sums.terms)  # noqa: S301 (made in this line)


def test_auto_takes_the_cheapest() -> None:
    def choose(loss: Any, n: int) -> str:
        return expected_one_hidden(*network(loss, n, B=2), keep_prob=0.5, loss=loss).method

    assert choose("squared", 30) == "closed"
    assert choose("logistic", methods.FEW) == "split"
    assert choose("logistic", methods.FEW + 1) == "nodes"


# -- tables ----------------------------------------------------------------------------------------


def test_tables_are_exact_to_two_floats() -> None:
    # kills: the order of the bits, an uncompensated table
    rng = np.random.default_rng(0)
    terms, offset = rng.standard_normal((2, 6)), rng.standard_normal(2)
    table = tables.subset_sums(terms, offset).shifted(0.1)
    masks = tables.bits(6)
    for b, k in itertools.product(range(2), range(64)):
        exact = (
            Fraction(offset[b])
            + Fraction(0.1)
            + sum(Fraction(t) for t, m in zip(terms[b], masks[k], strict=True) if m)
        )
        size = np.abs(terms[b]).sum() + abs(offset[b]) + 0.1
        assert abs(Fraction(table.high[b, k]) + Fraction(table.low[b, k]) - exact) <= 20 * EPS**2 * size
    keep = np.array([0.3, 0.9, 0.05])
    for p, m in zip(tables.probabilities(keep), tables.bits(3), strict=True):
        exact = math.prod(
            Fraction(k) if bit else 1 - Fraction(k) for k, bit in zip(keep.tolist(), m, strict=True)
        )
        assert abs(Fraction(p) - exact) <= len(keep) * EPS * exact


def test_probabilities_that_do_not_sum_to_one_are_noticed() -> None:
    tables.require_one(1 + 10 * EPS, 20)
    with pytest.raises(NotCertified, match="do not sum to 1"):
        tables.require_one(1 + 100 * EPS, 20)


# -- benchmarks ------------------------------------------------------------------------------------


@both_losses
def test_the_rows_of_the_benchmark_compute_the_same(loss: Any) -> None:
    # kills: a benchmark against rows that solve another problem
    t = mask_rows.task(6, loss, batch=4)
    problem = SimpleNamespace(X=t.X, y=t.y, W=t.W, b=t.b, a=t.a, c=t.c, q=t.keep, kind=loss)
    found = enumeration.t3(problem)()
    args, keep = (t.X, t.y, *t.weights), [t.keep] * 6
    terms, shift = sizes(args, keep, "inverse", loss)
    assert np.all(np.abs(mask_rows.chunked_numpy(t, absolute=True)() - terms) <= 2**6 * EPS * terms + shift)
    for row in (mask_rows.chunked_numpy(t), mask_rows.chunked_autograd(t), enumeration_split.t3(problem)):
        assert np.all(np.abs(row() - found) <= 2**6 * EPS * terms + shift)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["literal", "split", "nodes"])
def test_too_many_masks_are_refused_with_their_cost(method: Any) -> None:
    args = network("logistic", 200, B=2)
    with pytest.raises(TooLarge) as caught:
        expected_one_hidden(*args, keep_prob=0.5, loss="logistic", method=method)
    said = str(caught.value)
    for words in ("200 units", "bytes", " s,", "max_masks", "closed", "nodes", "confidence", "executor"):
        assert words in said


def test_the_squared_loss_is_never_too_large() -> None:
    assert expected_one_hidden(*network("squared", 2000), keep_prob=0.5, loss="squared").method == "closed"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keep_prob": 1.5}, "outside"),
        ({"keep_prob": -0.1}, "outside"),
        ({"keep_prob": [0.5, 0.5]}, "keep_prob does not fit"),
        ({"keep_prob": 0.0, "scale": "inverse"}, "divides by zero"),
        ({"y": [1.0, 0.0, 1.0, 1.0, 1.0]}, "not 1 or −1"),
        ({"y": [1.0, 1.0]}, "wrong shape"),
        ({"X": [1.0, 2.0]}, "not a matrix"),
        ({"X": np.ones((5, 4))}, "do not fit"),
        ({"X": np.ones((0, 3))}, "do not fit"),
        ({"b": np.ones((4, 4))}, "not a vector"),
        ({"a": [1.0, np.nan, 1.0, 1.0]}, "not finite"),
        ({"c": np.inf}, "not finite"),
        ({"loss": "hinge"}, "no loss"),
        ({"scale": "sqrt"}, "no scale"),
        ({"method": "guess"}, "no method"),
        ({"activation": "sine"}, "no activation"),
        ({"method": "closed"}, "not for this loss"),
        ({"method": "nodes", "loss": "squared"}, "not for this loss"),
    ],
)
def test_bad_input_is_refused_with_advice(changed: dict[str, Any], message: str) -> None:
    X, y, W, b, a, c = network("logistic", 4)
    given = {"X": X, "y": y, "W": W, "b": b, "a": a, "c": c, "keep_prob": 0.5, "loss": "logistic", **changed}
    with pytest.raises(BadInput, match=message) as caught:
        expected_one_hidden(**given)
    assert caught.value.advice


@pytest.mark.parametrize("method", ["split", "nodes"])
def test_host_only_methods_say_so(method: Any) -> None:
    place = Place("strict")
    X, y, W, b, a, c = network("logistic", 4)
    there = [place.array(v) for v in (X, y, W, b, a)]
    with pytest.raises(BadInput, match="on the host"):
        expected_one_hidden(*there, c, keep_prob=0.5, loss="logistic", method=method, backend="strict")
