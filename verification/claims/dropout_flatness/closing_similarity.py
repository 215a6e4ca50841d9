r"""After proposition 1: towards the end all errors have similar size, and then H and Σ are approximately
proportional.

Let |ε_i| = e for all i, K = (1/n)Σ F_i g₀g₀ᵀ with F = Σ(f^j)², H as theorem 1 prints it (and true at minima of
two-layer networks). Printed: Σ = e²H + sK. So e²H ⪯ Σ ⪯ (e² + s max F)H, and the distance to the multiples of H is
that of sK, whatever e: relative to Σ it falls as e⁻² for large errors at fixed outputs, and tends to that of K as e
→ 0. True: (1/n)ΣE ggᵀ = e²H + (1/n)Σ[sF_iM_i + Cov(ε_η², ∇f_η∇f_ηᵀ)], where the covariance is linear in ε: the
relative distance falls as e⁻¹ only, and as e → 0 it does not vanish.

At the minimum of theorem-2's text both errors have size (1−p)/2: equal errors at a global minimum; as p → 1 they
vanish, and Σ_one/s = (p/4)e_ce_cᵀ → ¼e_ce_cᵀ, of rank one, while H → (1/n)Σ g₀g₀ᵀ of rank two: not
proportional for any p.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness import _noise
from verification.claims.dropout_flatness._minima import either, one_sided, pair
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY, Noise, below, outer, points, size
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_identity import covariance_terms
from verification.model import (
    Budget,
    Claim,
    Control,
    Correction,
    Equality,
    Hypothesis,
    Measurement,
    identity,
)

SOURCE = "dropout-flatness, after Proposition 1"
WINDOW = range(8, 15)  # e = 2^8, …, 2^14

# -- instances ----------------------------------------------------------------------------------------------------


def with_errors(of: Noise, e: Any) -> Noise:
    """|ε_i| = e with the signs of ``signs`` (bits), y = f − ε."""
    bits = of.at.params.get("signs", 0)
    errors = [of.backend.scalar(e if not bits >> i & 1 else -e) for i in range(of.at.n)]
    return Noise(of.at.with_errors(np.array(errors, dtype=object)))


def equal(params: Any) -> Noise:
    """Any θ with |ε_i| = ``e``, or a minimum as it is."""
    if "e" not in params:
        return either(params)
    return with_errors(_noise.build(params), Fraction(params["e"]))


def spread_of_errors(of: Noise) -> tuple[bool, float]:
    """Measured: the largest ε_i² less the smallest."""
    squares = of.at.errors**2
    return bool(min(squares) == max(squares)), float(max(squares) - min(squares))


EQUAL = Hypothesis("equal errors", r"|\varepsilon_i| = e \text{ for all } i", spread_of_errors)

# -- proportional? ----------------------------------------------------------------------------------------------------


def defect(A: Array, B: Array) -> Any:
    """‖A‖²‖B‖² − ⟨A, B⟩²: 0 where one is a multiple of the other."""
    a, b = A.ravel(), B.ravel()
    return (a @ a) * (b @ b) - (a @ b) ** 2


def sine(A: Array, B: Array) -> float:
    """The relative distance of A to the multiples of B; 0 where A is 0."""
    total = (A.ravel() @ A.ravel()) * (B.ravel() @ B.ravel())
    return float(max(defect(A, B), 0 * total) / total) ** 0.5 if total else 0.0


def proportional(
    which: Callable[[Noise], Array], hessian: Callable[[Noise], Array]
) -> Callable[[Noise], Measurement]:
    """Decided exactly."""
    return lambda of: Measurement(observed=defect(which(of), hessian(of)), bound=0)


def of_outputs(of: Noise) -> Array:
    """K = (1/n) Σ F_i g₀g₀ᵀ, F with s: sK."""
    return of.sum(lambda x: (x.a - x.e**2) * outer(x.g0))


def printed_split(of: Noise, *, outputs: int = 1) -> Measurement:
    """Σ = e²H + sK."""
    return identity(of.at.errors[0] ** 2 * of.at.printed + outputs * of_outputs(of), of.printed)


def exact_split(of: Noise) -> Measurement:
    """(1/n) Σ E ggᵀ = e²H + (1/n) Σ [sF_i M_i + Cov_i]; at stationary points that is Σ_one."""
    rest = of.sum(lambda x: (x.a - x.e**2) * x.M) + _noise.average(covariance_terms(of))
    return identity(of.at.errors[0] ** 2 * of.at.hessian + rest, of.exact("one sample"))


def printed_between(*, outputs: int = 1) -> Callable[[Noise], Measurement]:
    """e²H ⪯ Σ ⪯ (e² + max sF)H."""

    def measure(of: Noise) -> Measurement:
        square, H = of.at.errors[0] ** 2, of.at.printed
        most = square + outputs * max(x.a - x.e**2 for x in of.samples)
        return max(below(square * H, of.printed), below(of.printed, most * H), key=lambda found: found.used)

    return measure


# -- rates in e --------------------------------------------------------------------------------------------------------


def distances(
    of: Noise, which: Callable[[Noise], Array], window: range = WINDOW
) -> tuple[list[float], list[float]]:
    """e and the relative distance of the matrix to the multiples of H."""
    H = of.at.printed
    sizes = [Fraction(2) ** k for k in window]
    return [float(e) for e in sizes], [sine(which(with_errors(of, e)), H) for e in sizes]


def printed_matrix(of: Noise) -> Array:
    """Σ as theorem 2 prints it."""
    return of.printed


def second_moment(of: Noise) -> Array:
    """(1/n) Σ E ggᵀ."""
    return of.second


def off(A: Array, B: Array) -> float:
    """‖A‖ times its relative distance to the multiples of B."""
    return size(A) * sine(A, B)


def curve(of: Noise) -> dict[str, Any]:
    """From e = 2⁻¹⁰ to 2¹⁴, y moved with e."""
    e, printed = distances(of, printed_matrix, range(-10, 15))
    true = distances(of, second_moment, range(-10, 15))[1]
    lines = {"printed": printed, "true second moment": true}
    return {
        "x": e,
        "lines": lines,
        "xlabel": "e",
        "ylabel": "relative distance to R·H",
        "logx": True,
        "logy": True,
    }


def towards_one(of: Noise) -> dict[str, Any]:
    """The minimum of theorem-2's text as p → 1; both errors are (1−p)/2."""
    cases = [either(pair(f"{2**k - 1}/{2**k}")) for k in range(1, 13)]
    lines = {
        "printed": [sine(case.printed, case.at.hessian) for case in cases],
        "true covariance": [sine(case.exact("one sample"), case.at.hessian) for case in cases],
    }
    axes = {"xlabel": "1 − p", "ylabel": "relative distance to R·H", "logx": True}
    return {"x": [2.0**-k for k in range(1, 13)], "lines": lines, **axes}


def limit(of: Noise, *, value: Fraction = Fraction(1, 4), order: int = 1) -> Measurement:
    """max |Σ_one/s − ``value`` e_ce_cᵀ| <= (1−p)^``order``/4."""
    B, p = of.backend, of.backend.scalar(of.at.keep[0])
    gap = of.exact("one sample") / of.at.spread[0] - B.scalar(value) * outer(B.eye(of.at.net.size)[-1])
    return Measurement(observed=max(abs(gap).ravel()), bound=(1 - p) ** order / 4)


ANY = points(
    e=st.integers(1, 8).map(lambda k: f"{k}/2"),
    signs=st.integers(0, 7),
)
TWO = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1], [2]], y=[0, 0], e="1", signs=2)
SILENT = at((1, 1, 1), "linear", theta=[1, 0, 0, 0], X=[[1], [2]], y=[0, 0], e="1", signs=2)
UNEQUAL = at((1, 1, 1), "linear", theta=[1, 0, 0, 0], X=[[1], [2]], y=[1, 0])
CLAIMS = (
    Claim(
        id="dropout-flatness/closing-similarity@printed",
        title="At equal errors the printed covariance is a multiple of the printed Hessian",
        source=SOURCE,
        statement=r"|\varepsilon_i| = e \text{ for all } i \;\Rightarrow\; \Sigma_{\text{printed}} \propto "
        r"H_{\text{printed}}",
        hypotheses=(EQUAL,),
        strategy=ANY,
        explicit=(TWO, pair("1/2")),
        build=equal,
        measure=proportional(printed_matrix, lambda of: of.at.printed),
        grade="proved",
        corrected=Correction(
            tex=r"\Sigma_{\text{printed}} = e^2H_{\text{printed}} + \frac1n\sum_i s\sum_j(f^j_i)^2\;\nabla "
            r"f_i\nabla f_i^\top",
            measure=printed_split,
            proof="$b_i = e^2$ and $a_i = e^2 + s\\sum_j(f^j_i)^2$.",
        ),
        curve=curve,
        budget=Budget(quick=25, full=250),
        notes="See @between, @rate and @true-rate for how near. The plot: y is moved so that $|\\varepsilon_i| "
        "= e$.",
    ),
    Claim(
        id="dropout-flatness/closing-similarity@exact",
        title="At a minimum with equal errors the covariance of dropout gradients is a multiple of the Hessian",
        source=SOURCE,
        statement=r"\nabla E_\eta R = 0, \; |\varepsilon_i| = e \text{ for all } i \;\Rightarrow\; "
        r"\Sigma_{\text{one}} \propto H",
        hypotheses=(STATIONARY, AWAY, EQUAL),
        strategy=st.one_of(
            st.integers(1, 7).map(lambda k: pair(f"{k}/8")),
            st.integers(1, 7).map(lambda k: one_sided(f"{k}/8")),
        ),
        explicit=(pair("1/2"), one_sided("1/2")),
        build=equal,
        measure=proportional(lambda of: of.exact("one sample"), lambda of: of.at.hessian),
        grade="proved",
        corrected=Correction(
            tex=r"\Sigma_{\text{one}} = e^2H + \frac1n\sum_i\left[s\sum_j(f^j_i)^2\,M_i + "
            r"\operatorname{Cov}_\eta(\varepsilon_\eta^2, \nabla "
            r"f_\eta\nabla f_\eta^\top)\right]",
            measure=exact_split,
            proof="theorem-2-identity, averaged; at these minima $H = \\frac1n\\sum M_i$ and the mean gradient "
            "is 0.",
        ),
        curve=towards_one,
        budget=Budget(quick=25, full=100),
        notes="At the first instance, a global minimum for every p, $\\Sigma_{\\text{one}} = "
        "\\frac{1-p}4e_ce_c^\\top$ has rank one and H has not; "
        "both errors are (1−p)/2. So it fails at the end of training, and as p → 1 too.",
    ),
    Claim(
        id="dropout-flatness/closing-similarity@p-to-1",
        title="At the smallest minimum the covariance over s tends to a matrix of rank one as p tends to 1",
        source=SOURCE + ", derived here",
        statement=r"x = \pm1, \; y = (1, 0), \; \text{one linear unit}, \; \nabla E_\eta R = 0, \; p < 1: \quad "
        r"\Bigl\|\tfrac1s\Sigma_{\text{one}} - \tfrac14e_ce_c^\top\Bigr\|_{\max} \le \tfrac{1-p}4",
        hypotheses=(STATIONARY,),
        strategy=st.integers(1, 4095).map(lambda k: pair(f"{k}/4096")),
        explicit=(pair("1/2"), pair("15/16"), pair("4095/4096")),
        build=either,
        measure=limit,
        grade="proved",
        controls=(
            Control("1/8 for 1/4", kind="formula", measure=lambda of: limit(of, value=Fraction(1, 8))),
            Control("(1−p)² for 1−p", kind="formula", measure=lambda of: limit(of, order=2)),
            Control(
                "not stationary",
                params=at((1, 1, 1), "linear", theta=[1, 0, 1, "1/2"], X=[[1], [-1]], y=[1, 0]),
            ),
        ),
        equality=Equality(params=pair("1/2"), reaches=1.0),
        budget=Budget(quick=40, full=400),
        notes="$\\Sigma_{\\text{one}} = \\frac{1-p}4e_ce_c^\\top$, so the bound is an equality for every p. H tends "
        "to $\\frac1n\\sum\\nabla f\\nabla f^\\top$, of rank two: no limit of multiples.",
    ),
    Claim(
        id="dropout-flatness/closing-similarity@between",
        title="At equal errors the printed covariance lies between two multiples of the printed Hessian",
        source=SOURCE + ", corrected",
        statement=r"e^2H_{\text{printed}} \preceq \Sigma_{\text{printed}} \preceq \Bigl(e^2 + "
        r"s\max_i\sum_j(f^j_i)^2\Bigr)H_{\text{printed}}",
        hypotheses=(EQUAL,),
        strategy=ANY,
        explicit=(TWO, SILENT),
        build=equal,
        measure=printed_between(),
        grade="proved",
        controls=(
            Control("without the outputs", kind="formula", measure=printed_between(outputs=0)),
            Control("unequal errors, e of the first sample", params=UNEQUAL),
        ),
        equality=Equality(params=SILENT, reaches=1.0),
        budget=Budget(quick=40, full=300),
        notes="Near proportional where outputs of single units are small beside the common error: $s\\max F "
        "\\ll e^2$.",
    ),
)
