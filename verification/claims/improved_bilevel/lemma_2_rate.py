r"""Lemma 2, its rate on quadratics: e = 2γtλ_1/(1−β), λ_1 = λ_min(NᵀQN), N spanning the null space of H.

e_k = w_k − w_λ obeys e_k = (I − α_ktQ − (1−α_k)sH)e_{k−1} − α_ktg with g = ∇F(w_λ) in the range of H, c = 2γ/(1−β).

- Null space, where Q does not couple it: factors I − α_jtNᵀQN, along its eigenvector v_i Π(1 − ctλ_i/j) ~ k^{−ctλ_i}:
  the smallest eigenvalue decides.
- Range: k r_k → ρ = −(ct/s)H⁺g, as what 1/k forces, sH takes away at once.
- Coupled null space, e > 1: k n_k → (I − ctNᵀQN)^{−1}ctNᵀQρ; e = 1: along v_1, k n_1k ~ −ct(v_1ᵀQρ) log k.
- Value: ``lemma_2_rate_value``.

No exponent is fitted: ``_rates`` encloses the error at every k > l between two explicit functions of k with the same
exponent, over the rationals. Of what lies between ak^{−r} and bk^{−r} the secant's exponent over [k, k'] is r up to
log(b/a)/log(k'/k). e >= 2γ always: ``lemma_2_powers``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flint import arb, fmpq

from verification.claims.improved_bilevel._rates import FLAT, ONE, ZERO, Pair, Spatial, spatial, spatials, up
from verification.claims.improved_bilevel.lemma_2 import SOURCE
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Measure = Callable[[Spatial], Measurement]
Taken = Callable[[Spatial], Pair]

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


# -- other eigenvalues than NᵀQN's ---------------------------------------------------------------------------------


def told(taken: Taken, measure: Measure) -> Measure:
    """The measure with ``taken`` for λ_1 and λ_2 in what bounds the error; the error stays what it is."""
    return lambda case: measure(replace(case, told=taken(case)))


def largest(case: Spatial) -> Pair:
    """λ_max for λ_min."""
    return case.flat[1], case.flat[1]


def smallest(case: Spatial) -> Pair:
    """λ_min for λ_max."""
    return case.flat[0], case.flat[0]


def diagonal(case: Spatial) -> Pair:
    """The smallest entry on the diagonal of NᵀQN for λ_min."""
    return min(case.matrix[1][1], case.matrix[2][2]), case.flat[1]


# -- the distance -------------------------------------------------------------------------------------------------


def square(case: Spatial, k: int) -> fmpq:
    """‖e_k‖²."""
    return sum((entry**2 for entry in case.errors[k]), ZERO)


def of_distance(enclosure: Callable[[Spatial, int], Pair] = Spatial.squares) -> Measure:
    """‖e_k‖² below what is above it, and above what is below it, at every k."""

    def measure(case: Spatial) -> Measurement:
        pairs = []
        for k in case.ks:
            found, (low, high) = square(case, k), enclosure(case, k)
            pairs += [(found, high), (low, found)]
        return tightest(pairs, l=case.first, K=case.K)

    return measure


def null_alone(case: Spatial, k: int) -> Pair:
    """The exponent e where it is above 1: nothing in the range."""
    low, high = case.range(k)
    least, most = case.squares(k)
    return least - low**2, most - high**2


def range_alone(case: Spatial, k: int) -> Pair:
    """The exponent 1 where e is below it: nothing along the null space."""
    low, high = case.range(k)
    return low**2, high**2


def uncoupled(case: Spatial, k: int) -> Pair:
    """Z_ik left out."""
    (low, high), centre = case.range(k), sum((case.centre(i, k) ** 2 for i in FLAT), ZERO)
    return low**2 + centre, high**2 + centre


def curve(case: Spatial) -> dict[str, Any]:
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


# -- range and logarithm ------------------------------------------------------------------------------------------


def range_limit(
    share: fmpq = ONE, forcing: Callable[[Spatial, int], fmpq] = Spatial.forcing
) -> Callable[[Spatial], Measurement]:
    """|kr_k − ρ| against v_k."""

    def measure(case: Spatial) -> Measurement:
        pairs = [
            (abs(k * case.errors[k][0] - share * case.rho), case.strays(k, forcing(case, k))) for k in case.ks
        ]
        return tightest(pairs, l=case.first, K=case.K)

    return measure


def logarithm(share: fmpq = ONE, i: int = 0) -> Measure:
    """|kn_ik − ln_il + ctb_iρη_k| against ct|b_i|V_k."""

    def measure(case: Spatial) -> Measurement:
        pairs, pushed = [], case.tau * case.b[i]
        start = case.first * case.flats(case.first)[i]
        for k in case.ks:
            grown = share * pushed * case.rho * case.harmonics[k]
            pairs.append((abs(k * case.flats(k)[i] - start + grown), abs(pushed) * case.drift(k)))
        return tightest(pairs, l=case.first, K=case.K)

    return measure


# -- hypotheses ---------------------------------------------------------------------------------------------------


def _allowed(case: Spatial) -> tuple[bool, str]:
    """γ <= 1, which is β >= 1 − 2/c; known where e <= 2, as e >= 2γ, and decided by enclosed squares beyond."""
    least, squared = 1 - 2 / case.c, case.beta_squared
    return case.share <= 1 and (case.e <= 2 or least <= 0 or squared > arb(least) ** 2), str(squared)


def _lower(case: Spatial) -> tuple[bool, str]:
    return 0 < case.x <= 1, str(case.x)


def _scheduled(case: Spatial) -> tuple[bool, str]:
    return not case.params.get("frozen"), "constant" if case.params.get("frozen") else "c/k"


def _leads(case: Spatial) -> tuple[bool, str]:
    """The limit of what leads is not 0, nor can l be said to be too early to tell."""
    if case.e >= 1:
        return case.g != 0, str(case.g)
    n, pushed = case.at_first[0][0], case.tau * abs(case.b[0])
    lasting = n - pushed * case.S / ((1 - case.e) * case.first)
    return lasting > 0, str(float(lasting))


ALLOWED = Hypothesis("γ at most 1", r"0 < \gamma \le 1,\ t \le 2/(\sigma_F+L_F)", _allowed)
LOWER = Hypothesis("step on G", r"0 < sh \le 1", _lower)
SCHEDULE = Hypothesis("the schedule is BiG-SAM's", r"\alpha_k = \min\{\tfrac{c}{k}, 1\}", _scheduled)
METHOD = (ALLOWED, LOWER, SCHEDULE)
LEADS = Hypothesis(
    "something leads",
    r"e \ge 1,\ \nabla F(w_\lambda) \neq 0 \text{ or } e < 1,\ |n_{1l}| > \tfrac{ct|b_1|S}{(1-e)l}",
    _leads,
)
RESONANT = Hypothesis(
    "e is 1 and Q couples",
    r"e = 1,\ b_1 \neq 0",
    lambda case: (case.e == 1 and case.b[0] != 0, str(case.e)),
)

# -- claims -------------------------------------------------------------------------------------------------------

LARGE = Control("a step of 3/L_G", params=spatial((1, 2), s=[3, 1]))
CONSTANT = Control("a constant weight", params=spatial((2, 1), frozen=True))
BOTH = [[1, 2], [1, 2]]
TURNED = [3, 4, 5]
COUPLED = spatial((2, 1), b=BOTH)
SLOW = spatial((1, 2), b=BOTH, turn=TURNED)
FAST = spatial((1, 2), p=[1, 1], ratio=[3, 1], share=[1, 1], n0=[[0, 1], [0, 1]], late=1, times=255)
NAMES = (
    r" Quadratics of three variables over the rationals, $H = \operatorname{diag}(h, 0, 0)$; "
    r"$\lambda_1 < \lambda_2$ are the eigenvalues of $N^\top QN$ and $v_1$, $v_2$ its eigenvectors, $b_i$ is what Q "
    r"has between $v_i$ and the range, $p$ what it has there, $(r_k, n_{1k}, n_{2k})$ the coordinates of $w_k - "
    r"w_\lambda$; $x = sh$, $\rho$ the first entry of $-\tfrac{ct}{s}H^+\nabla F(w_\lambda)$, $A = (2+|\kappa|)/x$, "
    r"$\kappa = 1-x-c(tp-x)$. The proof and S are in the docstring of the module that encloses the error."
)
FORCED = (
    r" $v_k = \tfrac{\Phi_k}{x(k-A)} + \upsilon_k\left(1-\tfrac x2\right)^{k-l}$, $\Phi_k = |\kappa\rho| + "
    r"ct\sum_i|b_i|T_{ik}$, $\upsilon_k = \max\{0, |lr_l-\rho| - \Phi_k/(x(l-A))\}$, $T_{ik} = k(P_{ik}|n_{il}| + "
    r"Z_{ik})$ for $ct\lambda_i \le 1$ and $\max\{l|n_{il}|, ct|b_i|S/(ct\lambda_i-1)\}$ else."
)
NULL = (
    r" $P_{ik} = \prod_{l<j\le k}\left(1-\tfrac{ct\lambda_i}j\right) \asymp k^{-ct\lambda_i}$ on both sides: @null. "
    r"$Z_{ik} = \tfrac{ct|b_i|S}{ct\lambda_i-1}\left(\tfrac1k-\tfrac{P_{ik}}l\right)$, at $ct\lambda_i = 1$ "
    r"$\tfrac{ct|b_i|S}k\sum_{l\le j<k}\tfrac1j$."
)
COMMON: dict[str, Any] = {
    "source": SOURCE + ", (40); its rate derived here",
    "grade": "proved",
    "build": Spatial,
}
CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@rate",
        title="The distance of BiG-SAM's iterates decays with the exponent min(1, e), e of F's least flat curvature",
        statement=r"k > l: \quad \sum_i\left(P_{ik}|n_{il}| - Z_{ik}\right)_+^2 + \tfrac{(|\rho|-v_k)_+^2}{k^2} \le "
        r"\|w_k-w_\lambda\|^2 \le \sum_i\left(P_{ik}|n_{il}|+Z_{ik}\right)^2 + "
        r"\tfrac{\min\{S,|\rho|+v_k\}^2}{k^2}; \quad P_{ik} = \prod_{l<j\le k}\left(1-\tfrac{ct\lambda_i}j\right),\ "
        r"e = ct\lambda_1 = \tfrac{2\gamma t}{1-\beta}\lambda_{\min}(N^\top QN)",
        hypotheses=(*METHOD, LEADS),
        strategy=spatials("1/2", "2", "1/4", "3/4", "1", "5/4", "3/2", "5/2"),
        explicit=(spatial((1, 2)), spatial((2, 1)), COUPLED, SLOW),
        measure=of_distance(),
        controls=(
            LARGE,
            CONSTANT,
            Control(
                "λ_max for λ_min",
                kind="formula",
                measure=told(largest, of_distance()),
                params=spatial((1, 2)),
            ),
            Control(
                "λ_min for λ_max",
                kind="formula",
                measure=told(smallest, of_distance()),
                params=spatial((1, 2), n0=[[1, 100], [5, 1]]),
            ),
            Control(
                "the least diagonal entry for λ_min",
                kind="formula",
                measure=told(diagonal, of_distance()),
                params=spatial((1, 2), turn=TURNED),
            ),
            Control(
                "e for min(1, e)", kind="formula", measure=of_distance(null_alone), params=spatial((2, 1))
            ),
            Control(
                "1 for min(1, e)", kind="formula", measure=of_distance(range_alone), params=spatial((1, 2))
            ),
            Control("without coupling", kind="formula", measure=of_distance(uncoupled), params=COUPLED),
        ),
        equality=Equality(params=spatial((1, 2), late=20), reaches=0.999),
        curve=curve,
        budget=Budget(quick=12, full=700),
        notes=r"As $P_{2k} \le P_{1k} \asymp k^{-e}$, $Z_{ik} = O(k^{-\min(1,ct\lambda_i)})$ but for a logarithm and "
        r"$v_k \to 0$, both sides have the exponent $\min(1, e)$: the smallest eigenvalue decides, and the "
        r"secant's exponent over $[k, k']$ is that up to the logarithm of their ratio over $\log(k'/k)$. At $e = 1$ "
        r"the upper side has a logarithm where $b_1 \neq 0$, rightly so: @log. If $g = 0$ the exponent is e, which may "
        "exceed 1. $(\\cdot)_+$ is cut at 0." + NULL + FORCED + NAMES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@rate-range",
        title="In the range of H the error is a known multiple of 1/k",
        statement=r"k > l: \quad |k\,r_k - \rho| \le v_k = \frac{\Phi_k}{x(k-A)} + \upsilon_k\left(1-\tfrac "
        r"x2\right)^{k-l}, \quad \rho = -\tfrac{ct}sH^+\nabla F(w_\lambda),\ \Phi_k = |\kappa\rho| + "
        r"ct\sum_i|b_i|T_{ik}",
        hypotheses=METHOD,
        strategy=spatials("1/2", "2", "1/4", "1", "3/2", "5/2"),
        explicit=(spatial((1, 2)), spatial((2, 1)), COUPLED, SLOW),
        measure=range_limit(),
        controls=(
            LARGE,
            Control(
                "without coupling",
                kind="formula",
                measure=range_limit(forcing=lambda case, k: abs(case.kappa * case.rho)),
                params=SLOW,
            ),
            Control(
                "λ_max for λ_min",
                kind="formula",
                measure=told(largest, range_limit()),
                params=spatial((1, 4), b=[[1, 2], [0, 1]]),
            ),
            Control(
                "half of the limit", kind="formula", measure=range_limit(fmpq(1, 2)), params=spatial((2, 1))
            ),
            Control(
                "nine tenths of κ",
                kind="formula",
                measure=range_limit(forcing=lambda case, k: fmpq(9, 10) * abs(case.kappa * case.rho)),
                params=spatial((2, 1), late=8),
            ),
        ),
        equality=Equality(params=FAST, reaches=0.999),
        budget=Budget(quick=20, full=1000),
        notes=r"What is forced like c/k, sH takes away at once, and the start at a geometric rate. $\Phi_k/k$ is "
        r"$O(k^{-\min(1,e)})$ but for a logarithm at $e = 1$, so $kr_k \to \rho$ for every e. Without coupling "
        r"$k(kr_k-\rho) \to \kappa\rho/x$, so that the bound is attained as k grows." + FORCED + NULL + NAMES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@log",
        title="At e = 1 a logarithm, where F couples its least flat curvature to the range",
        statement=r"e = ct\lambda_1 = 1: \quad \Bigl|k\,n_{1k} - l\,n_{1l} + ct\,b_1\rho\sum_{l\le j<k}\tfrac1j\Bigr| "
        r"\le ct|b_1|V_k, \quad V_k = \tfrac{\Phi_k}x\left(\tfrac1{l-A}-\tfrac1{k-A}\right)+\tfrac{2\upsilon_k}{xl}",
        hypotheses=(*METHOD, RESONANT),
        strategy=spatials("1"),
        explicit=(spatial((1, 1), b=BOTH), spatial((1, 1), b=BOTH, turn=TURNED, late=8)),
        measure=logarithm(),
        controls=(
            Control("a constant weight", params=spatial((1, 1), b=BOTH, frozen=True)),
            Control("e = 2", params=spatial((2, 1), b=BOTH, late=8)),
            Control("ctλ_max = 1", params=spatial((1, 2), b=BOTH, late=8)),
            Control(
                "along the eigenvector of λ_max",
                kind="formula",
                measure=logarithm(i=1),
                params=spatial((1, 1), b=BOTH, late=8),
            ),
            Control(
                "no logarithm",
                kind="formula",
                measure=logarithm(ZERO),
                params=spatial((1, 1), b=BOTH, late=8),
            ),
            Control(
                "nine tenths of it",
                kind="formula",
                measure=logarithm(fmpq(9, 10)),
                params=spatial((1, 1), b=BOTH, late=8),
            ),
        ),
        budget=Budget(quick=12, full=700),
        notes=r"$k n_{1k} = (k-1)n_{1,k-1} - ctb_1r_{k-1}$ with $r_k \sim \rho/k$. The bound is $O(\log(k)/l)$ of what "
        r"it is beside. Along $v_2$, $ct\lambda_2 > 1$, there is none, nor without coupling: @null."
        + FORCED
        + NULL
        + NAMES,
        **COMMON,
    ),
)
