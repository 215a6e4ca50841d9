"""Equilibrium models, graph networks, data poisoning, biased regularisation: their closed forms and their parts."""

from __future__ import annotations

import dataclasses
import itertools as it

import numpy as np
import pytest

import refimpl as ri
from refimpl import solvers
from refimpl.datasets import Episode, load_digits
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.sets import Ball, Rows
from refimpl.zoo import biased, equilibrium, poisoning, uppers
from tests.zoo_things import EPS, biased_problem, equilibrium_problem, poisoned

RNG = np.random.default_rng(21)


def allowed(problem, size):
    """10 (n + d) eps times the size of what is compared, and of what was solved."""
    return 10 * (problem.n + problem.d) * EPS * size


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_hypergradient_of_an_equilibrium_model_is_the_closed_form():
    """Theory 6.1: v_i = Aᵀ(s_i∘v_i) + DᵀG_i row by row, u = s∘v, ∇_A = Σu_iw_iᵀ, …; ‖(I − ∂Φᵀ)⁻¹‖ <= 2.

    Kills: the label's sign, a mean over the wrong count, A for Aᵀ, c without its row sum, D and b exchanged.
    """
    p = equilibrium_problem(graph=False)
    lam = p.domain.project(p.start(), p.backend)
    exact = ri.exact_hypergradient(p, lam, certify="never")
    part = p.phi.layout.split(lam)
    A, B, c, D, b = (part[name] for name in ("A", "B", "c", "D", "b"))
    w = exact.w.reshape(5, 2)
    G = (softmax(w @ D.T + b) - p.upper.Y) / 5
    s = 1 - np.tanh(w @ A.T + p.phi.X @ B.T + c) ** 2
    v = np.stack([np.linalg.solve(np.eye(2) - A.T @ np.diag(s[i]), D.T @ G[i]) for i in range(5)])
    u = s * v
    literal = [u.T @ w, u.T @ p.phi.X, u.sum(axis=0), G.T @ w, G.sum(axis=0)]
    flat = np.concatenate([x.ravel() for x in literal])
    assert np.abs(exact.value - flat).max() <= allowed(p, 4 * np.abs(flat).max())


@pytest.mark.parametrize("graph", [False, True])
def test_the_adjoint_iteration_is_recurrent_back_propagation(graph):
    """v_i ← Σ_j P_ji Aᵀ(s_j ∘ v_j) + ∇_{w_i}F, node by node (Almeida; Pineda). Kills: P for Pᵀ, A for Aᵀ."""
    p = equilibrium_problem(graph=graph)
    if graph:  # a directed one: P is not Pᵀ
        p = dataclasses.replace(p, phi=dataclasses.replace(p.phi, P=np.triu(p.phi.P)))
    lam = p.domain.project(p.start(), p.backend)
    near = ri.approximate.implicit(p, lam, lower=solvers.FixedPoint(7), linear=solvers.FixedPointAdjoint(4))
    part, P = p.phi.layout.split(lam), np.eye(5) if p.phi.P is None else p.phi.P
    w = near.w.reshape(5, 2)
    u = P @ w @ part["A"].T + p.phi.X @ part["B"].T + part["c"]
    s, g = 1 - np.tanh(u) ** 2, p.upper.grad_w(lam, near.w).reshape(5, 2)
    v = np.zeros((5, 2))
    for _ in range(4):
        messages = [[P[j, i] * part["A"].T @ (s[j] * v[j]) for j in range(5)] for i in range(5)]
        v = np.array([sum(messages[i]) + g[i] for i in range(5)])
    assert np.abs(near.v - v.ravel()).max() <= allowed(p, 4 * np.abs(g).max())


@pytest.mark.parametrize("share", [[1 / 5] * 5, [1 / 2, 0, 0, 1 / 2, 0]], ids=["all", "two labels"])
def test_minibatches_of_examples_are_unbiased(share):
    """Σ over all pairs of examples / 25 is the whole problem's hypergradient.

    Kills: share of the whole left in, a share for rows without a label, the share of another example.
    """
    p = equilibrium_problem(graph=False)
    p = dataclasses.replace(p, upper=dataclasses.replace(p.upper, share=np.array(share)))
    lam = p.domain.project(p.start(), p.backend)
    whole = ri.exact_hypergradient(p, lam, certify="never").value
    pairs = np.stack(np.meshgrid(np.arange(5), np.arange(5), indexing="ij"), axis=-1).reshape(25, 2)
    each = [ri.exact_hypergradient(p.examples(pair), lam, certify="never").value for pair in pairs]
    assert np.abs(np.mean(each, axis=0) - whole).max() <= allowed(p, 25 * np.abs(whole).max())
    together = p.examples(pairs)  # on a leading axis
    assert together.phi.value(lam, np.zeros((25, 4))).shape == (25, 4)
    with pytest.raises(BadInput, match="do not stand alone"):
        equilibrium_problem(graph=True).examples([0, 1])


def test_what_an_equilibrium_model_is_made_of():
    """λ begins at scale · N(0, 1), b = 0; a labelled row counts 1/(number of them), every row unless told otherwise.

    Kills: shares of all rows for a few labels, b drawn, the scale or the seed left out, labels of other rows.
    """
    X, y = np.random.default_rng(23).standard_normal((5, 3)), [2, 0, 1, 1, 0]
    options = {"classes": 3, "hidden": 2, "radius": None, "scale": 0.25, "seed": 24}
    p = equilibrium.problem(X, y, labelled=[4, 1], **options)
    drawn = 0.25 * np.random.default_rng(24).standard_normal(p.n)
    assert p.n == 4 + 6 + 2 + 6 + 3
    assert p.start().tolist() == [*drawn[:-3], 0, 0, 0]
    assert p.upper.share.tolist() == [0, 1 / 2, 0, 0, 1 / 2]
    assert p.upper.Y.argmax(axis=1).tolist() == y
    assert np.array_equal(p.phi.X, X)
    assert p.phi.P is None
    assert equilibrium.problem(X, y, **options).upper.share.tolist() == [1 / 5] * 5
    truths = np.array([False, True, False, False, True])
    assert equilibrium.problem(X, y, labelled=truths, **options).upper.share.tolist() == [
        0,
        1 / 2,
        0,
        0,
        1 / 2,
    ]
    for rows in ([1, 1], [-1], [5], [], [0.5]):
        with pytest.raises(BadInput, match="which rows are labelled"):
            equilibrium.problem(X, y, labelled=rows, **options)
    graph = np.arange(25.0).reshape(5, 5)
    assert np.array_equal(equilibrium.problem(X, y, P=graph, **options).phi.P, graph)
    for wrong in (graph[:4], graph[:4, :4], graph[0]):
        with pytest.raises(BadInput, match="does not fit the data"):
            equilibrium.problem(X, y, P=wrong, **options)


def test_digits_are_numbered_anew_in_a_fixed_order():
    """Kills: classes numbered as in the data, the first examples for later ones, images without their labels."""
    data, options = load_digits(), {"hidden": 2, "classes": (7, 2)}
    order = [i for i in np.random.default_rng(0).permutation(len(data.y)) if data.y[i] in (7, 2)]
    p = equilibrium.digits(examples=9, **options)
    assert np.array_equal(p.phi.X, data.X[order[:9]])
    assert p.upper.Y.shape == (9, 2)
    assert p.upper.Y.argmax(axis=1).tolist() == [(7, 2).index(data.y[i]) for i in order[:9]]
    later = equilibrium.digits(examples=4, first=6, scale=0.08, **options)  # 8 times the default
    assert np.array_equal(later.phi.X, data.X[order[6:10]])
    assert np.array_equal(later.initial, 8 * p.initial)
    P = equilibrium.propagation([(0, 1)], 4)
    other = equilibrium.digits(examples=4, radius=None, P=P, labelled=[2], seed=3, **options)
    same = equilibrium.problem(
        data.X[order[:4]], [(7, 2).index(data.y[i]) for i in order[:4]],
        classes=2, hidden=2, radius=None, P=P, labelled=[2], seed=3,
    )  # fmt: skip
    assert np.array_equal(other.initial, same.initial)
    assert other.domain is None
    assert np.array_equal(other.phi.P, P)
    assert np.array_equal(other.upper.share, same.upper.share)
    with pytest.raises(TypeError, match=r"digits\(\) got an unexpected keyword argument 'train'"):
        equilibrium.digits(train=50)


def test_propagation_has_norm_one():
    """M_ij/√(degrees of i and j, with the loops). Kills: no loops, one end's degree, no roots."""
    P = equilibrium.propagation([(0, 1), (1, 2)], 4)
    assert np.abs(P - P.T).max() == 0
    assert np.abs(np.linalg.norm(P, 2) - 1) <= 10 * 4 * EPS
    degree, edges = [2, 3, 2, 1], [(0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (1, 0), (1, 2), (2, 1)]
    for i, j in it.product(range(4), repeat=2):
        assert abs(P[i, j] - ((i, j) in edges) / np.sqrt(degree[i] * degree[j])) <= 10 * EPS


def test_the_set_of_an_equilibrium_model_holds_a_contraction():
    p = equilibrium_problem(graph=False)
    lam = p.domain.project(10 * p.start(), p.backend)
    A = p.phi.layout.split(lam)["A"]
    assert np.linalg.norm(A, 2) <= 0.5 * (1 + 10 * 4 * EPS)
    with pytest.raises(HypothesisViolated):
        p.lam(10 * p.start())
    assert equilibrium.problem(p.phi.X, [0, 1, 2, 0, 1], classes=3, hidden=2, radius=None).domain is None


def test_poisoning_is_the_closed_form():
    """Theory 6.3: ∇_{Γ_i}f = −(1/n)[V(p_i − y_i) + W(diag p_i − p_ip_iᵀ)Vᵀx̃_i] with HV = ∇_WE, E = −CE_val.

    Kills: noise on the wrong samples, the attacker's sign, one of the two terms, p at the clean data.
    """
    p = poisoned()
    lam = 0.3 * RNG.standard_normal(p.n)
    exact = ri.exact_hypergradient(p, lam, certify="never")
    W, V = exact.w.reshape(3, 3).T, exact.v.reshape(3, 3).T  # features x classes
    X = p.lower.X.copy()
    X[[1, 4]] += lam.reshape(2, 3)
    literal = []
    for i in (1, 4):
        q, y = softmax(X[i] @ W), p.lower.y[:, i]
        literal.append(-(V @ (q - y) + W @ (np.diag(q) - np.outer(q, q)) @ V.T @ X[i]) / len(X))
    flat = np.concatenate(literal)
    condition = np.linalg.cond(p.lower.hess_ww(lam, exact.w).dense())
    assert np.abs(exact.value - flat).max() <= allowed(p, condition * np.abs(flat).max())
    away = lam / np.linalg.norm(lam) * 100
    assert np.linalg.norm(p.domain.project(away, p.backend).reshape(2, 3), axis=1).max() <= 5 * (1 + 10 * EPS)


def test_poisoned_minibatches_keep_their_own_noise():
    """A minibatch in which sample 4 stands twice: its quantities are the terms' mean, as all data's are.

    Kills: lost picks, picks and labels of other samples.
    """
    p, index = poisoned(), np.array([4, 0, 4])
    lam, w = RNG.standard_normal(p.n), RNG.standard_normal(p.d)
    batch = p.lower.batch(index)
    for quantity in ("value", "grad_lam", "grad_w"):
        terms = [getattr(p.lower.at(i), quantity)(lam, w) for i in index]
        found = getattr(batch, quantity)(lam, w)
        assert np.abs(found - np.mean(terms, axis=0)).max() <= allowed(p, 10 * np.abs(terms).max())
        whole = getattr(p.lower, quantity)(lam, w)
        each = [getattr(p.lower.at(i), quantity)(lam, w) for i in range(7)]
        assert np.abs(whole - np.mean(each, axis=0)).max() <= allowed(p, 10 * np.abs(each).max())


def test_poisoning_data_and_accuracy():
    data = poisoning.digits_data(train=100, validation=50, seed=3)
    assert (len(data.X), len(data.X_val), len(data.X_test), len(data.poisoned)) == (100, 50, 1647, 20)
    w = np.zeros((2, 640))
    w[1, :64] = -1.0  # class 0 has the smallest score: never predicted
    found = poisoning.accuracy(data.X, data.y, w)
    assert found[0] == np.mean(data.y == 0)
    assert found[1] == np.mean(data.y == 1)


def test_poisoning_of_digits():
    """The problem of the data with the same options. Kills: another split, sets exchanged, reg or radius lost."""
    options = {"train": 30, "validation": 20, "share": 0.1, "seed": 3}
    p, data = poisoning.digits(reg=0.5, radius=2.0, **options), poisoning.digits_data(**options)
    assert np.array_equal(p.lower.X, data.X)
    assert p.lower.y.argmax(axis=0).tolist() == data.y.tolist()
    assert p.lower.pick.argmax(axis=0).tolist() == data.poisoned.tolist()
    assert p.lower.reg == 0.5
    assert np.array_equal(p.upper.f.X, data.X_val)
    assert p.upper.f.y.argmax(axis=0).tolist() == data.y_val.tolist()
    assert repr(p.domain) == repr(Rows(3, Ball(2.0)))
    assert p.d == 640
    assert "train=30" in p.name
    assert "seed=3" in p.name


def test_the_sets_of_a_poisoning_task_are_apart():
    """Every image is in one of the three sets, with its label. Kills: labels of another order, numbers past train."""
    data, all_of_them = poisoning.digits_data(train=100, validation=50, share=0.1, seed=3), load_digits()

    def named(X, y):
        return sorted((x.tobytes(), int(label)) for x, label in zip(X, y, strict=True))

    sets = ((data.X, data.y), (data.X_val, data.y_val), (data.X_test, data.y_test))
    assert sorted(it.chain(*(named(*part) for part in sets))) == named(all_of_them.X, all_of_them.y)
    assert len(set(data.poisoned.tolist())) == 10
    assert data.poisoned.tolist() == sorted(data.poisoned)
    assert 0 <= data.poisoned[0]
    assert data.poisoned[-1] < 100
    other = poisoning.digits_data(train=100, validation=50, share=0.1, seed=4)
    assert not np.array_equal(other.X, data.X)
    assert not np.array_equal(other.poisoned, data.poisoned)
    everyone = poisoning.digits_data(train=3, validation=1, share=1.0)
    assert everyone.poisoned.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "split",
    [
        {"train": 0},
        {"validation": 0},
        {"train": 1700, "validation": 97},
        {"share": 0.0},
        {"share": 1.01},
    ],
    ids=str,
)
def test_splits_that_leave_a_set_empty(split):
    with pytest.raises(BadInput, match="does not fit the data"):
        poisoning.digits_data(**split)


def test_what_a_poisoning_task_is_made_of():
    """The j-th row of Γ is for the j-th sample named; the attacker has no ridge; Γ begins at 0.

    Kills: picks in the order of the data, labels of the wrong set, the ridge above, the attacker's sign.
    """
    rng = np.random.default_rng(25)
    X, X_val, y, y_val = rng.standard_normal((4, 2)), rng.standard_normal((3, 2)), [2, 0, 1, 1], [0, 0, 2]
    p = poisoning.problem(X, y, X_val, y_val, classes=3, poisoned=[3, 0], reg=0.25, radius=0.5)
    lam, w = np.array([1.0, 2.0, 3.0, 4.0]), rng.standard_normal(6)
    noise = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    assert np.array_equal(p.lower.at_noise(lam).X, X + noise)
    assert p.start().tolist() == [0.0] * 4
    assert p.lower.y.argmax(axis=0).tolist() == y
    assert p.lower.reg == 0.25
    losses = uppers.cross_entropy(X_val, y_val, classes=3, n=4)
    assert p.upper.value(lam, w) == -losses.value(lam, w)
    assert repr(p.domain) == repr(Rows(2, Ball(0.5)))
    assert poisoning.problem(X, y, X, y, classes=3, poisoned=[1], reg=1, radius=None).domain is None
    for reg in (0.0, np.inf):
        with pytest.raises(BadInput, match="strongly convex"):
            poisoning.problem(X, y, X, y, classes=3, poisoned=[1], reg=reg)


@pytest.mark.parametrize("which", [[], np.zeros(0, dtype=int), [7], [-1], [1, 1], [0.5]], ids=str)
def test_who_is_poisoned(which):
    p = poisoned()
    with pytest.raises(BadInput, match="which samples"):
        poisoning.problem(p.lower.X, [0] * 7, p.lower.X, [0] * 7, classes=2, poisoned=which, reg=0.1)


def test_biased_regularisation_separates_over_tasks():
    """A task alone, T = 1, has the whole problem's w^t; the hypergradient is the mean of the tasks'.

    Kills: a mean taken twice, rows of other tasks, strength without its T.
    """
    p = biased_problem()
    lam = RNG.standard_normal(p.n)
    whole = ri.exact_hypergradient(p, lam, certify="never")
    alone = [ri.exact_hypergradient(biased.only(p, [t]), lam, certify="never") for t in range(2)]
    assert np.abs(whole.w - np.concatenate([a.w for a in alone])).max() <= allowed(p, 10)
    mean = np.mean([a.value for a in alone], axis=0)
    assert np.abs(whole.value - mean).max() <= allowed(p, 10)


def test_what_biased_regularisation_is_made_of():
    """Support below with the pull, queries above without. Kills: the two exchanged, a pull above, tasks not picked."""
    rng = np.random.default_rng(26)
    X, Z, y, u = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 5, 4)), [0, 1], [1, 1, 0, 0, 1]
    labels, queried = np.stack([y, y[::-1], y]), np.stack([u, u[::-1], u])
    p = biased.problem(Episode(X, labels, Z, queried), ways=2, strength=0.5)
    for level, samples, of, strength in ((p.lower, X, labels, 0.5), (p.upper, Z, queried, 0.0)):
        assert np.array_equal(level.X, samples)
        assert np.array_equal(level.y.argmax(axis=1), of)
        assert level.strength == strength
    assert p.start().tolist() == [0.0] * 8
    some = biased.only(p, [2, 1])
    for level, samples, of in ((some.lower, X, labels), (some.upper, Z, queried)):
        assert np.array_equal(level.X, samples[[2, 1]])
        assert np.array_equal(level.y.argmax(axis=1), of[[2, 1]])


def test_the_start_at_lam_stays_near():
    """‖w^t(λ) − λ‖ <= sup‖∇ℓ_t‖/strength, whatever λ (remark 1 iv): ‖∇ℓ‖ <= √2 max‖x‖."""
    p = biased_problem()
    reach = np.sqrt(2) * np.linalg.norm(p.lower.X, axis=-1).max() / 0.5
    for size in (1.0, 30.0):
        lam = size * RNG.standard_normal(p.n)
        w = ri.exact_hypergradient(p, lam, certify="never").w.reshape(2, -1)
        assert np.linalg.norm(w - lam, axis=1).max() <= reach


def test_biased_regularisation_refuses():
    X, y = np.ones((2, 3)), np.array([0, 1])
    with pytest.raises(BadInput, match="strongly convex"):
        biased.problem(Episode(X[None], y[None], X[None], y[None]), ways=2, strength=0.0)
    with pytest.raises(BadInput, match="one axis for the tasks"):
        biased.problem(Episode(X, y, X, y), ways=2, strength=1.0)
