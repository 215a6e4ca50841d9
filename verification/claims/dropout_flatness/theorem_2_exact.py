r"""Theorem 2, what is exact: moments of a dropout gradient, and its three covariances.

Of one sample g = (ε + Σ η_jf_j)(g₀ + Σ η_jg_j), Eη = 0, Eη² = s, and with p = 1/(1+s): μ₃ = Eη³ = s(s−1), μ₄ = Eη⁴
= s(s²−s+1). Multiply out and use independence: E g = εg₀ + q with q = sΣf_jg_j, and for E ggᵀ the products of four
η's are μ₄ on j = k = l = i, s² on the three ways to pair two different units, of three η's μ₃, of two s.

Shorter, as η takes two values: η² = s + (s−1)η (both values satisfy it). So g = (εg₀ + q) + Σ_j η_j c_j + Σ_{j<l}
η_jη_l N_jl with c_j = f_jg₀ + εg_j + (s−1)f_jg_j, N_jl = f_jg_l + f_lg_j; the products η_j, η_jη_l are uncorrelated
with variances s and s².

A batch of n. One random sample: law of total covariance, (1/n)Σ Cov_i + Cov_i(E g_i). Own masks: independent
samples, n⁻²ΣCov_i. One shared mask: η_j, η_jη_l stand before sums over the batch, so c_j and N_jl are averaged
before their outer products. Hence Σ_shared ⪯ nΣ_own ⪯ Σ_one: xxᵀ is convex (Jensen), and Cov_i(E g_i) ⪰ 0. All are
equal where n = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._noise import (
    DRAWS,
    Noise,
    Sample,
    average,
    below,
    both,
    build,
    keeps,
    outer,
    points,
    weighted,
)
from verification.claims.dropout_flatness._planted import at
from verification.model import Budget, Claim, Control, Equality, Measurement, identity

SOURCE = "dropout-flatness, Theorem 2"

# -- moments of one sample --------------------------------------------------------------------------------------


def third(s: Any) -> Any:
    """μ₃ = (1−p)³/p² − (1−p), p = 1/(1+s)."""
    return s * (s - 1)


def fourth(s: Any) -> Any:
    """μ₄ = (1−p)⁴/p³ + (1−p)."""
    return s * (s * s - s + 1)


def moment(
    x: Sample,
    *,
    mu2: Callable[[Any], Any] = lambda s: s,
    mu3: Callable[[Any], Any] = third,
    mu4: Callable[[Any], Any] = fourth,
    half: int = 2,
) -> Array:
    """E ggᵀ with μ₃, μ₄ written out, one keep probability for all units."""
    s = mu2(x.s[0])
    mu_3, excess = mu3(x.s[0]), mu4(x.s[0]) - 3 * s * s
    squares = x.f * x.f
    F, G, Q = squares.sum(), x.f @ x.g, squares @ x.g
    units = s * x.e**2 + 2 * x.e * mu_3 * x.f + s * s * F + excess * squares
    single = (x.e**2 + s * F) * outer(x.g0) + half * x.e * s * both(G, x.g0) + mu_3 * both(Q, x.g0)
    return single + weighted(units, x.g) + 2 * s * s * outer(G)


def moments_measure(**mutated: Any) -> Callable[[Noise], Measurement]:
    """E g and E ggᵀ of every sample against the sum over all masks."""

    def measure(of: Noise) -> Measurement:
        found = np.stack([moment(x, **mutated) for x in of.samples])
        mean = np.stack(
            [x.e * x.g0 + mutated.get("mu2", lambda s: s)(x.s[0]) * x.f @ x.g for x in of.samples]
        )
        return identity(
            np.concatenate([found.ravel(), mean.ravel()]),
            np.concatenate([of.seconds.ravel(), of.means.ravel()]),
        )

    return measure


# -- the three covariances -------------------------------------------------------------------------------------


def three(
    *,
    step: Callable[[Any], Any] = lambda s: s - 1,
    pairs: bool = True,
    centred: bool = True,
    swap: bool = False,
) -> Callable[[Noise], list[Array]]:
    """The closed forms of "one sample", "own masks" and "shared mask"; ``swap``: the last for the second."""

    def matrices(of: Noise) -> list[Array]:
        n = of.at.n
        singles = np.stack([x.singles(step(x.s)) for x in of.samples])  # (n, m, P)
        s = of.at.spread
        own = average(np.stack([weighted(s, c) for c in singles]))
        shared = weighted(s, average(singles))
        if pairs and of.at.m > 1:
            weights = np.array([w for w, _ in of.samples[0].pairs()], dtype=object)
            N = np.stack([np.stack([vector for _, vector in x.pairs()]) for x in of.samples])
            own = own + average(np.stack([weighted(weights, vectors) for vectors in N]))
            shared = shared + weighted(weights, average(N))
        means = np.stack([x.e * x.g0 + x.q for x in of.samples])
        one = own + average(outer(means)) - (outer(average(means)) if centred else 0)
        return [one, shared if swap else own / n, shared]

    return matrices


def three_measure(
    matrices: Callable[[Noise], list[Array]], *, library: bool = True
) -> Callable[[Noise], Measurement]:
    """All three against the enumeration of masks, and the library's."""

    def measure(of: Noise) -> Measurement:
        found, true = matrices(of), [of.literal(draw) for draw in DRAWS]
        sides = [*found, *[of.exact(draw) for draw in DRAWS]] if library else found
        return identity(np.stack(sides), np.stack([*true, *true] if library else true))

    return measure


def order(scale: Callable[[int], Any] = lambda n: n) -> Callable[[Noise], Measurement]:
    """Σ_shared ⪯ n Σ_own ⪯ Σ_one, the worse of the two in its worst direction."""

    def measure(of: Noise) -> Measurement:
        one, own, shared = (of.literal(draw) for draw in DRAWS)
        own = scale(of.at.n) * own
        return max(below(shared, own), below(own, one), key=lambda found: found.used)

    return measure


STRATEGY = points()
SMALL = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[2], keep=[2])
EXPLICIT = (
    SMALL,
    at((1, 2, 1), "linear", theta=[1, 0, 1, 0, 1, 2, 0], X=[[1], [2]], y=[1, 0], keep=[2]),
    at((1, 2, 2, 1), "leaky_relu", n=2, seed=1, keep=[2]),
)


CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-2@exact-moments",
        title="Mean and second moment of a dropout gradient, with third and fourth moments of the masks",
        source=SOURCE + ", derived here",
        statement=r"\begin{aligned} E_\eta\,g &= \varepsilon g_0 + sG, \\ E_\eta\,gg^\top &= (\varepsilon^2 + "
        r"sF)g_0g_0^\top "
        r"+ 2\varepsilon s(Gg_0^\top + g_0G^\top) + \mu_3(Qg_0^\top + g_0Q^\top) + 2s^2GG^\top \\ &\quad + "
        r"\sum_j\left[s\varepsilon^2 "
        r"+ 2\varepsilon\mu_3f_j + s^2F + (\mu_4 - 3s^2)f_j^2\right]g_jg_j^\top, \\ G &= \sum_j f_jg_j, \quad "
        r"Q = \sum_j f_j^2g_j, \quad "
        r"F = \sum_j f_j^2, \quad \mu_3 = s(s-1), \quad \mu_4 = s(s^2-s+1) \end{aligned}",
        strategy=points((1, 2), keep=st.integers(1, 8).map(lambda k: [k])),
        explicit=EXPLICIT,
        build=build,
        measure=moments_measure(),
        grade="proved",
        controls=(
            Control("μ₃ left out", kind="formula", measure=moments_measure(mu3=lambda s: 0 * s)),
            Control(
                "μ₄ of normal noise, 3s²", kind="formula", measure=moments_measure(mu4=lambda s: 3 * s * s)
            ),
            Control("1/p for s", kind="formula", measure=moments_measure(mu2=lambda s: 1 + s)),
            Control("ε for 2ε before the cross term", kind="formula", measure=moments_measure(half=1)),
        ),
        budget=Budget(quick=60, full=300),
        notes="Both sides are polynomials in everything; the right side of the comparison is the sum over all "
        "masks. "
        "$\\mu_3$ vanishes at $p = \\frac12$: no test at that p alone sees it. $g = \\varepsilon_\\eta\\nabla "
        "f_\\eta$ is "
        "the gradient of one sample's loss, $g_0 = \\nabla f$, $g_j = \\nabla f^j$.",
    ),
    Claim(
        id="dropout-flatness/theorem-2@exact",
        title="The three covariances of dropout gradients as sums of squares",
        source=SOURCE + ", derived here",
        statement=r"\begin{aligned} \operatorname{Cov}_i &= \sum_j s_jc_jc_j^\top + "
        r"\sum_{j<l}s_js_lN_{jl}N_{jl}^\top, \quad c_j = f_jg_0 "
        r"+ \varepsilon g_j + (s_j-1)f_jg_j, \quad N_{jl} = f_jg_l + f_lg_j, \\ \Sigma_{\text{one}} &= "
        r"\frac1n\sum_i\operatorname{Cov}_i "
        r"+ \operatorname{Cov}_i(E g_i), \quad \Sigma_{\text{own}} = \frac1{n^2}\sum_i\operatorname{Cov}_i, "
        r"\quad \Sigma_{\text{shared}} "
        r"= \sum_j s_j\bar c_j\bar c_j^\top + \sum_{j<l}s_js_l\bar N_{jl}\bar N_{jl}^\top \end{aligned}",
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=build,
        measure=three_measure(three()),
        grade="proved",
        controls=(
            Control(
                "pairs left out", kind="formula", measure=three_measure(three(pairs=False), library=False)
            ),
            Control(
                "(s−1)f_jg_j left out: Taylor's c_j",
                kind="formula",
                measure=three_measure(three(step=lambda s: 0 * s), library=False),
            ),
            Control(
                "uncentred for centred",
                kind="formula",
                measure=three_measure(three(centred=False), library=False),
            ),
            Control(
                "shared mask for own masks",
                kind="formula",
                measure=three_measure(three(swap=True), library=False),
            ),
        ),
        budget=Budget(quick=50, full=300),
        notes="Unequal keep probabilities too. Compared with the sum over all masks and with "
        "refimpl.curvature.noise. The "
        "document's theorem is about $\\Sigma_{\\text{one}}$; its experiments sample the gradient of the full "
        "batch.",
    ),
    Claim(
        id="dropout-flatness/theorem-2@order",
        title="A mask shared by the batch makes less noise than n times own masks, and these less than one "
        "sample",
        source=SOURCE + ", derived here",
        statement=r"\Sigma_{\text{shared}} \preceq n\,\Sigma_{\text{own}} \preceq \Sigma_{\text{one}}",
        strategy=points((2, 3), keep=keeps(7)),  # p = 1 and n = 1 are trivial
        explicit=EXPLICIT,
        build=build,
        measure=order(),
        grade="proved",
        controls=(
            Control("own masks without n", kind="formula", measure=order(lambda n: 1)),
            Control("n² for n", kind="formula", measure=order(lambda n: n * n)),
        ),
        equality=Equality(params=SMALL, reaches=1.0),
        budget=Budget(quick=60, full=300),
        notes="$v^\\top\\Sigma v$ compared exactly, in the worst direction that a search in floats finds. "
        "Equality: n = 1, where "
        "all three are one matrix.",
    ),
)
