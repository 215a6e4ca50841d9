"""Dropout in bilevel training: an exact, certified hypergradient; the floor of Algorithm 1; data cleaning with F1.

Run it: python examples/dropout_bilevel.py    (some seconds; every statement below is asserted)
"""

import numpy as np

import refimpl as ri
from refimpl import networks
from refimpl.algorithms import DropoutFSLA, run
from refimpl.algorithms.exact import fixed_lambda
from refimpl.zoo.weighted_softmax import digits_data

# 1. Dropout is a decorator. Masks are a finite space, so the expectation over them is a sum, and the dropout model's
#    hypergradient is exact and certified like any other. A keep probability of 1 is the plain problem, bit for bit.

plain = ri.zoo.weighted_softmax.digits(train=30, validation=30, classes=(1, 4), pool=4, reg=0.1, seed=0)
lam = plain.start()
noisy = plain.with_dropout(lower=0.8, upper=None)  # 2^8 masks of the 8 weights, in the lower level only
exact = ri.exact_hypergradient(noisy, lam)
kept = ri.exact_hypergradient(plain.with_dropout(lower=1, upper=None), lam)
without = ri.exact_hypergradient(plain, lam)
moved = np.linalg.norm(exact.value - without.value)
print(f"1. {noisy.lower.masks.size} masks: hypergradient {exact.kind}, error <= {exact.bound:.1e};")
print(f"   dropout moves it by {moved / np.linalg.norm(without.value):.0%} of the plain one")
assert exact.kind == "bounded"
assert exact.bound < moved
assert np.array_equal(kept.value, without.value)

# 2. Constant steps do not converge to w(λ): the masks' noise does not vanish there. Lemma 2 as printed knows no such
#    term. G = ½(w − a)ᵀH(w − a) with H = [[2, 1], [1, 2]], a = (1, −½), keep probability 0.8, γ = 0.1, no data noise:

H, a = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, -0.5])
quadratic = ri.BilevelProblem(
    upper=ri.zoo.quadratic.objective(ww=np.eye(2), n=0),
    lower=ri.zoo.quadratic.objective(ww=H, w1=-H @ a, n=0),
).with_dropout(lower=0.8, upper=None)
steps = DropoutFSLA(delta=0.1, schedule="constant")
settled = fixed_lambda(steps, quadratic, np.zeros(0), direction=False).stationary()
floor = float(settled.mean_square("w"))
w_lam = ri.exact_hypergradient(quadratic, np.zeros(0)).w
sampled = run(
    steps, quadratic, np.zeros(0), steps=200, rng=np.random.default_rng(0), replicates=(4000,)
).state
squares = np.sum((sampled.w - w_lam) ** 2, axis=-1)
half = 2.576 * squares.std() / squares.size**0.5  # of the 99 % interval of their mean
print(f"2. E‖w − w(λ)‖² settles at {floor:.8f}; 4000 sampled runs: {squares.mean():.5f} ± {half:.5f}")
assert round(floor, 8) == 0.00506431
assert abs(squares.mean() - floor) < half

# 3. Data cleaning with a network, dropout on its 32 hidden units: 2^32 masks are sampled, not summed. Samples whose
#    weight σ(λ_i) falls below ½ are flagged as mislabelled.

data = digits_data(train=300, validation=200, corrupted=0.6, seed=0)
net = networks.MLP((64, 32, 10), "relu")
cleaning = ri.BilevelProblem(
    upper=networks.loss(net, data.X_val, data.y_val, n=300),
    lower=networks.loss(net, data.X, data.y, reg=1e-4, weighted=True),
).with_dropout(lower=net.rows(0.8), upper=None)
algorithm = DropoutFSLA(
    delta=4.0, gamma=0.125, beta=0.025, eta=0.125, r=30.0, schedule="constant", lower_batch=64, upper_batch=64
)
start = algorithm.init(cleaning, np.zeros(300), net.random(np.random.default_rng(1), gain=2**0.5))
found = run(algorithm, cleaning, start, steps=800, rng=np.random.default_rng(2)).state
flagged = found.lam < 0
f1 = 2 * np.sum(flagged & data.corrupted) / (np.sum(flagged) + np.sum(data.corrupted))
everything = 2 * 0.6 / (1 + 0.6)  # F1 of flagging every sample
print(f"3. flagged {np.sum(flagged)} of 300, {np.sum(data.corrupted)} are wrong: F1 = {f1:.2f}", end="")
print(f" (flagging all: {everything:.2f})")
assert f1 > everything
