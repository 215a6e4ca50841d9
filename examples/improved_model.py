"""The improved model: the lower minimiser that is best for F, BiG-SAM on its way there, Tikhonov's path, a refusal.

Run it: python examples/improved_model.py    (some seconds; every statement below is asserted)
"""

import re

import numpy as np

import refimpl as ri
from refimpl.approximate import reverse, tikhonov
from refimpl.errors import HypothesisViolated
from refimpl.solvers import Averaging, BiGSAM, GradientDescent, contraction_of
from refimpl.zoo import degenerate, overparametrised, quadratic

# 24 images of digits with contradicting labels and 64 pixels: G has an affine set of minimisers, F chooses among them.

problem = overparametrised.digits(reg_upper=0.1)
lam = problem.start()
best = ri.exact.solve_simple(problem, lam)
print(f"1. d = {problem.d}, rank of ∇²G {best.rank}: {problem.d - best.rank} flat directions")
print(f"   at w_λ: ‖∇_wG‖ = {best.residual_lower:.1e}, ‖Nᵀ∇_wF‖ = {best.residual_upper:.1e}")


def rounding(level):
    """What d products of doubles may leave of a gradient that is 0 at w_λ."""
    w, curvature = best.w, np.linalg.norm(level.hess_ww(lam, best.w).dense(), 2)
    terms = curvature * np.linalg.norm(w) + np.linalg.norm(level.grad_w(lam, 0 * w))
    return problem.d * np.finfo(float).eps * terms


assert 0 < best.rank < problem.d
assert (
    best.gap[0] > problem.d * np.finfo(float).eps * best.singular[0] > best.gap[1]
)  # no doubt about the rank
assert best.residual_lower < rounding(problem.lower)
assert best.residual_upper < rounding(problem.upper)
assert np.linalg.norm(problem.lower.hess_ww(lam, best.w) @ best.flat[:, 0]) < rounding(problem.lower)

# 2. Gradient descent on G ends at another minimiser; F is lower at w_λ (theorem 2, the solver's selection).

L = float(np.linalg.eigvalsh(problem.lower.hess_ww(lam, best.w).dense())[-1])
found = GradientDescent(20_000, 1 / L).run(problem, lam, np.ones(problem.d)).w
values = [float(problem.upper.value(lam, w)) for w in (found, best.w)]
slope = float(np.linalg.norm(problem.lower.grad_w(lam, found)))
print(f"2. F = {values[0]:.4f} where descent ends (‖∇_wG‖ = {slope:.1e}), {values[1]:.4f} at w_λ")
assert slope < rounding(problem.lower)
assert values[1] < values[0]

# 3. The hypergradient is the usual formula with H⁺ in place of H⁻¹; Tikhonov's problems G + εF lead to it, as O(ε).

exact = ri.exact.improved_hypergradient(problem, lam)
errors = [
    np.linalg.norm(ri.exact_hypergradient(tikhonov(problem, eps), lam, certify="never").value - exact.value)
    for eps in (1e-3, 1e-4, 1e-5)
]
print(f"3. error of ε = 1e-3, 1e-4, 1e-5: {errors[0]:.1e}, {errors[1]:.1e}, {errors[2]:.1e}")
assert errors[0] > 5 * errors[1] > 25 * errors[2]

# 4. BiG-SAM goes to w_λ, and the reverse sweep through it to ∇f, both as O(1/k) where the schedule is long enough:
#    2tq/(1 − β) > 1, q the least curvature of F along the flat directions. k times the errors settles.

flat = quadratic.singular(n=2, d=6, rank=3, seed=0)
lam, truth = flat.start(), ri.exact.improved_hypergradient(flat, flat.start())
sigma, smooth = np.linalg.eigvalsh(flat.upper.hess_ww(lam, truth.w).dense())[[0, -1]]
t = 2 / (sigma + smooth)
beta = contraction_of(sigma, smooth, t)
weights = Averaging(beta)
N = ri.exact.solve_simple(flat, lam).flat
q = float(np.linalg.eigvalsh(N.T @ flat.upper.hess_ww(lam, truth.w).dense() @ N)[0])
assert 2 * t * q / (1 - beta) > 1
s = 1 / float(np.linalg.eigvalsh(flat.lower.hess_ww(lam, truth.w).dense())[-1])
scaled = []
for steps in (50, 500, 5000):
    near = reverse(flat, lam, lower=BiGSAM(steps, s=s, t=t, alpha=weights))
    scaled.append([steps * np.linalg.norm(x) for x in (near.w - truth.w, near.value - truth.value)])
    print(f"4. {steps} steps: k‖w_k − w_λ‖ = {scaled[-1][0]:.2f}, k‖∇f_k − ∇f‖ = {scaled[-1][1]:.2f}")
for first, second, third in zip(*scaled, strict=True):
    assert abs(second - first) > 5 * abs(third - second)

# A weight that stays constant leads elsewhere: to Tikhonov's point of ε = αt/((1 − α)s).

alpha = 0.1
near = BiGSAM(20_000, s=s, t=t, alpha=alpha).run(flat, lam, np.zeros(flat.d)).w
eps = alpha * t / ((1 - alpha) * s)
point = ri.exact.solve_lower(tikhonov(flat, eps), lam).w
away, off = np.linalg.norm(near - truth.w), np.linalg.norm(near - point)
print(f"   α = {alpha}: {away:.2f} from w_λ, {off:.1e} from that point")
assert off < 1e-10 < away

# 5. Where the rank of ∇²G changes f may jump; the exact quantities refuse, with what they measured.

case = degenerate.rank_changes()
try:
    ri.exact.improved_hypergradient(case.problem, case.lam)
except HypothesisViolated as refused:
    print(f"5. refused: {refused}")
    here, none, there, beside = (float(x) for x in re.findall(r"\d[\d.e-]*", refused.measured))
    assert here == there == case.lam[0] / 2
    assert none == case.lam[1] / 2 == 0 < beside  # ∇²G = diag(λ)/2
else:
    raise AssertionError("the rank changes here")
