"""Stochastic hypergradients: exact bias and variance, theorem 8 beside its bound, where an algorithm settles, BSGM.

Run it: python examples/stochastic_hypergradients.py    (some seconds; every statement below is asserted)
"""

import importlib.util
import tempfile

import numpy as np

import refimpl as ri
from refimpl.algorithms import ALSET, BSGM, mean_square_mapping, run, whole_state
from refimpl.approximate import SID, ProductNeumann, lower_curve, sid_moments
from refimpl.approximate.guarantees import theorem_8
from refimpl.constants import around, constants, noise
from refimpl.lengths import Growing
from refimpl.rates import Harmonic
from refimpl.zoo import maps, quadratic

# Of Φ = w/2 + λ one draws 0.8 w + λ + 1 or 0.2 w + λ − 1; of E one draws ½w² or ½w² − 2w. So ∇f = 4λ − 2.

zero, one = np.zeros((2, 1, 1)), np.ones((2, 1, 1))
phi = maps.AffineMap(np.array([[[0.8]], [[0.2]]]), one, np.array([[1.0], [-1.0]]))
upper = quadratic.Quadratic(one, zero, zero, np.array([[0.0], [-2.0]]), zero[..., 0])
problem, lam, rate = ri.FixedPointProblem(upper, phi), np.array([2.0]), Harmonic(2.0, 4.0)
exact = ri.exact_hypergradient(problem, lam)


def agrees(name: str, known: float, samples: np.ndarray) -> None:
    """The exact number lies in the 99.9 % interval of the samples' mean."""
    half = 3.29 * samples.std() / samples.size**0.5
    print(f"   {name} {known:.4f}; sampled: {samples.mean():.4f} ± {half:.4f}")
    assert abs(samples.mean() - known) < half


# 1. SID's mean and variance are finite sums: known, not sampled.
sid = SID(t=20, k=20, J=4, rate=rate)
moments = sid_moments(sid, problem, lam)
errors = sid.run(problem, lam, rng=0, replicates=(20_000,)).value - exact.value
print(
    f"1. ∇f = {exact.value[0]:.1f}; variance I {moments.variance_upper:.4f}, II {moments.variance_lower:.4f}"
)
agrees("bias", float(moments.bias[0]), errors)
agrees("mean square error", float(moments.mean_square_error), errors**2)

# 2. Theorem 8: with η_i = 2/(4 + i) the lower iterate's mean square error is at most d_w/(4 + t), and it falls so.

region, t = around(problem, lam, exact.w, np.zeros(1)), np.arange(1001)
rates = theorem_8(constants(problem, region), noise(problem, region, growth=1.5), rate=rate, J=4)
rho = lower_curve(SID(t=1000, k=0, rate=rate), problem, lam)
slope = np.log(rho[1000] / rho[500]) / np.log(2)
print(f"2. E‖w_t − w(λ)‖² = {rho[1000]:.4f} <= {rates.rho(1000):.4f} at t = 1000; slope {slope:.2f}")
assert np.all(rho <= rates.rho(t))
assert round(slope, 1) == -1
if importlib.util.find_spec("matplotlib"):
    from matplotlib.figure import Figure

    (figure := Figure()).subplots().loglog(t[1:], np.c_[rho, rates.rho(t)][1:], label=["exact", "bound"])
    figure.legend()
    figure.savefig(path := f"{tempfile.gettempdir()}/theorem_8.png")
    print("   plotted:", path)

# 3. With constant steps an algorithm of table 1 settles around a point, exactly known: ALSET on a quadratic problem.

quad = quadratic.random(n=1, d=2, seed=0, mu=1.0, L=2.0, terms=3)
alset = ALSET(alpha=0.02, beta=0.05, inverse=ProductNeumann(3, 8.0), lower_batch=1)
settled = whole_state(alset, quad, quad.start()).stationary()
ends = run(alset, quad, quad.start(), steps=400, rng=1, replicates=(5_000,), every=400).state.lam[:, 0]
print(f"3. ALSET settles at λ = {settled.mean('lam')[0]:.4f} on average")
agrees("E λ²", float(settled.mean_square("lam")), ends**2)

# 4. BSGM starts w anew in every iteration: it converges as lengths grow, not with as many samples in equal ones.

ends = {}
for name, length in (("growing", Growing(1)), ("equal", 4)):
    bsgm = BSGM(t=length, k=length, J=length, alpha=0.25, rate=rate)
    found = run(bsgm, problem, lam, samples=5100, rng=2, replicates=(300,))
    fifth = found.trajectory["lam"][-found.state.k // 5 :]
    ends[name] = mean_square_mapping(problem, fifth, 0.25).mean()
    print(f"4. {name} lengths: {found.samples} samples, in the end ‖∇f‖² = {ends[name]:.2f}")
assert ends["growing"] < ends["equal"] / 2
