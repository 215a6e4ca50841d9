"""Weights for samples with wrong labels: L2RW, Meta-Weight-Net, exact hyper-cleaning; then four ways to the adjoint.

Run it: python examples/reweighting.py    (some seconds; every statement below is asserted)
"""

import numpy as np

import refimpl as ri
from refimpl.algorithms import L2RW, MetaWeightNet, run
from refimpl.approximate import (
    InnerDescent,
    InnerGaussNewton,
    augmented_lagrangian,
    implicit,
    one_step,
    penalty,
    reverse,
)
from refimpl.solvers import ConjugateGradient, GradientDescent
from refimpl.zoo import quadratic, weighted_softmax

# 200 digits, 40 % of them with a wrong label, and 100 clean ones. λ_i is the weight of sample i itself.

options = {"train": 200, "validation": 100, "corrupted": 0.4, "seed": 0, "classes": (1, 4, 7, 8), "pool": 2}
data = weighted_softmax.digits_data(**options | {"validation": 500})  # 400 more, which no method sees
wrong, unseen = data.corrupted, slice(100, None)
raw = weighted_softmax.digits(**options, weights="identity", reg=0.0)  # a ridge would outweigh L2RW's Σω = 1

# 1. L2RW's derivative is that of one virtual step. (4) of the note takes both gradients at θ: exact at ω = 0 only.

w, step = np.full(raw.d, 0.05), 20.0
for name, omega in (("ω = 0", 0 * raw.start()), ("ω = 1/2", raw.start())):
    exact = one_step(raw, omega, lower=GradientDescent(1, step), w0=w).value
    both_at_w = -step * (raw.lower.cross(omega, w) @ raw.upper.grad_w(omega, w))
    error = np.linalg.norm(both_at_w - exact) / np.linalg.norm(exact)
    print(f"1. {name}: relative error of (4) {error:.1e}")
    assert (error < 1e-12) == (name == "ω = 0")

# 2. Which samples do the methods trust? The share of the weight on wrong labels (they are 40 % of the samples). And
#    does it help? The accuracy on unseen digits, beside that of descent with equal weights.


def accuracy(w):
    """The share of the unseen digits that the model w names rightly."""
    scores = data.X_val[unseen] @ w.reshape(data.classes, -1).T
    return (scores.argmax(axis=1) == data.y_val[unseen]).mean()


equal = accuracy(GradientDescent(200, 1.0).run(raw, raw.start(), 0 * w).w)

for name, method in (
    ("L2RW", L2RW(alpha=50.0)),
    ("Meta-Weight-Net", MetaWeightNet(alpha=1.0, eta=100.0)),
):
    found = run(method, raw, raw.start(), steps=200, rng=0).state
    share = found.lam[wrong].sum() / found.lam.sum()
    print(f"2. {name}: {100 * share:.0f} % of the weight on wrong labels, ", end="")
    print(f"accuracy {100 * accuracy(found.w):.0f} % (equal weights: {100 * equal:.0f} %)")
    assert share < 0.3
    assert accuracy(found.w) > equal

# 3. The exact hypergradient of hyper-cleaning with weights σ(λ_i), in descent: wrong labels get the smaller λ_i.

cleaning = weighted_softmax.digits(**options, reg=0.05)
lam, before = cleaning.start(), None
for _ in range(20):
    found = ri.exact_hypergradient(cleaning, lam, start=before, certify="never")
    lam, before = lam - 200 * found.value, found
caught = (lam[wrong] < 0).mean(), (lam[~wrong] >= 0).mean()
print(f"3. after 20 exact steps σ(λ_i) < ½ for {100 * caught[0]:.0f} % of the wrong labels, ")
print(f"   >= ½ for {100 * caught[1]:.0f} % of the right ones")
assert min(caught) > 0.7

# 4. Penalty: an error of C/γ. Augmented Lagrangian: linear at a fixed μ. On quadratics S = H⁻¹QH⁻¹ says both exactly.


def reduced(problem, lam, exact):
    """S, and the K for which the penalty's error is K(S + γI)⁻¹v."""
    H, Q = (level.hess_ww(lam, exact.w).dense() for level in (problem.lower, problem.upper))
    C, B = (level.cross(lam, exact.w).dense() for level in (problem.lower, problem.upper))
    S = np.linalg.solve(H, np.linalg.solve(H, Q).T)
    return S, C @ S - np.linalg.solve(H, B.T).T


def scaled_error(problem, lam, exact, gamma):
    """C = ‖Kv‖, and by how much γ times the penalty's error may differ from it: ‖K‖‖S(S + γI)⁻¹‖‖v‖."""
    S, K = reduced(problem, lam, exact)
    largest = np.linalg.norm(S, 2)
    return np.linalg.norm(K @ exact.v), np.linalg.norm(K, 2) * largest / (largest + gamma) * np.linalg.norm(
        exact.v
    )


quad = quadratic.random(n=2, d=4, seed=0)
lam = quad.start()
exact = ri.exact_hypergradient(quad, lam)
for gamma in (1e2, 1e3, 1e4):
    scaled = gamma * np.linalg.norm(penalty(quad, lam, gamma=gamma).value - exact.value)
    constant, apart = scaled_error(quad, lam, exact, gamma)
    print(f"4. penalty, γ = {gamma:.0f}: γ times the error {scaled:.4f}, C = {constant:.4f}")
    assert abs(scaled - constant) <= apart

mu = 10.0
sigma, U = np.linalg.eigh(reduced(quad, lam, exact)[0])
factors = sigma / (sigma + mu)  # what an update leaves of the multiplier's error, by S's eigenvectors
before, after = (np.linalg.norm(augmented_lagrangian(quad, lam, mu=mu, steps=k).v - exact.v) for k in (2, 3))
left = (factors**2 * (U.T @ exact.v)) ** 2  # squared, after two updates from 0
least = factors[-1] * np.sqrt(left[-1] / left.sum())
print(f"   augmented Lagrangian: ratio {after / before:.5f}, predicted {least:.5f} to {factors[-1]:.5f}")
assert least <= after / before <= factors[-1]

# 5. 120 gradients and Hessian products for each method. Conjugate gradients on the adjoint system are ahead of
#    unrolling. Inside the augmented Lagrangian, where an update takes 2d + 7, they are ahead of it for the small d
#    only; with descent inside it is behind for both. The penalty ends at its C/γ.

units, gamma = 120, 1e3
for d in (4, 20):
    quad = quadratic.random(n=2, d=d, seed=0)
    lam = quad.start()
    exact = ri.exact_hypergradient(quad, lam)
    H, Q = (np.linalg.norm(x.hess_ww(lam, exact.w).dense(), 2) for x in (quad.lower, quad.upper))
    step = 2 / (1 + H)  # H's eigenvalues begin at 1
    descent, cg = InnerDescent(10, 1 / (Q + mu * H**2)), InnerGaussNewton(1, ConjugateGradient(d))
    most = InnerGaussNewton(1, ConjugateGradient((units - 7) // 2))
    solved = implicit(quad, lam, lower=GradientDescent(units - d, step), linear=ConjugateGradient(d))
    found = {
        "descent, then CG": solved,
        "unrolled descent": reverse(quad, lam, lower=GradientDescent(units // 2, step)),
        "augmented, CG": augmented_lagrangian(quad, lam, mu=mu, steps=units // (2 * d + 7), inner=cg),
        "augmented, descent": augmented_lagrangian(quad, lam, mu=mu, steps=units // 21, inner=descent),
        "penalty, CG": penalty(quad, lam, gamma=gamma, inner=most),
    }
    error = {name: np.linalg.norm(a.value - exact.value) for name, a in found.items()}
    for name, a in found.items():
        spent = a.calls["lower.grad_w"] + a.calls["lower.hess_ww"]
        print(f"5. d = {d}, {name}: error {error[name]:.1e} after {spent}")
        assert spent <= units
        assert "lower.hess_ww dense" not in a.calls
    constant, apart = scaled_error(quad, lam, exact, gamma)
    assert error["descent, then CG"] < error["unrolled descent"] < error["augmented, descent"]
    assert (error["augmented, CG"] < error["unrolled descent"]) == (d == 4)
    assert abs(gamma * error["penalty, CG"] - constant) <= apart
