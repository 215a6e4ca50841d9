"""L2RW, Meta-Weight-Net and the improved model's algorithm against their formulas written out, and against the exact
derivatives of one step and of the unrolled loop."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl import solvers
from refimpl.algorithms import (
    L2RW,
    Improved,
    MetaWeightNet,
    run,
    table,
    whole_state,
)
from refimpl.algorithms.ren2018l2rw import clipped
from refimpl.approximate import forward, one_step, reverse
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.rates import Constant, Power
from refimpl.sets import Box
from refimpl.zoo import quadratic, weight_function, weighted_softmax
from refimpl.zoo.ridge import HalfSquares
from tests.backends import everywhere
from tests.reweighting_things import COUPLED, START, WEIGHTED, X_VAL, N, improved, l2rw, meta_weight_net
from tests.rounding import assert_rounded
from tests.solver_things import fractions

ALPHA = Power(Fraction(1, 4), 1, shift=2)  # 1/(4(k + 2))
ETA = Power(Fraction(1, 2), 1)
BATCHES = {"all": {}, "batches": {"lower_batch": 3, "upper_batch": 2}}
STEPS = 4
either = pytest.mark.parametrize("batches", BATCHES)
POINT = tuple(np.array([Fraction(v) for v in x], dtype=object) for x in START)


def drawn(algorithm, problem, seed=5, shape=()):
    rng = np.random.default_rng(seed)
    return [algorithm.space(problem, k).sample(rng, shape) for k in range(STEPS)]


def indices(samples, whole):
    """The data of each draw: all of them where no minibatch is drawn."""

    def data(draw, count):
        return np.atleast_1d(draw[1]) if np.ndim(draw[1]) else range(count)

    return [list(map(data, sample, whole)) for sample in samples]


def states(algorithm, problem, samples, start=START):
    state = algorithm.init(problem, *map(problem.backend.asarray, start))
    for sample in samples:
        state = algorithm.step(problem, state, sample)
        yield state


def assert_equal(found, expected):
    """λ and w of every state, in fractions."""
    for state, (lam, w) in zip(found, expected, strict=True):
        assert (fractions(state.lam) == lam).all(), state.k
        assert (fractions(state.w) == w).all(), state.k


# -- the formulas written out --------------------------------------------------------------------------------------
@either
@pytest.mark.parametrize("at", ["zero", "current"])
def test_every_iteration_of_l2rw_is_its_formulas(at, batches):
    """Equal in rationals, whatever η > 0 the note's formula has.

    Kills: another sign, clipping after normalising, the old weights in the step on w, the derivative at ŵ, ∇F at w,
    ω where 0 is asked for, another α_k, one level's draw for the other's.
    """
    a = L2RW(alpha=ALPHA, at=at, **BATCHES[batches])
    problem = WEIGHTED.to("rational")
    samples = drawn(a, problem)
    found = list(states(a, problem, samples))
    for eta in (Fraction(3, 7), Fraction(5)):
        options = {"at": at, "alpha": ALPHA, "eta": eta}
        assert_equal(found, l2rw(*POINT, indices(samples, (N, len(X_VAL))), **options))
    weights = np.array([fractions(state.lam) for state in found])
    assert set(weights.sum(axis=1)) == {1}
    assert (weights == 0).any()
    assert ((weights > 0).sum(axis=1) > 1).any()


def test_where_the_derivative_is_taken_matters():
    """After two iterations: in the first the weights at hand are not yet L2RW's."""
    problem = WEIGHTED.to("rational")
    ends = [
        list(states(a, problem, drawn(a, problem)))[-1]
        for a in (L2RW(alpha=ALPHA, at="zero"), L2RW(alpha=ALPHA, at="current"))
    ]
    assert (ends[0].lam != ends[1].lam).any()


@either
@pytest.mark.parametrize("highest", [None, Fraction(1)])
def test_every_iteration_of_meta_weight_net_is_its_formulas(highest, batches):
    """Kills: the old weights in the step on w, the derivative at ŵ, ∇F at w, no α_k in the derivative, another k, no
    projection, another sign."""
    a = MetaWeightNet(alpha=ALPHA, eta=ETA, **BATCHES[batches])
    problem = replace(WEIGHTED, domain=None if highest is None else Box(0.0, float(highest))).to("rational")
    samples = drawn(a, problem)
    options = {"alpha": ALPHA, "eta": ETA, "highest": highest}
    found = list(states(a, problem, samples))
    assert_equal(found, meta_weight_net(*POINT, indices(samples, (N, len(X_VAL))), **options))
    outside = [x for state in found for x in fractions(state.lam) if x < 0 or x > 1]
    assert bool(outside) == (highest is None)


WEIGHTS = {
    "bigsam": solvers.Averaging(Fraction(1, 2), Fraction(1, 4)),  # 1, 1/2, 1/3
    "basic": 0,
    "constant": Fraction(2, 5),
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("alpha", WEIGHTS)
def test_every_iteration_of_the_improved_model_is_algorithms_1_and_2(alpha, warm):
    """Kills: another start, another ν_k, another sign, the w of the iteration before."""
    K, s, t, nu = 3, Fraction(1, 16), Fraction(1, 8), Power(Fraction(1, 64), 1)
    weights = WEIGHTS[alpha]
    a = Improved(lower=solvers.BiGSAM(K, s=s, t=t, alpha=weights), nu=nu, warm=warm)
    problem = COUPLED.to("rational")
    rate = weights if callable(weights) else Constant(Fraction(1))
    literal = improved(
        *POINT,
        iterations=STEPS - 1,
        K=K,
        s=s,
        t=t,
        weight=(lambda j: rate(j - 1)) if callable(weights) else (lambda j: weights),
        nu=nu,
        warm=warm,
    )
    assert_equal(states(a, problem, [np.zeros(())] * (STEPS - 1)), literal)


def test_the_basic_model_is_gradient_descent_on_the_lower_level():
    """Bit for bit, and F's second derivatives are not called."""
    K, s = 5, 1 / 16
    basic = Improved(lower=solvers.BiGSAM(K, s=s, t=0.125, alpha=0), nu=0.01)
    descent = Improved(lower=solvers.GradientDescent(K, s), nu=0.01)
    ends = [run(a, COUPLED, START[0], steps=3, rng=0) for a in (basic, descent)]
    assert (ends[0].state.lam == ends[1].state.lam).all()
    assert ends[0].counts == ends[1].counts
    assert not [key for key in ends[0].counts if key.startswith("upper") and "grad" not in key]


# -- exact counterparts ---------------------------------------------------------------------------------------------
def test_the_derivative_is_that_of_one_step():
    """Of Meta-Weight-Net (λ − λ⁺)/η, where F depends on λ too; of L2RW what is clipped. Equal in rationals.

    Kills: ∇_λF left out.
    """
    problem, (lam, w) = COUPLED.to("rational"), map(backend("rational").asarray, START)
    alpha, eta = Fraction(1, 4), Fraction(1, 2)
    descent = solvers.GradientDescent(1, alpha)
    (state,) = states(MetaWeightNet(alpha=alpha, eta=eta), problem, [((0, 0), (0, 0))])
    exact = one_step(problem, lam, lower=descent, w0=w).value
    assert (fractions(lam - state.lam) == eta * fractions(exact)).all()
    (state,) = states(L2RW(alpha=alpha), problem, [((0, 0), (0, 0))])
    h = fractions(one_step(problem, 0 * lam, lower=descent, w0=w).value)
    raised = np.maximum(-h, 0)
    assert (fractions(state.lam) == raised / raised.sum()).all()
    fixed = problem.as_fixed_point(alpha)
    (mapped,) = states(MetaWeightNet(alpha=1, eta=eta), fixed, [((0, 0), (0, 0))])
    (state,) = states(MetaWeightNet(alpha=alpha, eta=eta), problem, [((0, 0), (0, 0))])
    assert (mapped.lam == state.lam).all()
    assert (mapped.w == state.w).all()


def test_both_gradients_at_w_are_exact_at_zero_weights_alone():
    """(4) as the note evaluates it: L2RW's derivative at ω = 0, not at ω."""
    problem, w = WEIGHTED.to("rational"), backend("rational").asarray(START[1])
    for at, equal in (("zero", True), ("current", False)):
        (state,) = states(L2RW(alpha=Fraction(1, 4), at=at), problem, [((0, 0), (0, 0))])
        h = -(problem.lower.cross(0 * state.lam, w) @ problem.upper.grad_w(0 * state.lam, w))
        raised = np.maximum(-fractions(h), 0)
        assert (fractions(state.lam) == raised / raised.sum()).all() == equal


@everywhere
def test_no_sample_helps(place):
    """Where every derivative is >= 0 all weights are 0, and w stays. Kills: 0/0."""
    one = ri.BilevelProblem(
        HalfSquares(np.ones((1, 1)), np.array([-1.0]), N),
        replace(WEIGHTED.lower, data=HalfSquares(np.ones((N, 1)), np.ones(N), N)),
    )
    a, problem = L2RW(alpha=0.5), place.move(one)
    state = a.init(problem, place.array(START[0]), place.array([0.0]))
    state = a.step(problem, state, a.space(problem).sample(0, ()))
    assert (to_numpy(state.lam) == 0).all()
    assert to_numpy(state.w) == 0


def test_what_is_no_number_is_not_clipped():
    """Kills: a derivative that overflowed taken for a sample that does not help."""
    assert np.array_equal(
        clipped(backend(), np.array([np.nan, -2.0, 3.0])), [np.nan, 2.0, 0.0], equal_nan=True
    )


def test_exact_moments_of_what_is_affine():
    """The expected state after an iteration, its draws enumerated, in rationals. Kills: affine where it is not."""
    problem = quadratic.random(n=2, d=3, seed=0, terms=2).to("rational")
    start = problem.start(), problem.backend.asarray([1.0, -2.0, 0.5])
    lower = solvers.BiGSAM(2, s=Fraction(1, 8), t=Fraction(1, 4), alpha=Fraction(1, 3))
    for a in (
        MetaWeightNet(alpha=Fraction(1, 8), eta=Fraction(1, 4), lower_batch=1),
        Improved(lower=lower, nu=Fraction(1, 8), warm=True),
    ):
        found, space = whole_state(a, problem, *start).curve(1), a.space(problem)
        state = a.init(problem, *start)
        ends = [a.step(problem, state, space.points(np.asarray(i))) for i in range(space.size)]
        for name in ("lam", "w"):
            mean = sum(fractions(end.arrays[name]) for end in ends) / len(ends)
            assert (fractions(found.mean(name)[-1]) == mean).all()
    assert L2RW(alpha=0.1).affine


# -- weights as a function of the loss ------------------------------------------------------------------------------
CLASSES, HIDDEN, STEP, REG = 3, 2, 0.5, 0.125
RNG = np.random.default_rng(61)
X_NET, X_NET_VAL = RNG.standard_normal((6, 2)), RNG.standard_normal((5, 2))
Y_NET, Y_NET_VAL = np.array([0, 1, 2, 1, 0, 2]), np.array([2, 1, 0, 0, 1])
ALL = range(len(Y_NET))
NET = weight_function.problem(
    X_NET, Y_NET, X_NET_VAL, Y_NET_VAL, classes=CLASSES, hidden=HIDDEN, step=STEP, reg=REG, seed=2
)
NET_START = (NET.start(), RNG.standard_normal(NET.d))
FREE = weighted_softmax.problem(
    X_NET, Y_NET, X_NET_VAL, Y_NET_VAL, classes=CLASSES, reg=REG, weights="identity"
)


def softmax_gradient(x, label, w):
    """(loss, gradient) of one sample; complex w are allowed."""
    z = [sum(a * b for a, b in zip(row, x, strict=True)) for row in w.reshape(CLASSES, -1)]
    p = np.exp(z) / sum(np.exp(z))
    return -np.log(p[label]), np.outer(p - (np.arange(CLASSES) == label), x).ravel()


def written_out(lam, w, train=ALL):
    """Φ(λ, w) with V = σ(Σ_k c_k tanh(a_k ℓ + b_k) + e), sample by sample."""
    a, b, c = lam[:HIDDEN], lam[HIDDEN : 2 * HIDDEN], lam[2 * HIDDEN : -1]
    step = REG * w
    for i in train:
        loss, slope = softmax_gradient(X_NET[i], Y_NET[i], w)
        inner = sum(c[k] * np.tanh(a[k] * loss + b[k]) for k in range(HIDDEN)) + lam[-1]
        step = step + slope / (1 + np.exp(-inner)) / len(train)
    return w - STEP * step


def validation_loss(w):
    losses = [softmax_gradient(x, y, w)[0] for x, y in zip(X_NET_VAL, Y_NET_VAL, strict=True)]
    return sum(losses) / len(losses)


def complex_step(f, x):
    """∂f/∂x_j without truncation or cancellation: the square of the step underflows."""
    h = 1e-200
    return np.array([np.imag(f(x + 1j * h * e)) / h for e in np.eye(len(x))])


NET_SIZE = 1 + sum(np.linalg.norm(x) for x in (X_NET, X_NET_VAL, *NET_START)) ** 2


def net_rounding(actual, expected, steps=1):
    """Each of the ``steps`` sums over all samples, units and classes what is at most of the data's size squared."""
    count = steps * (NET.n + NET.d + len(Y_NET) * (HIDDEN + CLASSES))
    assert_rounded(actual, expected, terms=NET_SIZE + np.abs(expected), count=count)


def test_meta_weight_net_with_a_weight_function_is_the_published_one():
    """Kills: the step's derivative without V, its sign, the old λ in the step on w."""
    a = MetaWeightNet(alpha=1, eta=0.25, lower_batch=4)
    samples = drawn(a, NET)
    lam, w = NET_START
    for sample, state in zip(samples, states(a, NET, samples, NET_START), strict=True):
        train = sample[0][1]
        h = complex_step(lambda x, w=w, train=train: validation_loss(written_out(x, w, train)), lam)
        lam = lam - 0.25 * h
        w = written_out(lam, w, train)
        net_rounding(state.lam, lam, steps=state.k)
        net_rounding(state.w, w, steps=state.k)
    assert np.ptp(to_numpy(NET.phi.weights(*NET_START))) > 0.05  # the weights differ


@pytest.mark.parametrize("steps", [1, 3])
def test_unrolling_through_a_weight_function(steps):
    """From the second step on, V' is in the derivative. Kills: the term with V' left out of ∂_wΦ."""

    def loop(lam):
        w = NET_START[1].astype(complex)
        for _ in range(steps):
            w = written_out(lam, w)
        return validation_loss(w)

    exact = complex_step(loop, NET_START[0])
    for method in (reverse, forward):
        found = method(NET, NET_START[0], lower=solvers.FixedPoint(steps), w0=NET_START[1])
        net_rounding(found.value, exact, steps=steps)
    if steps == 1:
        found = one_step(NET, NET_START[0], lower=solvers.FixedPoint(1), w0=NET_START[1])
        net_rounding(found.value, exact)


def test_what_the_step_with_a_weight_function_descends_on():
    """(1/N) Σ_i ∫₀^{ℓ_i} V + (reg/2)‖w‖², by quadrature: ∂_wΦ is symmetric."""
    lam, w = NET_START
    nodes, masses = np.polynomial.legendre.leggauss(40)

    def descended_on(w):
        total = REG * np.sum(w * w) / 2
        for x, y in zip(X_NET, Y_NET, strict=True):
            loss = softmax_gradient(x, y, w)[0]
            at = loss * (nodes + 1) / 2
            a, b, c = lam[:HIDDEN], lam[HIDDEN : 2 * HIDDEN], lam[2 * HIDDEN : -1]
            inner = sum(c[k] * np.tanh(a[k] * at + b[k]) for k in range(HIDDEN)) + lam[-1]
            total = total + loss / 2 * np.sum(masses / (1 + np.exp(-inner))) / len(Y_NET)
        return total

    net_rounding((w - NET.phi.value(lam, w)) / STEP, complex_step(descended_on, w), steps=len(nodes))
    dense = NET.phi.d_w(lam, w).dense()
    net_rounding(dense, dense.T)


# -- backends, replicates, counts, refusals --------------------------------------------------------------------------
RUNS = {
    "l2rw": (L2RW(alpha=0.5, lower_batch=4, upper_batch=3), FREE),
    "l2rw, current": (L2RW(alpha=0.5, at="current"), FREE),
    "free": (MetaWeightNet(alpha=0.5, eta=0.5, lower_batch=4, upper_batch=3), FREE),
    "function": (MetaWeightNet(alpha=1.0, eta=0.5, lower_batch=4, upper_batch=3), NET),
    "improved": (
        Improved(lower=solvers.BiGSAM(3, s=0.25, t=0.25, alpha=solvers.Averaging(0.5, 0.5)), nu=0.5),
        FREE,
    ),
    "improved, warm": (Improved(lower=solvers.GradientDescent(3, 0.25), nu=0.5, warm=True), FREE),
}
every_run = pytest.mark.parametrize("name", RUNS)


def started(problem, lead=()):
    rng = np.random.default_rng(4)
    return rng.uniform(0.25, 0.75, (*lead, problem.n)), rng.standard_normal((*lead, problem.d))


@everywhere
@every_run
def test_all_backends_round_the_same_iterates(name, place):
    """Kills: writing in place, an implicit conversion to the host."""
    a, problem = RUNS[name]
    samples, moved = drawn(a, problem), place.move(problem)
    start = started(problem)
    here = list(states(a, problem, samples, start))
    state = a.init(moved, *map(place.array, start))
    for sample, expected in zip(samples, here, strict=True):
        state = a.step(moved, state, sample)
        for key, x in state.arrays.items():
            net_rounding(x, expected.arrays[key], steps=4 * state.k)


@every_run
@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_replicates_are_single_runs(name, lead):
    """Every replicate has its own draw, λ and w. Kills: a weight of another replicate, one sum for all."""
    a, problem = RUNS[name]
    samples, start = drawn(a, problem, shape=lead), started(problem, lead)
    *_, end = states(a, problem, samples, start)
    for index in np.ndindex(*lead):
        alone = [_at(sample, index) for sample in samples]
        *_, single = states(a, problem, alone, tuple(x[index] for x in start))
        for key, x in end.arrays.items():
            net_rounding(x[index], single.arrays[key], steps=4 * STEPS)


def _at(sample, index):
    return tuple(_at(part, index) for part in sample) if isinstance(sample, tuple) else sample[index]


STEP_CALLS = {"lower.grad_w": 2, "lower.cross": 1, "upper.grad_w": 1, "upper.grad_lam": 1}
SWEEP_CALLS = {"lower.grad_w": 3, "lower.hess_ww": 2, "lower.cross": 3, "upper.grad_lam": 1}
DRAWN = {"lower.data": 4, "lower.masks": 0, "upper.data": 3, "upper.masks": 0}
COUNTS = {
    "l2rw": STEP_CALLS | DRAWN,
    "l2rw, current": STEP_CALLS | DRAWN | {"lower.data": 6, "upper.data": 5},
    "free": STEP_CALLS | DRAWN,
    "function": {name.replace("lower", "phi"): count for name, count in DRAWN.items()}
    | {"phi.value": 2, "phi.d_lam": 1, "upper.grad_w": 1, "upper.grad_lam": 1},
    "improved": SWEEP_CALLS | {"upper.grad_w": 4, "upper.hess_ww": 2, "upper.cross": 3},
    "improved, warm": SWEEP_CALLS | {"upper.grad_w": 1},
}


@every_run
def test_calls_and_samples_of_an_iteration(name):
    """Kills: counting/reporting-counted; two draws where one is shared, a gradient too many."""
    a, problem = RUNS[name]
    counts = run(a, problem, started(problem)[0], steps=2, rng=0).counts
    assert counts == {key: 2 * x for key, x in COUNTS[name].items()}


def test_schedules_and_starts():
    """Kills: constant_from of a schedule; a start that is forgotten; a warm start that is none."""
    fixed = {"l2rw": L2RW(alpha=1), "mwn": MetaWeightNet(alpha=1, eta=1)}
    changing = {"l2rw": L2RW(alpha=ALPHA), "mwn": MetaWeightNet(alpha=1, eta=ETA)}
    assert [a.constant_from for a in fixed.values()] == [0, 0]
    assert [a.constant_from for a in changing.values()] == [None, None]
    lower = solvers.GradientDescent(2, 0.1)
    cold, warm = (Improved(lower=lower, nu=0.1, warm=warm) for warm in (False, True))
    assert (cold.constant_from, Improved(lower=lower, nu=ETA).constant_from) == (0, None)
    states_ = [run(a, WEIGHTED, START[0], steps=2, rng=0).state for a in (cold, warm)]
    assert "start" in states_[0].arrays
    assert "start" not in states_[1].arrays


def test_they_are_no_rows_of_table_1():
    """They solve no linear system. Kills: the rule forgotten."""
    exported = {"L2RW", "MetaWeightNet", "Improved"}
    assert not exported & {row.name for row in table()}
    assert {kind.linear_system for kind in (L2RW, MetaWeightNet, Improved)} == {"none"}


def test_refusals():
    """Typed, with what was measured."""
    with pytest.raises(BadInput, match="taken where"):
        L2RW(alpha=1, at="now")
    with pytest.raises(BadInput, match="alpha"):
        L2RW(alpha=0)
    with pytest.raises(BadInput, match="eta"):
        MetaWeightNet(alpha=1, eta=-1)
    with pytest.raises(BadInput, match="lower objective") as caught:
        L2RW(alpha=1).init(NET, NET.start())
    assert "linear system" not in str(caught.value)
    with pytest.raises(BadInput, match="not an Iteration"):
        Improved(lower=solvers.Newton(), nu=1)
    lower = solvers.BiGSAM(2, s=0.1, t=0.1, alpha=0)
    with pytest.raises(BadInput, match="BiG-SAM needs a lower objective"):
        Improved(lower=lower, nu=1).init(NET, NET.start())
    cold, warm = (Improved(lower=lower, nu=1, warm=warm) for warm in (False, True))
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        cold.step(WEIGHTED, warm.init(WEIGHTED, START[0]), 0)
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        warm.step(WEIGHTED, L2RW(alpha=1).init(WEIGHTED, START[0]), 0)
    data = (X_NET, Y_NET, X_NET_VAL, Y_NET_VAL)
    for options in ({"hidden": 0}, {"hidden": 1.5}, {"step": 0.0}, {"step": np.inf}, {"reg": 0.0}):
        with pytest.raises(BadInput, match="weight function"):
            weight_function.problem(*data, classes=3, **{"hidden": 2, "step": 0.5, "reg": 0.1, **options})


def bare(G):
    """G(λ, w), four weights on w in R², under a quadratic F."""
    upper = quadratic.objective(ww=np.eye(2), n=4)
    return ri.BilevelProblem(upper, ri.from_function(G, n=4, d=2))


ROWS = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.25], [-1.0, 1.0]])
NO_WEIGHTS = {
    "λ moves a quadratic's minimum": lambda: quadratic.random(n=4, d=3, seed=0),
    "λ are logits": lambda: weighted_softmax.problem(X_NET, Y_NET, X_NET_VAL, Y_NET_VAL, classes=3, reg=REG),
    "λ squared": lambda: bare(lambda lam, w: ((lam**2) @ (ROWS @ w - 1) ** 2) / 8),
    "data without weights": lambda: bare(lambda lam, w: (lam @ (ROWS @ w - 1) ** 2 + (w[0] - w[1]) ** 2) / 8),
    "a slope without weights": lambda: bare(lambda lam, w: (lam @ (ROWS @ w - 1) ** 2) / 8 + w[0]),
}
SUMS = {
    "rows": lambda: WEIGHTED,
    "softmax and a ridge": lambda: FREE,
    "over the rationals": lambda: WEIGHTED.to("rational"),
    "a bare function": lambda: bare(lambda lam, w: (lam @ (ROWS @ w - 1) ** 2 + 0.3 * w @ w) / 8),
    "under dropout": lambda: WEIGHTED.with_dropout(lower=0.7, upper=None),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_l2rw_refuses_what_are_no_weights(name):
    """Kills: either half of the check left out."""
    problem = NO_WEIGHTS[name]()
    with pytest.raises(HypothesisViolated, match="not the weights") as caught:
        L2RW(alpha=1).init(problem, problem.start())
    assert 'weights="identity"' in caught.value.advice


@pytest.mark.parametrize("name", SUMS)
def test_l2rw_takes_weights_with_and_without_a_ridge(name):
    """Kills: a refusal of rounding."""
    problem = SUMS[name]()
    assert L2RW(alpha=1).init(problem, problem.start()).k == 0


def test_l2rw_learns_without_a_ridge_only():
    """Σω = 1 beside a mean over N: N = 60 makes a ridge of 1/50 one of 6/5 in the article's units."""
    options = {"train": 60, "validation": 60, "corrupted": 0.4, "seed": 0, "classes": (1, 4, 7), "pool": 4}
    losses = []
    for reg in (0.0, 0.02):
        problem = weighted_softmax.digits(**options, weights="identity", reg=reg)
        end = run(L2RW(alpha=60.0), problem, problem.start(), steps=100, rng=0).state
        losses.append(float(problem.upper.value(end.lam, end.w)))
    assert losses[0] < 0.8 * np.log(3) < losses[1]
