r"""The bound on the Jacobian of w(λ) at the end of proposition 1, of which the text keeps ‖J‖_F … C_G.

Write P = diag(p_w), H̄ = ∇²_wwḠ, C̄ = ∇²_λwḠ, J = −H̄⁻¹C̄ᵀ. Masks of λ are independent of those of w, so
|C̄_ij| <= p_λi p_wj C_G; and mAm ⪰ μm² = μm for 0/1 masks, so H̄ ⪰ μP, i.e. K = P^(−½)H̄P^(−½) ⪰ μI, grouped or not.

Weighted: P^½ J_i = −K⁻¹c_i with c_i = P^(−½)C̄_iᵀ, |c_ij| <= p_λi C_G √p_wj: ‖P^½J‖_F <= C_G ‖p_λ‖ √(Σp_w)/μ.

Half of a diameter: μK⁻¹ = A with 0 ⪯ A ⪯ I, and then A² ⪯ A says ‖Ac − c/2‖ <= ‖c‖/2. So ‖J_i‖ = ‖P^(−½)Ac_i‖/μ
<= (‖P^(−½)c_i‖ + ‖c_i‖/√p_min)/2μ <= p_λi C_G (√d + √(Σp_w/p_min))/2μ.

Without p_min: x = −J_i solves H̄x = r, |r_j| <= q p_wj, q = p_λi C_G, whence μ Σp_jx_j² <= xᵀr <= q Σp_j|x_j| and so
(Σp_jx_j²)^½ <= q√s/μ, s = Σp_w. The rows of a mask variable g, divided by p_g: E[∇²_ggG | m_g = 1] x_g = r_g/p_g −
Σ_{h≠g} p_h E[∇²_ghG | m_g = m_h = 1] x_h; the matrix is ⪰ μI, the right side has entries <= q + C_G √s_g √s q/μ,
s_g the sum of p_w outside g. Sum the squares over rows and over i.

Equality in all three: G = μ/2‖w‖² − C_G Σλ_iw_j, C_G >= μ, and equal p_w (weighted: any p_w; the last: one variable).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import fmpq

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._bounds import (
    BOUNDED,
    CONVEX,
    GROUPS,
    Wave,
    root_above,
    small,
    wave,
    waves,
)
from verification.claims.dropout_bilevel._masks import RATIONAL
from verification.model import Budget, Claim, Control, Correction, Measurement

Bound = Callable[[Wave], Any]  # the square of what ‖J‖_F is compared with


def jacobian(g: Wave) -> Array:
    """J = −(∇²_wwḠ)⁻¹∇²_wλḠ, d x n, from the literal means over all masks."""
    mean, n = g.mean(g.masked), g.n
    return -factor(RATIONAL, mean[n:, n:]).solve(mean[n:, :n].T).T if n else RATIONAL.zeros((g.size, 0))


def norm(bound: Bound) -> Callable[[Wave], Measurement]:
    """‖J‖_F² against the square of a bound."""

    def measure(g: Wave) -> Measurement:
        return Measurement(observed=(jacobian(g) ** 2).sum(), bound=bound(g))

    return measure


def kept(g: Wave) -> tuple[Array, Array]:
    """p_λ and p_w of the coordinates."""
    return g.p[: g.n], g.p[g.n :]


def scale(g: Wave) -> fmpq:
    """(C_G/μ)² ‖p_λ‖²."""
    return (g.C / g.mu) ** 2 * (kept(g)[0] ** 2).sum()


def reading_a(g: Wave) -> fmpq:
    """(C_G/p_min μ)²."""
    return (g.C / (min(kept(g)[1]) * g.mu)) ** 2


def reading_b(g: Wave) -> fmpq:
    """nd (C_G/p_min μ)²."""
    return g.n * (g.size - g.n) * reading_a(g)


def reading_c(g: Wave) -> fmpq:
    """C_G²."""
    return g.C**2


def half_diameter(g: Wave) -> fmpq:
    """(C_G/μ)² ‖p_λ‖² (√d + √(Σp_w/p_min))²/4, the mixed term rounded up."""
    w = kept(g)[1]
    ratio = w.sum() / min(w)
    return scale(g) * (len(w) + ratio + 2 * _up(len(w) * ratio)) / 4


def without_least(g: Wave) -> fmpq:
    """(C_G/μ)² ‖p_λ‖² Σ_j (1 + (C_G/μ)√(s_j s))², the roots rounded up."""
    w, names = kept(g)[1], g.variables[g.n :]
    outside = [sum((q for q, other in zip(w, names, strict=True) if other != own), fmpq(0)) for own in names]
    return scale(g) * sum((1 + g.C / g.mu * _up(s * w.sum())) ** 2 for s in outside)


def _up(x: fmpq) -> fmpq:
    root = root_above(x)
    return fmpq(root.numerator, root.denominator)


def best(g: Wave) -> fmpq:
    """The smaller of the two."""
    return min(half_diameter(g), without_least(g))


def weighted(g: Wave) -> Measurement:
    """‖P^½J‖_F² against (C_G/μ)² ‖p_λ‖² Σp_w."""
    return weighted_by(lambda g: kept(g)[1])(g)


def weighted_by(weights: Callable[[Wave], Array]) -> Callable[[Wave], Measurement]:
    """Σ_j weight_j ‖row j of J‖² against the bound of P."""

    def measure(g: Wave) -> Measurement:
        return Measurement(
            observed=(weights(g)[:, None] * jacobian(g) ** 2).sum(), bound=scale(g) * kept(g)[1].sum()
        )

    return measure


HYPOTHESES = (CONVEX, BOUNDED)
ONES = [1, 1]
ATTAINED = small(2, 2, keep=4, cross=[1] * 4)  # μ = C_G = 1, every keep probability ½
TWO = small(1, 2, keep=8, cross=ONES)
# ∇²_ww = I + vvᵀ, v = (−1, −1, −1, −1, −1, 2)/8: all w rare but one; mixed signs make ‖J‖² > d, by 0.4 %
RARE = {
    "n": 1,
    "d": 6,
    "parts": 1000,
    "keep_lam": [1000],
    "keep_w": [1] * 5 + [1000],
    "mu": 64,
    "root": [-1, -1, -1, -1, -1, 2],
    "cross": [68] * 6,
}
LOW = {
    "C_G halved": small(1, 1, keep=8, cross=[1], understated=2),
    "μ doubled": small(1, 1, keep=8, cross=[1], overstated=2),
}
BREAKERS = tuple(Control(name, params=params) for name, params in LOW.items())
BEST = Correction(
    tex=r"$$\|J\|_F \le \frac{C_G}{\mu}\,\|p_\lambda\|\,\tfrac{1}{2}\Big(\sqrt d + \sqrt{\textstyle\sum_j "
    r"p_{w,j}/p_{\min}}\Big)$$ with $\|p_\lambda\| = (\sum_i p_{\lambda,i}^2)^{1/2}$, $p_{\min} = \min_j p_{w,j}$",
    measure=norm(half_diameter),
    proof="$\\nabla^2_{ww}\\bar G \\succeq \\mu P$ and $|\\partial^2_{\\lambda_i w_j}\\bar G| \\le "
    "p_{\\lambda,i}p_{w,j}C_G$. With $K = P^{-1/2}\\,\\nabla^2_{ww}\\bar G\\,P^{-1/2} \\succeq \\mu I$ a column is "
    "$P^{-1/2}K^{-1}c$, and $\\mu K^{-1}c$ lies in the ball with diameter $[0, c]$: half of $\\|P^{-1/2}c\\|$ and "
    "half of $\\|c\\|/\\sqrt{p_{\\min}}$ bound it.",
)


def reading(id: str, title: str, statement: str, bound: Bound, **fields: Any) -> Claim:
    """The claim of one reading of the damaged bound."""
    return Claim(
        id=f"dropout-bilevel/prop-1-bound@{id}",
        title=title,
        source="dropout-bilevel, proposition 1",
        statement=statement,
        printed=r"\|J(\lambda(w))\|_F\ \dots\ C_G",
        build=wave,
        measure=norm(bound),
        grade="proved",
        **{
            "hypotheses": HYPOTHESES,
            "strategy": waves((1, 2), **GROUPS),
            "budget": Budget(quick=150, full=1500),
            **fields,
        },
    )
