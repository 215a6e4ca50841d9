"""The first hypergradient: exact, approximate, certified, and four ways to get it wrong.

Run it: python examples/first_hypergradient.py    (a few seconds; every statement below is asserted)
"""

import numpy as np

import refimpl as ri
from refimpl.errors import HypothesisViolated, NotCertified, NotConverged

# 1. By hand. G = ½ a w² − λ w has its minimum at w(λ) = λ/a; with F = ½ (w − 1)²,
#    f(λ) = ½ (λ/a − 1)² and f'(λ) = (λ/a − 1)/a.

a, lam = 4.0, np.array([2.0])
by_hand = ri.BilevelProblem(
    upper=ri.zoo.quadratic.objective(ww=[[1.0]], w1=[-1.0], n=1),
    lower=ri.zoo.quadratic.objective(ww=[[a]], lw=[[-1.0]]),
)
exact = ri.exact_hypergradient(by_hand, lam)
print(
    f"1. by hand {(2 / a - 1) / a},  exact_hypergradient {exact.value[0]},  {exact.kind} by {exact.bound:.0e}"
)
assert exact.value[0] == (2 / a - 1) / a == -0.125

# 2. A harder one: 3 hyperparameters, 8 weights, condition number 1000. Exact means: solved directly, and
#    enclosed, so that `bound` is a theorem about this very floating-point result.

problem = ri.zoo.quadratic.random(n=3, d=8, seed=1, mu=1.0, L=1000.0)
lam = problem.start()
exact = ri.exact_hypergradient(problem, lam)
print(f"2. hypergradient {exact.value.round(6)}: {exact.kind}, error <= {exact.bound:.1e}")
rounding = 10 * problem.d * np.finfo(float).eps * 1000  # what d-fold sums and this condition number explain
assert exact.kind == "bounded"
assert exact.bound < rounding * np.linalg.norm(exact.value)

# 3. The same in rational arithmetic, with no rounding at all: the bound tells the truth.

proof = ri.exact_hypergradient(problem.to("rational"), problem.to("rational").start())
distance = np.linalg.norm(exact.value - ri.arrays.to_numpy(proof.value))
print(f"3. distance to the rational answer {distance:.1e}, within the bound")
assert proof.kind == "exact"
assert distance <= exact.bound + np.spacing(np.linalg.norm(exact.value))

# 4. What everyone computes: iterate the lower level, iterate the adjoint, or differentiate the iterations.
#    Each knows its residuals, its cost, and, shown the exact answer, its error at every iterate.

solvers, step = ri.solvers, 2 / 1001
by_cg = ri.approximate.implicit(
    problem, lam, lower=solvers.Newton(1e-12), linear=solvers.ConjugateGradient(12), exact=exact
)
by_neumann = ri.approximate.implicit(
    problem, lam, lower=solvers.Newton(1e-12), linear=solvers.Neumann(12, step), exact=exact
)
unrolled = ri.approximate.reverse(problem, lam, lower=solvers.GradientDescent(500, step), exact=exact)
print(f"4. errors: CG after 8 steps {by_cg.curve[8]:.1e}, after 12 {by_cg.curve[12]:.1e};")
print(f"   12 Neumann terms {by_neumann.curve[-1]:.1e}; 500 unrolled steps {unrolled.curve[-1]:.1e},")
print(f"   which cost {unrolled.calls}")
assert by_cg.curve[8] < 1e-4 * by_cg.curve[7]  # 8 distinct eigenvalues: 8 steps, but for rounding
assert by_cg.curve[12] < rounding * np.linalg.norm(exact.value)  # which a few more steps mop up
assert by_neumann.curve[-1] > 1.0  # condition 1000 is slow for whatever has no memory

# 5. Four ways to get it wrong, and what the reference says.

# 5a. An adjoint at weights that have not converged. The formula is exact only at w(λ).
far = solvers.GradientDescent(20, step).run(problem, lam, problem.w(None)).w
try:
    ri.exact.adjoint(problem, lam, far)
    raise AssertionError("an unconverged w was accepted")
except NotConverged as refusal:
    print("5a.", refusal)

# 5b. Forgetting the step factor: Neumann's sum is η Σ (I − ηH)^i ∇_wF, with η on every term.
enough = ri.approximate.implicit(problem, lam, lower=solvers.Newton(), linear=solvers.Neumann(20_000, step))
without_eta = enough.v / step
factor = np.linalg.norm(without_eta) / np.linalg.norm(exact.v)
print(f"5b. Neumann without its step factor is wrong by a factor {factor:.1f}")
assert np.allclose(without_eta, exact.v / step, rtol=0, atol=rounding * np.linalg.norm(exact.v) / step)

# 5c. Mixing the two adjoints: that of the descent map Φ = w − η∇_wG is v/η.
as_map = ri.exact_hypergradient(problem.as_fixed_point(step), lam)
assert np.linalg.norm(as_map.value - exact.value) < rounding * np.linalg.norm(exact.value)
assert np.linalg.norm(as_map.v - exact.v / step) < rounding * np.linalg.norm(exact.v) / step
print("5c. the map's adjoint is v/η; both give the same hypergradient")

# 5d. A tampered result is not certified, and the stage at fault is named.
try:
    ri.exact.certify(problem, lam, w=exact.w, v=exact.v * (1 + 1e-6), value=exact.value)
    raise AssertionError("a perturbed adjoint was certified")
except NotCertified as refusal:
    print("5d.", refusal)

# 6. A lower level without strong convexity has no hypergradient, and is refused with what was measured.
flat = ri.BilevelProblem(by_hand.upper, ri.zoo.quadratic.objective(ww=[[-1.0]], lw=[[-1.0]]))
try:
    ri.exact_hypergradient(flat, np.array([2.0]))
    raise AssertionError("a maximum was taken for a minimum")
except HypothesisViolated as refusal:
    print("6.", refusal)
