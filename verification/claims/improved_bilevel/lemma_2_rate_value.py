r"""Lemma 2, the rate of the upper value on quadratics: f_k − f has the exponent min(1, 2e), e = 2γtλ_min(NᵀQN)/(1−β).

f_k − f = gᵀe_K + ½e_KᵀQe_K, and gᵀe_K sees the range alone, where k r_k → ρ whatever e is. So for every e

    f_k − f = gρ/k + ½λ_1P_1k²n_1l² + (what is smaller, or O(1/l) of the second term),    gρ = −(ct/sh)g² <= 0:

the second term leads for e < ½ and the first for e > ½; at e = ½ both are of the order 1/k with opposite signs, and
they may cancel. The notation and the enclosure are those of ``_rates``.
"""

from __future__ import annotations

from collections.abc import Callable

from flint import fmpq

from verification.claims.improved_bilevel._rates import FLAT, ZERO, Spatial, spatial, spatials
from verification.claims.improved_bilevel.lemma_2_rate import (
    BOTH,
    COMMON,
    CONSTANT,
    COUPLED,
    FORCED,
    METHOD,
    NAMES,
    NULL,
    TURNED,
    Measure,
    largest,
    square,
    tightest,
    told,
)
from verification.model import Budget, Claim, Control, Equality, Measurement

Triple = tuple[fmpq, fmpq, fmpq]


def around(case: Spatial, k: int) -> Triple:
    """The leading terms of f_k − f from the range and the null space, and what the rest is at most."""
    centre, added = case.centre(0, k), case.added(0, k)
    r, n = case.range(k)[1], [case.null(i, k)[1] for i in FLAT]
    mixed = r * sum((abs(case.b[i]) * n[i] for i in FLAT), ZERO)
    strays = abs(case.g) * case.strays(k, case.forcing(k)) / k
    flat = case.flat[0] * (centre + added / 2) * added + case.flat[1] * n[1] ** 2 / 2
    return case.g * case.rho / k, case.flat[0] * centre**2 / 2, strays + case.p * r**2 / 2 + mixed + flat


def as_derived(ranged: fmpq, flat: fmpq, rest: fmpq) -> Triple:
    """Nothing changed."""
    return ranged, flat, rest


def of_value(change: Callable[[fmpq, fmpq, fmpq], Triple] = as_derived) -> Measure:
    """|f_k − f − what leads| against the rest."""

    def measure(case: Spatial) -> Measurement:
        pairs = []
        for k in case.ks:
            ranged, flat, rest = change(*around(case, k))
            pairs.append((abs(case.gap(k) - ranged - flat), rest))
        return tightest(pairs, l=case.first, K=case.K)

    return measure


def of_square(case: Spatial) -> Measurement:
    """f_k − f against ½L‖e_k‖²: what a minimiser's value would obey."""
    steep = max(sum((abs(entry) for entry in row), ZERO) for row in case.matrix)
    return tightest([(abs(case.gap(k)), steep * square(case, k) / 2) for k in case.ks])


HALF = spatial((1, 2), b=BOTH, turn=TURNED)
CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@rate-value",
        title="The upper value along BiG-SAM decays with the exponent min(1, 2e), e of the least flat curvature of F",
        statement=r"f_k = F(\lambda, w_k),\ k > l: \quad \left|f_k - f - \tfrac{g\rho}k - "
        r"\tfrac12\lambda_1P_{1k}^2n_{1l}^2\right| \le \tfrac{|g|v_k}k + \tfrac p2\bar r_k^2 + \bar "
        r"r_k\sum_i|b_i|\bar n_{ik} + \lambda_1\left(P_{1k}|n_{1l}| + \tfrac12Z_{1k}\right)Z_{1k} + "
        r"\tfrac12\lambda_2\bar n_{2k}^2, \quad e = ct\lambda_1 = \tfrac{2\gamma t}{1-\beta}\lambda_{\min}(N^\top QN)",
        hypotheses=METHOD,
        strategy=spatials("1/4", "2", "1/3", "1/5", "1/2", "2/3", "3/4", "1", "5/4", "3/2", "5/2"),
        explicit=(
            spatial((1, 4)),
            spatial((2, 1)),
            COUPLED,
            spatial((1, 4), b=BOTH),
            HALF,
            spatial((3, 4), b=BOTH),
        ),
        measure=of_value(),
        controls=(
            CONSTANT,
            Control(
                "λ_max for λ_min",
                kind="formula",
                measure=told(largest, of_value()),
                params=spatial((1, 4), late=8),
            ),
            Control(
                "λ_max before the square",
                kind="formula",
                measure=lambda case: of_value(lambda r, n, rest: (r, n * case.flat[1] / case.flat[0], rest))(
                    case
                ),
                params=spatial((1, 4), late=8),
            ),
            Control(
                "the null space alone, e above one half",
                kind="formula",
                measure=of_value(lambda r, n, rest: (ZERO, n, rest)),
                params=spatial((3, 4), late=8),
            ),
            Control(
                "the range alone, e below one half",
                kind="formula",
                measure=of_value(lambda r, n, rest: (r, ZERO, rest)),
                params=spatial((1, 4)),
            ),
            Control(
                "the range alone, e one half",
                kind="formula",
                measure=of_value(lambda r, n, rest: (r, ZERO, rest)),
                params=spatial((1, 2), late=8),
            ),
            Control(
                "the null space alone, e one half",
                kind="formula",
                measure=of_value(lambda r, n, rest: (ZERO, n, rest)),
                params=spatial((1, 2), late=8),
            ),
            Control("the exponent 2 min(1, e)", kind="formula", measure=of_square, params=spatial((2, 1))),
        ),
        equality=Equality(params=spatial((1, 4), share=[1, 1]), reaches=1.0),
        budget=Budget(quick=12, full=700),
        notes="$f_k - f = g^\\top(w_k-w_\\lambda) + \\frac12\\|w_k-w_\\lambda\\|_Q^2$, and g, here its first entry, "
        r"lies in the range of H. $\bar n_{ik} = P_{ik}|n_{il}| + Z_{ik}$, $\bar r_k = \min\{S, |\rho|+v_k\}/k$. The "
        r"rest is $O(k^{-2e}/l) + O(k^{-1-\min(1,e)} + k^{-2\min(1,ct\lambda_2)})$, with a logarithm at 1, beside "
        r"$1/k$ and $P_{1k}^2 \asymp k^{-2e}$. So the exponent is $2e$ for $e < \tfrac12$ and 1 for $e > \tfrac12$, "
        r"where what leads is not 0 ($n_{1l}$, g). At $e = \tfrac12$ both lead, with opposite signs "
        r"($g\rho = -\tfrac{ct}{x}g^2$), and where they cancel the value decays faster. As $e \ge 2\gamma$ the value "
        r"is $O(1/k)$ for $\gamma \ge \tfrac14$. $f_k < f$ is normal: $w_k$ is no minimiser of G. Equality: without "
        r"coupling at $tp = x = 1$, where $kr_k = \rho$ from l on." + NULL + FORCED + NAMES,
        **COMMON,
    ),
)
