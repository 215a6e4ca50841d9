"""Weights for samples with wrong labels: L2RW, Meta-Weight-Net, exact hyper-cleaning; then four ways to the adjoint.

Run it: python examples/reweighting.py    (some seconds; every statement below is asserted)
"""

import numpy as np

import refimpl as ri
from refimpl.algorithms import L2RW, MetaWeightNet, run
from refimpl.approximate import InnerDescent, augmented_lagrangian, implicit, one_step, penalty
from refimpl.solvers import ConjugateGradient, GradientDescent, Newton
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

# 4. Penalty: an error of C/γ. Augmented Lagrangian: linear at a fixed μ, with the factor (I + μHQ⁻¹H)⁻¹ on quadratics.

quad = quadratic.random(n=2, d=4, seed=0)
lam = quad.start()
exact = ri.exact_hypergradient(quad, lam)
errors = [np.linalg.norm(penalty(quad, lam, gamma=g).value - exact.value) for g in (1e2, 1e3, 1e4)]
print(
    f"4. penalty: γ times the error {', '.join(f'{g * e:.3f}' for g, e in zip((1e2, 1e3, 1e4), errors, strict=True))}"
)
mu = 10.0
curve = augmented_lagrangian(quad, lam, mu=mu, steps=8, exact=exact).curve
H, Q = quad.lower.hess_ww(lam, exact.w).dense(), quad.upper.hess_ww(lam, exact.w).dense()
factor = max(np.linalg.eigvals(np.linalg.inv(np.eye(4) + mu * H @ np.linalg.solve(Q, H))).real)
print(f"   augmented Lagrangian: ratio {curve[7] / curve[6]:.4f}, predicted {factor:.4f}")
assert curve[7] / curve[6] < factor * (1 + 1e-6)

# 5. At equal numbers of Hessian products neither beats conjugate gradients on the adjoint system.

near = implicit(quad, lam, lower=Newton(), linear=ConjugateGradient(4))
inner = InnerDescent(40, 1.0 / (np.linalg.norm(Q, 2) + mu * np.linalg.norm(H, 2) ** 2))
slow = augmented_lagrangian(quad, lam, mu=mu, steps=5, inner=inner)
for name, a in (("CG", near), ("augmented Lagrangian", slow)):
    error = np.linalg.norm(a.value - exact.value)
    print(f"5. {name}: error {error:.1e} after {a.calls['lower.hess_ww']} products with ∇²_wwG")
