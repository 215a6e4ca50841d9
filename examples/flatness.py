"""Dropout and flatness: exact Hessian and noise at a minimum of a small network, printed formulas beside them, widths.

Run it from the clone: python examples/flatness.py    (some seconds; every statement below is asserted)
"""

import sys
from pathlib import Path

import numpy as np

from refimpl import curvature, networks
from refimpl.networks.symmetries import rescale

sys.path.insert(0, str(Path(__file__).parents[1]))  # the printed formulas are no part of the package
from verification.printed import flatness as printed

# A leaky ReLU network 1-1-2-1, dropout behind its last hidden layer. Minima that descent finds stand at kinks; this
# one is planted: at fixed weights the errors ε with which ∇E R = 0 solve a linear system, and then y = f − ε.

p, net = 0.5, networks.MLP((1, 1, 2, 1), "leaky_relu")
w = np.array([-1.0, 2, -2, 3, 1, -3, 2, -2, 0])
X = np.array([-5.0, -4, -2, 0, 1, 3, 5])[:, None]
t = printed.terms(networks.loss(net, X, np.zeros(7), loss="squared"), w)  # of y = 0: errors are outputs
pull = (1 - p) / p * np.einsum("jn,jnk->k", t.parts, t.of_parts)
f = networks.loss(net, X, t.errors + np.linalg.lstsq(t.whole.T, pull, rcond=None)[0], loss="squared")
dropout = f.with_dropout(net.last_masks(p), site="activations", scale="inverse")
H = curvature.hessian(dropout, w)
expected, slope = float(dropout.value([], w)), np.linalg.norm(dropout.grad_w([], w))
print(
    f"E R = {expected:.2f}, gradient {slope:.0e}, least eigenvalue {np.linalg.eigvalsh(H)[0]:.0e}: a minimum"
)
assert slope < 1e-12 * np.linalg.norm(pull)
assert np.linalg.eigvalsh(H)[0] > -1e-12 * np.linalg.norm(H)

# 1. Theorem 1 drops second derivatives between layers: the Hessian is right on layers' blocks, and not in all.

gap, size = H - printed.hessian(f, w, p), np.linalg.norm(H)
block = max(np.linalg.norm(net.layer(gap, k)) for k in range(3))
print(
    f"1. printed Hessian: off by {block / size:.0e} on layers' blocks, {np.linalg.norm(gap) / size:.1%} in all"
)
assert block < 1e-12 * size < 1e-3 * size < np.linalg.norm(gap)

# 2. Three draws of the gradient have three covariances; theorem 2's matrix is none of them. The ratio is Tr(HΣ) over
#    Tr H Tr Σ/D, what isotropic noise of the same trace would have.

noise = {draw: curvature.noise(dropout, w, draw=draw) for draw in ("one sample", "own masks", "shared mask")}
printed_noise = printed.covariance(f, w, p)
print("2. noise of the gradient          Tr Σ     ratio    cosine with H")
for name, S in {**noise, "as printed": printed_noise}.items():
    a = curvature.alignment(H, S)
    print(f"   {name:>11} {a.noise:25.1f} {a.ratio:9.2f} {a.cosine:16.2f}")
    assert name == "as printed" or np.linalg.norm(S - printed_noise) > 0.1 * np.linalg.norm(S)
drawn = curvature.gradient_data(dropout, w, 0, samples=4000, draw="shared mask")
print(
    f"   4000 gradients of the full batch, one mask each: Tr Σ = {(sampled := np.trace(np.cov(drawn.T))):.1f}"
)
assert abs(sampled / np.trace(noise["shared mask"]) - 1) < 0.1

# 3. How far until the loss doubles, along the sharpest directions: with dropout in it and without. Until it is 1.0001
#    of its value no kink is met, and the first width is the parabola's, 2 √(2 · 0.0001 E R/λ).

top = curvature.eigen_directions(H, most=4)
doubled, plain = (curvature.interval_flatness(g, w, top.vectors).width for g in (dropout, f))
near = curvature.interval_flatness(dropout, w, top.vectors, factor=1.0001).width
parabola = curvature.quadratic_width(expected, 0.0, top.values, factor=1.0001)
print("3. eigenvalue   width   without dropout   to 1.0001  of a parabola   variance of the gradient")
variance = curvature.along(noise["shared mask"], top.vectors)
for row in zip(top.values, doubled, plain, near, parabola, variance, strict=True):
    print("   {:10.2f} {:7.2f} {:17.2f} {:11.4f} {:14.4f} {:26.1f}".format(*row))
assert np.allclose(near, parabola, rtol=1e-2)
assert not np.allclose(plain, doubled, rtol=1e-2)

# 4. One layer's units ten times as large, what reads them a tenth: the same function, another trace of the Hessian.
#    A filter-normalised profile stays.

moved, d = rescale(net, w, 1, 10.0), np.random.default_rng(0).standard_normal(net.size)
trace, after = np.trace(H), np.trace(curvature.hessian(dropout, moved))
filters = curvature.network_filters(net, per="row")
lines = [curvature.filter_normalised(x, d, filters) for x in (w, moved)]
one, two = (
    curvature.profile(f, x, v, np.linspace(-0.5, 0.5, 5)).values
    for x, v in zip((w, moved), lines, strict=True)
)
print(f"4. units rescaled: Tr H {trace:.1f} -> {after:.1f}; profile", *(f"{x:.2f}" for x in two))
assert abs(after / trace - 1) > 0.1
assert np.allclose(one, two, rtol=1e-10, atol=0)
