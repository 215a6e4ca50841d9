r"""Lemma 2, its rate on quadratics: e = 2γtq/(1−β), q = λ_min(NᵀQN), N spanning the null space of H.

e_k = w_k − w_λ obeys e_k = (I − α_ktQ − (1−α_k)sH)e_{k−1} − α_ktg with g = ∇F(w_λ) in the range of H, c = 2γ/(1−β).

- Null space, where Q does not couple it: factors 1 − α_jtq, so Π(1 − e/j) ~ k^{−e}.
- Range: k r_k → −(ct/s)H⁺g, as what 1/k forces, sH takes away at once.
- Coupled null space, e > 1: k n_k → (1 − e)^{−1} ctNᵀQρ, ρ = −(ct/s)H⁺g; e = 1: k n_k ~ −ct(NᵀQρ) log k.
- Value: f_K − f = gᵀe_K + ½e_KᵀQe_K, and gᵀe_K sees the range alone: k^{−min(1, 2e)}.

No exponent is fitted: ``_rates`` encloses the error at every k > l between two explicit functions of k with the same
exponent, over the rationals. Of what lies between ak^{−r} and bk^{−r} the secant's exponent over [k, k'] is r up to
log(b/a)/log(k'/k). e >= 2γ always: ``lemma_2_powers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from verification.claims.improved_bilevel._rates import ONE, ZERO, Planar, planar, planars, up
from verification.claims.improved_bilevel.lemma_2 import SOURCE
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Pair = tuple[fmpq, fmpq]


STEPS = 2**40


def tightest(pairs: list[Pair], **detail: Any) -> Measurement:
    """The largest share observed/bound, against 1: rounded up to a step of 2⁻⁴⁰, which is above 1 exactly if it is.

    The numbers themselves have thousands of digits.
    """
    if any(bound == 0 < observed for observed, bound in pairs):
        return Measurement(observed=1, bound=0, detail=detail)
    observed, bound = max(pairs, key=lambda pair: pair[0] / pair[1] if pair[1] else ZERO)
    if bound == 0:
        return Measurement(observed=0, bound=0, detail=detail)
    return Measurement(observed=fmpq(up(observed / bound * STEPS), STEPS), bound=1, detail=detail)


# -- the distance -------------------------------------------------------------------------------------------------


def square(case: Planar, k: int) -> fmpq:
    """‖e_k‖²."""
    r, n = case.errors[k]
    return r * r + n * n


def of_distance(enclosure: Callable[[Planar, int], Pair] = Planar.squares) -> Callable[[Planar], Measurement]:
    """‖e_k‖² below what is above it, and above what is below it, at every k."""

    def measure(case: Planar) -> Measurement:
        pairs = []
        for k in case.ks:
            found, (low, high) = square(case, k), enclosure(case, k)
            pairs += [(found, high), (low, found)]
        return tightest(pairs, l=case.first, K=case.K)

    return measure


def null_alone(case: Planar, k: int) -> Pair:
    """The exponent e where it is above 1: nothing in the range."""
    low, high = case.null(k)
    return low * low, high * high


def range_alone(case: Planar, k: int) -> Pair:
    """The exponent 1 where e is below it: nothing along the null space."""
    low, high = case.range(k)
    return low * low, high * high


def uncoupled(case: Planar, k: int) -> Pair:
    """Z_k left out."""
    (low, high), centre = case.range(k), case.products[k] * case.at_first[0]
    return low * low + centre * centre, high * high + centre * centre


def curve(case: Planar) -> dict[str, Any]:
    """‖e_k‖ within its enclosure."""
    squares = [case.squares(k) for k in case.ks]
    lines = {
        "above": [float(high) ** 0.5 for _, high in squares],
        "‖w_k − w_λ‖": [float(square(case, k)) ** 0.5 for k in case.ks],
        "below": [float(low) ** 0.5 for low, _ in squares],
    }
    return {
        "x": list(case.ks),
        "lines": lines,
        "xlabel": "k",
        "ylabel": "distance",
        "logx": True,
        "logy": True,
    }


# -- the value ----------------------------------------------------------------------------------------------------


def around(case: Planar, k: int) -> Pair:
    """The leading term of f_k − f, and what the rest is at most."""
    centre, added = case.products[k] * case.at_first[0], case.added(k)
    r, n = case.range(k)[1], centre + added
    mixed = case.p * r * r / 2 + abs(case.b) * r * n
    if case.e < 1:
        return centre * centre / 2, abs(case.g) * r + mixed + centre * added + added * added / 2
    return case.g * case.rho / k, abs(case.g) * case.strays(k, case.forcing(k)) / k + mixed + n * n / 2


def of_value(
    change: Callable[[fmpq, fmpq], Pair] = lambda lead, rest: (lead, rest),
) -> Callable[[Planar], Measurement]:
    """|f_k − f − lead| against the rest."""

    def measure(case: Planar) -> Measurement:
        pairs = []
        for k in case.ks:
            lead, rest = change(*around(case, k))
            pairs.append((abs(case.gap(k) - lead), rest))
        return tightest(pairs, l=case.first, K=case.K)

    return measure


def square_only(case: Planar) -> Measurement:
    """The exponent 2e above ½: ½(P_kn_l)² leads, with the rest that it has below."""
    pairs = []
    for k in case.ks:
        _, high = case.null(k)
        pairs.append((abs(case.gap(k)), high * high))
    return tightest(pairs)


# -- range and logarithm ------------------------------------------------------------------------------------------


def range_limit(share: fmpq = ONE, kappa: fmpq = ONE) -> Callable[[Planar], Measurement]:
    """|kr_k − ρ| against v_k."""

    def measure(case: Planar) -> Measurement:
        forced = kappa * abs(case.kappa * case.rho)
        return tightest(
            [(abs(k * case.errors[k][0] - share * case.rho), case.strays(k, forced)) for k in case.ks],
            l=case.first,
            K=case.K,
        )

    return measure


def logarithm(share: fmpq = ONE) -> Callable[[Planar], Measurement]:
    """|kn_k − ln_l + bρη_k| against |b|V_k."""

    def measure(case: Planar) -> Measurement:
        start = case.first * case.errors[case.first][1]
        pairs = []
        for k in case.ks:
            grown = share * case.b * case.rho * case.harmonics[k]
            pairs.append((abs(k * case.errors[k][1] - start + grown), abs(case.b) * case.drift(k)))
        return tightest(pairs, l=case.first, K=case.K)

    return measure


# -- hypotheses ---------------------------------------------------------------------------------------------------


def _allowed(case: Planar) -> tuple[bool, str]:
    """γ <= 1, which is β >= 1 − 2t/e, decided by squares."""
    least = 1 - 2 * case.t / case.e
    return case.share <= 1 and (least <= 0 or case.beta_squared >= least * least), str(case.beta_squared)


def _lower(case: Planar) -> tuple[bool, str]:
    return 0 < case.x <= 1, str(case.x)


def _scheduled(case: Planar) -> tuple[bool, str]:
    return not case.params.get("frozen"), "constant" if case.params.get("frozen") else "c/k"


def _leads(case: Planar) -> tuple[bool, str]:
    """The limit of what leads is not 0, nor can l be said to be too early to tell."""
    if case.e > 1:
        return case.g != 0, str(case.g)
    lasting = case.at_first[0] - case.e * abs(case.b) * case.S / ((1 - case.e) * case.first)
    return lasting > 0, str(float(lasting))


ALLOWED = Hypothesis("γ at most 1", r"0 < \gamma \le 1,\ t \le 2/(\sigma_F+L_F)", _allowed)
LOWER = Hypothesis("step on G", r"0 < sh \le 1", _lower)
SCHEDULE = Hypothesis("the schedule is BiG-SAM's", r"\alpha_k = \min\{\tfrac{c}{k}, 1\}", _scheduled)
METHOD = (ALLOWED, LOWER, SCHEDULE)
LEADS = Hypothesis(
    "something leads",
    r"e > 1,\ \nabla F(w_\lambda) \neq 0 \text{ or } e < 1,\ |n_l| > \tfrac{e|b|S}{(1-e)l}",
    _leads,
)
APART = Hypothesis(
    "e is below ½ or above 1",
    r"e < \tfrac12 \text{ or } e > 1",
    lambda c: (c.e < fmpq(1, 2) or c.e > 1, str(c.e)),
)
RESONANT = Hypothesis(
    "e is 1 and Q couples", r"e = 1,\ N^\top QH \neq 0", lambda c: (c.e == 1 and c.b != 0, str(c.e))
)
STRAIGHT = Hypothesis("Q does not couple", r"N^\top QH = 0", lambda c: (c.b == 0, str(c.b)))

# -- claims -------------------------------------------------------------------------------------------------------

LARGE = Control("a step of 3/L_G", params=planar((1, 2), s=[3, 1]))
CONSTANT = Control("a constant weight", params=planar((2, 1), frozen=True))
COUPLED = planar((2, 1), b=[1, 2])
FAST = planar((1, 2), p=[1, 1], late=1, times=255)
NAMES = (
    r" Quadratics of the plane, $H = \operatorname{diag}(h, 0)$, $Q = \begin{pmatrix}p & b\\ b & 1\end{pmatrix}$, "
    r"over the rationals; $w_k - w_\lambda = (r_k, n_k)$, $x = sh$, $\rho$ the first entry of "
    r"$-\tfrac{ct}{s}H^+\nabla F(w_\lambda)$. The other constants are made of these and of the state at l, in the "
    "docstring of the module that encloses the error, beside the proof."
)
COMMON: dict[str, Any] = {
    "source": SOURCE + ", (40); its rate derived here",
    "grade": "proved",
    "build": Planar,
}
CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@rate",
        title="The distance of BiG-SAM's iterates decays with the exponent min(1, e)",
        statement=r"k > l: \quad e < 1:\ \left(P_k|n_l| - Z_k\right)^2 \le \|w_k-w_\lambda\|^2 \le "
        r"\left(P_k|n_l|+Z_k\right)^2 + "
        r"\tfrac{S^2}{k^2}; \quad e > 1:\ \tfrac{(|\rho|-v_k)^2}{k^2} \le \|w_k-w_\lambda\|^2 \le "
        r"\tfrac{(|\rho|+v_k)^2}{k^2} + \left(P_k|n_l|+Z_k\right)^2; \quad P_k = \prod_{l<i\le "
        r"k}\left(1-\tfrac ei\right)",
        hypotheses=(*METHOD, LEADS),
        strategy=planars("1/2", "2", "1/4", "3/4", "5/4", "3/2", "5/2"),
        explicit=(planar((1, 2)), planar((2, 1)), COUPLED, planar((1, 2), b=[1, 2])),
        measure=of_distance(),
        controls=(
            LARGE,
            CONSTANT,
            Control(
                "e for min(1, e)", kind="formula", measure=of_distance(null_alone), params=planar((2, 1))
            ),
            Control(
                "1 for min(1, e)", kind="formula", measure=of_distance(range_alone), params=planar((1, 2))
            ),
            Control("without coupling", kind="formula", measure=of_distance(uncoupled), params=COUPLED),
        ),
        equality=Equality(params=planar((1, 2), late=20), reaches=0.999),
        curve=curve,
        budget=Budget(quick=12, full=700),
        notes=r"$P_k \asymp k^{-e}$ on both sides: @null. $Z_k = "
        r"\tfrac{e|b|S}{e-1}\left(\tfrac1k-\tfrac{P_k}l\right)$, at most "
        r"$\tfrac{e|b|S}{(1-e)l}P_k$ for $e < 1$ and $\tfrac{e|b|S}{(e-1)k}$ for $e > 1$; $k|r_k| \le S$ and "
        r"$v_k \to 0$. So "
        r"both sides have the exponent $\min(1, e)$, and the secant's over $[k, k']$ is that up to the "
        r"logarithm of their "
        r"ratio over $\log(k'/k)$. Brackets below are cut at 0. If $g = 0$ the exponent is e, which may exceed 1; at "
        "e = 1 see @log." + NAMES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@rate-value",
        title="The upper value along BiG-SAM decays with the exponent min(1, 2e)",
        statement=r"f_k = F(\lambda, w_k),\ k > l: \quad e < \tfrac12:\ \left|f_k - f - \tfrac12P_k^2n_l^2\right| \le "
        r"\tfrac{|g|S}k + \tfrac{pS^2}{2k^2} + \tfrac{|b|S}k\bar n_k + P_k|n_l|Z_k + \tfrac12Z_k^2; \quad e > 1:\ "
        r"\left|f_k - f - \tfrac{g\rho}k\right| \le \tfrac{|g|v_k}k + \tfrac p2\bar r_k^2 + |b|\bar r_k\bar "
        r"n_k + \tfrac12\bar n_k^2",
        hypotheses=(*METHOD, APART),
        strategy=planars("1/4", "2", "1/3", "1/5", "5/4", "3/2", "5/2"),
        explicit=(planar((1, 4)), planar((2, 1)), COUPLED, planar((1, 4), b=[1, 2])),
        measure=of_value(),
        controls=(
            CONSTANT,
            Control(
                "without the leading term",
                kind="formula",
                measure=of_value(lambda lead, rest: (ZERO, rest)),
                params=planar((2, 1)),
            ),
            Control(
                "twice the leading term",
                kind="formula",
                measure=of_value(lambda lead, rest: (2 * lead, rest)),
                params=planar((1, 4), late=8),
            ),
            Control("2e above one half", kind="formula", measure=square_only, params=planar((2, 1))),
        ),
        budget=Budget(quick=12, full=700),
        notes="$f_k - f = g^\\top(w_k-w_\\lambda) + \\frac12\\|w_k-w_\\lambda\\|_Q^2$, and g lies in the range of H. "
        r"$\bar n_k = P_k|n_l| + Z_k$, $\bar r_k = \min\{S, |\rho|+v_k\}/k$. For $e > 1$ the rest is "
        r"$O(k^{-2})$; for $e < \tfrac12$ "
        r"it is $O(1/k) + O(k^{-2e}/l)$ beside $P_k^2 \asymp k^{-2e}$. As $e \ge 2\gamma$ the value has the "
        r"exponent 1 for "
        r"$\gamma \ge \tfrac14$. $f_k < f$ is normal: $w_k$ is no minimiser of G. Between ½ and 1 nothing is claimed."
        + NAMES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@rate-range",
        title="In the range of H the error is a known multiple of 1/k",
        statement=r"|k\,r_k - \rho| \le \frac{|\kappa\rho|}{x(k-A)} + \upsilon\left(1-\tfrac x2\right)^{k-l}, "
        r"\quad \rho = "
        r"-\tfrac{ct}sH^+\nabla F(w_\lambda),\ \kappa = 1-x-c(tp-x),\ A = \tfrac{2+|\kappa|}x \quad "
        r"\text{where Q does not couple}",
        hypotheses=(*METHOD, STRAIGHT),
        strategy=planars("1/2", "2", "1/4", "1", "3/2", "5/2", b=st.just([0, 1])),
        explicit=(planar((1, 2)), planar((2, 1))),
        measure=range_limit(),
        controls=(
            LARGE,
            Control("Q couples a slow null space", params=planar((1, 2), b=[1, 2])),
            Control(
                "half of the limit", kind="formula", measure=range_limit(fmpq(1, 2)), params=planar((2, 1))
            ),
            Control(
                "nine tenths of κ",
                kind="formula",
                measure=range_limit(kappa=fmpq(9, 10)),
                params=planar((2, 1), late=8),
            ),
        ),
        equality=Equality(params=FAST, reaches=0.999),
        budget=Budget(quick=20, full=1000),
        notes=r"$\upsilon = \max\{0, |lr_l-\rho| - |\kappa\rho|/(x(l-A))\}$, $l \ge \max\{c, 2A-1\}$: what is "
        r"forced like c/k, "
        r"sH takes away at once, and the start at a geometric rate. $k(kr_k-\rho) \to \kappa\rho/x$, so that "
        r"the bound is "
        "attained as k grows." + NAMES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@log",
        title="At e = 1 a logarithm, where F couples the null space to the range",
        statement=r"e = 1: \quad \Bigl|k\,n_k - l\,n_l + ct\,b\rho\sum_{l\le j<k}\tfrac1j\Bigr| \le |b|V_k, "
        r"\quad V_k = \tfrac{\Phi_k}x\left("
        r"\tfrac1{l-A}-\tfrac1{k-A}\right)+\tfrac{2\upsilon_k}{xl}",
        hypotheses=(*METHOD, RESONANT),
        strategy=planars(
            "1", b=planars("1").__class__ and st.sampled_from([[1, 2], [-1, 2], [1, 4], [-1, 4], [1, 8]])
        ),
        explicit=(planar((1, 1), b=[1, 2]), planar((1, 1), b=[1, 2], late=16)),
        measure=logarithm(),
        controls=(
            CONSTANT,
            Control("e = 2", params=planar((2, 1), b=[1, 2], late=16)),
            Control(
                "no logarithm",
                kind="formula",
                measure=logarithm(ZERO),
                params=planar((1, 1), b=[1, 2], late=16),
            ),
            Control(
                "nine tenths of it",
                kind="formula",
                measure=logarithm(fmpq(9, 10)),
                params=planar((1, 1), b=[1, 2], late=16),
            ),
        ),
        budget=Budget(quick=12, full=700),
        notes=r"$k n_k = (k-1)n_{k-1} - ct(N^\top Q)r_{k-1}$ with $r_k \sim \rho/k$, and $ct = 1$. $\Phi_k = "
        r"|\kappa\rho| + |b|(l|n_l| + "
        r"|b|S\sum1/j)$, $\upsilon_k = \max\{0, |lr_l-\rho|-\Phi_k/(x(l-A))\}$: the bound is $O(\log(k)/l)$ of "
        r"what it is "
        "beside. Without coupling there is no logarithm: @null." + NAMES,
        **COMMON,
    ),
)
